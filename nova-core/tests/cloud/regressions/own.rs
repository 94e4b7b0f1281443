//! Bugs of our own that tests, reviews and simulations found before anybody else did.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nova_core::clock::Clock;
use nova_core::cloud::{ApiError, CloudOptions, GroupSpec, VolumeSpec};
use nova_core::domain::{
    AddressState, Admission, FloatingBinding, FloatingIp, FloatingOwner, FloatingPool, GiB,
    GroupPolicy, InstanceId, InterfaceName, OpState, PowerState, Reboot, VmState, VolumeSize,
};
use nova_core::port::VirtDriver;
use nova_core::store::record::keys;
use nova_core::store::{StoreExt as _, Txn};

use super::hosts::{name_of, turns};
use super::parts::{LateStore, MoodyNetworks, Whims, run_late};
use crate::anew::host_returns;
use crate::moody::{Mood, Moody};
use crate::moves::{check_home, furnished, home};
use crate::world::{World, run, run_with, spec};

#[test]
fn a_volume_is_not_freed_under_a_guest_whose_host_was_silent_for_a_while() {
    run(async |world: &mut World| {
        let project = world.project();
        let (id, volume) = furnished(world).await;
        let host = home(world, id).await;
        let (name, driver) = (name_of(world, host).await, Arc::clone(&world.hosts[&host]));
        world.cloud.stop_host(&name).await;
        world.pass(CloudOptions::default().down_after * 2).await;
        let deleted = project.delete_server(project.new_request(), id).await.unwrap();
        world.pass(Duration::from_secs(60)).await;
        let volumes = Arc::clone(&world.cloud.ports().volumes);
        let (guest, facts) = (driver.guest(id).await.unwrap(), volumes.list().await.unwrap());
        assert_eq!(guest.map(|guest| guest.volumes), Some(vec![volume]), "it lives on");
        assert_eq!(facts[0].connected_to, Some(host), "silence is not a host's word");
        world.cloud.add_host(spec(name.as_str()), Arc::clone(&driver)).await.unwrap();
        while volumes.list().await.unwrap()[0].connected_to.is_some() {
            turns(1).await;
        }
        assert_eq!(driver.guest(id).await.unwrap(), None, "the guest goes first");
        assert_eq!(world.ended(deleted.operation).await.state, OpState::Done);
        world.healthy().await;
    });
}

#[test]
fn a_view_that_is_behind_is_not_taken_for_a_takeover() {
    run_late(async |world: &mut World, late: Arc<LateStore>| {
        let project = world.project();
        late.falls_behind();
        let (clock, store) = (Arc::clone(&world.clock), Arc::clone(&late));
        let wanted = world.server("web", "small");
        let created = project.create_server(project.new_request(), &wanted).await.unwrap();
        let news = tokio::spawn(async move {
            loop {
                clock.sleep_until(clock.now().after(Duration::from_secs(2))).await;
                store.deliver();
            }
        });
        // Watches are late for whoever waits for the operation, too.
        let op = world.ended(created.operation).await;
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        news.abort();
        late.deliver();
        assert_eq!(world.power(created.id).await, Some(PowerState::Running));
    });
}

#[test]
fn an_operation_that_was_taken_over_leaves_everything_to_the_one_that_took_it() {
    for what in ["attach", "migrate", "rebuild", "reboot"] {
        run_late(async |world: &mut World, late: Arc<LateStore>| {
            let (admin, project) = (world.admin(), world.project());
            let new = || project.new_request();
            late.takes_its_time();
            for pause in (0..120).step_by(6) {
                let id = world.boot("web").await.instance.id;
                let size = VolumeSize::new(GiB(1)).unwrap();
                let data = VolumeSpec::new("data".parse().unwrap(), size);
                let volume = world.done(project.create_volume(new(), &data).await).await;
                let first = match what {
                    "attach" => project.attach_volume(new(), id, volume).await.unwrap().operation,
                    "migrate" => {
                        admin.migrate_server(admin.new_request(), id).await.unwrap().operation
                    }
                    "rebuild" => {
                        project.rebuild_server(new(), id, world.image).await.unwrap().operation
                    }
                    _ => project.reboot(new(), id, Reboot::Soft).await.unwrap().operation,
                };
                turns(pause).await;
                let second = project.delete_server(new(), id).await.unwrap();
                let first = world.ended(first).await;
                assert!(!matches!(first.state, OpState::NeedsOperator(_)), "{pause}: {first:#?}");
                let second = world.ended(second.operation).await;
                assert_eq!(second.state, OpState::Done, "{what} {pause}: {second:#?}");
                assert_eq!(world.guests().await, 0, "{what} {pause}");
                world.done(project.delete_volume(new(), volume).await).await;
                world.healthy().await;
            }
        });
    }
}

