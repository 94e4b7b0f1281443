//! What a host's agent finds when it compares its guests with the records in the middle of an
//! operation: everything there is half done, and none of it is its business.

use std::sync::Arc;

use nova_core::cloud::CloudOptions;
use nova_core::domain::{OpState, PowerState, VmState};

use crate::elsewhere::restart;
use crate::fence::{Distant, run_distant};
use crate::moves::{check_home, furnished};
use crate::world::World;

/// How an operation is interrupted by a host that looks at itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Its sweeps come as always.
    Sweep,
    /// Its agent starts again, and sweeps before it takes orders.
    Restart,
}

#[test]
fn a_host_that_compares_its_guests_with_the_records_leaves_what_an_operation_has_half_done() {
    for look in [Look::Sweep, Look::Restart] {
        // The guest is shut down where it was, or at both ends, or gone from where it was.
        for (how, slow) in [
            ("migrate", "disconnect"),
            ("migrate", "connect"),
            ("resize", "connect"),
            ("shelve", "disconnect"),
            ("unshelve", "connect"),
            ("rebuild", "connect"),
        ] {
            run_distant(async |world: &mut World, distant: Arc<Distant>| {
                in_the_middle(world, &distant, look, how, slow).await;
            });
        }
    }
}

async fn in_the_middle(
    world: &mut World,
    distant: &Distant,
    look: Look,
    how: &str,
    slow: &'static str,
) {
    let (admin, project) = (world.admin(), world.project());
    let new = || project.new_request();
    let (id, volume) = furnished(world).await;
    if how == "unshelve" {
        world.done(project.shelve_server(new(), id).await).await;
    }
    distant.delay(slow);
    let accepted = match how {
        "migrate" => admin.migrate_server(admin.new_request(), id).await,
        "resize" => project.resize_server(new(), id, &"large".parse().unwrap()).await,
        "shelve" => project.shelve_server(new(), id).await,
        "unshelve" => project.unshelve_server(new(), id).await,
        _ => project.rebuild_server(new(), id, world.image).await,
    };
    let operation = accepted.unwrap().operation;
    distant.sent.notified().await;
    let before = project.server(id).await.unwrap().instance;
    assert_eq!(before.operation, Some(operation), "{how}");
    let guests = guests(world).await;

    match look {
        Look::Sweep => world.pass(CloudOptions::default().sweep_interval * 3).await,
        Look::Restart => {
            let hosts: Vec<_> = world.hosts.keys().copied().collect();
            for host in hosts {
                restart(world, host, None).await;
            }
        }
    }
    assert_eq!(project.server(id).await.unwrap().instance, before, "{how} {look:?}");
    assert_eq!(self::guests(world).await, guests, "{how} {look:?}");

    distant.released.notify_one();
    let op = world.ended(operation).await;
    assert_eq!(op.state, OpState::Done, "{op:#?}");
    if how == "shelve" {
        let shelved = project.server(id).await.unwrap().instance;
        assert_eq!((shelved.state, shelved.fault), (VmState::ShelvedOffloaded, None));
        world.done(project.unshelve_server(new(), id).await).await;
    }
    let disk = if how == "rebuild" { "" } else { "written before" };
    check_home(world, id, volume, PowerState::Running, disk).await;
}

/// Every guest on every host.
async fn guests(world: &World) -> Vec<(nova_core::domain::HostId, Vec<nova_core::port::Guest>)> {
    use nova_core::port::VirtDriver as _;
    let mut all = Vec::new();
    for (host, driver) in &world.hosts {
        all.push((*host, driver.guests().await.unwrap()));
    }
    all
}
