//! Rebuilding from an image that the server's host may not run.

use nova_core::cloud::ImageSpec;
use nova_core::domain::{
    Funnel, FunnelStage, HostState, HostTable, ImageFormat, ImageId, ImageProperties, Invalid,
    OpState, Placement, PowerState, Refusal, RequestSpec, VmState,
};
use nova_core::memory::FirstFit;
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;

use crate::moves::{check_home, furnished};
use crate::world::{World, run_with};

/// The first host that fits and runs the image's kind of guest.
#[derive(Debug)]
struct Kinds;

impl Kinds {
    fn runs(host: &HostState, request: &RequestSpec) -> bool {
        let wanted = request.image.get("img_hv_type");
        wanted.is_none_or(|wanted| host.guest_kinds.iter().any(|kind| kind.hypervisor == wanted))
    }

    fn left(hosts: &HostTable, request: &RequestSpec) -> HostTable {
        HostTable::new(hosts.rows().filter(|host| Self::runs(host, request)).cloned())
    }

    fn funnel(hosts: &HostTable, request: &RequestSpec) -> Funnel {
        let left = Self::left(hosts, request);
        let (hosts_in, hosts_out) = (hosts.rows().count(), left.rows().count());
        let reasons = [("runs no such guest".to_owned(), hosts_in - hosts_out)].into();
        let stage = FunnelStage { filter: "kinds".to_owned(), hosts_in, hosts_out, reasons };
        let mut stages = vec![stage];
        if hosts_out > 0 {
            stages.extend(FirstFit.explain(&left, request).funnel.stages);
        }
        Funnel { stages }
    }
}

impl std::fmt::Display for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("kinds")
    }
}

impl Scheduler for Kinds {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        let placed = FirstFit.select(&Self::left(hosts, request), request, seed);
        placed.map_err(|error| NoValidHost { funnel: Self::funnel(hosts, request), ..error })
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        let funnel = Self::funnel(hosts, request);
        Refusal { funnel, nearest: Vec::new(), smallest_change: None }
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        FirstFit.check_extra_spec(key, value)
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        FirstFit.check_hint(name, words)
    }
}

nova_core::scheduler_laws!(async { crate::kinds::Kinds });

/// An image for guests of this hypervisor.
async fn image(world: &World, hypervisor: &str) -> ImageId {
    let properties = ImageProperties::new([("img_hv_type", hypervisor)]).unwrap();
    let spec = ImageSpec::new("other".parse().unwrap(), ImageFormat::Raw);
    let spec = spec.with_properties(properties);
    let admin = world.admin();
    let bytes = Box::new(&b"another disk"[..]);
    admin.register_image(admin.new_request(), &spec, bytes).await.unwrap()
}

#[test]
fn an_image_that_the_host_may_not_run_is_refused_and_the_server_is_as_it_was() {
    let change = |ports: nova_core::cloud::Ports| ports.with_scheduler(Kinds);
    for stopped in [false, true] {
        run_with(change, async |world: &mut World| {
            let project = world.project();
            let (id, volume) = furnished(world).await;
            let power = if stopped { PowerState::Shutdown } else { PowerState::Running };
            if stopped {
                world.done(project.stop(project.new_request(), id).await).await;
            }
            let before = project.server(id).await.unwrap();
            let image = image(world, "another").await;
            let asked = project.rebuild_server(project.new_request(), id, image).await;
            let op = world.ended(asked.unwrap().operation).await;
            let OpState::Failed(fault) = &op.state else { panic!("{op:#?}") };
            let said = fault.refusal.as_ref().unwrap().funnel.to_string();
            assert_eq!(said, "kinds 1 -> 0 (runs no such guest: 1)");
            let after = project.server(id).await.unwrap();
            assert_eq!((&after.host, &after.ports), (&before.host, &before.ports));
            let (was, is) = (before.instance, after.instance);
            assert_eq!((is.state, is.image, is.task), (was.state, was.image, None));
            check_home(world, id, volume, power, "written before").await;
            world.healthy().await;
        });
    }
}

#[test]
fn a_rebuild_needs_no_room_beside_its_own_claim() {
    let change = |ports: nova_core::cloud::Ports| ports.with_scheduler(Kinds);
    run_with(change, async |world: &mut World| {
        let project = world.project();
        let host = world.hosts.values().next().unwrap();
        let facts = nova_core::port::VirtDriver::facts(&**host).await.unwrap();
        let image = image(world, &facts.guest_kinds[0].hypervisor).await;
        let mut servers = Vec::new();
        for n in 0..8 {
            servers.push(world.boot(&format!("web{n}")).await.instance.id);
        }
        let spec = world.server("more", "small");
        let more = project.create_server(project.new_request(), &spec).await.unwrap();
        assert!(matches!(world.ended(more.operation).await.state, OpState::Failed(_)));
        for id in servers {
            world.done(project.rebuild_server(project.new_request(), id, image).await).await;
            let server = project.server(id).await.unwrap().instance;
            assert_eq!((server.state, server.image), (VmState::Active, image));
        }
    });
}