#[test]
fn an_association_that_fails_takes_the_address_from_nobody() {
    let whims = Arc::new(Whims::default());
    let with = Arc::clone(&whims);
    run_with(
        move |ports| MoodyNetworks::over(ports, &with),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let new = || project.new_request();
            let pool = FloatingPool {
                name: "public".parse().unwrap(),
                range: "198.51.100.0/28".parse().unwrap(),
                interface: InterfaceName::new("eth0").unwrap(),
            };
            admin.create_floating_pool(admin.new_request(), &pool).await.unwrap();
            let address = project.allocate_floating_ip(new(), &pool.name).await.unwrap();
            let (one, two) = (world.boot("one").await, world.boot("two").await);
            let (one, two) = (one.instance.id, two.instance.id);
            world.done(project.associate_floating_ip(new(), address, one).await).await;
            whims.unleading.store(true, Ordering::SeqCst);
            let failed = project.associate_floating_ip(new(), address, two).await.unwrap();
            let op = world.ended(failed.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert_eq!(project.server(one).await.unwrap().floating_ips, [address]);
            assert!(project.server(two).await.unwrap().floating_ips.is_empty());
            world.healthy().await;
        },
    );
}

#[test]
fn an_agent_does_not_act_on_a_list_that_is_old() {
    run(async |world: &mut World| {
        let project = world.project();
        let all = Moody::everywhere(world, Mood::Slow("list")).await;
        let old = Arc::clone(&world.hosts[world.hosts.keys().next().unwrap()]);
        for mood in &all {
            mood.slow_begins().await;
        }
        // It was not there when the list was made, and is when the list arrives.
        let server = world.boot("web").await.instance;
        let host = Arc::clone(&world.hosts[&server.host.unwrap()]);
        assert!(old.guests().await.unwrap().len() <= 1);
        world.pass(Duration::from_secs(19)).await;
        let known = project.server(server.id).await.unwrap().instance;
        assert_eq!(known.state, VmState::Active);
        world.pass(Duration::from_secs(30)).await;
        let known = project.server(server.id).await.unwrap().instance;
        assert_eq!((known.state, known.fault), (VmState::Active, None));
        assert!(host.guest(server.id).await.unwrap().is_some());
    });
}

#[test]
fn a_reboot_by_force_restarts_a_guest_that_a_gentle_one_has_just_reached() {
    run(async |world: &mut World| {
        let project = world.project();
        let new = || project.new_request();
        let id = world.boot("web").await.instance.id;
        let host = home(world, id).await;
        let boots = async |world: &World| world.hosts[&host].guest(id).await.unwrap().unwrap().boot;
        // The guest restarts, and the answer takes its time: somebody loses patience.
        let moody = Moody::on(world, host, Mood::Slow("reboot")).await;
        let gentle = project.reboot(new(), id, Reboot::Soft).await.unwrap();
        moody.slow_begins().await;
        let before = boots(world).await;
        let forced = project.reboot(new(), id, Reboot::Hard).await.unwrap();
        moody.turns(Mood::Well);
        let op = world.ended(gentle.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
        let op = world.ended(forced.operation).await;
        assert_eq!(op.state, OpState::Done, "{op:#?}");
        assert!(boots(world).await > before, "it was restarted once more");
        assert_eq!(world.power(id).await, Some(PowerState::Running));
    });
}

/// What leads a floating IP of the first server to the second, and the address.
async fn led_to(world: &World, one: InstanceId, two: InstanceId) -> (IpAddr, Txn) {
    let project = world.project();
    let address = project.server(one).await.unwrap().floating_ips[0];
    let store = &world.cloud.ports().store;
    let row = store.read::<FloatingIp>(&keys::floating_ip(address)).await.unwrap().unwrap();
    let AddressState::Owned(owner) = row.value.state.clone() else { panic!("{row:?}") };
    let two = project.server(two).await.unwrap();
    let binding = FloatingBinding {
        instance: two.instance.id,
        fixed: two.ports[0].address,
        host: two.instance.host.unwrap(),
    };
    let state = AddressState::Owned(FloatingOwner { binding: Some(binding), ..owner });
    let mut txn = Txn::new();
    txn.replace(&row, &FloatingIp { state, ..row.value.clone() });
    (address, txn)
}

#[test]
fn a_floating_ip_that_was_just_led_elsewhere_stays_there_when_its_old_server_moves_or_goes() {
    for how in ["migrate", "delete"] {
        let whims = Arc::new(Whims::default());
        let with = Arc::clone(&whims);
        run_with(
            move |ports| MoodyNetworks::over(ports, &with),
            async |world: &mut World| {
                let (admin, project) = (world.admin(), world.project());
                let (one, _) = furnished(world).await;
                let two = world.boot("two").await.instance.id;
                if how == "delete" {
                    // What its host may still use is written down, address by address.
                    let host = home(world, one).await;
                    let volume = project.volumes().await.unwrap()[0].id;
                    world.done(project.detach_volume(project.new_request(), volume).await).await;
                    world.cloud.stop_host(&name_of(world, host).await).await;
                    world.pass(CloudOptions::default().down_after * 2).await;
                }
                let (address, txn) = led_to(world, one, two).await;
                let store = Arc::clone(&world.cloud.ports().store);
                *whims.meanwhile.lock().unwrap() = Some((address, store, txn));
                match how {
                    "migrate" => {
                        world.done(admin.migrate_server(admin.new_request(), one).await).await;
                    }
                    _ => {
                        world.done(project.delete_server(project.new_request(), one).await).await;
                    }
                }
                assert!(whims.meanwhile.lock().unwrap().is_none());
                assert_eq!(project.server(two).await.unwrap().floating_ips, [address], "{how}");
            },
        );
    }
}

#[test]
fn a_deletion_asks_a_host_whose_operator_took_the_word_back_that_it_is_down() {
    let whims = Arc::new(Whims::default());
    let with = Arc::clone(&whims);
    run_with(
        move |ports| MoodyNetworks::over(ports, &with),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let id = world.boot("web").await.instance.id;
            let host = home(world, id).await;
            world.cloud.stop_host(&name_of(world, host).await).await;
            admin.force_down(admin.new_request(), host, "thought lost").await.unwrap();
            whims.unreleasing.store(true, Ordering::SeqCst);
            let accepted = project.delete_server(project.new_request(), id).await.unwrap();
            world.pass(Duration::from_secs(5)).await;
            host_returns(world, host).await;
            assert_eq!(world.guests().await, 1, "its server is being deleted, not gone");
            whims.unreleasing.store(false, Ordering::SeqCst);
            world.done(Ok(accepted)).await;
            assert_eq!(world.guests().await, 0, "before its addresses are free");
            world.healthy().await;
        },
    );
}

