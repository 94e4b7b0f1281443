//! A whole cloud whose only host is this kernel: from the API to packets.

use std::collections::BTreeSet;
use std::sync::Arc;

use nova_core::clock::{Clock, SystemClock};
use nova_core::cloud::{
    Accepted, ApiError, Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports, Project,
    ServerSpec,
};
use nova_core::domain::{
    FloatingPool, GiB, ImageFormat, InterfaceName, Label, MiB, NetworkKind, OpState, Peer,
    PoolName, Resources, SecurityGroupId, SecurityRule, Traffic, UserData, Vcpus,
};
use nova_core::memory::MemoryHost;
use nova_core::port::NetworkSpec;
use nova_core::seed::Seed;
use nova_core::store::{MemoryStore, Store};
use nova_net::Networks;
use nova_net::backend::linux::{HostPlace, Linux};
use nova_net::host::GuestPort;
use nova_net::metadata::Records;

use crate::lab::run;

async fn done<T>(project: &Project, accepted: Result<Accepted<T>, ApiError>) -> T {
    let accepted = accepted.unwrap();
    let op = project.wait(accepted.operation).await.unwrap();
    assert_eq!(op.state, OpState::Done, "{op:#?}");
    accepted.id
}

#[test]
fn a_server_that_the_api_made_is_reached_from_outside() {
    run("a server that the API made", async |lab| {
        let before = lab.state();
        let place = HostPlace::new(lab.folder.path()).in_namespace(&lab.host);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let linux = Linux::new().with_metadata(Arc::new(Records::new(store.clone())));
        let linux = Arc::new(linux.with_any_host(&place).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let networks =
            Networks::new(store.clone(), clock.clone(), Seed::new(2), linux).with_metadata();
        let ports = Ports::over(store, clock, Seed::new(1)).with_network(networks);
        let mut cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
        let total = Resources { vcpus: Vcpus(8), memory: MiB(8192), disk: GiB(100) };
        let host = HostSpec::new("alpha".parse().unwrap());
        cloud.add_host(host, Arc::new(MemoryHost::new(total))).await.unwrap();

        let (admin, project) = (cloud.admin(), cloud.project("demo".parse().unwrap()));
        let image = ImageSpec::new("tiny".parse().unwrap(), ImageFormat::Raw);
        let bytes = Box::new(&b"not much of a disk"[..]);
        let image = admin.register_image(admin.new_request(), &image, bytes).await.unwrap();
        let flavor = FlavorSpec::new("small".parse().unwrap(), Vcpus(1), MiB(512));
        admin.create_flavor(admin.new_request(), &flavor).await.unwrap();
        let (label, range) = (Label::new("lan").unwrap(), "10.0.0.0/24".parse().unwrap());
        let net = NetworkSpec::new(label, NetworkKind::FlatDhcp, range);
        admin.create_networks(admin.new_request(), &net).await.unwrap();
        let pool = FloatingPool {
            name: PoolName::new("public").unwrap(),
            range: "172.24.4.8/29".parse().unwrap(),
            interface: InterfaceName::new("ext0").unwrap(),
        };
        admin.create_floating_pool(admin.new_request(), &pool).await.unwrap();

        let data = UserData::new("#!/bin/sh\necho hello\n").unwrap();
        let spec = ServerSpec::new("web".parse().unwrap(), "small".parse().unwrap(), image)
            .with_user_data(data.clone());
        let server =
            done(&project, project.create_server(project.new_request(), &spec).await).await;
        let port = project.server(server).await.unwrap().ports.remove(0);
        // What a hypervisor does: it makes the interface and plugs it into the bridge.
        let (mac, address) = (port.mac, port.address);
        let bridge = InterfaceName::new("br100").unwrap();
        let guest = lab.guest(&GuestPort {
            tap: InterfaceName::of_port(mac),
            bridge,
            mac,
            address,
            groups: Default::default(),
        });
        let tap = InterfaceName::of_port(mac);
        lab.ip(&lab.host.clone(), &["link", "set", tap.as_str(), "master", "br100", "up"]);
        assert!(lab.dhcp(&guest).starts_with(&format!("ip={address} ")));

        let asked = |path: &str| {
            let url = format!("http://169.254.169.254/latest/{path}");
            lab.exec(&guest, &["busybox", "wget", "-q", "-O", "-", &url]).stdout
        };
        assert_eq!(asked("meta-data/instance-id"), server.to_string().as_bytes());
        assert_eq!(asked("meta-data/security-groups"), b"default");
        assert_eq!(asked("user-data"), data.bytes());

        let request = project.new_request();
        let floating = project.allocate_floating_ip(request, &pool.name).await.unwrap();
        let request = project.new_request();
        let led = project.associate_floating_ip(request, floating, server).await;
        done(&project, led).await;
        let pings = || lab.pings(&lab.outside(), &floating.to_string());
        assert!(!pings(), "nobody allowed it");
        let group = SecurityGroupId::default_of(project.id());
        let from = Peer::Range("172.24.4.0/24".parse().unwrap());
        let rule = SecurityRule::new(Traffic::IcmpType(8), from).unwrap();
        let request = project.new_request();
        done(&project, project.add_security_rule(request, group, &rule).await).await;
        assert!(pings());
        assert_eq!(asked("meta-data/public-ipv4"), floating.to_string().as_bytes());
        let request = project.new_request();
        done(&project, project.remove_security_rule(request, group, &rule).await).await;
        assert!(!pings(), "the hosts follow before the operation ends");
        let request = project.new_request();
        done(&project, project.add_security_rule(request, group, &rule).await).await;
        let (request, none) = (project.new_request(), BTreeSet::new());
        done(&project, project.set_security_groups(request, server, &none).await).await;
        assert!(!pings(), "the server is in no group");

        done(&project, project.delete_server(project.new_request(), server).await).await;
        assert!(!lab.pings(&lab.outside(), &floating.to_string()));
        lab.ip(&lab.host.clone(), &["link", "del", tap.as_str()]);
        assert_eq!(lab.state(), before);
    });
}
