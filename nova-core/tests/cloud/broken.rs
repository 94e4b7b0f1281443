//! Parts that panic, hosts that cannot be put in order, networks that are slow.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::cloud::{ApiError, Ports};
use nova_core::domain::{
    FloatingPool, HostId, HostTable, InstanceId, InterfaceName, Invalid, Liveness, Network,
    NetworkId, OpState, Placement, Port, PowerState, Refusal, RequestSpec, Resources, VmState,
};
use nova_core::memory::{FirstFit, MemoryHost, MemoryNetworks};
use nova_core::port::{
    FloatingIps, NetError, NetworkManager, NetworkSpec, NoValidHost, PortRequest, Scheduler,
    VirtDriver,
};
use nova_core::seed::Seed;
use nova_core::store::Draft;

use crate::moody::{Mood, Moody};
use crate::world::{HOST, World, run, run_with, spec};

/// A host with a mood, and what is really on it.
fn moody(world: &World, mood: Mood) -> (Arc<Moody>, Arc<MemoryHost>) {
    let host = Arc::new(MemoryHost::new(HOST));
    (Moody::over(world, &host, mood), host)
}

fn on(switch: &AtomicBool) -> bool {
    switch.load(Ordering::SeqCst)
}

/// A host that cannot be put in order says why, takes no orders, and is ready when it can be.
fn not_ready(refuses: &'static str) {
    run(async move |world: &mut World| {
        let (driver, host) = moody(world, Mood::Refuses(refuses));
        host.plant_guest(InstanceId::from_u128(99));
        world.cloud.stop_host(&"alpha".parse().unwrap()).await;
        world.cloud.stop_host(&"beta".parse().unwrap()).await;
        world.pass(Duration::from_secs(10)).await;
        let id = world.cloud.add_host(spec("gamma"), Arc::clone(&driver)).await.unwrap();
        for _ in 0..3 {
            let hosts = world.admin().hosts().await.unwrap();
            let gamma = hosts.iter().find(|host| host.host.id == id).unwrap();
            assert_eq!(gamma.liveness, Liveness::Down);
            assert!(gamma.unready.as_ref().unwrap().contains(refuses), "{gamma:?}");
            world.pass(Duration::from_secs(20)).await;
        }
        let project = world.project();
        let spec = world.server("a", "small");
        let accepted = project.create_server(project.new_request(), &spec).await;
        let failed = world.ended(accepted.unwrap().operation).await;
        assert!(matches!(failed.state, OpState::Failed(_)), "{failed:?}");
        assert_eq!(host.guests().await.unwrap().len(), 1);

        driver.turns(Mood::Well);
        world.pass(Duration::from_secs(10)).await;
        assert_eq!(host.guests().await.unwrap(), []);
        let hosts = world.admin().hosts().await.unwrap();
        let gamma = hosts.iter().find(|host| host.host.id == id).unwrap();
        assert_eq!((gamma.liveness, &gamma.unready), (Liveness::Up, &None));
        assert_eq!(world.boot("web").await.instance.host, Some(id));
    });
}

#[test]
fn a_host_that_cannot_list_its_guests_is_not_ready_and_says_why() {
    not_ready("list");
}

#[test]
fn a_host_that_cannot_remove_what_nobody_owns_is_not_ready_and_says_why() {
    not_ready("remove");
}

#[test]
fn a_guest_that_was_lost_from_sight_is_adopted_again() {
    run(async |world: &mut World| {
        for name in ["alpha", "beta"] {
            world.cloud.stop_host(&name.parse().unwrap()).await;
        }
        world.pass(Duration::from_secs(10)).await;
        let (driver, host) = moody(world, Mood::Well);
        let gamma = world.cloud.add_host(spec("gamma"), Arc::clone(&driver)).await.unwrap();
        let (one, two) = (world.boot("one").await.instance.id, world.boot("two").await.instance.id);
        driver.turns(Mood::Forgetful);
        world.cloud.stop_host(&"gamma".parse().unwrap()).await;
        let again = world.cloud.add_host(spec("gamma"), Arc::clone(&driver)).await;
        assert_eq!(again.unwrap(), gamma);
        let state = async |id| world.project().server(id).await.unwrap().instance.state;
        assert_eq!((state(one).await, state(two).await), (VmState::Error, VmState::Error));
        host.stop(two).await.unwrap();
        driver.turns(Mood::Well);
        world.pass(Duration::from_secs(10)).await;
        assert_eq!((state(one).await, state(two).await), (VmState::Active, VmState::Stopped));
        assert_eq!(world.project().server(one).await.unwrap().instance.fault, None);
        assert_eq!(host.guest(one).await.unwrap().unwrap().power, PowerState::Running);
    });
}

