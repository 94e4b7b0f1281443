//! Plain hosts and requests for unit tests.

use std::sync::Arc;

use nova_core::domain::{
    Aggregate, AggregateId, AggregateMetadata, ExtraSpecs, Flavor, FlavorName, GiB, GroupPolicy,
    GroupView, GuestKind, HostId, HostName, HostState, HostTable, InstanceId, Inventory, Label,
    MiB, PciNumaPolicy, PciRequest, ProjectId, RequestSpec, Resources, ServerGroupId, Vcpus,
    ZoneName,
};

/// Host `id` of zone `a` with 8 vCPU, 8192 MiB and 100 GiB, running x86_64 guests under kvm.
pub(crate) fn host(id: u128) -> HostState {
    let total = Resources { vcpus: Vcpus(8), memory: MiB(8192), disk: GiB(100) };
    let mut host = HostState::new(
        HostId::from_u128(id),
        HostName::new(format!("host-{id}")).unwrap(),
        ZoneName::new("a").unwrap(),
        Inventory::new(total),
    );
    host.guest_kinds = Arc::from([GuestKind {
        architecture: "x86_64".to_owned(),
        hypervisor: "kvm".to_owned(),
        vm_mode: "hvm".to_owned(),
    }]);
    host
}

/// Hosts 1 to `count`.
pub(crate) fn table(count: u128) -> HostTable {
    HostTable::new((1..=count).map(host))
}

/// A request for `count` instances of 2 vCPU, 2048 MiB and 20 GiB.
pub(crate) fn request(count: u128) -> RequestSpec {
    let mut request = RequestSpec::new(
        InstanceId::from_u128(1),
        ProjectId::new("p").unwrap(),
        Arc::new(flavor(2, 2048, 20)),
    );
    request.instances = (1..=count).map(InstanceId::from_u128).collect();
    request
}

pub(crate) fn flavor(vcpus: u32, memory: u64, disk: u64) -> Flavor {
    Flavor::new(FlavorName::new("f").unwrap(), Vcpus(vcpus), MiB(memory))
        .unwrap()
        .with_root_disk(GiB(disk))
        .unwrap()
}

/// A small flavor with one extra spec.
pub(crate) fn asking(key: &str, value: &str) -> Flavor {
    flavor(1, 1, 0).with_extra_specs(ExtraSpecs::new([(key, value)]).unwrap())
}

pub(crate) fn set_spec(request: &mut RequestSpec, key: &str, value: &str) {
    let specs = ExtraSpecs::new([(key, value)]).unwrap();
    request.flavor = Arc::new((*request.flavor).clone().with_extra_specs(specs));
}

pub(crate) fn join_aggregate(host: &mut HostState, metadata: &[(&str, &str)]) {
    host.aggregates.push(Arc::new(Aggregate {
        id: AggregateId::from_u128(host.aggregates.len() as u128 + 1),
        name: Label::new("agg").unwrap(),
        hosts: vec![host.id],
        metadata: AggregateMetadata::new(metadata.iter().copied()).unwrap(),
    }));
}

/// Puts `request` into a group with so many members on each of these hosts.
pub(crate) fn join_group(request: &mut RequestSpec, policy: GroupPolicy, members: &[(u128, u32)]) {
    let mut group = GroupView::new(ServerGroupId::from_u128(1), policy, 1);
    for (host, count) in members {
        (0..*count).for_each(|_| group.join(HostId::from_u128(*host)));
    }
    request.group = Some(group);
}

/// A request for `count` PCI devices of vendor 8086.
pub(crate) fn pci(count: u32, numa_policy: PciNumaPolicy) -> PciRequest {
    let spec = vec![[("vendor_id".to_owned(), "8086".to_owned())].into()];
    PciRequest { count, spec, numa_policy }
}