#[test]
fn the_hosts_are_told_at_once_when_a_floating_ip_is_led_back() {
    let whims = Arc::new(Whims::default());
    let with = Arc::clone(&whims);
    run_with(
        move |ports| MoodyNetworks::over(ports, &with),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let new = || project.new_request();
            let (one, _) = furnished(world).await;
            let old = home(world, one).await;
            admin.set_admission(admin.new_request(), old, Admission::Disabled).await.unwrap();
            let two = world.boot("two").await.instance.id;
            let there = home(world, two).await;
            assert_ne!(there, old);
            let address = project.server(one).await.unwrap().floating_ips[0];
            whims.stuck.lock().unwrap().insert(there);
            let accepted = project.associate_floating_ip(new(), address, two).await.unwrap();
            let op = world.ended(accepted.operation).await;
            assert!(matches!(op.state, OpState::Failed(_)), "{op:#?}");
            assert!(project.server(one).await.unwrap().floating_ips.contains(&address));
            let asked = whims.asked.lock().unwrap().clone();
            assert_eq!(asked[asked.len() - 2..], [there, old]);
        },
    );
}

#[test]
fn a_host_that_a_server_was_shelved_on_lets_go_of_its_floating_ips_before_another_answers() {
    let whims = Arc::new(Whims::default());
    let with = Arc::clone(&whims);
    run_with(
        move |ports| MoodyNetworks::over(ports, &with),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let (id, volume) = furnished(world).await;
            let old = home(world, id).await;
            world.done(project.shelve_server(project.new_request(), id).await).await;
            admin.set_admission(admin.new_request(), old, Admission::Disabled).await.unwrap();
            world.done(project.unshelve_server(project.new_request(), id).await).await;
            let now = home(world, id).await;
            let asked = whims.asked.lock().unwrap().clone();
            assert_eq!(asked[asked.len() - 2..], [old, now]);
            check_home(world, id, volume, PowerState::Running, "written before").await;
        },
    );
}

