use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    CpuPolicy, Flavor, FlavorName, GuestCell, HostId, HostName, InstanceId, Inventory, MemoryPages,
    MiB, NumaCell, PageSize, PciNumaPolicy, PciRequest, ProjectId, Resources, Vcpus, ZoneName,
};

/// Two cells of four CPUs and 4096 MiB each, with two network cards at the first and one
/// accelerator at the second.
fn cells() -> NumaTopology {
    let cell = |id: u32| NumaCell {
        id,
        shared_cpus: (id * 4..id * 4 + 4).collect(),
        dedicated_cpus: (id * 4..id * 4 + 4).collect(),
        memory: 4096,
        thread_siblings: vec![[id * 4, id * 4 + 1].into(), [id * 4 + 2, id * 4 + 3].into()],
        pages: vec![MemoryPages { size_kb: 2048, total: 2048, ..MemoryPages::default() }],
        ..NumaCell::default()
    };
    NumaTopology { cells: vec![cell(0), cell(1)] }
}

fn device(address: &str, product_id: &str, node: u32) -> PciDevice {
    let device = PciDevice::new(address.parse().unwrap(), "8086", product_id);
    PciDevice { numa_node: Some(node), ..device }
}

fn devices() -> Vec<PciDevice> {
    vec![
        device("0000:01:00.0", "1572", 0),
        device("0000:81:00.0", "0435", 1),
        device("0000:01:00.1", "1572", 0),
    ]
}

/// The host as it is when these have what they have.
fn host<'a>(given: impl IntoIterator<Item = &'a Assigned> + Clone) -> (HostState, Vec<PciDevice>) {
    let total = Resources { vcpus: Vcpus(8), memory: MiB(8192), ..Resources::ZERO };
    let (name, zone) = (HostName::new("h").unwrap(), ZoneName::default());
    let mut row = HostState::new(HostId::from_u128(1), name, zone, Inventory::new(total));
    let mut numa = cells();
    for given in given.clone().into_iter().filter_map(|given| given.cells.as_ref()) {
        numa.claim(&given.guest, &given.fit);
    }
    let taken: BTreeSet<&PciAddress> = given.into_iter().flat_map(|given| &given.devices).collect();
    let free = devices().into_iter().filter(|device| !taken.contains(&device.address));
    let free: Vec<PciDevice> = free.collect();
    row.numa = Some(Arc::new(numa));
    row.pci = PciPools::of(&free);
    (row, free)
}

/// A request for so many CPUs of its own, in so many cells, with so much memory in each, and for
/// so many cards and accelerators.
fn request(cpus: u32, count: u32, memory: u64, cards: u32, accelerators: u32) -> RequestSpec {
    let flavor = Flavor::new(FlavorName::new("f").unwrap(), Vcpus(1), MiB(1)).unwrap();
    let project = ProjectId::new("p").unwrap();
    let mut request = RequestSpec::new(InstanceId::from_u128(1), project, Arc::new(flavor));
    if cpus > 0 {
        let cell = |id: u32| GuestCell {
            id,
            memory,
            dedicated_vcpus: (id * cpus..(id + 1) * cpus).collect(),
            cpu_policy: Some(CpuPolicy::Dedicated),
            page_size: Some(PageSize::Kib(2048)),
            ..GuestCell::default()
        };
        request.numa = Some(Arc::new(GuestTopology { cells: (0..count).map(cell).collect() }));
    }
    for (product, count) in [("1572", cards), ("0435", accelerators)] {
        let kind = BTreeMap::from([("product_id".to_owned(), product.to_owned())]);
        let numa_policy = PciNumaPolicy::Required;
        let wanted = PciRequest { count, spec: vec![kind], numa_policy };
        request.pci.extend(Some(wanted).filter(|wanted| wanted.count > 0));
    }
    request
}

#[test]
fn equal_devices_are_one_pool() {
    let pools = PciPools::of(&devices()).pools;
    let counts: Vec<_> = pools.iter().map(|pool| (pool.product_id.as_str(), pool.count)).collect();
    assert_eq!(counts, [("1572", 2), ("0435", 1)]);
}

#[test]
fn the_first_free_device_of_a_pool_is_taken_and_cpus_near_it() {
    let (row, free) = host([]);
    let first = Assigned::choose(&row, &free, &request(2, 1, 512, 1, 0)).unwrap();
    assert_eq!(first.devices, ["0000:01:00.0".parse().unwrap()]);
    let (row, free) = host([&first]);
    let second = Assigned::choose(&row, &free, &request(2, 1, 512, 1, 0)).unwrap();
    assert_eq!(second.devices, ["0000:01:00.1".parse().unwrap()]);
    let pins = |assigned: &Assigned| assigned.pinned().collect::<BTreeSet<_>>();
    assert_eq!((pins(&first), pins(&second)), ([0, 1].into(), [2, 3].into()));
    let (row, free) = host([&first, &second]);
    let short = Assigned::choose(&row, &free, &request(0, 0, 0, 1, 0));
    assert!(matches!(short, Err(Unassignable::Devices(PciShort { request: 0, .. }))), "{short:?}");
}

