//! Traits: what hosts tell of them, and what flavors and images may say.

use std::sync::{Arc, Mutex};

use nova_core::cloud::{ApiError, CloudOptions, FlavorSpec, ImageSpec, Ports, UnknownKeys};
use nova_core::domain::{
    HostTable, ImageFormat, ImageProperties, Invalid, MiB, Placement, Refusal, RequestSpec,
    TraitName, Vcpus,
};
use nova_core::memory::{FirstFit, MemoryHost};
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;

use crate::world::{World, run, run_over, spec};

/// The traits of each host, as the scheduler saw them when it was last asked.
type Seen = Arc<Mutex<Vec<Vec<String>>>>;

#[derive(Debug)]
struct Looking(Seen);

impl std::fmt::Display for Looking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("looking")
    }
}

impl Scheduler for Looking {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        let traits = hosts.rows().map(|row| &row.report.traits);
        let texts = traits.map(|traits| traits.iter().map(TraitName::to_string).collect());
        *self.0.lock().unwrap() = texts.collect();
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
fn the_scheduler_sees_the_traits_that_a_host_tells() {
    let seen = Seen::default();
    let looking = Looking(Arc::clone(&seen));
    let change = |ports: Ports| ports.with_scheduler(looking);
    run_over(change, CloudOptions::default(), async |world: &mut World| {
        let gold = ["HW_NIC_SRIOV", "CUSTOM_GOLD"].map(|name| name.parse().unwrap());
        let driver = Arc::new(MemoryHost::default().with_traits(gold));
        world.cloud.add_host(spec("golden"), driver).await.unwrap();
        world.boot("web").await;
        let mut told = seen.lock().unwrap().clone();
        told.retain(|traits| !traits.is_empty());
        assert_eq!(told, [["CUSTOM_GOLD", "HW_NIC_SRIOV"]]);
    });
}

#[test]
fn an_image_that_requires_what_the_flavor_forbids_is_refused() {
    run(async |world: &mut World| {
        let admin = world.admin();
        let flavor = FlavorSpec::new("plain".parse().unwrap(), Vcpus(1), MiB(512))
            .with_unknown_keys(UnknownKeys::Keep)
            .with_extra_spec("trait:CUSTOM_GOLD", "forbidden");
        admin.create_flavor(admin.new_request(), &flavor).await.unwrap();
        let properties = ImageProperties::new([("trait:CUSTOM_GOLD", "required")]).unwrap();
        let image = ImageSpec::new("golden".parse().unwrap(), ImageFormat::Raw);
        let image = image.with_properties(properties);
        let bytes = Box::new(&b"a disk"[..]);
        let mut server = world.server("web", "plain");
        let image = admin.register_image(admin.new_request(), &image, bytes).await.unwrap();
        server.boot = image.into();
        let project = world.project();
        let refused = project.create_server(project.new_request(), &server).await;
        let field = "image property trait:";
        assert!(
            matches!(&refused, Err(ApiError::Invalid(why)) if why.field == field),
            "{refused:?}"
        );
        world.healthy().await;
    });
}