#[test]
fn a_guest_without_owner_is_gone_after_two_cycles() {
    run(async |world: &mut World| {
        let host = world.hosts.values().next().unwrap();
        host.plant_guest(InstanceId::from_u128(99));
        world.pass(Duration::from_secs(10)).await;
        assert_eq!(world.guests().await, 0);
    });
}

#[test]
fn a_driver_that_panics_fails_one_attempt_and_not_the_host() {
    run(async |world: &mut World| {
        for name in ["alpha", "beta"] {
            world.cloud.stop_host(&name.parse().unwrap()).await;
        }
        world.pass(Duration::from_secs(10)).await;
        let (driver, _) = moody(world, Mood::Panics(2));
        let gamma = world.cloud.add_host(spec("gamma"), driver).await.unwrap();
        let began = world.cloud.ports().clock.now();
        assert_eq!(world.boot("web").await.instance.host, Some(gamma));
        // Nobody waited for an answer that never came.
        let took = world.cloud.ports().clock.now().since(began);
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

/// A scheduler that panics the first times it is asked.
#[derive(Debug)]
struct Panicking(AtomicUsize);

impl Display for Panicking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("panicking scheduler")
    }
}

impl Scheduler for Panicking {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        let left = self.0.load(Ordering::SeqCst);
        if left > 0 {
            self.0.store(left - 1, Ordering::SeqCst);
            panic!("division by nobody");
        }
        FirstFit.select(hosts, request, seed)
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

#[test]
fn a_scheduler_that_panics_once_is_asked_again() {
    let scheduler = Panicking(AtomicUsize::new(1));
    run_with(
        |ports| ports.with_scheduler(scheduler),
        async |world: &mut World| {
            world.boot("web").await;
            world.healthy().await;
        },
    );
}

#[test]
fn a_scheduler_that_always_panics_fails_the_operation_with_its_words() {
    let scheduler = Panicking(AtomicUsize::new(usize::MAX));
    run_with(
        |ports| ports.with_scheduler(scheduler),
        async |world: &mut World| {
            let project = world.project();
            let spec = world.server("a", "small");
            let accepted = project.create_server(project.new_request(), &spec).await;
            let op = world.ended(accepted.unwrap().operation).await;
            let OpState::Failed(fault) = op.state else { panic!("{op:?}") };
            assert!(fault.message.contains("panicked: division by nobody"), "{fault:?}");
            world.healthy().await;
        },
    );
}

/// Networks that take their time, and count how many change one host at once.
#[derive(Debug)]
struct Slow {
    networks: MemoryNetworks,
    clock: Arc<dyn Clock>,
    now: Mutex<BTreeMap<HostId, usize>>,
    slow: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    most: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("slow networks")
    }
}

#[async_trait]
impl NetworkManager for Slow {
    async fn create_networks(&self, spec: &NetworkSpec) -> Result<Draft<Vec<Network>>, NetError> {
        self.networks.create_networks(spec).await
    }

    async fn delete_network(&self, network: NetworkId) -> Result<Draft<()>, NetError> {
        self.networks.delete_network(network).await
    }

    async fn reserve(&self, request: &PortRequest) -> Result<Draft<Vec<Port>>, NetError> {
        self.networks.reserve(request).await
    }

    async fn release(&self, instance: InstanceId) -> Result<Draft<()>, NetError> {
        NetworkManager::release(&self.networks, instance).await
    }

    async fn converge(&self, host: HostId) -> Result<(), NetError> {
        if on(&self.broken) {
            let operation = "change the network".to_owned();
            return Err(NetError::Backend { host, operation, source: "no cable".into() });
        }
        let at_once = {
            let mut now = self.now.lock().unwrap();
            let at_once = now.entry(host).or_default();
            *at_once += 1;
            *at_once
        };
        self.most.fetch_max(at_once, Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        if on(&self.slow) {
            self.clock.sleep_until(self.clock.now().after(Duration::from_millis(500))).await;
        }
        *self.now.lock().unwrap().entry(host).or_default() -= 1;
        self.networks.converge(host).await
    }

    fn floating_ips(&self) -> Option<&dyn FloatingIps> {
        self.networks.floating_ips()
    }
}

#[test]
fn one_at_a_time_changes_the_network_of_a_host_and_those_who_wait_share_the_answer() {
    let (most, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen_most, seen_calls) = (Arc::clone(&most), Arc::clone(&calls));
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow_now = Arc::clone(&is_slow);
    let slow = move |ports: Ports| {
        let (store, clock) = (Arc::clone(&ports.store), Arc::clone(&ports.clock));
        let networks = MemoryNetworks::new(store, Arc::clone(&clock), Seed::new(3));
        ports.with_network(Slow {
            networks,
            clock,
            now: Mutex::default(),
            slow: is_slow,
            broken: Arc::default(),
            most,
            calls,
        })
    };
    run_with(slow, async |world: &mut World| {
        let project = world.project();
        slow_now.store(true, Ordering::SeqCst);
        let before = seen_calls.load(Ordering::SeqCst);
        let mut accepted = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let spec = world.server(name, "small");
            accepted.push(project.create_server(project.new_request(), &spec).await);
        }
        for accepted in accepted {
            world.done(accepted).await;
        }
        assert_eq!(seen_most.load(Ordering::SeqCst), 1);
        let calls = seen_calls.load(Ordering::SeqCst) - before;
        assert!(calls <= 6, "six servers on two hosts: {calls} times");
    });
}

/// Creates a server whose host dies while its network is changed, and comes back before it counts
/// as down or only when the server was given up.
fn dies_in_wire(is_back_in_time: bool) {
    let (is_slow, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (slow_now, seen_calls) = (Arc::clone(&is_slow), Arc::clone(&calls));
    let slow = move |ports: Ports| {
        let (store, clock) = (Arc::clone(&ports.store), Arc::clone(&ports.clock));
        let networks = MemoryNetworks::new(store, Arc::clone(&clock), Seed::new(3));
        ports.with_network(Slow {
            networks,
            clock,
            now: Mutex::default(),
            slow: is_slow,
            broken: Arc::default(),
            most: Arc::default(),
            calls,
        })
    };
    run_with(slow, async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        slow_now.store(true, Ordering::SeqCst);
        let before = seen_calls.load(Ordering::SeqCst);
        let wanted = world.server("web", "small");
        let accepted = project.create_server(project.new_request(), &wanted).await.unwrap();
        while seen_calls.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        let id = accepted.id;
        let (dead, name) = {
            let server = project.server(id).await.unwrap();
            (server.instance.host.unwrap(), server.host.unwrap())
        };
        assert!(world.cloud.stop_host(&name).await);
        if is_back_in_time {
            world.pass(Duration::from_secs(3)).await;
        } else {
            let op = world.ended(accepted.operation).await;
            let OpState::Failed(fault) = &op.state else { panic!("{op:#?}") };
            assert!(fault.message.contains("is down"), "{fault:?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.host), (VmState::Error, None));
            // It was told of no guest yet: its room is free at once, and others are made elsewhere.
            let hosts = admin.hosts().await.unwrap();
            let silent = hosts.iter().find(|row| row.host.id == dead).unwrap();
            assert_eq!(silent.used, Resources::ZERO);
            assert_ne!(world.boot("other").await.instance.host, Some(dead));
        }
        let driver = Arc::clone(&world.hosts[&dead]);
        assert_eq!(world.cloud.add_host(spec(name.as_str()), driver).await.unwrap(), dead);
        if is_back_in_time {
            let op = world.ended(accepted.operation).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.host), (VmState::Active, Some(dead)));
            assert_eq!(world.power(id).await, Some(PowerState::Running));
        }
        world.healthy().await;
        world.done(project.delete_server(project.new_request(), id).await).await;
        // Nothing of it is left where it was to be.
        assert_eq!(world.hosts[&dead].guests().await.unwrap(), []);
        let hosts = admin.hosts().await.unwrap();
        let left = hosts.iter().find(|row| row.host.id == dead).unwrap();
        assert_eq!(left.used, Resources::ZERO);
        world.healthy().await;
    });
}

