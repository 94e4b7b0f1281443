//! A small cloud that writes its decisions down, and what other policies make of the log.
//!
//! Everything runs in one thread on a clock that moves when nobody has work: a day takes a moment,
//! and the same seed gives the same log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _, Timestamp};
use nova_core::cloud::{
    Accepted, ApiError, Cloud, CloudOptions, FlavorSpec, GroupSpec, HostSpec, ImageSpec, Ports,
    Project, ServerSpec,
};
use nova_core::domain::{
    FlavorName, GiB, GroupPolicy, ImageFormat, ImageId, InstanceId, Invalid, MiB, NetworkKind,
    OpState, Quota, Resources, ServerGroupId, Vcpus, VmState,
};
use nova_core::memory::{MemoryHost, VirtualClock};
use nova_core::port::{NetworkSpec, Scheduler};
use nova_core::seed::{Chance, Seed};
use nova_core::store::MemoryStore;
use nova_core::testing::alone;
use nova_sched::explain::{DecisionLog, Replay, replay};
use nova_sched::sim::trace::decisions::Recorded;
use nova_sched::sim::{Report, Scenario};

/// What happens in the small cloud.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// Hosts: every third has twice the room.
    pub hosts: usize,
    /// How often somebody does something: asks for a server, deletes, resizes or moves one.
    pub actions: usize,
    /// Where chance starts.
    pub seed: u64,
}

impl Default for Plan {
    /// 12 hosts, 300 actions, seed 1.
    fn default() -> Self {
        Self { hosts: 12, actions: 300, seed: 1 }
    }
}

/// A server of the small cloud, as its users know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// Which.
    pub id: InstanceId,
    /// When it was asked for.
    pub asked: Timestamp,
    /// When it was gone, if it is.
    pub gone: Option<Timestamp>,
    /// What it took at each time: since when, and how much.
    pub sizes: Vec<(Timestamp, Resources)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Lived {
    /// The log of decisions.
    pub log: Vec<u8>,
    /// The servers that found a host, in the order in which they were asked for.
    pub servers: Vec<Known>,
    /// How many found none.
    pub refused: usize,
    /// How many moves and resizes went well.
    pub moved: usize,
    /// How long it took, in virtual time.
    pub took: Duration,
}

/// What one policy makes of a log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// The policy.
    pub policy: String,
    /// Every question, asked again about the hosts as they were.
    pub replay: Replay,
    /// What would have come of its own answers.
    pub report: Report,
}

/// Memory that can be written to from a scheduler and read afterwards.
#[derive(Debug, Default, Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets a cloud with this scheduler live, and write down what it decides.
///
/// # Errors
/// Those of the cloud; none is expected.
pub fn live(plan: &Plan, scheduler: impl Scheduler) -> Result<Lived, ApiError> {
    alone(async |clock| Small::start(plan, scheduler, clock).await?.live(plan).await)
}

/// What a policy makes of a log and of the trace that was derived of it.
///
/// # Errors
/// When the log cannot be read, or the policy breaks a law.
pub fn judge(
    log: &[u8],
    recorded: &Recorded,
    policy: &dyn Scheduler,
    seed: Seed,
) -> Result<Verdict, Box<dyn std::error::Error>> {
    let replay = replay(log, policy, |_| {})?;
    let mut scenario = Scenario::default();
    scenario.on_bad_row = nova_sched::sim::OnBadRow::Skip;
    let report = recorded.simulate(policy, scenario, seed)?;
    Ok(Verdict { policy: policy.to_string(), replay, report })
}

/// The cloud.
struct Small {
    cloud: Cloud,
    project: Project,
    image: ImageId,
    apart: ServerGroupId,
    clock: Arc<VirtualClock>,
    chance: Chance,
    log: Shared,
    lived: Lived,
}

/// From small to large.
const FLAVORS: [(&str, u32, u64); 3] =
    [("small", 1, 2048), ("medium", 2, 4096), ("large", 6, 8192)];

impl Small {
    async fn start(
        plan: &Plan,
        scheduler: impl Scheduler,
        clock: Arc<VirtualClock>,
    ) -> Result<Self, ApiError> {
        let (log, seed) = (Shared::default(), Seed::new(plan.seed));
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let scheduler = DecisionLog::new(scheduler, Arc::clone(&time), log.clone());
        let ports = Ports::over(Arc::new(MemoryStore::new()), time, seed).with_scheduler(scheduler);
        // Days go by in which nothing happens.
        let options = CloudOptions::default()
            .with_beat_interval(Duration::from_secs(300))
            .with_sweep_interval(Duration::from_secs(3600));
        let mut cloud = Cloud::start(ports, options).await?;
        for number in 0..plan.hosts {
            let size = if number % 3 == 2 { 2 } else { 1 };
            let (vcpus, memory) = (Vcpus(8 * size), MiB(16_384 * u64::from(size)));
            let driver = MemoryHost::new(Resources { vcpus, memory, disk: GiB(500) });
            cloud.add_host(HostSpec::new(format!("host-{number}").parse()?), driver).await?;
        }
        let (admin, project) = (cloud.admin(), cloud.project("demo".parse()?));
        let spec = ImageSpec::new("tiny".parse()?, ImageFormat::Raw);
        let image =
            admin.register_image(admin.new_request(), &spec, Box::new(&b"tiny"[..])).await?;
        for (name, vcpus, memory) in FLAVORS {
            let spec = FlavorSpec::new(name.parse()?, Vcpus(vcpus), MiB(memory));
            admin.create_flavor(admin.new_request(), &spec.with_root_disk(GiB(10))).await?;
        }
        let range = "10.0.0.0/16".parse().map_err(|_| Invalid::new("range", "", "a range"))?;
        let net =
            NetworkSpec::new("net".parse()?, NetworkKind::FlatDhcp, range).with_subnets(1, 1 << 16);
        admin.create_networks(admin.new_request(), &net).await?;
        admin.set_quota(admin.new_request(), project.id(), Quota::UNLIMITED).await?;
        let apart = GroupSpec::new("apart".parse()?, GroupPolicy::AntiAffinity);
        let apart = project.create_group(project.new_request(), &apart).await?;
        let chance = seed.child("users").chance();
        let lived = Lived {
            log: Vec::new(),
            servers: Vec::new(),
            refused: 0,
            moved: 0,
            took: Duration::ZERO,
        };
        Ok(Self { cloud, project, image, apart, clock, chance, log, lived })
    }

