//! What peers lost, kept twice or forgot: guests, claims, addresses and intents.

use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::Clock;
use nova_core::cloud::{Agent, CloudOptions, FlavorSpec};
use nova_core::domain::{
    GiB, HostId, InstanceId, Liveness, MiB, OpState, PowerState, Reboot, Vcpus, VmState,
};
use nova_core::port::VirtDriver;

use super::hosts::{agents_return, name_of, turns};
use super::parts::{LateStore, run_late};
use crate::anew::{host_returns, lose_host};
use crate::moody::{Mood, Moody};
use crate::moves::{furnished, home};
use crate::world::{World, run, spec};

/// Who has a claim where, host by host.
async fn claims(world: &World) -> Vec<(HostId, Vec<InstanceId>)> {
    let hosts = world.admin().hosts().await.unwrap();
    hosts.into_iter().map(|status| (status.host.id, status.instances)).collect()
}

/// omicron#6763.
#[test]
fn a_host_that_forgets_its_guests_keeps_their_places_and_nothing_runs_twice() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let id = world.boot("web").await.instance.id;
        let (host, before) = (home(world, id).await, claims(world).await);
        let moody = Moody::on(world, host, Mood::Forgetful).await;
        world.pass(CloudOptions::default().sweep_interval * 3).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.host), (VmState::Error, Some(host)));
        assert_eq!(claims(world).await, before, "what it may still use is not given away");
        // Nobody makes it a second time on a host's bad memory.
        assert!(admin.evacuate_server(admin.new_request(), id).await.is_err());
        moody.turns(Mood::Well);
        world.pass(CloudOptions::default().sweep_interval * 3).await;
        assert_eq!(world.guests().await, 1);
        world.done(project.reboot(project.new_request(), id, Reboot::Hard).await).await;
        assert_eq!(world.power(id).await, Some(PowerState::Running));
        world.healthy().await;
    });
}

/// omicron#5042.
#[test]
fn a_server_that_is_deleted_while_its_creation_goes_back_is_counted_out_once() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        Moody::everywhere(world, Mood::Refuses("create")).await;
        let (census, used) = (admin.census().await.unwrap().used, project.quota().await.unwrap());
        for pause in (0..200).step_by(5) {
            let wanted = world.server("web", "small");
            let created = project.create_server(project.new_request(), &wanted).await.unwrap();
            turns(pause).await;
            let deleted = project.delete_server(project.new_request(), created.id).await.unwrap();
            assert_eq!(world.ended(deleted.operation).await.state, OpState::Done, "{pause}");
            let op = world.ended(created.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{pause}: {op:#?}");
            assert_eq!(admin.census().await.unwrap().used, census, "{pause}");
            assert_eq!(project.quota().await.unwrap(), used, "{pause}");
            assert!(claims(world).await.iter().all(|(_, who)| who.is_empty()), "{pause}");
        }
        world.healthy().await;
    });
}

/// omicron#10712.
#[test]
fn no_claim_outlives_its_server_however_the_server_ended() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let whole =
            FlavorSpec::new("whole".parse().unwrap(), Vcpus(8), MiB(8192)).with_root_disk(GiB(10));
        admin.create_flavor(admin.new_request(), &whole).await.unwrap();
        let all = Moody::everywhere(world, Mood::Well).await;
        for mood in [Mood::Well, Mood::Refuses("create"), Mood::Lies("create")] {
            all.iter().for_each(|host| host.turns(mood));
            for pause in [0, 30, 60, 90, 1000] {
                let wanted = world.server("web", "small");
                let created = project.create_server(project.new_request(), &wanted).await.unwrap();
                turns(pause).await;
                let deleted = project.delete_server(project.new_request(), created.id).await;
                world.done(deleted).await;
            }
        }
        all.iter().for_each(|host| host.turns(Mood::Well));
        // There is room for what needs every host whole.
        for name in ["one", "two"] {
            let wanted = world.server(name, "whole");
            let created = project.create_server(project.new_request(), &wanted).await;
            world.done(created).await;
        }
        world.healthy().await;
    });
}

/// omicron#10275, omicron#5798.
#[test]
fn a_host_without_power_is_seen_as_such_and_its_servers_run_elsewhere() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let mut servers = Vec::new();
        for name in ["a", "b", "c"] {
            servers.push(world.boot(name).await.instance);
        }
        let lost = servers[0].host.unwrap();
        assert!(servers.iter().all(|server| server.host == Some(lost)));
        let name = name_of(world, lost).await;
        world.cloud.stop_host(&name).await;
        for server in &servers {
            world.hosts[&lost].stop(server.id).await.unwrap();
        }
        let options = CloudOptions::default();
        world.pass(options.down_after + options.beat_interval).await;
        let status = admin.hosts().await.unwrap();
        let down: Vec<_> = status.iter().filter(|s| s.liveness == Liveness::Down).collect();
        assert_eq!(down.iter().map(|status| status.host.id).collect::<Vec<_>>(), [lost]);
        // One comes back by an operator's word, the others when the host does.
        admin.force_down(admin.new_request(), lost, "no power").await.unwrap();
        let id = servers[0].id;
        world.done(admin.evacuate_server(admin.new_request(), id).await).await;
        assert_eq!(world.power(id).await, Some(PowerState::Running));
        host_returns(world, lost).await;
        world.pass(options.sweep_interval * 2).await;
        for server in &servers[1..] {
            let known = project.server(server.id).await.unwrap().instance;
            assert_eq!(known.state, VmState::Stopped, "its record does not say that it runs");
            world.done(project.start(project.new_request(), server.id).await).await;
            assert_eq!(world.power(server.id).await, Some(PowerState::Running));
        }
        assert_eq!(world.guests().await, 3);
        world.healthy().await;
    });
}

