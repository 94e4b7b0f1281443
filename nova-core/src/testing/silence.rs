//! A host falls silent in a cloud at rest, and somebody asks for a server.

use std::sync::Arc;

use crate::clock::Clock as _;
use crate::cloud::ServerSpec;
use crate::domain::{Instance, Operation};
use crate::store::StoreExt as _;
use crate::store::record::keys;
use crate::testing::run::{LIVENESS_BOUND, Wrong, broken};
use crate::testing::users::User;
use crate::testing::weather::host_of;
use crate::testing::world::World;

/// A host loses power. When it has been silent for long enough, a server that is asked for must
/// neither be put there nor be tried there, and what comes of it is known soon all the same.
pub(crate) async fn fall_silent(world: &Arc<World>, user: &mut User) -> Result<(), Wrong> {
    let machine = &world.machines[user.client.chance.index(world.machines.len())];
    let Some(silent) = host_of(world, &machine.spec.name).await else { return Ok(()) };
    world.log.note(world.clock.now(), format_args!("{} falls silent", machine.spec.name));
    machine.agent.kill().await;
    machine.driver.lose_power().await;
    // Clocks may drift, and the last sign of life may have been on its way.
    world.pass(world.options.down_after * 2).await;
    let (name, flavor) = ("server".parse().map_err(broken)?, "small".parse().map_err(broken)?);
    let spec = ServerSpec::new(name, flavor, user.image);
    let asked = user.ask(|project, request| {
        let spec = spec.clone();
        async move { project.create_server(request, &spec).await }
    });
    let Some(made) = asked.await else {
        return Err(("users are served", "nobody takes a request".to_owned()));
    };
    user.client.wait(made.operation, LIVENESS_BOUND).await;
    let op = world.store.read::<Operation>(&keys::operation(made.operation)).await;
    let server = world.store.read::<Instance>(&keys::instance(made.id)).await.map_err(broken)?;
    let Some(op) = op.map_err(broken)?.filter(|op| op.value.state.is_final()) else {
        let detail = format!("operation {} has not ended", made.operation);
        return Err(("work comes to an end", detail));
    };
    let went = server.and_then(|server| server.value.host) == Some(silent);
    if went || op.value.tried.contains(&silent) {
        let detail = format!("server {} was sent to host {silent}", made.id);
        return Err(("nothing is sent to a host that is silent", detail));
    }
    machine.driver.regain_power();
    world.start_agent(machine).await;
    Ok(())
}
