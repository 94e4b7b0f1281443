//! Security groups: who is in which, what may not go away, and that hosts follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use nova_core::cloud::ApiError;
use nova_core::domain::{
    InstanceId, Label, Limit, OpState, Peer, PortRange, Quantum, Quota, SecurityGroup,
    SecurityGroupId, SecurityRule, Traffic,
};
use nova_core::memory::MemoryNetworks;
use nova_core::seed::Seed;

use crate::world::{World, run, run_with};

fn web(from: &str) -> SecurityRule {
    let web = Traffic::Tcp(PortRange::one(80));
    SecurityRule::new(web, Peer::Range(from.parse().unwrap())).unwrap()
}

fn by(group: SecurityGroupId) -> SecurityRule {
    SecurityRule::new(Traffic::Any, Peer::Group(group)).unwrap()
}

async fn group(world: &World, name: &str) -> SecurityGroupId {
    let (project, name) = (world.project(), Label::new(name).unwrap());
    project.create_security_group(project.new_request(), &name).await.unwrap()
}

async fn groups(world: &World) -> BTreeMap<SecurityGroupId, SecurityGroup> {
    let groups = world.project().security_groups().await.unwrap();
    groups.into_iter().map(|group| (group.id, group)).collect()
}

/// The groups of a server and of its interfaces, which are the same.
async fn groups_of(world: &World, server: InstanceId) -> BTreeSet<SecurityGroupId> {
    let server = world.project().server(server).await.unwrap();
    for port in &server.ports {
        assert_eq!(port.security_groups, server.instance.security_groups);
    }
    assert!(!server.ports.is_empty());
    server.instance.security_groups
}

async fn add(world: &World, to: SecurityGroupId, rule: &SecurityRule) -> Result<(), ApiError> {
    let project = world.project();
    let added = project.add_security_rule(project.new_request(), to, rule).await?;
    world.done(Ok(added)).await;
    Ok(())
}

#[test]
fn a_server_is_in_the_groups_that_it_names_or_in_the_default_one_of_its_project() {
    run(async |world: &mut World| {
        let project = world.project();
        let default = SecurityGroupId::default_of(project.id());
        assert_eq!(groups(world).await[&default].rules, BTreeSet::from([by(default)]));
        let plain = world.boot("plain").await.instance.id;
        assert_eq!(groups_of(world, plain).await, BTreeSet::from([default]));

        let (one, two) = (group(world, "one").await, group(world, "two").await);
        let spec = world.server("both", "small").with_security_group(two).with_security_group(one);
        let asked = project.create_server(project.new_request(), &spec).await;
        let both = world.done(asked).await;
        assert_eq!(groups_of(world, both).await, BTreeSet::from([one, two]));

        for wanted in [BTreeSet::from([default, one]), BTreeSet::new()] {
            let set = project.set_security_groups(project.new_request(), both, &wanted).await;
            world.done(set).await;
            assert_eq!(groups_of(world, both).await, wanted);
        }
        world.healthy().await;
    });
}

#[test]
fn a_group_that_somebody_relies_on_is_not_deleted() {
    run(async |world: &mut World| {
        let project = world.project();
        let (members, named) = (group(world, "members").await, group(world, "named").await);
        let spec = world.server("web", "small").with_security_group(members);
        let asked = project.create_server(project.new_request(), &spec).await;
        let server = world.done(asked).await;
        add(world, members, &by(named)).await.unwrap();
        add(world, named, &by(named)).await.unwrap();
        let delete = async |id| project.delete_security_group(project.new_request(), id).await;
        let in_use = async |id, by: String| match delete(id).await {
            Err(ApiError::InUse { by: said, .. }) => assert_eq!(said, by),
            other => panic!("it is in use: {other:?}"),
        };
        in_use(members, format!("server {server}")).await;
        in_use(named, format!("security group {members}")).await;
        let default = SecurityGroupId::default_of(project.id());
        assert!(matches!(delete(default).await, Err(ApiError::Unsuitable { .. })));

        world.done(project.delete_server(project.new_request(), server).await).await;
        delete(members).await.unwrap();
        // That its own rule names it does not keep it.
        delete(named).await.unwrap();
        assert_eq!(groups(world).await.keys().collect::<Vec<_>>(), [&default]);
        assert!(matches!(delete(named).await, Err(ApiError::NotFound { .. })));
        world.healthy().await;
    });
}

