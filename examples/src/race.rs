//! Many conductors that place servers on one store, each on a view that is behind.
//!
//! Everything runs in one thread on a clock that moves when nobody has work, so that the same
//! seed gives the same race. A conductor sees a change only some time after it was committed; it
//! decides on what it sees, and loses against whoever was faster. What is counted is how often a
//! placement's commit was refused before one was accepted.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Formatter};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::cloud::{
    ApiError, Cloud, CloudOptions, Conductor, FlavorSpec, HostSpec, ImageSpec, Ports, ServerSpec,
};
use nova_core::domain::{
    GiB, ImageFormat, Invalid, MiB, NetworkKind, OpState, Quota, Resources, Vcpus,
};
use nova_core::memory::{LocalBus, MemoryHost, VirtualClock};
use nova_core::port::{BusError, Inbox, MessageBus, NetworkSpec, Payload, Scheduler, Topic};
use nova_core::seed::Seed;
use nova_core::store::record::Claim;
use nova_core::store::{
    Entry, Key, MemoryStore, Page, Prefix, Record as _, Revision, Scan, Store, StoreError, Txn,
    Watch, Write,
};
use nova_core::testing::{LateStore, alone};

/// Who races, over what.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Race {
    /// Conductors.
    pub conductors: usize,
    /// Hosts, each with room for [`SLOTS`] servers.
    pub hosts: usize,
    /// How long a change takes to be seen.
    pub lag: Duration,
    /// Where chance starts.
    pub seed: u64,
    /// How much of all room the servers take, in percent.
    pub fill: usize,
}

/// Servers that one host has room for.
pub const SLOTS: usize = 16;

impl Race {
    /// So many conductors on so many hosts, to 95 %, 20 ms behind, from seed 1.
    pub fn new(conductors: usize, hosts: usize) -> Self {
        Self { conductors, hosts, lag: Duration::from_millis(20), seed: 1, fill: 95 }
    }
}

/// What came of a race.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Finish {
    /// Conductors that raced.
    pub conductors: usize,
    /// Servers that were asked for.
    pub asked: usize,
    /// Servers that found a place; one conductor alone places all of them.
    pub placed: usize,
    /// Conflicts of all placements.
    pub conflicts: usize,
    /// Conflicts of the placement in the middle.
    pub retries_p50: usize,
    /// Conflicts that 99 of 100 placements do not exceed.
    pub retries_p99: usize,
    /// The most conflicts that one placement had.
    pub retries_max: usize,
    /// Which guards failed: the table of the record, and how often.
    pub conflicts_on: BTreeMap<String, usize>,
    /// How often a decision was made again, before its commit, because the host that it had
    /// chosen was not as the view had it. No retry: nothing was refused.
    pub second_looks: usize,
    /// What the doctor found.
    pub findings: Vec<String>,
    /// Virtual seconds that it took.
    pub virtual_s: f64,
}

/// Runs a race to its end.
///
/// # Errors
/// Those of the cloud; none is expected.
pub fn run(race: &Race, scheduler: Arc<dyn Scheduler>) -> Result<Finish, ApiError> {
    alone(async |clock| go(race, scheduler, clock).await)
}

