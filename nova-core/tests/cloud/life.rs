//! What users do on a good day, and what they are told when they ask for too much.

use nova_core::cloud::{ApiError, GroupSpec, VolumeSpec};
use nova_core::domain::{
    FloatingPool, GiB, GroupPolicy, InterfaceName, OpState, PowerState, Quantum, Quota, Reboot,
    VmState, VolumeSize, VolumeState,
};

use crate::world::{World, request, run};

/// Users spawn these calls; that they may is checked by the compiler alone.
#[test]
fn calls_can_be_sent_to_another_thread() {
    run(async |world: &mut World| {
        fn sendable<F: Future + Send>(future: F) -> F {
            future
        }
        let (project, admin) = (world.project(), world.admin());
        let spec = world.server("web", "small");
        let accepted = sendable(project.create_server(project.new_request(), &spec)).await;
        let id = sendable(world.project().wait(accepted.as_ref().unwrap().operation)).await;
        id.unwrap();
        let delete = sendable(project.delete_server(project.new_request(), accepted.unwrap().id));
        delete.await.unwrap();
        sendable(admin.hosts()).await.unwrap();
        sendable(admin.census()).await.unwrap();
        let flavor = &"small".parse().unwrap();
        sendable(admin.delete_flavor(admin.new_request(), flavor)).await.unwrap();
    });
}

#[test]
fn a_server_runs_on_a_host_that_has_its_claim_and_its_address() {
    run(async |world: &mut World| {
        let server = world.boot("web").await;
        assert_eq!(server.instance.state, VmState::Active);
        assert_eq!(server.ports.len(), 1);
        assert_eq!(world.power(server.instance.id).await, Some(PowerState::Running));
        let host = server.instance.host.unwrap();
        let status = world.admin().hosts().await.unwrap();
        let status = status.iter().find(|status| status.host.id == host).unwrap();
        assert_eq!(status.used, server.instance.flavor.resources());
        assert_eq!(status.instances, [server.instance.id]);
    });
}

#[test]
fn power_operations_change_the_guest_and_the_record() {
    run(async |world: &mut World| {
        let project = world.project();
        let id = world.boot("web").await.instance.id;
        let new = || project.new_request();
        let steps = [(project.pause(new(), id).await, VmState::Paused, PowerState::Paused)];
        for (accepted, state, power) in steps {
            world.done(accepted).await;
            assert_eq!(project.server(id).await.unwrap().instance.state, state);
            assert_eq!(world.power(id).await, Some(power));
        }
        world.done(project.unpause(new(), id).await).await;
        assert_eq!(world.power(id).await, Some(PowerState::Running));
        world.done(project.stop(new(), id).await).await;
        assert_eq!(world.power(id).await, Some(PowerState::Shutdown));
        assert_eq!(project.server(id).await.unwrap().instance.state, VmState::Stopped);
        world.done(project.start(new(), id).await).await;
        world.done(project.reboot(new(), id, Reboot::Soft).await).await;
        let server = project.server(id).await.unwrap().instance;
        assert_eq!((server.state, server.boots), (VmState::Active, 1));
    });
}

#[test]
fn what_the_state_does_not_allow_is_refused_and_changes_nothing() {
    run(async |world: &mut World| {
        let project = world.project();
        let id = world.boot("web").await.instance.id;
        let before = project.server(id).await.unwrap();
        let refused = project.start(project.new_request(), id).await;
        assert!(matches!(refused, Err(ApiError::ServerState { .. })), "{refused:?}");
        assert_eq!(project.server(id).await.unwrap(), before);
    });
}

#[test]
fn a_volume_goes_to_a_server_and_comes_back() {
    run(async |world: &mut World| {
        let project = world.project();
        let new = || project.new_request();
        let server = world.boot("db").await.instance.id;
        let size = VolumeSize::new(GiB(5)).unwrap();
        let spec = VolumeSpec::new("data".parse().unwrap(), size);
        let volume = world.done(project.create_volume(new(), &spec).await).await;
        world.done(project.attach_volume(new(), server, volume).await).await;
        assert_eq!(project.volumes().await.unwrap()[0].state, VolumeState::InUse);
        assert_eq!(project.server(server).await.unwrap().volumes, [volume]);
        let refused = project.delete_volume(new(), volume).await;
        assert!(matches!(refused, Err(ApiError::VolumeState { .. })), "{refused:?}");
        world.done(project.detach_volume(new(), volume).await).await;
        assert_eq!(project.volumes().await.unwrap()[0].state, VolumeState::Available);
        world.done(project.delete_volume(new(), volume).await).await;
        assert_eq!(project.volumes().await.unwrap(), []);
    });
}

#[test]
fn a_floating_ip_leads_to_a_server_moves_and_leads_nowhere() {
    run(async |world: &mut World| {
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
        for server in [&one, &two] {
            let id = server.instance.id;
            world.done(project.associate_floating_ip(new(), address, id).await).await;
            assert_eq!(project.server(id).await.unwrap().floating_ips, [address]);
        }
        let uses = admin.floating_pool_use().await.unwrap();
        assert_eq!((uses[0].owned, uses[0].leading, uses[0].resting), (1, 1, 0));
        assert!(project.server(one.instance.id).await.unwrap().floating_ips.is_empty());
        assert!(project.release_floating_ip(new(), address).await.is_err());
        world.done(project.disassociate_floating_ip(new(), address).await).await;
        project.release_floating_ip(new(), address).await.unwrap();
        assert_eq!(project.floating_ips().await.unwrap(), []);
        let uses = admin.floating_pool_use().await.unwrap();
        assert_eq!((uses[0].owned, uses[0].leading, uses[0].resting), (0, 0, 1));
    });
}

