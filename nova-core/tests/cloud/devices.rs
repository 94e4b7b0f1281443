//! NUMA cells, CPUs of one's own and PCI devices: told by hosts, given by claims, named to drivers.

use std::collections::BTreeSet;
use std::sync::Arc;

use nova_core::cloud::{CloudOptions, FlavorSpec, HostSpec, Ports, UnknownKeys};
use nova_core::domain::{
    Assigned, FailedCheck, Fault, GiB, HostId, InstanceId, MiB, NumaCell, NumaTopology, OpState,
    PciAlias, PciAliases, PciDevice, Vcpus,
};
use nova_core::memory::MemoryHost;

use crate::behind::Blind;
use crate::world::{HOST, World, run_over, spec};

/// One cell with four CPUs for guests.
fn cells() -> NumaTopology {
    let cell = NumaCell { dedicated_cpus: (0..4).collect(), memory: 16_384, ..NumaCell::default() };
    NumaTopology { cells: vec![cell] }
}

fn card(address: &str) -> PciDevice {
    let card = PciDevice::new(address.parse().unwrap(), "8086", "1572");
    PciDevice { numa_node: Some(0), ..card }
}

fn able() -> MemoryHost {
    MemoryHost::new(HOST).with_numa(cells()).with_pci(["0000:01:00.0", "0000:01:00.1"].map(card))
}

fn options() -> CloudOptions {
    let card = PciAlias::new([("vendor_id", "8086"), ("product_id", "1572")]);
    CloudOptions::default().with_pci_aliases(PciAliases::default().with("card", card).unwrap())
}

/// A cloud with two more hosts, each of which has a cell of four CPUs and two cards, and with the
/// flavors `pinned` (two CPUs of its own and a card) and `shared`.
fn run(change: impl FnOnce(Ports) -> Ports, test: impl AsyncFnOnce(&mut World)) {
    run_over(change, options(), async |world: &mut World| {
        for name in ["gamma", "delta"] {
            let driver = Arc::new(able());
            let id = world.cloud.add_host(spec(name), Arc::clone(&driver)).await.unwrap();
            world.hosts.insert(id, driver);
        }
        let admin = world.admin();
        let flavor = |name: &str| {
            FlavorSpec::new(name.parse().unwrap(), Vcpus(2), MiB(2048))
                .with_root_disk(GiB(10))
                .with_unknown_keys(UnknownKeys::Keep)
        };
        let pinned = flavor("pinned")
            .with_extra_spec("hw:cpu_policy", "dedicated")
            .with_extra_spec("pci_passthrough:alias", "card:1");
        for flavor in [pinned, flavor("shared")] {
            admin.create_flavor(admin.new_request(), &flavor).await.unwrap();
        }
        test(world).await;
    });
}

async fn create(world: &World, name: &str) -> Result<InstanceId, Fault> {
    let project = world.project();
    let spec = world.server(name, "pinned");
    let asked = project.create_server(project.new_request(), &spec).await.unwrap();
    match world.ended(asked.operation).await.state {
        OpState::Failed(fault) => Err(fault),
        _ => Ok(asked.id),
    }
}

async fn host_of(world: &World, server: InstanceId) -> HostId {
    world.project().server(server).await.unwrap().instance.host.unwrap()
}

/// What the driver was told that the guest has.
async fn assigned(world: &World, server: InstanceId) -> Assigned {
    world.hosts[&host_of(world, server).await].assigned(server).unwrap()
}

/// Whether all of them together have every CPU and every card of both hosts.
async fn have_all(world: &World, servers: &[InstanceId]) -> bool {
    let (mut cpus, mut cards) = (BTreeSet::new(), BTreeSet::new());
    for server in servers {
        let (host, has) = (host_of(world, *server).await, assigned(world, *server).await);
        cpus.extend(has.pinned().map(|cpu| (host, cpu)));
        cards.extend(has.devices.iter().map(|device| (host, device.clone())));
    }
    (cpus.len(), cards.len()) == (8, 4)
}

