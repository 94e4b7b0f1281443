//! Live migrations one of whose hosts loses its power: which of the two has the server then.

use std::time::Duration;

use nova_core::cloud::{ApiError, CloudOptions};
use nova_core::domain::{
    HostId, InstanceId, OpId, OpState, Operation, PowerState, VmState, VolumeId,
};
use nova_core::port::VirtDriver;

use crate::anew::host_returns;
use crate::elsewhere::{others, restart};
use crate::live::{begin, check_moment, migrate, power_off, watched};
use crate::moves::{check_home, furnished, home};
use crate::stubborn::Trouble;
use crate::world::{World, run};

/// What happens to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is without power for a moment: its guests are shut down.
    Blink,
    /// It is without power, and an operator says so. It comes back when all is over.
    Declared,
    /// It is made anew: its guests are gone, with their disks.
    Wiped,
}

/// How far a live migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The guest is expected at the one end and frozen at the other.
    Sent,
    /// It is frozen at both ends, and its record names the new one.
    CutOver,
    /// It runs at the new end, and is still frozen at the old one.
    GoesOn,
}

async fn stop_agent(world: &mut World, host: HostId) {
    let known = world.admin().hosts().await.unwrap();
    let name = known.iter().find(|h| h.host.id == host).unwrap().host.name.clone();
    world.cloud.stop_host(&name).await;
}

/// It happens to a host that has no trouble afterwards.
async fn befall(world: &mut World, host: HostId, fate: Fate) {
    if fate == Fate::Declared {
        power_off(world, host).await;
    } else {
        stop_agent(world, host).await;
        for guest in world.hosts[&host].guests().await.unwrap() {
            match fate {
                Fate::Wiped => world.hosts[&host].remove(guest.instance).await.unwrap(),
                _ => world.hosts[&host].stop(guest.instance).await.unwrap(),
            }
        }
    }
    if fate != Fate::Declared {
        restart(world, host, None).await;
    }
}

/// A server with everything, on its way to another host.
struct Way {
    id: InstanceId,
    volume: VolumeId,
    old: HostId,
    new: HostId,
    op: OpId,
}

/// Live-migrates a server until it has come so far.
async fn reach(world: &mut World, stage: Stage) -> Way {
    let (id, volume) = furnished(world).await;
    let (old, new) = (home(world, id).await, others(world, id).await[0]);
    let op = match stage {
        Stage::Sent => begin(world, id, "receive").await,
        Stage::CutOver => begin(world, id, "unpause").await,
        Stage::GoesOn => {
            restart(world, old, Some(&Trouble::NoRemove)).await;
            let op = migrate(world, id).await;
            while !is_frozen_behind(world, op).await {
                tokio::task::yield_now().await;
            }
            world.hosts[&new].write_disk(id, "written there");
            op
        }
    };
    check_moment(world).await;
    let there = world.hosts[&new].guest(id).await.unwrap().unwrap().power;
    let here = world.hosts[&old].guest(id).await.unwrap().unwrap().power;
    let runs = if stage == Stage::GoesOn { PowerState::Running } else { PowerState::Paused };
    assert_eq!((here, there), (PowerState::Paused, runs), "{stage:?}");
    assert_eq!(home(world, id).await == new, stage != Stage::Sent, "{stage:?}");
    Way { id, volume, old, new, op }
}

/// Whether the old host has been asked to remove the guest, and would not.
async fn is_frozen_behind(world: &World, op: OpId) -> bool {
    let op = world.admin().operation(op).await.unwrap();
    op.journal.iter().any(|record| record.step == "drop old")
}

/// The operation is over, whatever came of it, and there is one guest, at `host`.
async fn check(world: &World, way: &Way, host: HostId, power: PowerState, disk: &str) -> Operation {
    let op = watched(world, way.op).await;
    // A host says what it sees when it sweeps.
    world.pass(CloudOptions::default().sweep_interval * 2).await;
    let server = world.project().server(way.id).await.unwrap().instance;
    assert_eq!((server.host, server.task, server.migration), (Some(host), None, None), "{op:#?}");
    let state = if power == PowerState::Running { VmState::Active } else { VmState::Stopped };
    assert_eq!((server.state, server.power), (state, Some(power)), "{op:#?}");
    check_home(world, way.id, way.volume, power, disk).await;
    op
}

fn failed_because(op: &Operation, words: &str) {
    let OpState::Failed(fault) = &op.state else { panic!("{op:#?}") };
    assert!(fault.message.contains(words), "{fault:?}");
}

