//! What an older release left unfinished.

use std::sync::Arc;

use nova_core::cloud::{Cloud, CloudOptions};
use nova_core::domain::{Instance, OpState, Operation};
use nova_core::store::record::keys;
use nova_core::store::{Key, Store, Txn, Write};

use crate::world::World;

/// Changes a record as a tree, as a release would have written it that knew less.
pub(crate) async fn rewrite(
    store: &dyn Store,
    key: &Key,
    change: impl FnOnce(&mut serde_json::Value),
) {
    let entry = store.get(key).await.unwrap().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    change(&mut value);
    let mut txn = Txn::new();
    txn.write(Write::Put(key.clone(), serde_json::to_vec(&value).unwrap().into()));
    store.commit(txn).await.unwrap();
}

#[test]
fn an_operation_of_the_first_step_lists_ends_by_those_of_today() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(|ports| ports).await;
        let project = world.project();
        let wanted = world.server("web", "small");
        let accepted = project.create_server(project.new_request(), &wanted).await.unwrap();
        // Nobody had a turn since. The process ends, and was an old one, so to say.
        let (ports, clock) = (world.cloud.ports().clone(), Arc::clone(&world.clock));
        world.cloud.stop().await;
        let store = &*ports.store;
        rewrite(store, &keys::operation(accepted.operation), |op| {
            op["steps_version"] = 1.into();
            serde_json::from_value::<Operation>(op.clone()).unwrap();
        })
        .await;
        rewrite(store, &keys::instance(accepted.id), |server| {
            server.as_object_mut().unwrap().remove("migration").unwrap();
            serde_json::from_value::<Instance>(server.clone()).unwrap();
        })
        .await;
        world.cloud = Cloud::start(ports, CloudOptions::default()).await.unwrap();
        let work = async {
            for name in ["alpha", "beta"] {
                world.add_host(name).await;
            }
            let op = world.ended(accepted.operation).await;
            assert_eq!((op.state, op.steps_version), (OpState::Done, 1));
            world.healthy().await;
        };
        clock.drive(work).await;
    });
}
