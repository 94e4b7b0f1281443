//! NUMA cells and PCI devices: what the instances of a batch leave each other.

use std::sync::Arc;

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;

use crate::kit::{host, ids, request};

/// Three hosts with a cell of 4 dedicated CPUs on two cores each, and two PCI devices near it.
fn hosts() -> HostTable {
    HostTable::new((1..=3).map(|id| {
        let mut row = host(id, 16, 8192);
        let cell = NumaCell {
            dedicated_cpus: (0..4).collect(),
            thread_siblings: vec![[0, 1].into(), [2, 3].into()],
            memory: 8192,
            ..NumaCell::default()
        };
        row.numa = Some(Arc::new(NumaTopology { cells: vec![cell] }));
        let vendor_id = "8086".to_owned();
        let pool = PciPool { vendor_id, numa_node: Some(0), count: 2, ..PciPool::default() };
        row.pci.pools = vec![pool];
        row
    }))
}

fn pin(request: &mut RequestSpec) {
    let specs = ExtraSpecs::new([("hw:cpu_policy", "dedicated")]).unwrap();
    let flavor = (*request.flavor).clone().with_extra_specs(specs);
    let numa = GuestTopology::from_specs(&flavor, &request.image).unwrap();
    request.numa = numa.map(Arc::new);
    request.flavor = Arc::new(flavor);
}

fn want_device(request: &mut RequestSpec) {
    let spec = vec![[("vendor_id".to_owned(), "8086".to_owned())].into()];
    let numa_policy = PciNumaPolicy::Required;
    request.pci = vec![PciRequest { count: 1, spec, numa_policy }];
}

/// Where `count` instances of `vcpus` go, each changed so, or what the funnel says.
fn check(
    count: u128,
    vcpus: u32,
    change: impl FnOnce(&mut RequestSpec),
    expected: Result<&[u128], &str>,
) {
    let mut asked = request(count, vcpus, 64);
    change(&mut asked);
    let answer = FilterScheduler::first_fit().select(&hosts(), &asked, Seed::new(1));
    match (answer, expected) {
        (Ok(placement), Ok(expected)) => assert_eq!(ids(&placement.hosts), expected),
        (Err(refused), Err(part)) => {
            let funnel = refused.funnel.to_string();
            assert!(funnel.contains(part), "{funnel} lacks {part}");
        }
        (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
    }
}

#[test]
fn the_instances_of_a_batch_leave_each_other_no_cpu_and_no_device_twice() {
    check(4, 3, |_| {}, Ok(&[1, 1, 1, 1]));
    check(3, 2, pin, Ok(&[1, 1, 2]));
    check(3, 3, pin, Ok(&[1, 2, 3]));
    check(4, 3, pin, Err("numa-topology 3 -> 0"));
    check(6, 1, want_device, Ok(&[1, 1, 2, 2, 3, 3]));
    check(7, 1, want_device, Err("pci-passthrough 3 -> 0"));
    let both = |request: &mut RequestSpec| {
        pin(request);
        want_device(request);
    };
    check(4, 2, both, Ok(&[1, 1, 2, 2]));
    check(6, 1, both, Ok(&[1, 1, 2, 2, 3, 3]));
}

#[test]
fn a_forced_host_must_have_the_devices_and_the_cells() {
    let force = |request: &mut RequestSpec| {
        request.force_hosts = vec![HostName::new("host-2").unwrap()];
        want_device(request);
    };
    check(2, 1, force, Ok(&[2, 2]));
    check(3, 1, force, Err("pci-passthrough 1 -> 0"));
    let pinned = |request: &mut RequestSpec| {
        request.force_hosts = vec![HostName::new("host-2").unwrap()];
        pin(request);
    };
    check(1, 5, pinned, Err("numa-topology 1 -> 0"));
}

/// What would help one instance of `vcpus` with these extra specs on [`hosts`].
fn check_change(vcpus: u32, specs: &[(&str, &str)], expected: &[Change]) {
    let mut asked = request(1, vcpus, 64);
    let specs = ExtraSpecs::new(specs.iter().copied()).unwrap();
    asked.flavor = Arc::new((*asked.flavor).clone().with_extra_specs(specs));
    asked.numa = GuestTopology::from_specs(&asked.flavor, &asked.image).unwrap().map(Arc::new);
    if asked.flavor.extra_specs().get(PciRequest::ALIAS_KEY).is_some() {
        want_device(&mut asked);
        asked.pci[0].count = 3;
    }
    let refusal = FilterScheduler::nova().explain(&hosts(), &asked);
    assert_eq!(refusal.smallest_change.as_deref(), Some(expected));
}

#[test]
fn cells_and_devices_change_with_what_they_follow_from() {
    let fewer = Change::Shrink { resource: ResourceKind::Vcpus, from: 5, to: 4 };
    check_change(5, &[("hw:cpu_policy", "dedicated")], &[fewer]);
    check_change(4, &[("hw:numa_nodes", "2")], &[Change::WithoutExtraSpecs]);
    check_change(1, &[("pci_passthrough:alias", "nic:3")], &[Change::WithoutExtraSpecs]);
}