/// omicron#4259.
#[test]
fn a_host_that_hangs_delays_only_what_needs_it() {
    run(async |world: &mut World| {
        let project = world.project();
        let new = || project.new_request();
        let here = world.boot("here").await.instance;
        let moody = Moody::on(world, here.host.unwrap(), Mood::Well).await;
        world.add_host("gamma").await;
        moody.turns(Mood::Hanging);
        let stuck = project.stop(new(), here.id).await.unwrap();
        world.pass(CloudOptions::default().down_after * 2).await;
        let limit = CloudOptions::default().order_limit / 2;
        let begun = world.clock.now();
        let other = world.boot("other").await.instance;
        assert_ne!(other.host, here.host);
        world.done(project.stop(new(), other.id).await).await;
        world.done(project.start(new(), other.id).await).await;
        world.done(project.delete_server(new(), other.id).await).await;
        let took = world.clock.now().since(begun);
        assert!(took < limit, "{took:?}");
        assert!(!project.operation(stuck.operation).await.unwrap().state.is_final());
        moody.turns(Mood::Well);
        world.ended(stuck.operation).await;
    });
}

/// omicron#9174, omicron#9177.
#[test]
fn a_server_that_is_rebooted_while_its_host_finds_it_stopped_ends_up_running() {
    run_late(async |world: &mut World, store: Arc<LateStore>| {
        // Whatever reads first and writes then can be overtaken in between.
        store.takes_its_time();
        let project = world.project();
        let id = world.boot("web").await.instance.id;
        let host = Arc::clone(&world.hosts[&home(world, id).await]);
        let sweep = CloudOptions::default().sweep_interval;
        for pause in 0..64 {
            host.stop(id).await.unwrap();
            world.pass(sweep).await;
            turns(pause).await;
            let rebooted = project.reboot(project.new_request(), id, Reboot::Hard).await;
            world.done(rebooted).await;
            world.pass(sweep * 2).await;
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.task), (VmState::Active, None), "{pause}");
            assert_eq!(world.power(id).await, Some(PowerState::Running), "{pause}");
        }
        world.healthy().await;
    });
}

/// omicron#10784.
#[test]
fn a_server_that_is_deleted_while_its_host_restarts_is_gone() {
    run(async |world: &mut World| {
        for pause in (0..160).step_by(8) {
            let project = world.project();
            let id = world.boot("web").await.instance.id;
            let host = home(world, id).await;
            let name = name_of(world, host).await;
            let deleted = {
                let restart = async {
                    turns(pause).await;
                    world.cloud.stop_host(&name).await;
                    world.hosts[&host].stop(id).await.ok();
                    let driver = Arc::clone(&world.hosts[&host]);
                    world.cloud.add_host(spec(name.as_str()), driver).await.unwrap();
                };
                let delete = project.delete_server(project.new_request(), id);
                let (deleted, ()) = tokio::join!(biased; delete, restart);
                deleted
            };
            world.done(deleted).await;
            assert!(project.server(id).await.is_err());
            assert_eq!(world.guests().await, 0, "{pause}");
        }
        world.healthy().await;
    });
}

/// Nova's orphaned-allocations.rst.
#[test]
fn an_evacuated_server_has_one_claim_before_and_after_its_old_host_returns() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let (id, _) = furnished(world).await;
        let lost = lose_host(world, id).await;
        world.done(admin.evacuate_server(admin.new_request(), id).await).await;
        let expected = |world: &World| {
            let hosts = world.hosts.keys().copied();
            let mut hosts: Vec<_> =
                hosts.map(|host| (host, if host == lost { vec![] } else { vec![id] })).collect();
            hosts.sort();
            hosts
        };
        let sorted = async |world: &World| {
            let mut claims = claims(world).await;
            claims.sort();
            claims
        };
        assert_eq!(sorted(world).await, expected(world));
        host_returns(world, lost).await;
        world.pass(CloudOptions::default().sweep_interval * 2).await;
        assert_eq!(sorted(world).await, expected(world));
        assert_eq!(world.hosts[&lost].guests().await.unwrap(), []);
        world.healthy().await;
    });
}

/// Nova's LP1853009.
#[test]
fn the_old_agent_of_a_host_takes_nothing_from_the_new_one() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let kept = world.boot("kept").await.instance;
        let host = kept.host.unwrap();
        let name = name_of(world, host).await;
        // The old one looks at lists that are twenty seconds old, and goes on while the new one
        // has begun.
        let old = Moody::on(world, host, Mood::Slow("list")).await;
        old.slow_begins().await;
        let (ports, options) = (world.cloud.ports().clone(), CloudOptions::default());
        let driver = Arc::clone(&world.hosts[&host]);
        let new = Agent::start(ports, options.clone(), spec(name.as_str()), driver).await.unwrap();
        assert_eq!(new.host(), host, "it is the same host");
        let made = world.boot("made").await.instance;
        assert_eq!(made.host, Some(host));
        world.pass(Duration::from_secs(60)).await;
        world.cloud.stop_host(&name).await;
        world.pass(options.down_after * 2).await;
        let status = admin.hosts().await.unwrap();
        let status = status.iter().find(|status| status.host.id == host).unwrap();
        assert_eq!((status.liveness, status.instances.len()), (Liveness::Up, 2));
        for server in [kept.id, made.id] {
            let known = project.server(server).await.unwrap().instance;
            assert_eq!((known.state, known.host), (VmState::Active, Some(host)));
            assert_eq!(world.power(server).await, Some(PowerState::Running));
        }
        world.healthy().await;
        new.stop().await;
        agents_return(world).await;
    });
}