#[test]
fn a_host_that_tells_of_no_cells_gives_none() {
    let (mut row, free) = host([]);
    row.numa = None;
    let asked = request(1, 1, 512, 0, 0);
    assert_eq!(Assigned::choose(&row, &free, &asked), Err(Unassignable::NoCells));
    assert!(!Assigned::is_possible(&row, &asked));
    assert_eq!(Assigned::choose(&row, &free, &request(0, 0, 0, 0, 0)), Ok(Assigned::default()));
}

#[test]
fn what_a_host_has_no_more_is_named() {
    let (row, free) = host([]);
    let given = Assigned::choose(&row, &free, &request(2, 1, 512, 0, 1)).unwrap();
    assert_eq!(given.missing(Some(&cells()), &devices()), None);
    let missing = |cells: Option<&NumaTopology>, devices: &[PciDevice]| {
        given.missing(cells, devices).unwrap_or_default()
    };
    assert_eq!(missing(Some(&cells()), &devices()[..1]), "PCI device 0000:81:00.0");
    assert_eq!(missing(None, &devices()), "NUMA cell 1");
    let mut smaller = cells();
    smaller.cells[1].dedicated_cpus = [6, 7].into();
    assert_eq!(missing(Some(&smaller), &devices()), "CPU 4");
}

#[test]
fn facts_that_cannot_be_are_refused() {
    let field = |cells: &NumaTopology, devices: &[PciDevice]| {
        check_facts(Some(cells), devices).map_err(|invalid| invalid.field)
    };
    assert_eq!(field(&cells(), &devices()), Ok(()));
    let twice = [devices(), devices()].concat();
    assert_eq!(field(&cells(), &twice), Err("PCI device"));
    let mut wrong = cells();
    wrong.cells[1].id = 0;
    assert_eq!(field(&wrong, &[]), Err("NUMA cell"));
    let mut wrong = cells();
    wrong.cells[1].dedicated_cpus.insert(2);
    assert_eq!(field(&wrong, &[]), Err("CPU"));
    let many = NumaTopology { cells: vec![NumaCell::default(); 65] };
    assert_eq!(field(&many, &[]), Err("NUMA cells"));
    for bad in ["0000:01:00.8", "0000:1:00.0", "0000:01:00:0", "0000:0G:00.0", "0000:0A:00.0", ""] {
        assert!(bad.parse::<PciAddress>().is_err(), "{bad}");
    }
}

proptest! {
    /// Servers come and go, in any order: nothing is given twice, nothing that is not there, and
    /// what they leave is free again.
    #[test]
    fn nothing_is_given_twice_and_everything_comes_back(
        steps in prop::collection::vec(
            (0_u128..5, (0_u32..4, 1_u32..3, 1_u64..4), 0_u32..3, 0_u32..2), 1..40,
        ),
    ) {
        let mut there: BTreeMap<u128, Assigned> = BTreeMap::new();
        for (who, (cpus, count, memory), cards, accelerators) in steps {
            if there.remove(&who).is_none() {
                let (row, free) = host(there.values());
                let asked = request(cpus, count, memory * 512, cards, accelerators);
                let given = Assigned::choose(&row, &free, &asked);
                prop_assert_eq!(given.is_ok(), Assigned::is_possible(&row, &asked));
                let Ok(given) = given else { continue };
                prop_assert_eq!(given.devices.len() as u32, cards + accelerators);
                prop_assert_eq!(given.pinned().count() as u32, cpus * count);
                there.insert(who, given);
            }
            let (mut cpus, mut taken) = (BTreeSet::new(), BTreeSet::new());
            for given in there.values() {
                prop_assert_eq!(given.missing(Some(&cells()), &devices()), None);
                prop_assert!(given.pinned().all(|cpu| cpus.insert(cpu)), "a CPU twice");
                prop_assert!(given.devices.iter().all(|device| taken.insert(device)), "twice");
            }
            let (row, _) = host(there.values());
            let numa = row.numa.unwrap();
            let over = |cell: &NumaCell| cell.memory_used > cell.memory
                || cell.pages.iter().any(|pages| pages.used > pages.total);
            prop_assert!(!numa.cells.iter().any(over), "{:?}", numa);
            prop_assert_eq!((*numa).clone().unused(), cells());
        }
    }
}
