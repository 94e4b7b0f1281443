//! Two conductors that place two members of a server group on one store, in every order of what
//! each asks of the store that changes between them at most twice, and in many others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::cloud::{
    Cloud, CloudOptions, Conductor, FlavorSpec, GroupSpec, ImageSpec, Ports, ServerSpec,
};
use nova_core::domain::{
    GroupPolicy, HostId, HostTable, ImageFormat, InstanceId, Invalid, MiB, NetworkKind, OpState,
    Placement, Refusal, RequestSpec, Vcpus,
};
use nova_core::memory::{FirstFit, LocalBus, MemoryHost, VirtualClock};
use nova_core::port::{
    BusError, Inbox, MessageBus, NetworkSpec, NoValidHost, Payload, Scheduler, Topic,
};
use nova_core::seed::Seed;
use nova_core::store::record::Claim;
use nova_core::store::{
    Entry, Event, Feed, Key, MemoryStore, Page, Prefix, Record as _, Revision, Scan, Store,
    StoreError, StoreExt as _, Txn, Watch, Write,
};
use tokio::task::yield_now;

use crate::world::{HOST, spec};

/// In which order two conductors come to the store.
#[derive(Debug, Clone, Default)]
struct Schedule {
    /// Whose turn it is, and for how many calls. After the last turn they come as they like.
    turns: VecDeque<(usize, usize)>,
    /// Each hears what was committed only at every so many calls of its own; 0 is at once.
    late: usize,
}

/// The store that both conductors share, and everything that came of it.
#[derive(Debug)]
struct Stage {
    store: Arc<MemoryStore>,
    policy: GroupPolicy,
    turns: Mutex<VecDeque<(usize, usize)>>,
    /// Claims that were refused.
    lost: AtomicUsize,
    /// Calls that a conductor needed up to its first claim.
    needed: AtomicUsize,
    broken: Mutex<Vec<String>>,
}

/// Tasks get so many turns before a conductor whose turn it is counts as one that wants nothing.
const PATIENCE: usize = 48;

impl Stage {
    /// Waits for a conductor's turn.
    async fn enter(&self, who: usize) {
        for waited in 1.. {
            {
                let mut turns = self.turns.lock().unwrap();
                while turns.front().is_some_and(|(_, left)| *left == 0) {
                    turns.pop_front();
                }
                match turns.front_mut() {
                    None => return,
                    Some((turn, left)) if *turn == who => {
                        *left -= 1;
                        return;
                    }
                    Some(_) => {}
                }
                if waited % PATIENCE == 0 {
                    turns.pop_front();
                }
            }
            yield_now().await;
        }
    }

    /// Holds the group's rule against the claims that there are at this moment.
    async fn look(&self) {
        let claims = self.store.read_all::<Claim>(&Claim::all()).await.unwrap();
        let mut hosts: BTreeMap<HostId, BTreeSet<InstanceId>> = BTreeMap::new();
        for claim in claims {
            hosts.entry(claim.value.host).or_default().insert(claim.value.instance);
        }
        let holds = match self.policy {
            GroupPolicy::Affinity => hosts.len() <= 1,
            _ => hosts.values().all(|members| members.len() <= 1),
        };
        if !holds {
            self.broken.lock().unwrap().push(format!("{hosts:?}"));
        }
    }
}

/// The store as one conductor has it.
#[derive(Debug)]
struct Seat {
    stage: Arc<Stage>,
    who: usize,
    late: usize,
    calls: AtomicUsize,
    news: Mutex<Watch>,
    feed: Feed,
}

impl Seat {
    async fn new(stage: &Arc<Stage>, who: usize, late: usize) -> Arc<Self> {
        let newest = Scan::new(Prefix::all()).with_limit(1);
        let now = stage.store.scan(newest).await.unwrap().revision;
        let news = Mutex::new(stage.store.watch(&Prefix::all(), now).await.unwrap());
        let (stage, feed) = (Arc::clone(stage), Feed::new(now));
        Arc::new(Self { stage, who, late, calls: AtomicUsize::new(0), news, feed })
    }

    async fn enter(&self) {
        self.stage.enter(self.who).await;
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if self.late == 0 || calls.is_multiple_of(self.late) {
            let mut news = self.news.lock().unwrap();
            let told = std::iter::from_fn(|| match news.try_next() {
                Some(Event::Changed(change)) => Some(change),
                Some(Event::Resync) => panic!("too far behind for this test"),
                None => None,
            });
            self.feed.publish(told);
        }
    }
}

impl std::fmt::Display for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "memory store of conductor {}", self.who)
    }
}

