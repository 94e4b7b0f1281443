//! What the clients of a cloud ask and hear, written down to be held against a [`Model`].
//!
//! [`record`] runs a cloud in virtual time: two conductors and two ways in, each on a view that
//! is behind, and a few clients that work at the same time. Clients die in the middle of a call
//! and never hear its answer; a conductor dies now and then and another one takes its place.
//! What comes of it is one history for each thing that is handed out, and [`Pool`] says what a
//! thing that hands out would have answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::cloud::{
    ApiError, Cloud, CloudOptions, Conductor, FlavorSpec, HostSpec, ImageSpec, Ports, Project,
    ServerSpec,
};
use crate::domain::{
    FloatingPool, GiB, HostId, ImageFormat, ImageId, InstanceId, InterfaceName, Invalid, Limit,
    MiB, NetworkKind, OpId, OpState, PoolName, Quota, Resources, Vcpus,
};
use crate::memory::{LocalBus, MemoryHost, MemoryNetworks, VirtualClock};
use crate::plant::{Bug, plant};
use crate::port::{MessageBus, NetError, NetworkSpec};
use crate::seed::{Chance, Seed};
use crate::store::{MemoryStore, Store};
use crate::testing::alone::alone;
use crate::testing::late::LateStore;
use crate::testing::linear::{Call, Model};
use crate::testing::simulation::Planted;

/// One call to a thing that hands out, with what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // to take and to give back is all there is
pub enum Hand<X> {
    /// Somebody asked for one and was given this.
    Took(X),
    /// Somebody asked for one and was told that there is none.
    Refused,
    /// Somebody asked for one and died.
    Asked,
    /// Somebody gave this back.
    Gave(X),
}

/// Hands out things, each so many times, and lets them rest when they come back.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pool<X> {
    /// How often each can be had at the same time.
    pub room: BTreeMap<X, u64>,
    /// How long one rests before it can be had again, in nanoseconds.
    pub rest: u64,
}

/// What is not there to be had: how many are held, and of those that rest, between which moments
/// each becomes free.
type Out = (u64, Vec<(u64, u64)>);

impl<X: Clone + Ord> Model for Pool<X> {
    type State = BTreeMap<X, Out>;
    type Op = Hand<X>;

    fn after(&self, state: &Self::State, call: &Call<Hand<X>>) -> Vec<Self::State> {
        let end = call.answered.unwrap_or(u64::MAX);
        let free = |x: &X, taken: fn(&(u64, u64), u64, u64) -> bool| {
            let (held, resting) = state.get(x).cloned().unwrap_or_default();
            let resting = resting.iter().filter(|rest| taken(rest, call.begun, end));
            let out = held + resting.count() as u64;
            out < self.room.get(x).copied().unwrap_or(0)
        };
        let may_be = |x: &X| free(x, |(earliest, _), _, end| *earliest > end);
        let must_be = |x: &X| free(x, |(_, latest), begun, _| *latest > begun);
        let take = |x: &X| {
            let mut next = state.clone();
            let (held, resting) = next.entry(x.clone()).or_default();
            // One that rests may be the one that was taken.
            if *held + resting.len() as u64 >= self.room.get(x).copied().unwrap_or(0) {
                resting.remove(0);
            }
            *held += 1;
            next
        };
        match &call.op {
            Hand::Took(x) => may_be(x).then(|| take(x)).into_iter().collect(),
            Hand::Refused if self.room.keys().any(must_be) => Vec::new(),
            Hand::Refused => vec![state.clone()],
            Hand::Asked => self.room.keys().filter(|x| may_be(x)).map(take).collect(),
            Hand::Gave(x) => {
                let mut next = state.clone();
                let Some((held, resting)) = next.get_mut(x).filter(|(held, _)| *held > 0) else {
                    return Vec::new();
                };
                *held -= 1;
                if self.rest > 0 {
                    let latest = call.answered.map_or(u64::MAX, |end| end + self.rest);
                    resting.push((call.begun + self.rest, latest));
                    resting.sort_unstable();
                }
                vec![next]
            }
        }
    }
}