#[test]
fn each_server_has_cpus_and_devices_of_its_own_until_it_is_deleted() {
    run(
        |ports| ports,
        async |world| {
            let project = world.project();
            let mut servers = Vec::new();
            for name in ["a", "b", "c", "d"] {
                servers.push(create(world, name).await.unwrap());
            }
            assert!(have_all(world, &servers).await);
            world.healthy().await;
            assert!(create(world, "e").await.is_err(), "all are given");
            let gone = servers.swap_remove(1);
            world.done(project.delete_server(project.new_request(), gone).await).await;
            servers.push(create(world, "e").await.unwrap());
            assert!(have_all(world, &servers).await);
            world.healthy().await;
        },
    );
}

#[test]
fn a_server_that_moves_has_others_where_it_goes_and_gives_the_old_back() {
    run(
        |ports| ports,
        async |world| {
            let (admin, project) = (world.admin(), world.project());
            let server = create(world, "a").await.unwrap();
            let from = host_of(world, server).await;
            world.done(admin.migrate_server(admin.new_request(), server).await).await;
            world.healthy().await;
            world.done(project.confirm_resize(project.new_request(), server).await).await;
            assert_ne!(host_of(world, server).await, from);
            assert_eq!(assigned(world, server).await.pinned().count(), 2);
            // Room for three more proves that nothing is held twice.
            let mut servers = vec![server];
            for name in ["b", "c", "d"] {
                servers.push(create(world, name).await.unwrap());
            }
            assert!(have_all(world, &servers).await);
            let shared = "shared".parse().unwrap();
            world.done(project.resize_server(project.new_request(), server, &shared).await).await;
            world.done(project.confirm_resize(project.new_request(), server).await).await;
            assert!(assigned(world, server).await.is_nothing());
            create(world, "e").await.unwrap();
            world.healthy().await;
        },
    );
}

#[test]
fn a_scheduler_that_does_not_look_at_them_is_refused_and_the_reason_named() {
    run(
        |ports| ports.with_scheduler(Blind),
        async |world| {
            let hosts = world.admin().hosts().await.unwrap();
            let first = hosts.iter().min_by_key(|host| host.host.id).unwrap().host.clone();
            let mut fault = create(world, "a").await;
            let mut reason = "it tells of no NUMA cells";
            if first.numa.is_some() {
                // The first host can; of the third server it has too little.
                create(world, "b").await.unwrap();
                fault = create(world, "c").await;
                reason = "guest cell 0 fits into no NUMA cell";
            }
            let check = fault.unwrap_err().check.map(|check| *check);
            let reason = reason.to_owned();
            assert_eq!(check, Some(FailedCheck::Devices { host: first.name, reason }));
            world.healthy().await;
        },
    );
}

#[test]
fn a_host_that_comes_back_with_less_keeps_what_was_given_rightly() {
    run(
        |ports| ports,
        async |world| {
            let server = create(world, "a").await.unwrap();
            let host = host_of(world, server).await;
            let hosts = world.admin().hosts().await.unwrap();
            let name = hosts.into_iter().find(|h| h.host.id == host).unwrap().host.name;
            world.cloud.stop_host(&name).await;
            let less = Arc::new(MemoryHost::new(HOST).with_pci([card("0000:01:00.1")]));
            world.cloud.add_host(HostSpec::new(name), less).await.unwrap();
            let checkup = world.admin().doctor().await.unwrap();
            let wrong = checkup.findings.iter().filter(|finding| finding.invariant.contains("CPU"));
            assert_eq!(wrong.count(), 0, "{checkup:?}");
        },
    );
}

#[test]
fn a_server_that_moves_while_it_runs_has_what_it_was_given_there() {
    run(
        |ports| ports,
        async |world| {
            let (server, admin) = (create(world, "a").await.unwrap(), world.admin());
            let from = host_of(world, server).await;
            let moved = admin.live_migrate_server(admin.new_request(), server).await;
            world.done(moved).await;
            assert_ne!(host_of(world, server).await, from);
            let has = assigned(world, server).await;
            assert_eq!((has.pinned().count(), has.devices.len()), (2, 1));
            world.healthy().await;
        },
    );
}