#[test]
fn groups_and_rules_are_of_one_project_and_within_its_quota() {
    run(async |world: &mut World| {
        let (project, admin) = (world.project(), world.admin());
        let other = world.cloud.project("other".parse().unwrap());
        let name = Label::new("theirs").unwrap();
        let theirs = other.create_security_group(other.new_request(), &name).await.unwrap();
        let default = SecurityGroupId::default_of(project.id());
        let missing = |said: Result<(), ApiError>| {
            assert!(matches!(said, Err(ApiError::NotFound { .. })), "{said:?}");
        };
        missing(add(world, theirs, &web("0.0.0.0/0")).await);
        missing(add(world, default, &by(theirs)).await);
        let spec = world.server("web", "small").with_security_group(theirs);
        missing(project.create_server(project.new_request(), &spec).await.map(drop));
        let server = world.boot("plain").await.instance.id;
        let strange = BTreeSet::from([theirs]);
        let asked = project.set_security_groups(project.new_request(), server, &strange).await;
        missing(asked.map(drop));

        let (groups, rules) = (Limit::AtMost(2), Limit::AtMost(2));
        let quota =
            Quota { security_groups: groups, security_group_rules: rules, ..Quota::default() };
        admin.set_quota(admin.new_request(), project.id(), quota).await.unwrap();
        let over = |said: ApiError, what: Quantum| match said {
            ApiError::OverQuota(over) => assert_eq!(over.quantum, what),
            other => panic!("over quota: {other:?}"),
        };
        let one = group(world, "one").await;
        let name = Label::new("two").unwrap();
        let two = project.create_security_group(project.new_request(), &name).await;
        over(two.unwrap_err(), Quantum::SecurityGroups);
        add(world, one, &web("10.0.0.0/8")).await.unwrap();
        add(world, one, &web("10.0.0.0/8")).await.unwrap();
        add(world, one, &web("10.0.0.0/9")).await.unwrap();
        let third = add(world, one, &web("10.0.0.0/10")).await;
        over(third.unwrap_err(), Quantum::SecurityGroupRules);
        let many = (0..17).map(SecurityGroupId::from_u128).collect();
        let many = project.set_security_groups(project.new_request(), server, &many).await;
        let said = many.unwrap_err().to_string();
        assert!(said.contains("security_groups") && said.contains("16"), "{said}");
    });
}

#[test]
fn a_change_of_a_group_reaches_every_host_of_the_project_before_its_operation_ends() {
    let networks: Arc<Mutex<Option<Arc<MemoryNetworks>>>> = Arc::default();
    let kept = Arc::clone(&networks);
    let watched = move |ports: nova_core::cloud::Ports| {
        let (store, clock) = (Arc::clone(&ports.store), Arc::clone(&ports.clock));
        let manager = Arc::new(MemoryNetworks::new(store, clock, Seed::new(3)));
        *kept.lock().unwrap() = Some(Arc::clone(&manager));
        ports.with_network(manager)
    };
    run_with(watched, async |world: &mut World| {
        let networks = networks.lock().unwrap().clone().unwrap();
        let project = world.project();
        // The first host is full when the fifth comes.
        let mut hosts = BTreeSet::new();
        for name in ["one", "two", "three", "four", "five"] {
            hosts.extend(world.boot(name).await.instance.host);
        }
        assert_eq!(hosts.len(), 2);
        let default = SecurityGroupId::default_of(project.id());
        let before = networks.converged();
        let rule = web("0.0.0.0/0");
        let added = project.add_security_rule(project.new_request(), default, &rule).await.unwrap();
        let op = world.ended(added.operation).await;
        assert_eq!(op.state, OpState::Done);
        assert_eq!(op.settle.into_iter().collect::<BTreeSet<_>>(), hosts);
        for (host, times) in networks.converged() {
            assert!(times > before[&host], "host {host} was not told");
        }
        assert!(groups(world).await[&default].rules.contains(&rule));
        let removed = project.remove_security_rule(project.new_request(), default, &rule).await;
        world.done(removed).await;
        assert!(!groups(world).await[&default].rules.contains(&rule));
        world.healthy().await;
    });
}
