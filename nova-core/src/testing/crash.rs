//! In a calm cloud one operation runs, and somebody dies in the middle of it: at every site.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock as _, ClockExt as _};
use crate::cloud::CloudOptions;
use crate::cloud::steps::Doing;
use crate::doctor::Finding;
use crate::domain::{Instance, OpId, OpState};
use crate::plant::{Bug, plant, probe};
use crate::seed::Seed;
use crate::store::StoreExt as _;
use crate::store::record::keys;
use crate::testing::audit::Promises;
use crate::testing::client::Client;
use crate::testing::fate::Fate;
use crate::testing::parts::Parts;
use crate::testing::probe::Probe;
use crate::testing::process::Log;
use crate::testing::run::{LIVENESS_BOUND, Scene, Wrong, broken, give_back, open, perform, rest};
use crate::testing::scenario::Setting;
use crate::testing::sites::{Site, Victim, at, sites, ways_back};
use crate::testing::users::User;
use crate::testing::world::{Size, World};

/// Kills somebody at sites of operations over the same parts.
///
/// ```
/// use nova_core::testing::{Crashes, Parts};
///
/// let crashes = Crashes::new(Parts::default());
/// let sites = Crashes::sites();
/// assert_eq!(crashes.run(&sites[..1]).findings, []);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Crashes {
    parts: Parts,
    bug: Option<Bug>,
}

/// What came of a death, or of two.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Crashed {
    /// What must not be, at the first moment when anything was; empty when all went well.
    pub findings: Vec<Finding>,
    /// The sites that were reached after the first death.
    pub recovery: Vec<Site>,
    /// SHA-256 of everything that happened.
    pub hash: String,
    /// What happened, when it was to be written down.
    pub log: Vec<String>,
}

/// How long a victim stays away: not so long that its host counts as down.
const AWAY: Duration = Duration::from_secs(2);

/// The cloud in which somebody dies.
const SIZE: Size = Size {
    conductors: 1,
    hosts: 3,
    users: 1,
    operations: 0,
    vcpus: 8,
    quota: None,
    rush: false,
    pairs: false,
    silence: false,
};

impl Crashes {
    /// Deaths in a cloud of these parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts, bug: None }
    }

    /// Makes a mistake on purpose, to see whether it is found.
    #[must_use]
    pub fn with_bug(self, bug: Bug) -> Self {
        Self { bug: Some(bug), ..self }
    }

    /// Every site there is: each moment of each step of each kind of operation, and of each undo
    /// after each step that cannot be done, with everybody who may die there.
    pub fn sites() -> Vec<Site> {
        sites()
    }

    /// Runs the operation of these sites, which has to be the same, and lets their victims die,
    /// one after the other. A site that is not reached is a finding.
    pub fn run(&self, deaths: &[Site]) -> Crashed {
        self.replay(deaths, Log::default())
    }

    /// What the mistake that was made on purpose brings about at these sites: what is found there
    /// without it too is not its doing.
    pub fn catches(&self, deaths: &[Site]) -> Option<Finding> {
        let found = self.bug.and_then(|_| self.run(deaths).findings.into_iter().next())?;
        let sober = Self { bug: None, ..self.clone() };
        sober.run(deaths).findings.is_empty().then_some(found)
    }

    /// The same, written into `log`.
    pub fn replay(&self, deaths: &[Site], log: Log) -> Crashed {
        let _undone = Undone(plant(self.bug));
        let broken = |reason: String| Crashed {
            findings: vec![Finding { invariant: "a run can begin", detail: reason }],
            recovery: Vec::new(),
            hash: String::new(),
            log: Vec::new(),
        };
        let Some(first) = deaths.first() else { return broken("no site".to_owned()) };
        if deaths.iter().any(|site| site.kind != first.kind) {
            return broken("sites of more than one operation".to_owned());
        }
        let failing = deaths.iter().find_map(|site| site.failing);
        if deaths.iter().any(|site| site.failing.is_some_and(|step| Some(step) != failing)) {
            return broken("more than one step that fails".to_owned());
        }
        let runtime = match tokio::runtime::Builder::new_current_thread().build() {
            Ok(runtime) => runtime,
            Err(error) => return broken(error.to_string()),
        };
        let (log, watch) = (Arc::new(log), Arc::new(Probe::default()));
        probe(Some(Arc::clone(&watch)));
        let seed = Seed::new(0).child("crash");
        let ended = runtime.block_on(async {
            let fate = Arc::new(Fate::kind());
            // Nothing hangs here, so that nobody has to be patient.
            let options = CloudOptions::default()
                .with_order_limit(Duration::from_secs(3))
                .with_sweep_interval(Duration::from_secs(2));
            let world = World::new(&self.parts, seed, fate, Arc::clone(&log), SIZE, options);
            let (world, promises) = (Arc::new(world), Arc::new(Promises::default()));
            let scene = Scene::default();
            let story = {
                let case = Case {
                    deaths: deaths.to_vec(),
                    probe: Arc::clone(&watch),
                    world: Arc::clone(&world),
                    promises: Arc::clone(&promises),
                    scene: scene.clone(),
                };
                async move { case.play().await }
            };
            perform(&world, &promises, &scene, story).await.map(|auditor| auditor.findings)
        });
        runtime.shutdown_background();
        match ended {
            Ok(findings) => {
                // What went back by itself goes back again when its last step fails.
                let failing = failing.or(ways_back(&first.kind).last());
                let of = |(doing, moment)| {
                    let back = !matches!(doing, Doing::Step(_));
                    at(&first.kind, doing, failing.filter(|_| back), moment)
                };
                let recovery = watch.recovery().into_iter().flat_map(of).collect();
                Crashed { findings, recovery, hash: log.hash(), log: log.lines() }
            }
            Err(error) => broken(error.to_string()),
        }
    }
}

