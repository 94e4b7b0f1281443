//! What hosts have left of earlier attempts, and what happens when one cannot take a server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock;
use nova_core::domain::{HostId, InstanceId, OpState, PowerState, VmState};
use nova_core::memory::LocalBus;
use nova_core::port::{BusError, Inbox, MessageBus, Payload, Topic, VirtDriver};

use crate::anew::{host_returns, lose_host};
use crate::moves::{check_home, furnished, home};
use crate::stubborn::{Stubborn, Trouble};
use crate::world::{World, run, run_with, spec};

/// The hosts that a server is not on.
pub(crate) async fn others(world: &World, id: InstanceId) -> Vec<HostId> {
    let home = home(world, id).await;
    world.hosts.keys().copied().filter(|host| *host != home).collect()
}

/// The agent of a host starts again, with this trouble or none.
pub(crate) async fn restart(world: &mut World, host: HostId, trouble: Option<&Trouble>) {
    let known = world.admin().hosts().await.unwrap();
    let name = known.iter().find(|h| h.host.id == host).unwrap().host.name.clone();
    let driver = Arc::clone(&world.hosts[&host]);
    match trouble {
        None => world.cloud.add_host(spec(name.as_str()), driver).await.unwrap(),
        Some(trouble) => {
            let driver = Stubborn::new(driver, trouble.clone());
            world.cloud.add_host(spec(name.as_str()), driver).await.unwrap()
        }
    };
}

#[test]
fn a_server_that_moves_does_not_become_what_an_earlier_attempt_left_behind() {
    for how in ["migrate", "evacuate"] {
        run(async |world: &mut World| {
            let admin = world.admin();
            let (id, volume) = furnished(world).await;
            let there = Arc::clone(&world.hosts[&others(world, id).await[0]]);
            let disk = match how {
                "migrate" => "written before",
                _ => {
                    lose_host(world, id).await;
                    ""
                }
            };
            there.plant_guest(id);
            there.stop(id).await.unwrap();
            there.write_disk(id, "left behind");
            let accepted = match how {
                "migrate" => admin.migrate_server(admin.new_request(), id).await,
                _ => admin.evacuate_server(admin.new_request(), id).await,
            };
            world.done(accepted).await;
            check_home(world, id, volume, PowerState::Running, disk).await;
        });
    }
}

/// A bus that remembers every call.
#[derive(Debug)]
struct Echo {
    bus: LocalBus,
    calls: Arc<Mutex<Vec<(Topic, Payload)>>>,
}

impl std::fmt::Display for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bus with an echo")
    }
}

#[async_trait]
impl MessageBus for Echo {
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError> {
        self.bus.cast(to, payload).await
    }

    async fn call(
        &self,
        to: &Topic,
        payload: Payload,
        limit: Duration,
    ) -> Result<Payload, BusError> {
        self.calls.lock().unwrap().push((to.clone(), Arc::clone(&payload)));
        self.bus.call(to, payload, limit).await
    }

    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError> {
        self.bus.serve(at).await
    }
}

#[test]
fn orders_that_come_again_when_a_move_is_over_change_nothing() {
    for how in ["migrate", "evacuate", "rebuild", "try another host"] {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let echo = Arc::clone(&calls);
        let over = |ports: nova_core::cloud::Ports| {
            let bus = LocalBus::new(Arc::clone(&ports.clock));
            ports.with_bus(Echo { bus, calls: echo })
        };
        run_with(over, async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let mut disk = "";
            match how {
                "evacuate" => drop(lose_host(world, id).await),
                "try another host" => {
                    disk = "written before";
                    world.add_host("gamma").await;
                    let first = first_choice(world, id).await;
                    restart(world, first, Some(&Trouble::NoUnpack)).await;
                }
                "migrate" => disk = "written before",
                _ => {}
            }
            calls.lock().unwrap().clear();
            let accepted = match how {
                "evacuate" => admin.evacuate_server(admin.new_request(), id).await,
                "rebuild" => project.rebuild_server(project.new_request(), id, world.image).await,
                _ => admin.migrate_server(admin.new_request(), id).await,
            };
            world.done(accepted).await;
            check_home(world, id, volume, PowerState::Running, disk).await;
            let calls = std::mem::take(&mut *calls.lock().unwrap());
            let removals =
                |payload: &Payload| String::from_utf8_lossy(payload).contains("\"remove\"");
            assert!(calls.iter().any(|(_, payload)| removals(payload)), "{how}");
            for (topic, payload) in calls.into_iter().filter(|(_, payload)| removals(payload)) {
                let bus = &world.cloud.ports().bus;
                drop(bus.call(&topic, payload, Duration::from_secs(1)).await);
            }
            check_home(world, id, volume, PowerState::Running, disk).await;
        });
    }
}