/// What is left of a server when everything is over.
async fn check_end(world: &mut World, way: &Way, lost: Option<HostId>, power: PowerState) {
    if let Some(lost) = lost {
        host_returns(world, lost).await;
    }
    assert_eq!(world.guests().await, 1);
    let project = world.project();
    if power == PowerState::Shutdown {
        world.done(project.start(project.new_request(), way.id).await).await;
    }
    // It can go on its way as if nothing had been.
    let moved = migrate(world, way.id).await;
    let op = watched(world, moved).await;
    assert_eq!(op.state, OpState::Done, "{op:#?}");
    world.done(project.delete_server(project.new_request(), way.id).await).await;
    assert_eq!(world.guests().await, 0);
    world.healthy().await;
}

fn declared(host: HostId, fate: Fate) -> Option<HostId> {
    (fate == Fate::Declared).then_some(host)
}

#[test]
fn a_destination_that_loses_power_before_the_cut_over_leaves_the_server_where_it_is() {
    for fate in [Fate::Blink, Fate::Declared] {
        run(async |world: &mut World| {
            let way = reach(world, Stage::Sent).await;
            befall(world, way.new, fate).await;
            restart(world, way.old, None).await;
            let op = check(world, &way, way.old, PowerState::Running, "written before").await;
            failed_because(&op, "");
            let lost = declared(way.new, fate);
            check_end(world, &way, lost, PowerState::Running).await;
        });
    }
}

#[test]
fn a_destination_that_was_made_anew_is_sent_the_frozen_guest_again() {
    run(async |world: &mut World| {
        let way = reach(world, Stage::Sent).await;
        befall(world, way.new, Fate::Wiped).await;
        restart(world, way.old, None).await;
        let op = check(world, &way, way.new, PowerState::Running, "written before").await;
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        check_end(world, &way, None, PowerState::Running).await;
    });
}

#[test]
fn a_destination_that_has_the_guest_keeps_it_though_it_lost_power() {
    for (stage, disk) in [(Stage::CutOver, "written before"), (Stage::GoesOn, "written there")] {
        run(async |world: &mut World| {
            let way = reach(world, stage).await;
            befall(world, way.new, Fate::Blink).await;
            restart(world, way.old, None).await;
            let op = check(world, &way, way.new, PowerState::Shutdown, disk).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            check_end(world, &way, None, PowerState::Shutdown).await;
        });
    }
}

#[test]
fn a_guest_that_its_destination_has_lost_runs_where_it_was() {
    for stage in [Stage::CutOver, Stage::GoesOn] {
        for (fate, words) in [(Fate::Declared, "was declared down"), (Fate::Wiped, "does not have")]
        {
            run(async |world: &mut World| {
                let way = reach(world, stage).await;
                befall(world, way.new, fate).await;
                restart(world, way.old, None).await;
                let op = check(world, &way, way.old, PowerState::Running, "written before").await;
                failed_because(&op, words);
                failed_because(&op, &way.old.to_string());
                let lost = declared(way.new, fate);
                check_end(world, &way, lost, PowerState::Running).await;
            });
        }
    }
}

#[test]
fn a_floating_ip_that_was_led_to_the_new_end_follows_the_server_back() {
    run(async |world: &mut World| {
        let way = reach(world, Stage::CutOver).await;
        let project = world.project();
        let new = || project.new_request();
        let pool = "public".parse().unwrap();
        let address = project.allocate_floating_ip(new(), &pool).await.unwrap();
        world.done(project.associate_floating_ip(new(), address, way.id).await).await;
        befall(world, way.new, Fate::Wiped).await;
        restart(world, way.old, None).await;
        check(world, &way, way.old, PowerState::Running, "written before").await;
        let floating = project.server(way.id).await.unwrap().floating_ips;
        assert!(floating.contains(&address), "{floating:?}");
        world.healthy().await;
    });
}

#[test]
fn a_source_that_is_lost_after_the_sending_loses_nothing() {
    for stage in [Stage::Sent, Stage::CutOver, Stage::GoesOn] {
        for fate in [Fate::Blink, Fate::Declared, Fate::Wiped] {
            run(async |world: &mut World| {
                let way = reach(world, stage).await;
                befall(world, way.old, fate).await;
                let disk = if stage == Stage::GoesOn { "written there" } else { "written before" };
                let op = watched(world, way.op).await;
                // Where the new host has everything, nothing else matters.
                let there = matches!(op.state, OpState::Done);
                assert!(there || stage == Stage::Sent, "{op:#?}");
                let op = check(world, &way, way.new, PowerState::Running, disk).await;
                assert_eq!(op.state, OpState::Done, "{op:#?}");
                check_end(world, &way, declared(way.old, fate), PowerState::Running).await;
            });
        }
    }
}

