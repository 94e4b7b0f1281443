//! What happens to machines and processes, and what an operator does meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::ClockExt as _;
use crate::cloud::Admin;
use crate::domain::{Admission, HostId, HostName, Limit, ProjectId, Quota};
use crate::port::Topic;
use crate::testing::audit::Promises;
use crate::testing::client::Client;
use crate::testing::fate::Fault;
use crate::testing::world::World;

/// How often each machine and process has an opportunity to fail.
const TICK: Duration = Duration::from_secs(1);

const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(25);

/// Lets machines and processes fail until faults end, and then waits until all are back.
pub(crate) async fn rage(world: Arc<World>, promises: Arc<Promises>) {
    let mut events = JoinSet::new();
    while world.fate.is_awake() {
        world.pass(TICK).await;
        for at in 0..world.conductors.len() {
            let process = &world.conductors[at].process;
            if let Some(mut strike) = world.fate.strikes(Fault::KillConductor) {
                let away = strike.time(SOON, LATE);
                let world = Arc::clone(&world);
                events.spawn(async move {
                    let service = &world.conductors[at];
                    service.kill().await;
                    world.pass(away).await;
                    world.start_conductor(service).await;
                });
            }
            if let Some(mut strike) = world.fate.strikes(Fault::CutConductor) {
                process.note("is cut off");
                process.cut_off(strike.time(SOON, LATE));
            }
            befall(&world, process);
        }
        for at in 0..world.machines.len() {
            let machine = &world.machines[at];
            if let Some(mut strike) = world.fate.strikes(Fault::KillAgent)
                && let Ok(busy) = Arc::clone(&machine.busy).try_lock_owned()
            {
                let away = strike.time(SOON, LATE);
                let world = Arc::clone(&world);
                events.spawn(async move {
                    let machine = &world.machines[at];
                    machine.agent.kill().await;
                    world.pass(away).await;
                    world.start_agent(machine).await;
                    drop(busy);
                });
            }
            if let Some(mut strike) = world.fate.strikes(Fault::PowerLoss)
                && let Ok(busy) = Arc::clone(&machine.busy).try_lock_owned()
            {
                let (dark, forced) = (strike.time(SOON, LATE * 2), strike.unit() < 0.6);
                let name = format!("watchman-{at}-{}", world.fate.fired().len());
                let client = Client::new(&world, &name, "_admin", &promises);
                let world = Arc::clone(&world);
                events.spawn(async move {
                    go_dark(&world, at, dark, forced, client).await;
                    drop(busy);
                });
            }
            if let Some(mut strike) = world.fate.strikes(Fault::CutHost) {
                let until = world.clock_after(strike.time(SOON, LATE));
                if let Some(host) = host_of(&world, &machine.spec.name).await {
                    machine.agent.process.note("is cut off");
                    world.cuts.cut(Topic::agent(host), until);
                }
            }
            befall(&world, &machine.agent.process);
        }
        while events.try_join_next().is_some() {}
    }
    while events.join_next().await.is_some() {}
}

/// What may happen to any process.
fn befall(world: &World, process: &crate::testing::process::Process) {
    if let Some(mut strike) = world.fate.strikes(Fault::Pause) {
        process.note("is paused");
        process.pause(strike.time(SOON, LATE));
    }
    if let Some(mut strike) = world.fate.strikes(Fault::StoreGone) {
        process.note("loses the store");
        process.lose_store(strike.time(SOON, LATE / 2));
    }
    if let Some(mut strike) = world.fate.strikes(Fault::Jump) {
        process.note("its clock jumps");
        process.jump(strike.time(SOON, LATE));
    }
}

pub(crate) async fn host_of(world: &World, name: &HostName) -> Option<HostId> {
    use crate::store::StoreExt as _;
    let key = crate::store::record::keys::host_name(name);
    let claim = world.store.read::<crate::store::record::NameClaim>(&key).await.ok()??;
    Some(claim.value.host)
}

