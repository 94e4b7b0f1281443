//! Hosts and requests, drawn and by hand.

use std::sync::Arc;

use nova_core::domain::*;
use proptest::prelude::*;

pub(crate) fn host(id: u128, vcpus: u32, memory: u64) -> HostState {
    let total = Resources { vcpus: Vcpus(vcpus), memory: MiB(memory), disk: GiB(100) };
    HostState::new(
        HostId::from_u128(id),
        HostName::new(format!("host-{id}")).unwrap(),
        ZoneName::new("a").unwrap(),
        Inventory::new(total),
    )
}

pub(crate) fn request(count: u128, vcpus: u32, memory: u64) -> RequestSpec {
    let flavor = Flavor::new(FlavorName::new("f").unwrap(), Vcpus(vcpus), MiB(memory)).unwrap();
    let project = ProjectId::new("p").unwrap();
    let mut request = RequestSpec::new(InstanceId::from_u128(1), project, Arc::new(flavor));
    request.instances = (1..=count).map(InstanceId::from_u128).collect();
    request
}

pub(crate) fn group(policy: GroupPolicy) -> GroupView {
    GroupView::new(ServerGroupId::from_u128(1), policy, 1)
}

pub(crate) fn ids(hosts: &[HostId]) -> Vec<u128> {
    hosts.iter().map(|id| id.as_u128()).collect()
}

/// Up to nine hosts of many kinds: full and empty, up and down, in zones and aggregates.
pub(crate) fn any_hosts() -> impl Strategy<Value = HostTable> {
    let multiplier = prop_oneof![Just(None), Just(Some("2.5")), Just(Some("-1")), Just(Some("x"))];
    let one = (
        (0_u32..9, 0_u64..9, 0_u32..3),
        (prop::bool::weighted(0.9), prop::bool::weighted(0.9), any::<bool>()),
        (prop::option::of("[12]"), multiplier),
    );
    prop::collection::vec(one, 1..10).prop_map(|hosts| {
        let host = |(id, ((vcpus, memory, io), (enabled, up, zone), (ssd, m))): (u128, Drawn)| {
            let mut host = host(id, 8, 8192);
            let amount =
                Resources { vcpus: Vcpus(vcpus), memory: MiB(memory * 1024), disk: GiB(1) };
            host.claim(InstanceId::from_u128(1000 + id), amount);
            host.io_ops = io;
            host.zone = ZoneName::new(if zone { "a" } else { "b" }).unwrap();
            if !enabled {
                host.admission = Admission::Disabled;
            }
            if !up {
                host.liveness = Liveness::Down;
            }
            let ssd = ssd.map(|ssd| ("ssd".to_owned(), ssd));
            let m = m.map(|m| ("ram_weight_multiplier".to_owned(), m.to_owned()));
            host.aggregates.push(Arc::new(Aggregate {
                id: AggregateId::from_u128(id),
                name: Label::new("agg").unwrap(),
                hosts: vec![host.id],
                metadata: AggregateMetadata::new(ssd.into_iter().chain(m)).unwrap(),
            }));
            host
        };
        HostTable::new((1_u128..).zip(hosts).map(host))
    })
}

type Drawn = ((u32, u64, u32), (bool, bool, bool), (Option<String>, Option<&'static str>));

/// A request for one to four instances, with or without a zone, a group, hints, an extra spec.
pub(crate) fn any_request() -> impl Strategy<Value = RequestSpec> {
    let policy = prop_oneof![
        Just(GroupPolicy::Affinity),
        Just(GroupPolicy::AntiAffinity),
        Just(GroupPolicy::SoftAffinity),
        Just(GroupPolicy::SoftAntiAffinity),
    ];
    let size = (1_u128..5, 1_u32..10, 1_u64..10);
    let wishes = (
        prop::option::weighted(0.3, prop_oneof![Just("a"), Just("b"), Just("c")]),
        prop::option::weighted(0.4, policy),
        prop::option::weighted(0.2, 1_u128..9),
        prop::option::weighted(0.2, prop_oneof![Just("1"), Just(">= 2"), Just(">= two")]),
    );
    (size, wishes).prop_map(|((count, vcpus, memory), (zone, policy, away, ssd))| {
        let mut request = request(count, vcpus, memory * 1024);
        request.zone = zone.map(|zone| ZoneName::new(zone).unwrap());
        request.group = policy.map(group);
        request.hints.different_host =
            away.into_iter().map(|id| InstanceId::from_u128(1000 + id)).collect();
        if let Some(ssd) = ssd {
            let specs = ExtraSpecs::new([("ssd", ssd)]).unwrap();
            request.flavor = Arc::new((*request.flavor).clone().with_extra_specs(specs));
        }
        request
    })
}
