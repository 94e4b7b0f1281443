//! How clouds and hosts begin.

use nova_core::cloud::{ApiError, Cloud, CloudOptions};

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
