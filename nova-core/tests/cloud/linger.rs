//! Servers that are deleted while their host is silent.

use std::sync::Arc;
use std::time::Duration;

use nova_core::domain::{HostId, InstanceId, Resources, Vcpus};
use nova_core::port::VirtDriver;

use crate::world::{World, run, spec};

/// Boots a server, lets its host fall silent, and deletes the server.
async fn deleted_in_silence(world: &mut World) -> (HostId, InstanceId, std::net::IpAddr) {
    let server = world.boot("web").await;
    let (id, host) = (server.instance.id, server.instance.host.unwrap());
    let name = server.host.unwrap();
    assert!(world.cloud.stop_host(&name).await);
    world.pass(Duration::from_secs(10)).await;
    let project = world.project();
    world.done(project.delete_server(project.new_request(), id).await).await;
    assert!(project.server(id).await.is_err());
    (host, id, server.ports[0].address)
}

/// What the network has owned and resting, and what is claimed on a host.
async fn held(world: &World, host: HostId) -> (usize, usize, Resources) {
    let admin = world.admin();
    let uses = admin.network_use().await.unwrap();
    let hosts = admin.hosts().await.unwrap();
    let used = hosts.iter().find(|row| row.host.id == host).unwrap().used;
    (uses[0].owned, uses[0].resting, used)
}

#[test]
fn what_a_guest_on_a_silent_host_may_still_use_is_nobody_elses_until_the_host_is_back() {
    run(async |world: &mut World| {
        let (host, id, address) = deleted_in_silence(world).await;
        // Much longer than any quarantine.
        world.pass(Duration::from_secs(600)).await;
        let (owned, resting, used) = held(world, host).await;
        assert_eq!((owned, resting, used.vcpus), (1, 0, Vcpus(2)));
        assert!(world.hosts[&host].guest(id).await.unwrap().is_some());
        let other = world.boot("other").await;
        assert_ne!(other.ports[0].address, address);
        world.healthy_but_for(host).await;

        let name = world.admin().hosts().await.unwrap();
        let name = name.into_iter().find(|row| row.host.id == host).unwrap().host.name;
        let driver = Arc::clone(&world.hosts[&host]);
        assert_eq!(world.cloud.add_host(spec(name.as_str()), driver).await.unwrap(), host);
        assert_eq!(world.hosts[&host].guest(id).await.unwrap(), None);
        assert_eq!(held(world, host).await, (1, 1, Resources::ZERO));
        // The quarantine begins when the guest is gone.
        world.pass(Duration::from_secs(50)).await;
        assert_ne!(world.boot("third").await.ports[0].address, address);
        world.healthy().await;
    });
}

#[test]
fn an_operators_word_frees_what_a_guest_on_a_silent_host_may_still_use() {
    run(async |world: &mut World| {
        let (host, ..) = deleted_in_silence(world).await;
        world.pass(Duration::from_secs(120)).await;
        assert_eq!(held(world, host).await.0, 1);
        let admin = world.admin();
        let refused = admin.remove_host(admin.new_request(), host).await.unwrap_err();
        assert!(refused.to_string().contains("in use"), "{refused}");
        admin.force_down(admin.new_request(), host, "switched off").await.unwrap();
        world.pass(Duration::from_secs(10)).await;
        assert_eq!(held(world, host).await, (0, 1, Resources::ZERO));
        admin.remove_host(admin.new_request(), host).await.unwrap();
        world.healthy_but_for(host).await;
    });
}