/// What clients heard of one thing, and what would have answered so.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct History<X> {
    /// What hands out.
    pub pool: Pool<X>,
    /// What was asked and answered.
    pub calls: Vec<Call<Hand<X>>>,
}

/// What was written down in one run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Histories {
    /// Floating IPs of a pool.
    pub floating: History<IpAddr>,
    /// Fixed addresses of a network.
    pub fixed: History<IpAddr>,
    /// Room on the hosts.
    pub claims: History<HostId>,
    /// Servers that the project may have.
    pub quota: History<u8>,
    /// Clients that died in the middle of a call.
    pub died: usize,
}

/// Clients of one run.
const CLIENTS: u64 = 4;
/// Calls of each.
const CALLS: u32 = 10;
/// Servers that the project may have, and hosts with room for one each less than that.
const SERVERS: u64 = 3;

/// Runs a cloud and writes down what its clients hear; the same seed is the same run. With `bug`
/// the cloud makes a known mistake.
///
/// # Errors
/// Those of setting the cloud up; none is expected.
pub fn record(seed: u64, bug: Option<Bug>) -> Result<Histories, ApiError> {
    let _planted = Planted(plant(bug));
    alone(async |clock| go(Seed::new(seed), clock).await)
}

async fn go(seed: Seed, virtual_clock: Arc<VirtualClock>) -> Result<Histories, ApiError> {
    let clock: Arc<dyn Clock> = Arc::clone(&virtual_clock) as Arc<dyn Clock>;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let bus: Arc<dyn MessageBus> = Arc::new(LocalBus::new(Arc::clone(&clock)));
    let mut tellers = tokio::task::JoinSet::new();
    // The first process has the hosts, and sets everything up before anything is late.
    let mut ports = Ports::over(Arc::clone(&store), Arc::clone(&clock), seed);
    ports.bus = Arc::clone(&bus);
    let images = Arc::clone(&ports.images);
    let options = CloudOptions::default();
    let mut cloud = Cloud::start(ports, options.clone()).await?;
    let total = Resources { vcpus: Vcpus(1), memory: MiB(4096), disk: GiB(100) };
    let mut hosts = Vec::new();
    for n in 1..SERVERS {
        let spec = HostSpec::new(format!("host-{n}").parse()?);
        hosts.push(cloud.add_host(spec, MemoryHost::new(total)).await?);
    }
    let admin = cloud.admin();
    let image = ImageSpec::new("tiny".parse()?, ImageFormat::Raw);
    let bytes = Box::new(&b"tiny"[..]);
    let image = admin.register_image(admin.new_request(), &image, bytes).await?;
    let flavor = FlavorSpec::new("small".parse()?, Vcpus(1), MiB(64)).with_root_disk(GiB(1));
    admin.create_flavor(admin.new_request(), &flavor).await?;
    let range = |text: &str| text.parse().map_err(|_| Invalid::new("range", text, "a range"));
    let net = NetworkSpec::new("net".parse()?, NetworkKind::FlatDhcp, range("10.0.0.0/28")?);
    admin.create_networks(admin.new_request(), &net).await?;
    let public = FloatingPool {
        name: "public".parse()?,
        range: range("203.0.113.0/30")?,
        interface: InterfaceName::new("eth0")?,
    };
    admin.create_floating_pool(admin.new_request(), &public).await?;
    let project = cloud.project("demo".parse()?);
    let instances = Limit::AtMost(SERVERS);
    let quota = Quota { instances, ..Quota::UNLIMITED };
    admin.set_quota(admin.new_request(), project.id(), quota).await?;

    let mut late = async |name: &str| {
        let late = LateStore::new(&store, &virtual_clock, seed.child(name)).await?;
        let late = Arc::new(late);
        tellers.spawn(Arc::clone(&late).tell());
        let mut ports = Ports::over(late, Arc::clone(&clock), seed.child(name));
        (ports.bus, ports.images) = (Arc::clone(&bus), Arc::clone(&images));
        Ok::<_, ApiError>(ports)
    };
    let mut ways = Vec::new();
    for name in ["first way in", "second way in"] {
        ways.push(Cloud::handles(late(name).await?, options.clone()).await?);
    }
    let conductor = late("conductor").await?;
    let notes = Arc::new(Notes::default());
    let mut clients = tokio::task::JoinSet::new();
    for (n, way) in (0..CLIENTS).zip(ways.iter().cycle()) {
        let client = Client {
            project: way.project(project.id().clone()),
            clock: Arc::clone(&clock),
            chance: seed.child_of("client", n.into()).chance(),
            notes: Arc::clone(&notes),
            pool: public.name.clone(),
            image,
            servers: Vec::new(),
            addresses: Vec::new(),
        };
        clients.spawn(client.work());
    }
    let restarts = async {
        let mut chance = seed.child("restarts").chance();
        loop {
            let running = Conductor::start(conductor.clone(), options.clone()).await;
            let life = Duration::from_millis(200 + chance.below(3000));
            clock.sleep_until(clock.now().after(life)).await;
            // It dies in the middle of whatever it does.
            drop(running);
        }
    };
    tokio::select! {
        biased;
        () = async { while clients.join_next().await.is_some() {} } => {}
        () = restarts => {}
    }
    let notes = std::mem::take(&mut *notes.lock());
    let each = |addresses: Vec<IpAddr>| addresses.into_iter().map(|a| (a, 1)).collect();
    let rest = u64::try_from(MemoryNetworks::QUARANTINE.as_nanos()).unwrap_or(u64::MAX);
    let last = |base: [u8; 3], lasts: std::ops::RangeInclusive<u8>| {
        lasts.map(|last| IpAddr::from([base[0], base[1], base[2], last])).collect::<Vec<_>>()
    };
    Ok(Histories {
        floating: History {
            pool: Pool { room: each(last([203, 0, 113], 1..=2)), rest },
            calls: notes.floating,
        },
        fixed: History {
            pool: Pool { room: each(last([10, 0, 0], 2..=14)), rest },
            calls: notes.fixed,
        },
        claims: History {
            pool: Pool { room: hosts.into_iter().map(|host| (host, 1)).collect(), rest: 0 },
            calls: notes.claims,
        },
        quota: History {
            pool: Pool { room: BTreeMap::from([(0, SERVERS)]), rest: 0 },
            calls: notes.quota,
        },
        died: notes.died,
    })
}