/// The host that a server would be moved to.
async fn first_choice(world: &mut World, id: InstanceId) -> HostId {
    let (admin, project) = (world.admin(), world.project());
    world.done(admin.migrate_server(admin.new_request(), id).await).await;
    let chosen = home(world, id).await;
    world.done(project.revert_resize(project.new_request(), id).await).await;
    chosen
}

#[test]
fn a_move_tries_another_host_when_one_cannot_take_the_server() {
    for (how, trouble) in [("migrate", Trouble::NoUnpack), ("evacuate", Trouble::NoCreate)] {
        run(async |world: &mut World| {
            let admin = world.admin();
            let (id, volume) = furnished(world).await;
            world.add_host("gamma").await;
            let first = first_choice(world, id).await;
            restart(world, first, Some(&trouble)).await;
            let (accepted, disk) = match how {
                "migrate" => {
                    (admin.migrate_server(admin.new_request(), id).await, "written before")
                }
                _ => {
                    lose_host(world, id).await;
                    (admin.evacuate_server(admin.new_request(), id).await, "")
                }
            };
            let accepted = accepted.unwrap();
            let op = world.ended(accepted.operation).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            assert_ne!(home(world, id).await, first);
            check_home(world, id, volume, PowerState::Running, disk).await;
        });
    }
}

#[test]
fn a_server_that_no_host_takes_runs_where_it_was() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        world.add_host("gamma").await;
        let census = admin.census().await.unwrap();
        for host in others(world, id).await {
            restart(world, host, Some(&Trouble::NoUnpack)).await;
        }
        let old = home(world, id).await;
        let accepted = admin.migrate_server(admin.new_request(), id).await.unwrap();
        let op = world.ended(accepted.operation).await;
        let OpState::Failed(fault) = &op.state else { panic!("{op:#?}") };
        assert!(fault.message.contains("trouble"), "{fault:?}");
        assert_eq!(op.tried.len(), 3, "{op:#?}");
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.host), (VmState::Active, Some(old)));
        assert_eq!(admin.census().await.unwrap(), census);
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_server_whose_move_was_undone_while_its_host_was_lost_has_its_volumes_when_it_starts() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (id, volume) = furnished(world).await;
        let (old, there) = (home(world, id).await, others(world, id).await[0]);
        restart(world, there, Some(&Trouble::NoPlug)).await;
        let accepted = admin.migrate_server(admin.new_request(), id).await.unwrap();
        while home(world, id).await == old {
            tokio::task::yield_now().await;
        }
        let known = admin.hosts().await.unwrap();
        let name = known.iter().find(|h| h.host.id == old).unwrap().host.name.clone();
        world.cloud.stop_host(&name).await;
        admin.force_down(admin.new_request(), old, "burnt").await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        host_returns(world, old).await;
        let sweeps = world.cloud.ports().clock.now().after(Duration::from_secs(20));
        world.clock.sleep_until(sweeps).await;
        world.done(project.start(project.new_request(), id).await).await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn orders_of_a_confirmation_that_come_again_in_the_wrong_order_change_nothing() {
    for home_again in [false, true] {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let echo = Arc::clone(&calls);
        let over = |ports: nova_core::cloud::Ports| {
            let bus = LocalBus::new(Arc::clone(&ports.clock));
            ports.with_bus(Echo { bus, calls: echo })
        };
        run_with(over, async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let old = home(world, id).await;
            world.done(admin.migrate_server(admin.new_request(), id).await).await;
            let moved = std::mem::take(&mut *calls.lock().unwrap());
            world.done(project.confirm_resize(project.new_request(), id).await).await;
            let confirmed = std::mem::take(&mut *calls.lock().unwrap());
            let removes = |(to, payload): &(Topic, Payload)| {
                *to == Topic::agent(old) && String::from_utf8_lossy(payload).contains("\"remove\"")
            };
            assert!(confirmed.iter().any(removes), "{confirmed:?}");
            if home_again {
                // The guest that they name is on the host that they are for.
                world.done(admin.migrate_server(admin.new_request(), id).await).await;
                world.done(project.confirm_resize(project.new_request(), id).await).await;
                assert_eq!(home(world, id).await, old);
            }
            check_home(world, id, volume, PowerState::Running, "written before").await;
            let census = admin.census().await.unwrap();
            let backwards = confirmed.iter().rev().chain(moved.iter().rev());
            for (to, payload) in backwards.clone().chain(backwards) {
                let bus = &world.cloud.ports().bus;
                drop(bus.call(to, Arc::clone(payload), Duration::from_secs(1)).await);
                check_home(world, id, volume, PowerState::Running, "written before").await;
            }
            assert_eq!(admin.census().await.unwrap(), census);
        });
    }
}