    async fn live(mut self, plan: &Plan) -> Result<Lived, ApiError> {
        let began = self.clock.now();
        for number in 0..plan.actions {
            let pause = Duration::from_secs(10 + self.chance.below(600));
            self.clock.sleep(pause).await;
            let there: Vec<usize> = (0..self.lived.servers.len())
                .filter(|nth| self.lived.servers[*nth].gone.is_none())
                .collect();
            let one = there.get(self.chance.index(there.len().max(1))).copied();
            match (self.chance.below(100), one) {
                (0..32, Some(one)) => self.delete(one).await?,
                (32..40, Some(one)) => self.resize(one).await?,
                (40..46, Some(one)) => self.migrate(one).await?,
                _ => self.create(number).await?,
            }
        }
        // Whoever is asked for last shows what has gone by then.
        self.clock.sleep(Duration::from_secs(60)).await;
        self.create(plan.actions).await?;
        let mut lived = self.lived;
        lived.took = self.clock.now().since(began);
        self.cloud.stop().await;
        lived.log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(lived)
    }

    async fn ends<T>(&self, accepted: Accepted<T>) -> Result<(T, bool), ApiError> {
        let ended = self.project.wait(accepted.operation).await?;
        Ok((accepted.id, ended.state == OpState::Done))
    }

    async fn create(&mut self, number: usize) -> Result<(), ApiError> {
        let (flavor, vcpus, memory) = FLAVORS[self.chance.index(FLAVORS.len())];
        let name = format!("server-{number}").parse()?;
        let mut spec = ServerSpec::new(name, flavor.parse()?, self.image);
        if self.chance.happens(0.1) {
            spec = spec.with_group(self.apart);
        }
        let asked = self.clock.now();
        let accepted = self.project.create_server(self.project.new_request(), &spec).await?;
        let (id, placed) = self.ends(accepted).await?;
        if placed {
            let size = Resources { vcpus: Vcpus(vcpus), memory: MiB(memory), disk: GiB(10) };
            self.lived.servers.push(Known { id, asked, gone: None, sizes: vec![(asked, size)] });
        } else {
            self.lived.refused += 1;
            let deleted = self.project.delete_server(self.project.new_request(), id).await?;
            self.ends(deleted).await?;
        }
        Ok(())
    }

    async fn delete(&mut self, one: usize) -> Result<(), ApiError> {
        let id = self.lived.servers[one].id;
        let deleted = self.project.delete_server(self.project.new_request(), id).await?;
        self.ends(deleted).await?;
        self.lived.servers[one].gone = Some(self.clock.now());
        Ok(())
    }

    /// To the next larger flavor, where there is one.
    async fn resize(&mut self, one: usize) -> Result<(), ApiError> {
        let known = &self.lived.servers[one];
        let size = known.sizes.last().map(|(_, size)| size.vcpus);
        let Some((name, vcpus, memory)) =
            FLAVORS.into_iter().find(|(_, vcpus, _)| Some(Vcpus(*vcpus)) > size)
        else {
            return self.migrate(one).await;
        };
        let (id, flavor): (_, FlavorName) = (known.id, name.parse()?);
        let asked = self.clock.now();
        let resized = self.project.resize_server(self.project.new_request(), id, &flavor).await?;
        self.ends(resized).await?;
        if self.confirm(id).await? {
            let size = Resources { vcpus: Vcpus(vcpus), memory: MiB(memory), disk: GiB(10) };
            self.lived.servers[one].sizes.push((asked, size));
        }
        Ok(())
    }

    async fn migrate(&mut self, one: usize) -> Result<(), ApiError> {
        let (admin, id) = (self.cloud.admin(), self.lived.servers[one].id);
        let migrated = admin.migrate_server(admin.new_request(), id).await?;
        self.ends(migrated).await?;
        self.confirm(id).await.map(drop)
    }

    /// Confirms a move, if the server has moved.
    async fn confirm(&mut self, id: InstanceId) -> Result<bool, ApiError> {
        if self.project.server(id).await?.instance.state != VmState::Resized {
            return Ok(false);
        }
        // For a while it has room on both hosts.
        self.clock.sleep(Duration::from_secs(30)).await;
        let confirmed = self.project.confirm_resize(self.project.new_request(), id).await?;
        self.ends(confirmed).await?;
        self.lived.moved += 1;
        Ok(true)
    }
}
