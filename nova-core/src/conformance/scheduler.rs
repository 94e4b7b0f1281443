//! Laws of [`Scheduler`]: for every policy, built in or somebody's own.
//!
//! The questions are drawn from a fixed seed: hosts of several shapes, some down or disabled, some
//! over-committed or with a reserve, some nearly full; requests for one server and for several,
//! with zones and groups.

use std::sync::Arc;

use crate::domain::{
    Admission, AllocationRatio, Destination, Flavor, FlavorName, GiB, GroupPolicy, GroupView,
    HostId, HostName, HostState, HostTable, InstanceId, Inventory, Liveness, MiB, Placement,
    ProjectId, Purpose, RequestSpec, Resources, ServerGroupId, Stock, Vcpus, ZoneName,
};
use crate::port::Scheduler;
use crate::seed::{Chance, Seed};

/// One test for each law of [`Scheduler`].
#[macro_export]
macro_rules! scheduler_laws {
    ($make:expr) => {
        $crate::laws!(
            scheduler,
            $make,
            [
                select_is_repeatable,
                select_never_overcommits,
                select_skips_hosts_that_are_down_or_disabled,
                a_rebuild_is_asked_only_what_depends_on_the_image,
                select_answers_for_every_instance_or_for_none,
                find_agrees_with_select,
                explain_agrees_with_select,
            ]
        );
    };
}

/// Clouds that each law looks at.
const CLOUDS: u128 = 40;
/// Requests to each of them.
const REQUESTS: u128 = 30;

/// The same question gives the same answer.
pub async fn select_is_repeatable(subject: impl Scheduler) {
    each_question(|hosts, request, seed| {
        let first = subject.select(hosts, request, seed);
        assert_eq!(first, subject.select(hosts, request, seed), "{subject}: asked twice");
        first.ok()
    });
}

/// Both find the same hosts, or none.
pub async fn find_agrees_with_select(subject: impl Scheduler) {
    each_question(|hosts, request, seed| {
        let found = subject.find(hosts, request, seed);
        assert_eq!(found, subject.select(hosts, request, seed).ok(), "{subject}: {request:?}");
        found
    });
}

/// Every chosen host has room for all instances put on it, beside what is claimed already.
pub async fn select_never_overcommits(subject: impl Scheduler) {
    let mut placed = 0;
    each_question(|hosts, request, seed| {
        let placement = subject.select(hosts, request, seed).ok()?;
        let wanted = request.flavor.resources();
        let mut after = hosts.clone();
        for (instance, host) in request.instances.iter().zip(&placement.hosts) {
            let row = after.get(*host);
            assert!(row.is_some(), "{subject}: {host} is not in the table");
            let lacks = row.and_then(|row| row.lacks(&wanted));
            assert_eq!(lacks, None, "{subject}: {host} has no room for {instance}");
            after.update(*host, |row| row.claim(*instance, wanted));
        }
        placed += placement.hosts.len();
        Some(placement)
    });
    assert!(placed > 0, "{subject}: nothing was ever placed, so nothing was tested");
}

/// A host that is down or disabled is never an answer.
pub async fn select_skips_hosts_that_are_down_or_disabled(subject: impl Scheduler) {
    each_question(|hosts, request, seed| {
        let placement = subject.select(hosts, request, seed).ok()?;
        for row in placement.hosts.iter().filter_map(|host| hosts.get(*host)) {
            assert_eq!(row.admission, Admission::Enabled, "{subject}: {} is disabled", row.name);
            assert_eq!(row.liveness, Liveness::Up, "{subject}: {} is down", row.name);
        }
        Some(placement)
    });
}

/// A server that is there already needs no room for another image, nor a host that takes new ones.
pub async fn a_rebuild_is_asked_only_what_depends_on_the_image(subject: impl Scheduler) {
    let inventory = Inventory::new(flavor(1, 512).resources());
    let hosts = HostTable::new((1..=2).map(|id| {
        let mut host = host(id, inventory);
        (host.liveness, host.admission) = (Liveness::Down, Admission::Disabled);
        host.claim(instance(id), flavor(1, 512).resources());
        host
    }));
    for row in hosts.rows() {
        let there = row.claims().next().map_or(instance(0), |(instance, _)| instance);
        let mut request = RequestSpec::new(there, project(), Arc::new(flavor(1, 512)));
        let host = Some(row.name.clone());
        request.destination = Some(Destination { host, ..Destination::default() });
        assert!(subject.select(&hosts, &request, Seed::new(1)).is_err(), "{subject}: placed");
        request.purpose = Purpose::Rebuild;
        let answer = subject.select(&hosts, &request, Seed::new(1)).map(|answer| answer.hosts);
        assert_eq!(answer, Ok(vec![row.id]), "{subject}: rebuilt");
    }
}