#[async_trait]
impl Store for Seat {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.enter().await;
        self.stage.store.get(key).await
    }

    async fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.enter().await;
        self.stage.store.scan(scan).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.enter().await;
        let makes = |write: &Write| matches!(write, Write::Put(key, _) if Claim::all().covers(key));
        let claims = txn.writes().iter().any(makes);
        let done = self.stage.store.commit(txn).await;
        match (claims, &done) {
            (true, Ok(_)) => {
                let needed = self.calls.load(Ordering::SeqCst);
                self.stage.needed.fetch_max(needed, Ordering::SeqCst);
            }
            (true, Err(_)) => drop(self.stage.lost.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        self.stage.look().await;
        done
    }

    async fn watch(&self, _: &Prefix, after: Revision) -> Result<Watch, StoreError> {
        Ok(self.feed.watch(&Prefix::all(), after))
    }
}

/// A bus that wakes two conductors in turn, and on which each of them has a place of its own.
#[derive(Debug)]
struct Post {
    bus: Arc<LocalBus>,
    /// Which conductor holds it; none is the way in.
    who: Option<usize>,
    next: AtomicUsize,
}

fn desk(who: usize) -> Topic {
    Topic::new(format!("conductor-{who}")).unwrap()
}

impl std::fmt::Display for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bus with two conductors")
    }
}

#[async_trait]
impl MessageBus for Post {
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError> {
        match *to == Topic::conductor() {
            true => {
                let next = self.next.fetch_add(1, Ordering::SeqCst) % 2;
                self.bus.cast(&desk(next), payload).await
            }
            false => self.bus.cast(to, payload).await,
        }
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
        match (*at == Topic::conductor(), self.who) {
            (true, Some(who)) => self.bus.serve(&desk(who)).await,
            // The conductor of the way in hears nothing.
            (true, None) => self.bus.serve(&desk(2)).await,
            (false, _) => self.bus.serve(at).await,
        }
    }
}

/// Takes the last host that will do.
#[derive(Debug)]
struct LastFit;

impl std::fmt::Display for LastFit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("last-fit")
    }
}

impl Scheduler for LastFit {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        let rows: Vec<_> = hosts.rows().cloned().collect();
        let alone = rows.into_iter().rev().map(|row| HostTable::new([row]));
        let mut found = alone.filter_map(|host| FirstFit.select(&host, request, seed).ok());
        found.next().map_or_else(|| FirstFit.select(hosts, request, seed), Ok)
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        FirstFit.explain(hosts, request)
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        FirstFit.check_extra_spec(key, value)
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        FirstFit.check_hint(name, words)
    }
}

/// What one race showed.
#[derive(Debug, Default)]
struct Shown {
    lost: usize,
    needed: usize,
}

/// Lets two conductors place one member each, and looks at every commit.
fn race(policy: GroupPolicy, schedule: &Schedule) -> Shown {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = Arc::new(VirtualClock::new());
    runtime.block_on(clock.drive(raced(policy, schedule, Arc::clone(&clock))))
}

