//! NUMA cells and PCI devices: what flavors and images say of them, and what the scheduler is asked.

use std::sync::{Arc, Mutex};

use nova_core::cloud::{ApiError, CloudOptions, FlavorSpec, ImageSpec, UnknownKeys};
use nova_core::domain::{
    HostTable, ImageFormat, ImageId, ImageProperties, Invalid, MiB, OpState, PciAlias, PciAliases,
    PciNumaPolicy, Placement, Refusal, RequestSpec, Vcpus,
};
use nova_core::memory::FirstFit;
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;

use crate::world::{World, run, run_over};

/// The requests that the scheduler was asked.
type Asked = Arc<Mutex<Vec<RequestSpec>>>;

#[derive(Debug)]
struct Listening(Asked);

impl std::fmt::Display for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("listening")
    }
}

impl Scheduler for Listening {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        self.0.lock().unwrap().push(request.clone());
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

/// Makes a flavor of 4 CPUs with these extra specs, whoever reads them.
async fn flavor(world: &World, name: &str, specs: &[(&str, &str)]) -> Result<(), ApiError> {
    let spec = FlavorSpec::new(name.parse().unwrap(), Vcpus(4), MiB(2048));
    let spec = spec.with_unknown_keys(UnknownKeys::Keep);
    let spec = specs.iter().fold(spec, |spec, (key, value)| spec.with_extra_spec(*key, *value));
    let admin = world.admin();
    admin.create_flavor(admin.new_request(), &spec).await.map(drop)
}

/// Registers an image with these properties.
async fn image(world: &World, properties: &[(&str, &str)]) -> ImageId {
    let properties = ImageProperties::new(properties.iter().copied()).unwrap();
    let spec = ImageSpec::new("other".parse().unwrap(), ImageFormat::Raw);
    let spec = spec.with_properties(properties);
    let admin = world.admin();
    let bytes = Box::new(&b"another disk"[..]);
    admin.register_image(admin.new_request(), &spec, bytes).await.unwrap()
}

/// The field that an answer finds wrong, or what it says instead.
fn field<T: std::fmt::Debug>(answer: Result<T, ApiError>) -> String {
    match answer {
        Err(ApiError::Invalid(invalid)) => invalid.field.to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_flavor_with_cells_or_devices_that_no_server_can_have_is_refused() {
    run(async |world: &mut World| {
        for (key, value, expected) in [
            ("hw:numa_nodes", "3", "hw:numa_nodes"),
            ("hw:cpu_policy", "mixed", "hw:cpu_dedicated_mask"),
            ("hw:mem_page_size", "huge", "hw:mem_page_size"),
            ("pci_passthrough:alias", "gpu:1", "pci_passthrough:alias"),
        ] {
            assert_eq!(field(flavor(world, "bad", &[(key, value)]).await), expected);
        }
        flavor(world, "bad", &[]).await.expect("the name is still free");
    });
}

#[test]
fn an_image_that_contradicts_the_flavor_is_refused() {
    run(async |world: &mut World| {
        flavor(world, "sharing", &[("hw:cpu_policy", "shared")]).await.unwrap();
        let mut spec = world.server("web", "sharing");
        spec.boot = image(world, &[("hw_cpu_policy", "dedicated")]).await.into();
        let project = world.project();
        let answer = project.create_server(project.new_request(), &spec).await;
        assert_eq!(field(answer), "hw_cpu_policy");
        assert_eq!(project.servers().await.unwrap().len(), 0);
        world.healthy().await;
    });
}

#[test]
fn a_rebuild_keeps_the_cells_of_its_server() {
    run(async |world: &mut World| {
        let server = world.boot("web").await;
        let project = world.project();
        let rebuild = async |image| {
            project.rebuild_server(project.new_request(), server.instance.id, image).await
        };
        let split = image(world, &[("hw_numa_nodes", "2")]).await;
        let refused = rebuild(split).await;
        assert!(matches!(refused, Err(ApiError::Unsuitable { .. })), "{refused:?}");
        let plain = image(world, &[("os_type", "linux")]).await;
        world.done(rebuild(plain).await).await;
        world.healthy().await;
    });
}

#[test]
fn the_scheduler_is_asked_for_the_cells_and_the_devices_of_a_server() {
    let asked = Asked::default();
    let listening = Listening(Arc::clone(&asked));
    let gpu = PciAlias::new([("vendor_id", "10de"), ("product_id", "1db4")]);
    let aliases = PciAliases::default().with("gpu", gpu).unwrap();
    let options = CloudOptions::default().with_pci_aliases(aliases);
    let change = |ports: nova_core::cloud::Ports| ports.with_scheduler(listening);
    run_over(change, options, async |world: &mut World| {
        let specs = [
            ("hw:numa_nodes", "2"),
            ("pci_passthrough:alias", "gpu:2"),
            ("hw:pci_numa_affinity_policy", "required"),
        ];
        flavor(world, "split", &specs).await.unwrap();
        let mut spec = world.server("web", "split");
        let image = image(world, &[("hw_cpu_policy", "dedicated")]).await;
        spec.boot = image.into();
        let project = world.project();
        let created = project.create_server(project.new_request(), &spec).await.unwrap();
        // No host tells of cells.
        assert!(matches!(world.ended(created.operation).await.state, OpState::Failed(_)));
        let asked = asked.lock().unwrap();
        let request = asked.last().expect("it was asked");
        assert_eq!(request.image_id, Some(image));
        let cells = &request.numa.as_ref().unwrap().cells;
        let cpus = cells.iter().map(|cell| cell.dedicated_vcpus.iter().copied().collect());
        assert_eq!(cpus.collect::<Vec<Vec<u32>>>(), [[0, 1], [2, 3]]);
        let wanted: Vec<_> = request.pci.iter().map(|one| (one.count, one.numa_policy)).collect();
        assert_eq!(wanted, [(2, PciNumaPolicy::Required)]);
    });
}
