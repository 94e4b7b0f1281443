//! What guests are told about themselves, from the records of a whole cloud.

use std::sync::Arc;

use nova_core::clock::{Clock, SystemClock};
use nova_core::cloud::{
    Accepted, Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports, Project, ServerSpec,
};
use nova_core::domain::{
    GiB, ImageFormat, Label, MiB, NetworkKind, OpState, PublicKey, Resources, UserData, Vcpus,
};
use nova_core::memory::MemoryHost;
use nova_core::seed::Seed;
use nova_core::store::{MemoryStore, Store};
use nova_net::Networks;
use nova_net::backend::Recorder;
use nova_net::metadata::{MetadataSource as _, Records, answer};

use crate::world::{pool, pool_name, spec};

async fn done<T>(project: &Project, accepted: Accepted<T>) -> T {
    let op = project.wait(accepted.operation).await.unwrap();
    assert_eq!(op.state, OpState::Done, "{op:#?}");
    accepted.id
}

#[test]
fn a_server_is_told_what_its_records_say_as_long_as_it_is_there() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let backend = Arc::new(Recorder::new());
        let networks = Networks::new(store.clone(), clock.clone(), Seed::new(2), backend.clone());
        let ports = Ports::over(store.clone(), clock, Seed::new(1));
        let ports = ports.with_network(networks.with_metadata());
        let mut cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
        let total = Resources { vcpus: Vcpus(8), memory: MiB(8192), disk: GiB(100) };
        let host = HostSpec::new("alpha".parse().unwrap());
        let host = cloud.add_host(host, Arc::new(MemoryHost::new(total))).await.unwrap();
        let (admin, project) = (cloud.admin(), cloud.project("demo".parse().unwrap()));
        let image = ImageSpec::new("tiny".parse().unwrap(), ImageFormat::Raw);
        let bytes = Box::new(&b"not much of a disk"[..]);
        let image = admin.register_image(admin.new_request(), &image, bytes).await.unwrap();
        let flavor = FlavorSpec::new("small".parse().unwrap(), Vcpus(1), MiB(512));
        admin.create_flavor(admin.new_request(), &flavor).await.unwrap();
        let net = spec(NetworkKind::FlatDhcp, "10.0.0.0/24");
        admin.create_networks(admin.new_request(), &net).await.unwrap();
        let public = pool("203.0.113.0/29");
        admin.create_floating_pool(admin.new_request(), &public).await.unwrap();

        let new = || project.new_request();
        let key = PublicKey::new("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me").unwrap();
        let laptop = "laptop".parse().unwrap();
        project.create_key_pair(new(), &laptop, &key).await.unwrap();
        let group = Label::new("web").unwrap();
        let group = project.create_security_group(new(), &group).await.unwrap();
        let wanted = ServerSpec::new("web".parse().unwrap(), "small".parse().unwrap(), image)
            .with_key_pair(laptop)
            .with_security_group(group)
            .with_user_data(UserData::new("#cloud-config").unwrap());
        let server = done(&project, project.create_server(new(), &wanted).await.unwrap()).await;
        let floating = project.allocate_floating_ip(new(), &pool_name()).await.unwrap();
        let led = project.associate_floating_ip(new(), floating, server).await.unwrap();
        done(&project, led).await;
        assert!(backend.net(host).to_string().contains("metadata service at 169.254.169.254"));

        let port = project.server(server).await.unwrap().ports.remove(0);
        let records = Records::new(store);
        let about = records.about(port.mac).await.unwrap().unwrap();
        let told = |path: &str| {
            let answer = answer(&about, &format!("/latest/{path}"));
            answer.map(|answer| String::from_utf8(answer.body).unwrap()).unwrap_or_default()
        };
        for (path, expected) in [
            ("meta-data/instance-id", server.to_string()),
            ("meta-data/local-ipv4", port.address.to_string()),
            ("meta-data/public-ipv4", floating.to_string()),
            ("meta-data/public-keys/0/openssh-key", key.as_str().to_owned()),
            ("meta-data/security-groups", "web".to_owned()),
            ("user-data", "#cloud-config".to_owned()),
        ] {
            assert_eq!(told(path), expected, "{path}");
        }

        let gone = project.delete_server(new(), server).await.unwrap();
        done(&project, gone).await;
        assert_eq!(records.about(port.mac).await.unwrap(), None);
    });
}