async fn go(
    race: &Race,
    scheduler: Arc<dyn Scheduler>,
    virtual_clock: Arc<VirtualClock>,
) -> Result<Finish, ApiError> {
    let clock: Arc<dyn Clock> = Arc::clone(&virtual_clock) as Arc<dyn Clock>;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let seed = Seed::new(race.seed);
    let bus = LocalBus::new(Arc::clone(&clock)).with_capacity(LocalBus::CAPACITY_MAX);
    let bus: Arc<dyn MessageBus> = Arc::new(bus);
    let ports = |store: Arc<dyn Store>, seed: Seed| {
        let mut ports = Ports::over(store, Arc::clone(&clock), seed);
        ports.scheduler = Arc::clone(&scheduler);
        ports
    };
    let options = CloudOptions::default().with_sweep_interval(Duration::from_secs(3600));
    // The way in and the hosts; its own conductor hears of nothing.
    let mut parts = ports(Arc::clone(&store), seed);
    let images = Arc::clone(&parts.images);
    parts.bus = Arc::new(Deaf::new(Arc::clone(&bus)));
    let mut cloud = Cloud::start(parts, options.clone()).await?;
    let room = u32::try_from(SLOTS).unwrap_or(u32::MAX);
    let total =
        Resources { vcpus: Vcpus(room), memory: MiB(1024 * u64::from(room)), disk: GiB(1000) };
    for number in 0..race.hosts {
        let spec = HostSpec::new(format!("host-{number}").parse()?);
        cloud.add_host(spec, MemoryHost::new(total)).await?;
    }
    let admin = cloud.admin();
    let image = ImageSpec::new("tiny".parse()?, ImageFormat::Raw);
    let bytes = Box::new(&b"tiny"[..]);
    let image = admin.register_image(admin.new_request(), &image, bytes).await?;
    let flavor = FlavorSpec::new("small".parse()?, Vcpus(1), MiB(1024)).with_root_disk(GiB(1));
    admin.create_flavor(admin.new_request(), &flavor).await?;
    let range = "10.0.0.0/16".parse().map_err(|_| Invalid::new("range", "", "a range"))?;
    let net =
        NetworkSpec::new("net".parse()?, NetworkKind::FlatDhcp, range).with_subnets(1, 1 << 16);
    admin.create_networks(admin.new_request(), &net).await?;
    let project = cloud.project("demo".parse()?);
    admin.set_quota(admin.new_request(), project.id(), Quota::UNLIMITED).await?;

    let tally = Arc::new(Tally::default());
    let mut conductors = Vec::new();
    let mut tellers = tokio::task::JoinSet::new();
    for number in 0..race.conductors {
        let seed = seed.child_of("conductor", number as u128);
        let late = LateStore::new(&store, &virtual_clock, seed).await?;
        let late = Arc::new(late.with_way(Duration::ZERO).with_lag(race.lag));
        tellers.spawn(Arc::clone(&late).tell());
        let mut parts = ports(Arc::new(Counted { late, tally: Arc::clone(&tally) }), seed);
        (parts.bus, parts.images) = (Arc::clone(&bus), Arc::clone(&images));
        conductors.push(Conductor::start(parts, options.clone()).await?);
    }
    let begun = clock.now();
    let asked = race.hosts * SLOTS * race.fill / 100;
    let mut operations = Vec::with_capacity(asked);
    for number in 0..asked {
        let name = format!("server-{number}").parse()?;
        let spec = ServerSpec::new(name, "small".parse()?, image);
        operations.push(project.create_server(project.new_request(), &spec).await?.operation);
    }
    let mut placed = 0;
    for operation in operations {
        placed += usize::from(project.wait(operation).await?.state == OpState::Done);
    }
    let virtual_s = clock.now().since(begun).as_secs_f64();
    let findings = admin.doctor().await?.findings;
    let mut retries: Vec<usize> = tally.lock().placements.values().copied().collect();
    let (conflicts_on, second_looks) = {
        let counts = tally.lock();
        (counts.conflicts_on.clone(), counts.looks)
    };
    retries.sort_unstable();
    let at = |percent: usize| retries.get(retries.len().saturating_sub(1) * percent / 100);
    Ok(Finish {
        conductors: race.conductors,
        asked,
        placed,
        conflicts: retries.iter().sum(),
        retries_p50: at(50).copied().unwrap_or(0),
        retries_p99: at(99).copied().unwrap_or(0),
        retries_max: at(100).copied().unwrap_or(0),
        conflicts_on,
        second_looks,
        findings: findings.iter().map(ToString::to_string).collect(),
        virtual_s,
    })
}

/// What the stores of all conductors have seen.
#[derive(Debug, Default)]
struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Conflicts of each placement, by the server that it is for.
    placements: BTreeMap<String, usize>,
    conflicts_on: BTreeMap<String, usize>,
    looks: usize,
}

impl Tally {
    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit that makes a claim is a placement; the claim's key ends with the server.
    fn note(&self, txn: &Txn, conflict: Option<&Key>) {
        for write in txn.writes() {
            if let Write::Put(key, _) = write
                && Claim::all().covers(key)
                && let Some((_, server)) = key.as_str().rsplit_once('/')
            {
                let mut counts = self.lock();
                let lost = usize::from(conflict.is_some());
                *counts.placements.entry(server.to_owned()).or_default() += lost;
                if let Some(table) = conflict.and_then(|key| key.as_str().split('/').next()) {
                    *counts.conflicts_on.entry(table.to_owned()).or_default() += 1;
                }
            }
        }
    }
}

/// A store that is behind, and whose conflicts and second looks are counted.
#[derive(Debug)]
struct Counted {
    late: Arc<LateStore>,
    tally: Arc<Tally>,
}

impl Display for Counted {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, counted", self.late)
    }
}

#[async_trait]
impl Store for Counted {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.late.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        // Only a host's claims are ever read below a longer prefix than all claims.
        let (claims, read) = (Claim::all(), scan.prefix.as_str());
        if read.starts_with(claims.as_str()) && read != claims.as_str() {
            self.tally.lock().looks += 1;
        }
        self.late.scan(scan).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        // Others get their turn between a decision and its commit.
        tokio::task::yield_now().await;
        let done = self.late.commit(txn.clone()).await;
        match &done {
            Ok(_) => self.tally.note(&txn, None),
            Err(StoreError::Conflict { key }) => self.tally.note(&txn, Some(key)),
            Err(_) => {}
        }
        done
    }

    async fn watch(&self, prefix: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        self.late.watch(prefix, after).await
    }
}

/// A bus on which nothing reaches the conductor of whoever holds it.
#[derive(Debug)]
struct Deaf {
    bus: Arc<dyn MessageBus>,
    silent: Mutex<Vec<tokio::sync::mpsc::Sender<nova_core::port::Delivery>>>,
}

impl Deaf {
    fn new(bus: Arc<dyn MessageBus>) -> Self {
        Self { bus, silent: Mutex::default() }
    }
}

impl Display for Deaf {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, deaf", self.bus)
    }
}

#[async_trait]
impl MessageBus for Deaf {
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError> {
        self.bus.cast(to, payload).await
    }

    async fn call(
        &self,
        to: &Topic,
        payload: Payload,
        limit: Duration,
    ) -> Result<Payload, BusError> {
        self.bus.call(to, payload, limit).await
    }

    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError> {
        if *at != Topic::conductor() {
            return self.bus.serve(at).await;
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(Inbox::new(receiver))
    }
}