/// An answer has a host for each instance; a refusal names how many were asked for.
pub async fn select_answers_for_every_instance_or_for_none(subject: impl Scheduler) {
    each_question(|hosts, request, seed| match subject.select(hosts, request, seed) {
        Ok(placement) => {
            let (hosts, instances) = (placement.hosts.len(), request.instances.len());
            assert_eq!(hosts, instances, "{subject}: hosts for instances");
            Some(placement)
        }
        Err(refused) => {
            assert_eq!(refused.instances, request.instances.len(), "{subject}: refused");
            None
        }
    });

    // Two hosts with room for one each, and a request for three: none of them is placed.
    let flavor = Flavor::new(known(FlavorName::new("whole")), Vcpus(4), MiB(4096));
    let mut request = RequestSpec::new(instance(0), project(), Arc::new(known(flavor)));
    request.instances = (0..3).map(instance).collect();
    let total = Resources { vcpus: Vcpus(4), memory: MiB(4096), disk: GiB(0) };
    let hosts = HostTable::new((1..=2).map(|id| host(id, Inventory::new(total))));
    let refused = subject.select(&hosts, &request, Seed::new(1));
    assert_eq!(refused.map_err(|e| e.instances), Err(3), "{subject}: three on two hosts");
}

/// Where `select` finds no host, the last stage of the explanation's funnel lets none through.
pub async fn explain_agrees_with_select(subject: impl Scheduler) {
    each_question(|hosts, request, seed| match subject.select(hosts, request, seed) {
        Ok(placement) => Some(placement),
        Err(refused) => {
            for funnel in [refused.funnel, subject.explain(hosts, request).funnel] {
                let left = funnel.stages.last().map(|stage| stage.hosts_out);
                assert_eq!(left, Some(0), "{subject}: {funnel}");
            }
            None
        }
    });
    let request = RequestSpec::new(instance(0), project(), Arc::new(flavor(1, 1)));
    let funnel = subject.explain(&HostTable::default(), &request).funnel;
    let left = funnel.stages.last().map(|stage| stage.hosts_out);
    assert_eq!(left, Some(0), "{subject}: no hosts at all");
}

/// Asks `question` about many clouds; what it says was placed is claimed before the next question,
/// so that clouds fill up and the later requests are refused.
fn each_question(mut question: impl FnMut(&HostTable, &RequestSpec, Seed) -> Option<Placement>) {
    for cloud in 0..CLOUDS {
        let seed = Seed::new(2011).child_of("cloud", cloud);
        let mut hosts = draw_hosts(&mut seed.child("hosts").chance());
        for nth in 0..REQUESTS {
            let seed = seed.child_of("request", nth);
            let request = draw_request(&mut seed.child("shape").chance(), nth);
            if let Some(placement) = question(&hosts, &request, seed) {
                let wanted = request.flavor.resources();
                for (instance, host) in request.instances.iter().zip(placement.hosts) {
                    hosts.update(host, |row| row.claim(*instance, wanted));
                }
            }
        }
    }
}

fn draw_hosts(chance: &mut Chance) -> HostTable {
    let count = 1 + chance.below(12);
    HostTable::new((1..=count).map(|id| {
        let vcpus = Vcpus([4, 8, 16][chance.index(3)]);
        let memory = MiB([4096, 16_384, 32_768][chance.index(3)]);
        let ratio = AllocationRatio::new([1.0, 1.5, 4.0][chance.index(3)]);
        let reserved = MiB([0, 512][chance.index(2)]);
        let inventory = Inventory {
            vcpus: Stock::new(vcpus).with_ratio(known(ratio)),
            memory: known(Stock::new(memory).with_reserved(reserved)),
            disk: Stock::new(GiB([40, 200][chance.index(2)])),
        };
        let mut host = host(id.into(), inventory);
        if chance.happens(0.5) {
            host.zone = known(ZoneName::new("b"));
        }
        if chance.happens(0.15) {
            host.admission = Admission::Disabled;
        }
        if chance.happens(0.15) {
            host.liveness = Liveness::Down;
        }
        host
    }))
}

fn draw_request(chance: &mut Chance, nth: u128) -> RequestSpec {
    let flavor = flavor([1, 2, 4, 6][chance.index(4)], [512, 2048, 6000][chance.index(3)]);
    let mut request = RequestSpec::new(instance(0), project(), Arc::new(flavor));
    let count = if chance.happens(0.3) { 2 + chance.below(3) } else { 1 };
    request.instances = (0..count).map(|n| instance(nth * 100 + u128::from(n))).collect();
    if chance.happens(0.3) {
        request.zone = Some(known(ZoneName::new(["a", "b"][chance.index(2)])));
    }
    if chance.happens(0.4) {
        let policies = [
            GroupPolicy::Affinity,
            GroupPolicy::AntiAffinity,
            GroupPolicy::SoftAffinity,
            GroupPolicy::SoftAntiAffinity,
        ];
        let policy = policies[chance.index(4)];
        request.group = Some(GroupView::new(ServerGroupId::from_u128(1), policy, 1));
    }
    request
}

fn host(id: u128, inventory: Inventory) -> HostState {
    let name = known(HostName::new(format!("host-{id}")));
    HostState::new(HostId::from_u128(id), name, known(ZoneName::new("a")), inventory)
}

fn flavor(vcpus: u32, memory: u64) -> Flavor {
    let flavor = Flavor::new(known(FlavorName::new("f")), Vcpus(vcpus), MiB(memory));
    known(known(flavor).with_root_disk(GiB(5)))
}

fn instance(number: u128) -> InstanceId {
    InstanceId::from_u128(number + 1)
}

fn project() -> ProjectId {
    known(ProjectId::new("laws"))
}

/// Unwraps a value that this file wrote itself; a suite is test code and may stop the test.
fn known<T>(value: Result<T, crate::domain::Invalid>) -> T {
    match value {
        Ok(value) => value,
        Err(invalid) => panic!("the suite's own data: {invalid}"),
    }
}