#[test]
fn a_server_comes_back_on_another_host_when_the_network_of_the_first_does_not() {
    let whims = Arc::new(Whims::default());
    let with = Arc::clone(&whims);
    run_with(
        move |ports| MoodyNetworks::over(ports, &with),
        async |world: &mut World| {
            let project = world.project();
            let (id, volume) = furnished(world).await;
            let first = home(world, id).await;
            world.done(project.shelve_server(project.new_request(), id).await).await;
            whims.stuck.lock().unwrap().insert(first);
            let back = project.unshelve_server(project.new_request(), id).await.unwrap();
            let op = world.ended(back.operation).await;
            assert_eq!(op.state, OpState::Done, "{op:#?}");
            assert_eq!(op.tried.into_iter().collect::<Vec<_>>(), [first]);
            assert_ne!(home(world, id).await, first);
            whims.stuck.lock().unwrap().clear();
            check_home(world, id, volume, PowerState::Running, "written before").await;
        },
    );
}

#[test]
fn the_last_word_about_a_floating_ip_is_not_overridden_by_one_that_is_retried() {
    let whims = Arc::new(Whims::default());
    let with = Arc::clone(&whims);
    run_with(
        move |ports| MoodyNetworks::over(ports, &with),
        async |world: &mut World| {
            let (admin, project) = (world.admin(), world.project());
            let new = || project.new_request();
            let (one, _) = furnished(world).await;
            let two = world.boot("two").await.instance.id;
            let address = project.server(one).await.unwrap().floating_ips[0];
            whims.clinging.store(true, Ordering::SeqCst);
            let unlead = project.disassociate_floating_ip(new(), address).await.unwrap();
            let op = world.ended(unlead.operation).await;
            assert!(matches!(op.state, OpState::NeedsOperator(_)), "{op:#?}");
            // As long as nobody said anything else, it may be retried.
            let again = admin.retry_operation(admin.new_request(), op.id).await.unwrap();
            world.ended(again.operation).await;
            whims.clinging.store(false, Ordering::SeqCst);
            world.done(project.associate_floating_ip(new(), address, two).await).await;
            let refused = admin.retry_operation(admin.new_request(), op.id).await.unwrap_err();
            assert!(matches!(refused, ApiError::OperationState { action: "retry", .. }));
            assert_eq!(project.server(two).await.unwrap().floating_ips, [address]);
            admin.abandon_operation(admin.new_request(), op.id).await.unwrap();
            world.healthy().await;
        },
    );
}

#[test]
fn a_server_is_not_made_in_a_group_that_is_deleted_at_the_same_moment() {
    let mut made = 0;
    for (first, second) in (0..10).flat_map(|one| (0..10).map(move |two| (one, two))) {
        run_late(async |world: &mut World, store: Arc<LateStore>| {
            let project = world.project();
            let new = || project.new_request();
            let group = GroupSpec::new("pair".parse().unwrap(), GroupPolicy::AntiAffinity);
            let group = project.create_group(new(), &group).await.unwrap();
            let wanted = world.server("web", "small").with_group(group);
            store.takes_its_time();
            let create = async {
                turns(first).await;
                project.create_server(new(), &wanted).await
            };
            let delete = async {
                turns(second).await;
                project.delete_group(new(), group).await
            };
            let (server, gone) = tokio::join!(create, delete);
            assert!(server.is_err() || gone.is_err(), "{first} {second}: {server:?} {gone:?}");
            made += usize::from(server.is_ok());
            if let Ok(server) = server {
                world.ended(server.operation).await;
            }
            world.healthy().await;
        });
    }
    assert!((1..100).contains(&made), "one was always first: {made}");
}

#[test]
fn a_floating_ip_that_was_just_led_to_a_server_that_goes_in_silence_leads_nowhere() {
    let whims = Arc::new(Whims::default());
    let with = Arc::clone(&whims);
    run_with(
        move |ports| MoodyNetworks::over(ports, &with),
        async |world: &mut World| {
            let project = world.project();
            let new = || project.new_request();
            let (id, volume) = furnished(world).await;
            let host = home(world, id).await;
            world.done(project.detach_volume(new(), volume).await).await;
            let first = project.server(id).await.unwrap().floating_ips[0];
            let pool = "public".parse().unwrap();
            let second = project.allocate_floating_ip(new(), &pool).await.unwrap();
            let fixed = project.server(id).await.unwrap().ports[0].address;
            let ports = world.cloud.ports().clone();
            let floating = ports.network.floating_ips().unwrap();
            let draft = floating.associate(second, FloatingBinding { instance: id, fixed, host });
            let txn = draft.await.unwrap().txn;
            world.cloud.stop_host(&name_of(world, host).await).await;
            world.pass(CloudOptions::default().down_after * 2).await;
            // When the deletion has looked which floating IPs lead there, one more does.
            *whims.meanwhile.lock().unwrap() = Some((first, Arc::clone(&ports.store), txn));
            world.done(project.delete_server(new(), id).await).await;
            assert!(whims.meanwhile.lock().unwrap().is_none());
            world.healthy_but_for(host).await;
        },
    );
}
