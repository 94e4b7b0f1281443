//! Hosts that tell which images they have.

use std::collections::BTreeSet;
use std::time::Duration;

use nova_core::domain::HostId;
use nova_core::store::record::{HostImages, keys};
use nova_core::store::{StoreExt as _, Versioned};

use crate::world::{World, run};

/// Long enough for a few sweeps.
const SWEEPS: Duration = Duration::from_secs(60);

async fn told(world: &World, host: HostId) -> Option<Versioned<HostImages>> {
    let store = &world.cloud.ports().store;
    store.read::<HostImages>(&keys::host_images(host)).await.unwrap()
}

#[test]
fn what_a_host_has_is_written_down_when_it_changed_and_goes_with_the_host() {
    run(async |world: &mut World| {
        let server = world.boot("web").await;
        let (server, name) = (server.instance, server.host.unwrap());
        world.pass(SWEEPS).await;
        let host = server.host.unwrap();
        let first = told(world, host).await.unwrap();
        let images = world.project().images().await.unwrap();
        let image = images.iter().find(|image| image.id == server.image).unwrap();
        let expected: BTreeSet<String> = [image.content.sha256.clone()].into();
        assert_eq!(*first.value.images, expected);
        for other in world.hosts.keys().filter(|other| **other != host) {
            assert!(told(world, *other).await.is_none(), "it has nothing to tell");
        }
        world.pass(SWEEPS).await;
        assert_eq!(told(world, host).await.unwrap().revision, first.revision);

        let project = world.project();
        world.done(project.delete_server(project.new_request(), server.id).await).await;
        let admin = world.admin();
        world.cloud.stop_host(&name).await;
        admin.remove_host(admin.new_request(), host).await.unwrap();
        assert!(told(world, host).await.is_none());
    });
}