async fn raced(policy: GroupPolicy, schedule: &Schedule, clock: Arc<VirtualClock>) -> Shown {
    let clock = clock as Arc<dyn Clock>;
    let store = Arc::new(MemoryStore::new());
    let bus = Arc::new(LocalBus::new(Arc::clone(&clock)));
    let post = |who| Post { bus: Arc::clone(&bus), who, next: AtomicUsize::new(0) };
    let parts =
        |store, who| Ports::over(store, Arc::clone(&clock), Seed::new(7)).with_bus(post(who));
    let options = CloudOptions::default().with_sweep_interval(Duration::from_secs(3600));
    let open = Arc::clone(&store) as Arc<dyn Store>;
    let mut cloud = Cloud::start(parts(open, None), options.clone()).await.unwrap();
    for name in ["alpha", "beta"] {
        cloud.add_host(spec(name), MemoryHost::new(HOST)).await.unwrap();
    }
    let (admin, project) = (cloud.admin(), cloud.project("demo".parse().unwrap()));
    let new = || admin.new_request();
    let image = ImageSpec::new("tiny".parse().unwrap(), ImageFormat::Raw);
    let image = admin.register_image(new(), &image, Box::new(&b"tiny"[..])).await.unwrap();
    let small = FlavorSpec::new("small".parse().unwrap(), Vcpus(1), MiB(512));
    admin.create_flavor(new(), &small).await.unwrap();
    let range = "10.0.0.0/24".parse().unwrap();
    let net = NetworkSpec::new("net".parse().unwrap(), NetworkKind::FlatDhcp, range);
    admin.create_networks(new(), &net).await.unwrap();
    let group = GroupSpec::new("group".parse().unwrap(), policy);
    let group = project.create_group(new(), &group).await.unwrap();

    let stage = Arc::new(Stage {
        store,
        policy,
        turns: Mutex::default(),
        lost: AtomicUsize::new(0),
        needed: AtomicUsize::new(0),
        broken: Mutex::default(),
    });
    let mut conductors = Vec::new();
    let mut seats = Vec::new();
    for who in 0..2 {
        let seat = Seat::new(&stage, who, schedule.late).await;
        let mut ports = parts(Arc::clone(&seat) as Arc<dyn Store>, Some(who));
        ports.images = Arc::clone(&cloud.ports().images);
        if (policy, who) == (GroupPolicy::Affinity, 1) {
            ports.scheduler = Arc::new(LastFit);
        }
        conductors.push(Conductor::start(ports, options.clone()).await.unwrap());
        seats.push(seat);
    }
    // Both have nothing to do yet.
    for _ in 0..PATIENCE {
        yield_now().await;
    }
    seats.iter().for_each(|seat| seat.calls.store(0, Ordering::SeqCst));
    *stage.turns.lock().unwrap() = schedule.turns.clone();
    let mut operations = Vec::new();
    for name in ["one", "two"] {
        let wanted = ServerSpec::new(name.parse().unwrap(), "small".parse().unwrap(), image);
        let wanted = wanted.with_group(group);
        operations.push(project.create_server(new(), &wanted).await.unwrap().operation);
    }
    for operation in operations {
        let op = project.wait(operation).await.unwrap();
        assert_eq!(op.state, OpState::Done, "{schedule:?}: {op:#?}");
    }
    assert_eq!(*stage.broken.lock().unwrap(), Vec::<String>::new(), "{schedule:?}");
    let servers = project.servers().await.unwrap();
    let hosts: BTreeSet<_> = servers.iter().map(|server| server.instance.host).collect();
    assert_eq!(hosts.len(), if policy == GroupPolicy::Affinity { 1 } else { 2 });
    for conductor in conductors {
        conductor.stop().await;
    }
    cloud.stop().await;
    let lost = stage.lost.load(Ordering::SeqCst);
    Shown { lost, needed: stage.needed.load(Ordering::SeqCst) }
}

/// Calls to the store that are told apart: one conductor alone needs no more until it has claimed.
const CALLS: usize = 12;

/// Every schedule in which one conductor begins, the other takes over, and the first goes on until
/// it is done.
fn with_two_changes(first: usize) -> impl Iterator<Item = Schedule> {
    let points = (0..=CALLS).flat_map(|before| (1..=CALLS).map(move |between| (before, between)));
    points.map(move |(before, between)| {
        let rest = (first, usize::MAX);
        let turns = VecDeque::from([(first, before), (1 - first, between), rest]);
        Schedule { turns, late: 0 }
    })
}

/// Many changes at any moment, and conductors that hear late.
fn at_random(seed: u64) -> Schedule {
    let mut chance = Seed::new(seed).child("schedule").chance();
    let turns = (0..40).map(|_| (chance.index(2), 1 + chance.index(4))).collect();
    Schedule { turns, late: [0, 2, 5, 9][chance.index(4)] }
}

/// Races in every one of these orders; somebody has to have lost in some.
fn races(policy: GroupPolicy, schedules: impl Iterator<Item = Schedule>) {
    let lost = schedules.map(|schedule| race(policy, &schedule).lost).sum::<usize>();
    assert!(lost > 0, "nobody ever met the other");
}

#[test]
fn one_conductor_alone_claims_within_the_calls_that_the_schedules_tell_apart() {
    for policy in [GroupPolicy::AntiAffinity, GroupPolicy::Affinity] {
        let turns = VecDeque::from([(0, usize::MAX)]);
        let shown = race(policy, &Schedule { turns, late: 0 });
        assert!((1..=CALLS).contains(&shown.needed), "{shown:?}");
    }
}

#[test]
fn two_members_that_stay_apart_are_never_claimed_on_one_host_in_whatever_order_they_are_placed() {
    races(GroupPolicy::AntiAffinity, with_two_changes(0));
    races(GroupPolicy::AntiAffinity, (0..100).map(at_random));
}

#[test]
fn two_members_that_stay_together_are_never_claimed_on_two_hosts_in_whatever_order() {
    for first in [0, 1] {
        races(GroupPolicy::Affinity, with_two_changes(first));
    }
    races(GroupPolicy::Affinity, (0..100).map(at_random));
}
