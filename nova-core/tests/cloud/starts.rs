//! How clouds and hosts begin.

use std::collections::BTreeMap;

use nova_core::cloud::{ApiError, Cloud, CloudOptions};
use nova_core::domain::{Limit, Quota, SchedulerHints};

use crate::world::{World, run};

#[test]
fn a_host_that_is_removed_and_added_again_is_another_host() {
    run(async |world: &mut World| {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let id = world.add_host("gamma").await;
            assert!(seen.insert(id), "{id} was used before");
            world.cloud.stop_host(&"gamma".parse().unwrap()).await;
            let admin = world.admin();
            admin.remove_host(admin.new_request(), id).await.unwrap();
        }
    });
}

#[test]
fn options_out_of_range_are_refused_where_a_cloud_starts() {
    run(async |world: &mut World| {
        let mut options = CloudOptions::default();
        options.operations_max = usize::MAX;
        let ports = world.cloud.ports().clone();
        let named = |error: Option<ApiError>| match error {
            Some(ApiError::Invalid(invalid)) => invalid.field,
            other => panic!("{other:?}"),
        };
        let started = Cloud::start(ports.clone(), options.clone()).await.err();
        assert_eq!(named(started), "options.operations_max");
        assert_eq!(named(Cloud::handles(ports, options).await.err()), "options.operations_max");
    });
}

#[test]
fn hints_without_measure_are_refused_and_leave_nothing() {
    run(async |world: &mut World| {
        let project = world.project();
        let refused = async |custom: BTreeMap<String, Vec<String>>| {
            let hints = SchedulerHints { custom, ..SchedulerHints::default() };
            let spec = world.server("web", "small").with_hints(hints);
            match project.create_server(project.new_request(), &spec).await {
                Err(ApiError::Invalid(invalid)) => invalid.field,
                other => panic!("{other:?}"),
            }
        };
        let words = |count: usize, bytes: usize| vec!["x".repeat(bytes); count];
        let names = |count: usize| (0..count).map(|n| (format!("hint-{n}"), Vec::new()));
        assert_eq!(refused(names(65).collect()).await, "hints.custom");
        assert_eq!(refused([(String::new(), words(1, 1))].into()).await, "hints.custom name");
        assert_eq!(refused([("x".repeat(256), Vec::new())].into()).await, "hints.custom name");
        assert_eq!(refused([("x".to_owned(), words(33, 1))].into()).await, "hints.custom words");
        assert_eq!(refused([("x".to_owned(), words(1, 256))].into()).await, "hints.custom word");
        assert!(project.servers().await.unwrap().is_empty());

        let custom = names(63).chain([("x".repeat(255), words(32, 255))]).collect();
        let hints = SchedulerHints { custom, ..SchedulerHints::default() };
        let spec = world.server("web", "small").with_hints(hints);
        world.done(project.create_server(project.new_request(), &spec).await).await;
    });
}

#[test]
fn a_project_over_a_lowered_quota_is_healthy_and_gets_no_more() {
    run(async |world: &mut World| {
        world.boot("one").await;
        world.boot("two").await;
        let (admin, project) = (world.admin(), world.project());
        let quota = Quota { instances: Limit::AtMost(1), ..Quota::default() };
        admin.set_quota(admin.new_request(), project.id(), quota).await.unwrap();
        world.healthy().await;
        let spec = world.server("three", "small");
        let refused = project.create_server(project.new_request(), &spec).await.unwrap_err();
        assert!(matches!(refused, ApiError::OverQuota(_)), "{refused}");
    });
}