#[test]
fn while_the_destination_is_silent_nothing_is_removed_where_the_guest_was() {
    for stage in [Stage::CutOver, Stage::GoesOn] {
        run(async |world: &mut World| {
            let way = reach(world, stage).await;
            stop_agent(world, way.new).await;
            restart(world, way.old, None).await;
            world.pass(CloudOptions::default().down_after * 4).await;
            check_moment(world).await;
            let op = world.admin().operation(way.op).await.unwrap();
            assert_eq!(op.state, OpState::Running, "{op:#?}");
            assert_eq!(world.guests().await, 2);
            restart(world, way.new, None).await;
            let disk = if stage == Stage::GoesOn { "written there" } else { "written before" };
            let op = check(world, &way, way.new, PowerState::Running, disk).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            check_end(world, &way, None, PowerState::Running).await;
        });
    }
}

#[test]
fn a_paused_server_that_goes_back_was_never_restarted() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        world.done(project.pause(project.new_request(), id).await).await;
        let (old, new) = (home(world, id).await, others(world, id).await[0]);
        let before = world.hosts[&old].guest(id).await.unwrap();
        restart(world, old, Some(&Trouble::NoRemove)).await;
        let op = migrate(world, id).await;
        while !is_frozen_behind(world, op).await {
            tokio::task::yield_now().await;
        }
        befall(world, new, Fate::Declared).await;
        restart(world, old, None).await;
        failed_because(&watched(world, op).await, "was declared down");
        assert_eq!(world.hosts[&old].guest(id).await.unwrap(), before);
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Paused);
        check_home(world, id, volume, PowerState::Paused, "written before").await;
        world.done(project.unpause(project.new_request(), id).await).await;
        check_home(world, id, volume, PowerState::Running, "written before").await;
    });
}

#[test]
fn a_guest_that_both_hosts_have_lost_calls_for_a_person() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let way = reach(world, Stage::CutOver).await;
        for host in [way.old, way.new] {
            world.hosts[&host].remove(way.id).await.unwrap();
        }
        befall(world, way.new, Fate::Wiped).await;
        let fault = loop {
            match admin.operation(way.op).await.unwrap().state {
                OpState::NeedsOperator(fault) => break fault,
                state => assert!(!state.is_final(), "{state:?}"),
            }
            tokio::task::yield_now().await;
        };
        for host in [way.old, way.new] {
            assert!(fault.message.contains(&host.to_string()), "{fault:?}");
        }
        // To try again finds the same.
        admin.retry_operation(admin.new_request(), way.op).await.unwrap();
        world.pass(Duration::from_secs(60)).await;
        admin.abandon_operation(admin.new_request(), way.op).await.unwrap();
        let server = project.server(way.id).await.unwrap().instance;
        assert_eq!((server.state, server.host), (VmState::Error, Some(way.new)));
        assert!(server.fault.unwrap().message.contains("neither"));
        world.done(project.rebuild_server(project.new_request(), way.id, world.image).await).await;
        world.done(project.delete_server(project.new_request(), way.id).await).await;
        assert_eq!(world.guests().await, 0);
    });
}

#[test]
fn a_host_that_a_server_goes_back_from_does_not_come_back_in_the_middle() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let way = reach(world, Stage::CutOver).await;
        power_off(world, way.new).await;
        restart(world, way.old, Some(&Trouble::No("reboot"))).await;
        while home(world, way.id).await == way.new {
            tokio::task::yield_now().await;
        }
        let refused = admin.clear_forced_down(admin.new_request(), way.new).await;
        let by = format!("server {}, which is being live-migrated", way.id);
        let told = matches!(&refused, Err(ApiError::InUse { by: user, .. }) if *user == by);
        assert!(told, "{refused:?}");
        restart(world, way.old, None).await;
        check(world, &way, way.old, PowerState::Running, "written before").await;
        check_end(world, &way, Some(way.new), PowerState::Running).await;
    });
}

#[test]
fn where_both_hosts_were_declared_down_the_first_to_come_back_has_the_server() {
    for first_is_new in [false, true] {
        run(async |world: &mut World| {
            let way = reach(world, Stage::GoesOn).await;
            power_off(world, way.new).await;
            power_off(world, way.old).await;
            world.pass(Duration::from_secs(60)).await;
            let op = world.admin().operation(way.op).await.unwrap();
            assert!(!op.state.is_final(), "{op:#?}");
            assert_eq!(world.guests().await, 2);
            let (first, disk) = match first_is_new {
                true => (way.new, "written there"),
                false => (way.old, "written before"),
            };
            host_returns(world, first).await;
            let op = watched(world, way.op).await;
            assert_eq!(op.state == OpState::Done, first_is_new, "{op:#?}");
            let power = if first_is_new { PowerState::Shutdown } else { PowerState::Running };
            check(world, &way, first, power, disk).await;
            let other = if first_is_new { way.old } else { way.new };
            check_end(world, &way, Some(other), power).await;
        });
    }
}
