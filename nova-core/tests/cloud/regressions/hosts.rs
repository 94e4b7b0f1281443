//! Hosts whose agents start again, and processes that die.

use std::sync::Arc;

use nova_core::cloud::{Cloud, CloudOptions};
use nova_core::domain::{HostId, HostName};

use crate::world::{World, spec};

/// The name of a host.
pub(super) async fn name_of(world: &World, host: HostId) -> HostName {
    let known = world.admin().hosts().await.unwrap();
    known.iter().find(|status| status.host.id == host).unwrap().host.name.clone()
}

/// The process dies where it is, and another one starts on what it left. Its hosts are not there
/// yet.
pub(super) async fn crash(world: &mut World, options: CloudOptions) {
    let ports = world.cloud.ports().clone();
    let next = Cloud::start(ports, options).await.unwrap();
    drop(std::mem::replace(&mut world.cloud, next));
}

/// The agents of all hosts start again, on what runs there.
pub(super) async fn agents_return(world: &mut World) {
    let known: Vec<HostId> = world.hosts.keys().copied().collect();
    for host in known {
        let (name, driver) = (name_of(world, host).await, Arc::clone(&world.hosts[&host]));
        world.cloud.add_host(spec(name.as_str()), driver).await.unwrap();
    }
}

/// Gives everybody else so many turns.
pub(super) async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}