/// A host loses power. Somebody may notice and say so, which is a promise: it is taken back only
/// when the host has come back empty-handed.
async fn go_dark(world: &World, at: usize, dark: Duration, forced: bool, mut client: Client) {
    let machine = &world.machines[at];
    machine.agent.kill().await;
    machine.driver.lose_power().await;
    let host = host_of(world, &machine.spec.name).await;
    let host = host.filter(|_| forced);
    if let Some(host) = host {
        let said = client
            .ask(async |admin, request| admin.force_down(request, host, "it has no power").await)
            .await;
        if said.is_some() && client.chance.happens(0.7) {
            evacuate(&mut client, host).await;
        }
    }
    world.pass(dark).await;
    machine.driver.regain_power();
    world.start_agent(machine).await;
    if let Some(host) = host {
        world.pass(Duration::from_secs(2)).await;
        // An operator does not go home before this is done.
        for _ in 0..CLEARED_MAX {
            let cleared = client
                .ask(async |admin, request| admin.clear_forced_down(request, host).await)
                .await;
            if cleared.is_some() {
                break;
            }
            // Where something is being made anew elsewhere, that comes first.
            world.pass(Duration::from_secs(2)).await;
        }
    }
}

/// How often an operator tries to say that a host is back.
const CLEARED_MAX: u32 = 60;

/// Every server of a lost host is made anew elsewhere.
async fn evacuate(client: &mut Client, host: HostId) {
    let Ok(hosts) = client.handle().await.hosts().await else { return };
    let here = hosts.into_iter().filter(|status| status.host.id == host);
    let servers: Vec<_> = here.flat_map(|status| status.instances).collect();
    for server in servers {
        client.ask(async |admin, request| admin.evacuate_server(request, server).await).await;
    }
}

/// What an operator does on an ordinary day: closes or drains hosts and opens them again, gives more
/// quota, moves servers, looks after what needs a person.
pub(crate) async fn operate(mut client: Client, projects: Vec<ProjectId>, quota: u64) {
    let world = Arc::clone(&client.world);
    let mut instances = quota;
    while world.fate.is_awake() {
        world.pass(Duration::from_millis(2000 + client.chance.below(6000))).await;
        let machine = client.chance.index(world.machines.len());
        help(&mut client).await;
        match client.chance.below(5) {
            0 => {
                instances += 1;
                let project = projects[client.chance.index(projects.len())].clone();
                let quota = Quota { instances: Limit::AtMost(instances), ..Quota::default() };
                client
                    .ask(|admin, request| {
                        let project = project.clone();
                        async move { admin.set_quota(request, &project, quota).await }
                    })
                    .await;
            }
            1 => {
                let project = projects[client.chance.index(projects.len())].clone();
                let project = client.handle().await.project(project);
                let Ok(servers) = project.servers().await else { continue };
                let Some(server) = servers.get(client.chance.index(servers.len())) else {
                    continue;
                };
                let server = server.instance.id;
                let alive = client.chance.happens(0.5);
                client
                    .ask(async |admin, request| match alive {
                        true => admin.live_migrate_server(request, server).await,
                        false => admin.migrate_server(request, server).await,
                    })
                    .await;
            }
            drawn => {
                let Some(host) = host_of(&world, &world.machines[machine].spec.name).await else {
                    continue;
                };
                if drawn == 2 {
                    let call = async |admin: Admin, request| {
                        admin.drain_host(request, host, "repair").await
                    };
                    if let Some(drain) = client.ask(call).await {
                        let handle = client.handle().await;
                        let emptied = handle.wait(drain.operation);
                        drop(world.clock.within(Duration::from_secs(20), emptied).await);
                    }
                } else {
                    admit(&mut client, host, Admission::Disabled).await;
                    world.pass(Duration::from_secs(3)).await;
                }
                admit(&mut client, host, Admission::Enabled).await;
            }
        }
    }
}

/// Has every operation that waits for a person tried again, or given up.
pub(crate) async fn help(client: &mut Client) {
    let handle = client.handle().await;
    let Ok(waiting) = handle.operations_needing_operator().await else { return };
    for op in waiting.into_iter().map(|op| op.id) {
        if client.chance.happens(0.8) {
            client.ask(async |admin, request| admin.retry_operation(request, op).await).await;
        } else {
            client.ask(async |admin, request| admin.abandon_operation(request, op).await).await;
        }
    }
}

async fn admit(client: &mut Client, host: HostId, admission: Admission) {
    client
        .ask(|admin, request| {
            let admission = admission.clone();
            async move { admin.set_admission(request, host, admission).await }
        })
        .await;
}

impl World {
    fn clock_after(&self, time: Duration) -> crate::clock::Timestamp {
        use crate::clock::Clock as _;
        self.clock.now().after(time)
    }
}
