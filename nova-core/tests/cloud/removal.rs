//! Hosts that are taken out of a cloud.

use nova_core::cloud::ApiError;
use nova_core::doctor::{Snapshot, Strictness, examine};
use nova_core::domain::{Admission, OpState, PowerState};
use nova_core::port::VirtDriver;
use nova_core::store::{Prefix, Scan};

use crate::moves::{check_home, furnished, home};
use crate::world::{World, run};

#[test]
fn a_host_is_removed_when_its_servers_have_left_and_nothing_names_it_any_more() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        let host = home(world, id).await;
        let name = project.server(id).await.unwrap().host.unwrap();
        admin.set_admission(admin.new_request(), host, Admission::Disabled).await.unwrap();
        let refused = admin.remove_host(admin.new_request(), host).await;
        assert!(matches!(refused, Err(ApiError::InUse { .. })), "{refused:?}");

        // A move that waits to be confirmed may still come back.
        world.done(admin.migrate_server(admin.new_request(), id).await).await;
        let refused = admin.remove_host(admin.new_request(), host).await;
        assert!(matches!(refused, Err(ApiError::InUse { .. })), "{refused:?}");
        world.done(project.revert_resize(project.new_request(), id).await).await;

        let moved = admin.live_migrate_server(admin.new_request(), id).await.unwrap();
        assert_eq!(world.ended(moved.operation).await.state, OpState::Done);
        world.cloud.stop_host(&name).await;
        admin.remove_host(admin.new_request(), host).await.unwrap();
        check_home(world, id, volume, PowerState::Running, "written before").await;

        let store = &world.cloud.ports().store;
        let all = store.scan(Scan::new(Prefix::all())).await.unwrap();
        assert!(!all.more);
        for entry in all.entries {
            // What happened and what was asked is remembered.
            let past = ["op/", "request/"].iter().any(|past| entry.key.as_str().starts_with(past));
            let text = format!("{} {}", entry.key, String::from_utf8_lossy(&entry.value));
            assert!(past || !text.contains(&host.to_string()), "{text}");
        }
        let volumes = world.cloud.ports().volumes.list().await.unwrap();
        assert!(volumes.iter().all(|facts| facts.hosts().all(|at| at != host)));
        assert!(world.hosts[&host].guests().await.unwrap().is_empty());
        let snapshot = Snapshot::read(&**store).await.unwrap();
        assert_eq!(examine(&snapshot, Strictness::Idle), []);
    });
}
