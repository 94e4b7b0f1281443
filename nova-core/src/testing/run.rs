//! One run: set up, work under faults, come to rest, give everything back.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock as _, ClockExt as _, Timestamp};
use crate::cloud::{Admin, Census, CloudOptions, FlavorSpec, ImageSpec, UnknownKeys};
use crate::doctor::Strictness;
use crate::domain::{
    FloatingPool, GiB, ImageFormat, ImageId, InterfaceName, Limit, MiB, NetworkKind, OpState,
    ProjectId, Quota, Vcpus,
};
use crate::port::NetworkSpec;
use crate::seed::Seed;
use crate::store::StoreError;
use crate::testing::audit::{Auditor, Promises};
use crate::testing::client::Client;
use crate::testing::fate::{Allow, Fate};
use crate::testing::parts::Parts;
use crate::testing::process::Log;
use crate::testing::silence::fall_silent;
use crate::testing::simulation::{Outcome, Tally};
use crate::testing::users::User;
use crate::testing::weather::{operate, rage};
use crate::testing::world::{LICENCE, Size, World};

/// When faults have ended, every operation has to end within this, in world time.
pub const LIVENESS_BOUND: Duration = Duration::from_secs(300);

/// How long users may take for their work: more means that somebody waits for ever.
const WORK_BOUND: Duration = Duration::from_secs(7200);

/// Turns that every task gets before the clock moves on.
const TURNS: usize = 12;

/// Runs `seed` over `parts`.
pub(crate) fn run(parts: &Parts, seed: u64, allow: Allow, log: Log) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::broken(seed, error.to_string()),
    };
    let root = Seed::new(seed);
    let fate = Arc::new(Fate::swarm(root.child("faults"), allow));
    let size = Size::draw(root);
    let log = Arc::new(log);
    let outcome = runtime.block_on(async {
        let options = CloudOptions::default()
            .with_order_limit(Duration::from_secs(10))
            .with_takeover_after(Duration::from_secs(30));
        let world = World::new(parts, root, Arc::clone(&fate), Arc::clone(&log), size, options);
        let (world, promises) = (Arc::new(world), Arc::new(Promises::default()));
        let scene = Scene::default();
        let story = {
            let (world, promises) = (Arc::clone(&world), Arc::clone(&promises));
            let scene = scene.clone();
            async move { play(&world, &promises, &scene, size).await }
        };
        let auditor = match perform(&world, &promises, &scene, story).await {
            Ok(auditor) => auditor,
            Err(error) => return Outcome::broken(seed, error.to_string()),
        };
        let mut outcome = Outcome::broken(seed, String::new());
        outcome.findings.clone_from(&auditor.findings);
        outcome.at = world.clock.now();
        for op in &auditor.snapshot().operations {
            let tally = outcome.operations.entry(op.kind.word()).or_default();
            match op.state {
                OpState::Done => tally.done += 1,
                _ => tally.failed += 1,
            }
        }
        outcome
    });
    runtime.shutdown_background();
    let mut outcome =
        Outcome { hash: log.hash(), fired: fate.fired(), log: log.lines(), ..outcome };
    outcome.operations.retain(|_, tally| *tally != Tally::default());
    outcome
}

/// Lets `story` happen while an auditor looks on, until it is over or something is found.
pub(crate) async fn perform(
    world: &Arc<World>,
    promises: &Arc<Promises>,
    scene: &Scene,
    story: impl Future<Output = Result<(), Wrong>> + Send + 'static,
) -> Result<Auditor, StoreError> {
    let mut auditor = Auditor::new(Arc::clone(world), Arc::clone(promises)).await?;
    let stage = Arc::clone(&scene.0);
    let told = tokio::spawn(async move {
        let told = story.await;
        *stage.lock().await = match told {
            Ok(()) => Stage::Over,
            Err((invariant, detail)) => Stage::Wrong(invariant, detail),
        };
    });
    while auditor.findings.is_empty() {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        auditor.look().await;
        let mut stage = scene.0.lock().await;
        match &*stage {
            Stage::Rested | Stage::Emptied => {
                auditor.hold_all().await;
                auditor.examine(Strictness::Idle).await;
                *stage = match &*stage {
                    Stage::Rested => Stage::Empty,
                    _ => Stage::Over,
                };
            }
            Stage::Wrong(invariant, detail) => promises.complain(invariant, detail.clone()),
            Stage::Over if told.is_finished() => break,
            _ => {}
        }
        drop(stage);
        if let Some(moment) = world.clock.next_wakeup() {
            world.clock.advance_to(moment);
        }
    }
    told.abort();
    for finding in &auditor.findings {
        world.log.note(world.clock.now(), finding);
    }
    Ok(auditor)
}