/// Takes a mistake and a probe back when the run is over, however it ends.
struct Undone(Option<Bug>);

impl Drop for Undone {
    fn drop(&mut self) {
        plant(self.0);
        probe(None);
    }
}

/// One run.
struct Case {
    deaths: Vec<Site>,
    probe: Arc<Probe>,
    world: Arc<World>,
    promises: Arc<Promises>,
    scene: Scene,
}

impl Case {
    async fn play(self) -> Result<(), Wrong> {
        let (world, promises) = (&self.world, &self.promises);
        let Some(first) = self.deaths.first() else { return Ok(()) };
        let kind = &first.kind;
        let mut operator = Client::new(world, "operator", "_admin", promises);
        let image = open(world, &mut operator).await?;
        let before = operator.handle().await.census().await.map_err(broken)?;
        let project: crate::domain::ProjectId = "project".parse().map_err(broken)?;
        let user = |name: &str| User {
            client: Client::new(world, name, "project", promises),
            project: project.clone(),
            image,
            rush: false,
            pairs: false,
        };
        let mut setting = Setting::new(user("user"), operator);
        setting.furnish(kind).await?;
        let here = match setting.server {
            Some(server) => setting.home(server).await?,
            None => None,
        };
        let here = match here {
            Some(host) => Some(setting.machine(host).await?),
            None => None,
        };

        let failing = self.deaths.iter().find_map(|site| site.failing);
        let back = failing.is_some();
        self.probe.arm(self.deaths.iter().map(|site| (site.doing, site.moment)), failing);
        let id = setting.begin(kind).await?;
        for (nth, site) in self.deaths.iter().enumerate() {
            self.reached(nth + 1, site).await?;
            self.die(&setting, id, site.victim, here, nth + 1).await?;
        }
        rest(world, &mut setting.operator).await?;
        let op = setting.operation(id).await?.ok_or_else(|| broken("the operation is gone"))?;
        let by_conductor = self.deaths.iter().all(|site| site.victim == Victim::Conductor);
        let right = match op.state {
            OpState::Done => !back,
            OpState::Failed(_) => back || !by_conductor,
            _ => false,
        };
        if !right {
            let detail = format!("{} ended {:?}", kind.word(), op.state);
            return Err(("a death changes nothing of the result", detail));
        }
        self.scene.rested(world).await;
        if setting.lost.is_some() {
            setting.find_host().await?;
            rest(world, &mut setting.operator).await?;
        }
        let mut operator = setting.operator;
        give_back(world, &self.scene, &mut operator, vec![user("cleaner")], &before).await
    }

    /// Waits until the operation is where somebody dies.
    async fn reached(&self, nth: usize, site: &Site) -> Result<(), Wrong> {
        let waits = self.probe.strikes(nth);
        match self.world.clock.within(LIVENESS_BOUND, waits).await {
            Some(()) => Ok(()),
            None => Err(("every site is reached", format!("{site} was never reached"))),
        }
    }

    async fn die(
        &self,
        setting: &Setting,
        op: OpId,
        victim: Victim,
        here: Option<usize>,
        strike: usize,
    ) -> Result<(), Wrong> {
        let world = &self.world;
        world.log.note(world.clock.now(), format_args!("{} dies", victim.name()));
        if victim == Victim::Conductor {
            let conductor = &world.conductors[0];
            conductor.kill().await;
            self.probe.heal(strike);
            world.pass(AWAY).await;
            world.start_conductor(conductor).await;
            return Ok(());
        }
        let there = matches!(victim, Victim::AgentThere | Victim::PowerThere);
        let at = self.end(setting, op, here, there).await?;
        let machine = &world.machines[at];
        // One that is lost already cannot die again.
        let dies = setting.lost.is_none_or(|(lost, _)| lost != at);
        let dark = dies && matches!(victim, Victim::PowerHere | Victim::PowerThere);
        if dies {
            machine.agent.kill().await;
        }
        if dark {
            machine.driver.lose_power().await;
        }
        self.probe.heal(strike);
        world.pass(AWAY).await;
        if dark {
            machine.driver.regain_power();
        }
        if dies {
            world.start_agent(machine).await;
        }
        Ok(())
    }

    /// The machine at one of the two ends of an operation; where there is no second end yet, any
    /// other.
    async fn end(
        &self,
        setting: &Setting,
        op: OpId,
        here: Option<usize>,
        there: bool,
    ) -> Result<usize, Wrong> {
        let kind = setting.operation(op).await?.map(|op| op.kind);
        let mut ends = Vec::new();
        if let Some(server) = kind.and_then(|kind| kind.instance()) {
            let key = keys::instance(server);
            let server = self.world.store.read::<Instance>(&key).await.map_err(broken)?;
            for host in server.map(|server| server.value.hosts()).unwrap_or_default() {
                ends.push(setting.machine(host).await?);
            }
        }
        let here = here.or(ends.first().copied()).unwrap_or_default();
        let other = ends.into_iter().find(|end| *end != here);
        Ok(if there { other.unwrap_or((here + 1) % self.world.machines.len()) } else { here })
    }
}