#[test]
fn a_host_that_dies_while_it_changes_its_network_keeps_nothing_of_the_server_that_was_to_come() {
    dies_in_wire(false);
}

#[test]
fn a_host_that_is_back_before_it_counts_as_down_gets_the_server_that_was_to_come() {
    dies_in_wire(true);
}

/// Runs a test in a world with a floating IP, on networks that can be switched slow or broken.
fn with_floating(test: impl AsyncFnOnce(&World, std::net::IpAddr, &AtomicBool, &AtomicBool)) {
    let (is_slow, is_broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (slow_now, broken_now) = (Arc::clone(&is_slow), Arc::clone(&is_broken));
    let slow = move |ports: Ports| {
        let (store, clock) = (Arc::clone(&ports.store), Arc::clone(&ports.clock));
        let networks = MemoryNetworks::new(store, Arc::clone(&clock), Seed::new(3));
        ports.with_network(Slow {
            networks,
            clock,
            now: Mutex::default(),
            slow: is_slow,
            broken: is_broken,
            most: Arc::default(),
            calls: Arc::default(),
        })
    };
    run_with(slow, async |world: &mut World| {
        let admin = world.admin();
        let pool = FloatingPool {
            name: "public".parse().unwrap(),
            range: "198.51.100.0/28".parse().unwrap(),
            interface: InterfaceName::new("eth0").unwrap(),
        };
        admin.create_floating_pool(admin.new_request(), &pool).await.unwrap();
        let project = world.project();
        let address = project.allocate_floating_ip(project.new_request(), &pool.name);
        let address = address.await.unwrap();
        test(world, address, &slow_now, &broken_now).await;
    });
}

#[test]
fn of_several_words_about_a_floating_ip_the_last_one_stays() {
    with_floating(async |world, address, slow, _| {
        let project = world.project();
        let new = || project.new_request();
        let (one, two) = (world.boot("one").await.instance.id, world.boot("two").await.instance.id);
        slow.store(true, Ordering::SeqCst);
        for (last, other) in [(one, two), (two, one), (one, two)] {
            let mut accepted = Vec::new();
            for to in [last, other, last, other, last] {
                accepted.push(project.associate_floating_ip(new(), address, to).await.unwrap());
            }
            for pair in accepted.windows(2) {
                let op = project.operation(pair[1].operation).await.unwrap();
                assert_eq!(op.after, Some(pair[0].operation));
            }
            let refused = project.release_floating_ip(new(), address).await.unwrap_err();
            assert!(matches!(refused, ApiError::InUse { .. }), "{refused}");
            for accepted in accepted {
                world.done(Ok(accepted)).await;
            }
            assert_eq!(project.server(last).await.unwrap().floating_ips, [address]);
        }
        let lead = project.associate_floating_ip(new(), address, two).await;
        world.done(project.disassociate_floating_ip(new(), address).await).await;
        world.done(lead).await;
        project.release_floating_ip(new(), address).await.unwrap();
        world.healthy().await;
    });
}

#[test]
fn an_association_that_fails_leads_back_to_where_it_led() {
    with_floating(async |world, address, _, broken| {
        let project = world.project();
        let new = || project.new_request();
        let (one, two) = (world.boot("one").await.instance.id, world.boot("two").await.instance.id);
        world.done(project.associate_floating_ip(new(), address, one).await).await;
        broken.store(true, Ordering::SeqCst);
        let lead = project.associate_floating_ip(new(), address, two).await.unwrap();
        let op = world.ended(lead.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:?}");
        broken.store(false, Ordering::SeqCst);
        assert_eq!(project.server(one).await.unwrap().floating_ips, [address]);
        assert_eq!(project.server(two).await.unwrap().floating_ips, [] as [std::net::IpAddr; 0]);
        world.healthy().await;

        // Where it led is gone by the time it fails.
        broken.store(true, Ordering::SeqCst);
        let lead = project.associate_floating_ip(new(), address, two).await.unwrap();
        let gone = project.delete_server(new(), one).await.unwrap();
        assert!(matches!(world.ended(lead.operation).await.state, OpState::Failed(_)));
        broken.store(false, Ordering::SeqCst);
        world.ended(gone.operation).await;
        assert_eq!(project.server(two).await.unwrap().floating_ips, [] as [std::net::IpAddr; 0]);
        project.release_floating_ip(new(), address).await.unwrap();
        world.healthy().await;
    });
}