/// How far a run is; the auditor and the story hand it to each other.
#[derive(Debug, Default, Clone)]
pub(crate) struct Scene(Arc<tokio::sync::Mutex<Stage>>);

impl Scene {
    /// Lets the auditor look closely: at what has come to rest, or at what has been emptied.
    async fn look(&self, world: &World, stage: Stage) {
        *self.0.lock().await = stage;
        world.pass(Duration::from_millis(1)).await;
    }

    /// Everything has come to rest.
    pub(crate) async fn rested(&self, world: &World) {
        self.look(world, Stage::Rested).await;
    }
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Setup,
    /// Everything has come to rest: time to look closely.
    Rested,
    /// That was looked at; now everything is given back.
    Empty,
    /// Everything was given back: time to look closely.
    Emptied,
    Over,
    /// The story itself found something.
    Wrong(&'static str, String),
}

/// An invariant of the story itself that did not hold, and how.
pub(crate) type Wrong = (&'static str, String);

pub(crate) fn broken(error: impl std::fmt::Display) -> Wrong {
    ("a calm cloud works", error.to_string())
}

async fn play(
    world: &Arc<World>,
    promises: &Arc<Promises>,
    scene: &Scene,
    size: Size,
) -> Result<(), Wrong> {
    let mut operator = Client::new(world, "operator", "_admin", promises);
    let image = open(world, &mut operator).await?;
    // Where everybody is in a rush they are of one project, and want the same things.
    let owner = |n: usize| if size.rush { 0 } else { n };
    let before = operator.handle().await.census().await.map_err(broken)?;
    let projects: Result<Vec<ProjectId>, _> =
        (0..size.users).map(|n| format!("project-{}", owner(n)).parse()).collect();
    let projects = projects.map_err(broken)?;
    if let Some(instances) = size.quota {
        for project in &projects {
            let quota = Quota { instances: Limit::AtMost(instances), ..Quota::default() };
            let call = |admin: Admin, request| async move {
                admin.set_quota(request, project, quota).await
            };
            operator.ask(call).await;
        }
    }

    world.fate.wake();
    world.drift();
    let user = |n: usize, name: &str| User {
        client: Client::new(
            world,
            &format!("{name}-{n}"),
            &format!("project-{}", owner(n)),
            promises,
        ),
        project: projects[n].clone(),
        image,
        rush: size.rush,
        pairs: size.pairs,
    };
    let working = (0..size.users).map(|n| tokio::spawn(user(n, "user").work(size.operations)));
    let working: Vec<_> = working.collect();
    let weather = tokio::spawn(rage(Arc::clone(world), Arc::clone(promises)));
    let shift = Client::new(world, "shift", "_admin", promises);
    let shift = tokio::spawn(operate(shift, projects.clone(), size.quota.unwrap_or(10)));
    let work = async {
        for user in working {
            drop(user.await);
        }
    };
    if world.clock.within(WORK_BOUND, work).await.is_none() {
        return Err(("users are served", "somebody waits for ever".to_owned()));
    }
    world.fate.sleep();
    world.log.note(world.clock.now(), "faults end");
    drop((shift.await, weather.await));
    world.start().await;
    rest(world, &mut operator).await?;
    scene.rested(world).await;

    let mut cleaners: Vec<User> = (0..size.users).map(|n| user(n, "cleaner")).collect();
    if size.silence {
        let client = Client::new(world, "quiet", "quiet", promises);
        let project = "quiet".parse().map_err(broken)?;
        let mut quiet = User { client, project, image, rush: false, pairs: false };
        fall_silent(world, &mut quiet).await?;
        rest(world, &mut operator).await?;
        cleaners.push(quiet);
    }
    world.log.note(world.clock.now(), "everything is given back");
    give_back(world, scene, &mut operator, cleaners, &before).await
}

/// Starts everything, and waits until all hosts are there.
pub(crate) async fn open(world: &World, operator: &mut Client) -> Result<ImageId, Wrong> {
    world.start().await;
    while operator.handle().await.hosts().await.map_err(broken)?.len() < world.machines.len() {
        world.pass(Duration::from_millis(100)).await;
    }
    ground(operator).await
}

/// Everything is deleted, and nothing may be left of it: it has to be as `before`.
pub(crate) async fn give_back(
    world: &World,
    scene: &Scene,
    operator: &mut Client,
    mut cleaners: Vec<User>,
    before: &Census,
) -> Result<(), Wrong> {
    let until = world.clock.now().after(LIVENESS_BOUND);
    let mut left = true;
    while left {
        left = false;
        for user in &mut cleaners {
            left |= !user.clean().await;
        }
        within(world, until, || "everything cannot be deleted".to_owned())?;
        world.pass(Duration::from_secs(2)).await;
    }
    for project in cleaners.iter().map(|user| &user.project) {
        operator
            .ask(|admin, request| async move { admin.clear_quota(request, project).await })
            .await;
    }
    rest(world, operator).await?;
    let after = operator.handle().await.census().await.map_err(broken)?;
    same(before, &after)?;
    let volumes = world.volumes.list().await.map_err(broken)?;
    if !volumes.is_empty() {
        return Err(("nothing is left of what was deleted", format!("volumes {volumes:?}")));
    }
    scene.look(world, Stage::Emptied).await;
    Ok(())
}

fn within(world: &World, until: Timestamp, what: impl Fn() -> String) -> Result<(), Wrong> {
    if world.clock.now() < until { Ok(()) } else { Err(("work comes to an end", what())) }
}

/// Waits until every operation has ended and every host was swept since.
pub(crate) async fn rest(world: &World, operator: &mut Client) -> Result<(), Wrong> {
    use crate::store::StoreExt as _;
    use crate::store::record::{OpenOperation, Record as _};
    let until = world.clock.now().after(LIVENESS_BOUND);
    loop {
        let open = world.store.read_all::<OpenOperation>(&OpenOperation::all()).await;
        let open = open.map_err(broken)?;
        if open.is_empty() {
            break;
        }
        within(world, until, || {
            let open: Vec<_> = open.iter().map(|open| open.value.operation.to_string()).collect();
            format!("operations {} have not ended", open.join(", "))
        })?;
        world.pass(Duration::from_secs(1)).await;
    }
    world.pass(world.options.order_limit + world.options.sweep_interval * 3).await;
    drop(operator.handle().await);
    Ok(())
}

/// What everybody finds: an image, flavors, a network, a pool of floating IPs.
async fn ground(operator: &mut Client) -> Result<ImageId, Wrong> {
    let hosts = operator.handle().await.hosts().await.map_err(broken)?;
    let missing = || ("a calm cloud works", "it cannot be set up".to_owned());
    let image = ImageSpec::new("tiny".parse().map_err(broken)?, ImageFormat::Raw);
    let image = operator
        .ask(|admin, request| {
            let image = image.clone();
            async move { admin.register_image(request, &image, Box::new(&b"a disk"[..])).await }
        })
        .await;
    for (name, vcpus, memory) in [("small", 1, 512), ("large", 2, 1536)] {
        let mut spec = FlavorSpec::new(name.parse().map_err(broken)?, Vcpus(vcpus), MiB(memory))
            .with_root_disk(GiB(5));
        if name == "large" {
            spec = spec
                .with_unknown_keys(UnknownKeys::Keep)
                .with_extra_spec(format!("resources:{LICENCE}"), "1");
        }
        if name == "large" && hosts.iter().all(|host| host.host.numa.is_some()) {
            spec = spec.with_extra_spec("hw:cpu_policy", "dedicated");
        }
        if name == "large" && hosts.iter().all(|host| !host.host.pci.is_empty()) {
            spec = spec.with_extra_spec("pci_passthrough:alias", "card:1");
        }
        let made = operator
            .ask(|admin, request| {
                let spec = spec.clone();
                async move { admin.create_flavor(request, &spec).await.map(drop) }
            })
            .await;
        made.ok_or_else(missing)?;
    }
    let range = "10.0.0.0/26".parse().map_err(broken)?;
    let spec = NetworkSpec::new("net".parse().map_err(broken)?, NetworkKind::FlatDhcp, range);
    let made = operator
        .ask(|admin, request| {
            let spec = spec.clone();
            async move { admin.create_networks(request, &spec).await }
        })
        .await;
    made.ok_or_else(missing)?;
    let pool = FloatingPool {
        name: "public".parse().map_err(broken)?,
        range: "192.0.2.0/28".parse().map_err(broken)?,
        interface: InterfaceName::new("eth1").map_err(broken)?,
    };
    let made = operator
        .ask(|admin, request| {
            let pool = pool.clone();
            async move { admin.create_floating_pool(request, &pool).await }
        })
        .await;
    made.ok_or_else(missing)?;
    image.ok_or_else(missing)
}

/// Whether there is as much as before.
fn same(before: &Census, after: &Census) -> Result<(), Wrong> {
    let same = before.records == after.records && before.used == after.used;
    let told = || format!("{:?} {:?}", after.records, after.used);
    if same { Ok(()) } else { Err(("nothing is left of what was deleted", told())) }
}
