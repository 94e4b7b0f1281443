//! A host that hangs while it still beats keeps nobody from working elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::cloud::{CloudOptions, Ports};
use nova_core::domain::{HostId, InstanceId, OpState, PowerState};
use nova_core::memory::LocalBus;
use nova_core::port::{BusError, Inbox, MessageBus, Payload, Topic};

use crate::moody::{Mood, Moody};
use crate::world::{World, run_over};

/// How many calls a topic had, how many of them are unanswered, and the most that ever were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    calls: usize,
    out: usize,
    most: usize,
}

type Counts = Arc<Mutex<BTreeMap<Topic, Count>>>;

/// A bus that counts the calls that wait for an answer. It does not know who is gone: one that is
/// not answered lasts as long as it may.
#[derive(Debug)]
struct Counting {
    bus: LocalBus,
    clock: Arc<dyn Clock>,
    counts: Counts,
}

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bus that counts")
    }
}

#[async_trait]
impl MessageBus for Counting {
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError> {
        self.bus.cast(to, payload).await
    }

    async fn call(
        &self,
        to: &Topic,
        payload: Payload,
        limit: Duration,
    ) -> Result<Payload, BusError> {
        {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry(to.clone()).or_default();
            count.calls += 1;
            count.out += 1;
            count.most = count.most.max(count.out);
        }
        let end = self.clock.now().after(limit);
        let mut answer = self.bus.call(to, payload, limit).await;
        if answer.is_err() {
            self.clock.sleep_until(end).await;
            answer = Err(BusError::NoAnswer { topic: to.clone() });
        }
        self.counts.lock().unwrap().get_mut(to).unwrap().out -= 1;
        answer
    }

    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError> {
        self.bus.serve(at).await
    }
}

/// What was called at a host since the counts were cleared.
fn count(counts: &Counts, host: HostId) -> Count {
    counts.lock().unwrap().get(&Topic::agent(host)).copied().unwrap_or_default()
}

/// Runs a test in which one conductor works on two operations at the same time.
fn run(orders_per_host: usize, test: impl AsyncFnOnce(&mut World, Counts)) {
    let counts = Counts::default();
    let over = Arc::clone(&counts);
    let over = |ports: Ports| {
        let clock = Arc::clone(&ports.clock);
        let bus = LocalBus::new(Arc::clone(&clock));
        ports.with_bus(Counting { bus, clock, counts: over })
    };
    let mut options = CloudOptions::default();
    options.operations_max = 2;
    options.orders_per_host_max = orders_per_host;
    run_over(over, options, async |world: &mut World| test(world, counts).await);
}

/// Boots servers until one host has four and the other has some; says which host is the full one,
/// what it has, and one server of the other.
async fn four_and_one(world: &World) -> (HostId, Vec<InstanceId>, InstanceId) {
    let mut on: BTreeMap<HostId, Vec<InstanceId>> = BTreeMap::new();
    for at in 0..8 {
        let server = world.boot(&format!("server-{at}")).await;
        on.entry(server.instance.host.unwrap()).or_default().push(server.instance.id);
        if let (2, Some(full)) = (on.len(), on.iter().find(|(_, servers)| servers.len() == 4)) {
            let other = on.iter().find(|(host, _)| *host != full.0).unwrap().1[0];
            return (*full.0, full.1.clone(), other);
        }
    }
    panic!("no host is full: {on:?}");
}

#[test]
fn a_host_that_hangs_keeps_only_its_own_operations_waiting() {
    run(3, async |world: &mut World, counts: Counts| {
        let (slow, servers, other) = four_and_one(world).await;
        let project = world.project();
        let host = Moody::on(world, slow, Mood::Hangs("stop")).await;
        counts.lock().unwrap().clear();
        let mut waiting = Vec::new();
        for id in &servers {
            waiting.push(project.stop(project.new_request(), *id).await.unwrap().operation);
        }
        world.pass(Duration::from_secs(1)).await;
        assert_eq!(count(&counts, slow).out, 3);

        // More of them wait for the host than there are places, and others go on at once.
        let before = world.clock.now();
        world.done(project.stop(project.new_request(), other).await).await;
        world.done(project.start(project.new_request(), other).await).await;
        assert_ne!(world.boot("late").await.instance.host, Some(slow));
        let took = world.clock.now().since(before);
        assert!(took < Duration::from_secs(1), "{took:?}");
        for operation in &waiting {
            let op = project.operation(*operation).await.unwrap();
            assert!(!op.state.is_final(), "{op:#?}");
        }
        let Count { out, most, .. } = count(&counts, slow);
        assert_eq!((out, most), (3, 3));

        host.turns(Mood::Well);
        for operation in waiting {
            let op = world.ended(operation).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
        }
        assert_eq!(count(&counts, slow).most, 3);
        for id in servers {
            assert_eq!(world.power(id).await, Some(PowerState::Shutdown));
        }
        world.healthy().await;
    });
}

#[test]
fn a_host_that_goes_down_is_not_asked_by_those_who_stood_in_line_for_it() {
    run(1, async |world: &mut World, counts: Counts| {
        let (slow, servers, _) = four_and_one(world).await;
        let project = world.project();
        drop(Moody::on(world, slow, Mood::Hangs("stop")).await);
        counts.lock().unwrap().clear();
        let mut waiting = Vec::new();
        for id in &servers {
            waiting.push(project.stop(project.new_request(), *id).await.unwrap().operation);
        }
        world.pass(Duration::from_secs(1)).await;
        assert_eq!(count(&counts, slow).out, 1);
        let name = project.server(servers[0]).await.unwrap().host.unwrap();
        assert!(world.cloud.stop_host(&name).await);
        for operation in waiting {
            let op = world.ended(operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        }
        assert_eq!(count(&counts, slow).calls, 1);
    });
}