/// What the clients have written down.
#[derive(Debug, Default)]
struct Notes(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    floating: Vec<Call<Hand<IpAddr>>>,
    fixed: Vec<Call<Hand<IpAddr>>>,
    claims: Vec<Call<Hand<HostId>>>,
    quota: Vec<Call<Hand<u8>>>,
    died: usize,
}

impl Notes {
    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server of a client: where it is and its address, when it came to be.
type Mine = (InstanceId, Option<(HostId, IpAddr)>);

#[derive(Debug)]
struct Client {
    project: Project,
    clock: Arc<dyn Clock>,
    chance: Chance,
    notes: Arc<Notes>,
    pool: PoolName,
    image: ImageId,
    servers: Vec<Mine>,
    addresses: Vec<IpAddr>,
}

impl Client {
    async fn work(mut self) {
        for _ in 0..CALLS {
            let pause = Duration::from_millis(self.chance.below(400));
            self.clock.sleep_until(self.clock.now().after(pause)).await;
            match self.chance.below(4) {
                0 => self.allocate().await,
                1 => self.release().await,
                2 => self.create().await,
                _ => self.delete().await,
            }
        }
    }

    fn now(&self) -> u64 {
        self.clock.now().0
    }

    /// The answer, unless the client dies while it waits.
    async fn hear<T>(
        &mut self,
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Option<Result<T, ApiError>> {
        let dies = self.chance.happens(0.25);
        let life = Duration::from_micros(self.chance.below(60_000));
        let end = self.clock.now().after(life);
        tokio::select! {
            biased;
            answer = call => Some(answer),
            () = self.clock.sleep_until(end), if dies => {
                self.notes.lock().died += 1;
                None
            }
        }
    }

    async fn allocate(&mut self) {
        let (begun, project, pool) = (self.now(), self.project.clone(), self.pool.clone());
        let answer = self.hear(project.allocate_floating_ip(project.new_request(), &pool)).await;
        let answered = answer.is_some().then(|| self.now());
        let op = match answer {
            None => Hand::Asked,
            Some(Ok(address)) => {
                self.addresses.push(address);
                Hand::Took(address)
            }
            Some(Err(ApiError::Network { source: NetError::NoMoreAddresses { .. } })) => {
                Hand::Refused
            }
            // The way in was too busy: nothing happened.
            Some(Err(_)) => return,
        };
        self.notes.lock().floating.push(Call { begun, answered, op });
    }

    async fn release(&mut self) {
        let Some(address) = self.addresses.pop() else { return };
        let (begun, project) = (self.now(), self.project.clone());
        let answer = self.hear(project.release_floating_ip(project.new_request(), address)).await;
        let answered = answer.is_some().then(|| self.now());
        match answer {
            None | Some(Ok(())) => {
                let op = Hand::Gave(address);
                self.notes.lock().floating.push(Call { begun, answered, op });
            }
            Some(Err(_)) => self.addresses.push(address),
        }
    }

    async fn create(&mut self) {
        let (begun, project) = (self.now(), self.project.clone());
        let request = project.new_request();
        let (Ok(name), Ok(flavor)) = (request.to_string().parse(), "small".parse()) else { return };
        let spec = ServerSpec::new(name, flavor, self.image);
        let answer = self.hear(project.create_server(request, &spec)).await;
        let accepted = answer.is_some().then(|| self.now());
        let quota = match &answer {
            None => Hand::Asked,
            Some(Ok(_)) => Hand::Took(0),
            Some(Err(ApiError::OverQuota(_))) => Hand::Refused,
            Some(Err(_)) => return,
        };
        self.notes.lock().quota.push(Call { begun, answered: accepted, op: quota });
        let unheard = |notes: &Notes| {
            let mut notes = notes.lock();
            notes.fixed.push(Call { begun, answered: None, op: Hand::Asked });
            notes.claims.push(Call { begun, answered: None, op: Hand::Asked });
        };
        match answer {
            None => unheard(&self.notes),
            Some(Ok(accepted)) => match self.placed(accepted.id, accepted.operation).await {
                Some(Some((host, address))) => {
                    self.servers.push((accepted.id, Some((host, address))));
                    let (answered, mut notes) = (Some(self.now()), self.notes.lock());
                    notes.fixed.push(Call { begun, answered, op: Hand::Took(address) });
                    notes.claims.push(Call { begun, answered, op: Hand::Took(host) });
                }
                Some(None) => {
                    self.servers.push((accepted.id, None));
                    let answered = Some(self.now());
                    self.notes.lock().claims.push(Call { begun, answered, op: Hand::Refused });
                }
                None => unheard(&self.notes),
            },
            Some(Err(_)) => {}
        }
    }

    /// Where a server came to be; inside none when it did not, outside when nobody can say.
    async fn placed(&mut self, id: InstanceId, op: OpId) -> Option<Option<(HostId, IpAddr)>> {
        let op = self.project.wait(op).await.ok()?;
        if op.state != OpState::Done {
            return Some(None);
        }
        // The view may be behind; the records are in the store.
        loop {
            if let Ok(server) = self.project.server(id).await
                && let (Some(host), Some(port)) = (server.instance.host, server.ports.first())
            {
                return Some(Some((host, port.address)));
            }
            self.clock.sleep_until(self.clock.now().after(Duration::from_millis(50))).await;
        }
    }

    async fn delete(&mut self) {
        let Some((id, place)) = self.servers.pop() else { return };
        let (begun, project) = (self.now(), self.project.clone());
        let answer = self.hear(project.delete_server(project.new_request(), id)).await;
        let answered = match answer {
            None => None,
            Some(Ok(accepted)) => {
                let ended = project.wait(accepted.operation).await;
                ended.is_ok_and(|op| op.state == OpState::Done).then(|| self.now())
            }
            Some(Err(_)) => return self.servers.push((id, place)),
        };
        let mut notes = self.notes.lock();
        notes.quota.push(Call { begun, answered, op: Hand::Gave(0) });
        if let Some((host, address)) = place {
            notes.fixed.push(Call { begun, answered, op: Hand::Gave(address) });
            notes.claims.push(Call { begun, answered, op: Hand::Gave(host) });
        }
    }
}