#[test]
fn the_same_request_id_means_the_same_server_and_never_another_request() {
    run(async |world: &mut World| {
        let project = world.project();
        let spec = world.server("web", "small");
        let first = project.create_server(request("r-1"), &spec).await.unwrap();
        let again = project.create_server(request("r-1"), &spec).await.unwrap();
        assert_eq!(first, again);
        let other = world.server("other", "small");
        let reused = project.create_server(request("r-1"), &other).await;
        assert!(matches!(reused, Err(ApiError::RequestIdReused { .. })), "{reused:?}");
        assert_eq!(project.servers().await.unwrap().len(), 1);
    });
}

#[test]
fn a_server_that_fits_nowhere_says_why() {
    run(async |world: &mut World| {
        let project = world.project();
        let spec = world.server("whale", "huge");
        let accepted = project.create_server(project.new_request(), &spec).await.unwrap();
        let op = world.ended(accepted.operation).await;
        assert!(matches!(op.state, OpState::Failed(_)), "{op:?}");
        let server = project.server(accepted.id).await.unwrap().instance;
        assert_eq!((server.state, server.host), (VmState::Error, None));
        let refusal = server.fault.unwrap().refusal.unwrap();
        assert_eq!(refusal.funnel.stages.last().unwrap().hosts_out, 0);
        world.done(project.delete_server(project.new_request(), accepted.id).await).await;
    });
}

#[test]
fn a_quota_is_counted_from_the_servers_there_are() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let quota = Quota { instances: nova_core::domain::Limit::AtMost(1), ..Quota::default() };
        admin.set_quota(admin.new_request(), project.id(), quota).await.unwrap();
        let one = world.boot("one").await.instance.id;
        let spec = world.server("two", "small");
        let over = project.create_server(project.new_request(), &spec).await;
        assert!(
            matches!(&over, Err(ApiError::OverQuota(o)) if o.quantum == Quantum::Instances),
            "{over:?}"
        );
        world.done(project.delete_server(project.new_request(), one).await).await;
        world.boot("two").await;
    });
}

#[test]
fn a_group_rule_holds_for_servers_that_are_asked_for_at_once() {
    run(async |world: &mut World| {
        let project = world.project();
        let spec = GroupSpec::new("apart".parse().unwrap(), GroupPolicy::AntiAffinity);
        let group = project.create_group(project.new_request(), &spec).await.unwrap();
        let mut accepted = Vec::new();
        for name in ["a", "b", "c"] {
            let spec = world.server(name, "small").with_group(group);
            accepted.push(project.create_server(project.new_request(), &spec).await.unwrap());
        }
        let mut hosts = Vec::new();
        for accepted in accepted {
            world.ended(accepted.operation).await;
            hosts.extend(project.server(accepted.id).await.unwrap().instance.host);
        }
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!(hosts.len(), 2, "two hosts take one each, the third server finds none");
        assert!(project.delete_group(project.new_request(), group).await.is_err());
    });
}

#[test]
fn other_projects_do_not_see_it() {
    run(async |world: &mut World| {
        let id = world.boot("web").await.instance.id;
        let other = world.cloud.project("other".parse().unwrap());
        assert!(matches!(other.server(id).await, Err(ApiError::NotFound { .. })));
        let refused = other.delete_server(other.new_request(), id).await;
        assert!(matches!(refused, Err(ApiError::NotFound { .. })), "{refused:?}");
        assert_eq!(other.servers().await.unwrap(), []);
    });
}

#[test]
fn deleting_everything_leaves_what_was_there_before() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let before = admin.census().await.unwrap();
        let mut servers = Vec::new();
        for name in ["a", "b", "c"] {
            servers.push(world.boot(name).await.instance.id);
        }
        let size = VolumeSize::new(GiB(1)).unwrap();
        let spec = VolumeSpec::new("data".parse().unwrap(), size);
        let volume = world.done(project.create_volume(project.new_request(), &spec).await).await;
        let attached = project.attach_volume(project.new_request(), servers[0], volume).await;
        world.done(attached).await;
        for id in servers {
            world.done(project.delete_server(project.new_request(), id).await).await;
        }
        assert_eq!(project.volumes().await.unwrap()[0].state, VolumeState::Available);
        world.done(project.delete_volume(project.new_request(), volume).await).await;
        assert_eq!(world.guests().await, 0);
        let after = admin.census().await.unwrap();
        assert_eq!((after.records, after.used), (before.records, before.used));
        // Addresses that rest are neither owned nor free yet.
        assert_eq!(after.resting["fixed-ip"], 3);
        assert_eq!(admin.network_use().await.unwrap()[0].resting, 3);
    });
}

#[test]
fn a_deletion_that_is_asked_for_twice_calls_for_nobody() {
    run(async |world: &mut World| {
        let project = world.project();
        for pause in 0..24 {
            let id = world.boot("web").await.instance.id;
            let first = project.delete_server(project.new_request(), id).await.unwrap();
            // The second one arrives at another moment of the first each time.
            for _ in 0..pause {
                tokio::task::yield_now().await;
            }
            let second = match project.delete_server(project.new_request(), id).await {
                Ok(second) => second,
                Err(error) => {
                    assert!(matches!(error, ApiError::NotFound { .. }), "{error:?}");
                    first
                }
            };
            let (first, second) =
                (world.ended(first.operation).await, world.ended(second.operation).await);
            assert!(!matches!(first.state, OpState::NeedsOperator(_)), "{pause}: {first:#?}");
            assert_eq!(second.state, OpState::Done, "{pause}: {second:#?}");
            assert!(project.server(id).await.is_err());
        }
    });
}
