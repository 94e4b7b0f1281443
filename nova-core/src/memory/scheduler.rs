//! The plainest scheduler that keeps the laws: the first host, by id, that may take the server.

use std::collections::BTreeMap;

use crate::domain::{
    Assigned, Funnel, FunnelStage, GroupPolicy, HostId, HostState, HostTable, Invalid, Placement,
    Purpose, Refusal, RequestSpec,
};
use crate::port::{NoValidHost, Scheduler};
use crate::seed::Seed;

/// The lowest host id that is enabled and up, in the zone, with room, and that neither the
/// destination, nor the server group, nor the hints, nor an earlier attempt forbids.
///
/// It is a reference, not a policy: it reads no extra specs and no image properties, and explains
/// with a funnel only.
#[derive(Debug, Default, Clone, Copy)]
pub struct FirstFit;

/// What a host has to pass, in this order, and what is said of a host that does not.
const CHECKS: [Check; 9] = [
    Check { name: "destination", refusal: "not the destination", passes: is_destination },
    Check { name: "host-up", refusal: "disabled or down", passes: is_up },
    Check { name: "zone", refusal: "another zone", passes: is_in_zone },
    Check { name: "retry", refusal: "failed before", passes: is_new },
    Check { name: "capacity", refusal: "not enough left", passes: has_room },
    Check { name: "devices", refusal: "no such cells or devices left", passes: has_devices },
    Check { name: "same-host", refusal: "none of the wanted servers", passes: has_wanted },
    Check {
        name: "different-host",
        refusal: "a server to keep away from",
        passes: has_no_unwanted,
    },
    Check { name: "group", refusal: "against the group's rule", passes: suits_group },
];

struct Check {
    name: &'static str,
    refusal: &'static str,
    passes: fn(&HostState, &RequestSpec) -> bool,
}

/// What is asked for this purpose: of what a rebuild asks, only the destination is read here.
fn checks(request: &RequestSpec) -> &'static [Check] {
    match request.purpose {
        Purpose::Rebuild => &CHECKS[..1],
        _ => &CHECKS,
    }
}

impl FirstFit {
    fn place(
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        let mut chance = seed.child("among").chance();
        let mut request = request.clone();
        let mut placement = Placement { hosts: Vec::with_capacity(request.instances.len()) };
        // Hosts that this answer has put something on; the others are read where they are.
        let mut taken: BTreeMap<HostId, HostState> = BTreeMap::new();
        for instance in request.instances.clone() {
            let rows = || hosts.rows().map(|row| taken.get(&row.id).unwrap_or(row));
            let fits = |row: &&HostState| {
                checks(&request).iter().all(|check| (check.passes)(row, &request))
            };
            let found: Vec<_> = rows().filter(fits).take(request.among.max(1)).collect();
            let Some(host) = found.get(chance.index(found.len().max(1))) else {
                let instances = request.instances.len();
                return Err(NoValidHost { instances, funnel: funnel(rows(), &request) });
            };
            let mut host = HostState::clone(host);
            host.claim_flavor(instance, &request.flavor);
            if let Some(group) = &mut request.group {
                group.join(host.id);
            }
            placement.hosts.push(host.id);
            taken.insert(host.id, host);
        }
        Ok(placement)
    }
}

impl Scheduler for FirstFit {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        // A draw must not refuse several that fit together.
        let first = || RequestSpec { among: 1, ..request.clone() };
        Self::place(hosts, request, seed).or_else(|_| Self::place(hosts, &first(), seed))
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        let funnel =
            match Self::place(hosts, &RequestSpec { among: 1, ..request.clone() }, Seed::new(0)) {
                Ok(_) => funnel(hosts.rows(), request),
                Err(error) => error.funnel,
            };
        Refusal { funnel, nearest: Vec::new(), smallest_change: None }
    }

    fn check_extra_spec(&self, key: &str, _: &str) -> Result<(), Invalid> {
        Err(Invalid::new("flavor.extra_specs", key, "none: this scheduler reads no extra spec"))
    }

    /// It reads none and refuses none.
    fn check_hint(&self, _: &str, _: &[String]) -> Result<(), Invalid> {
        Ok(())
    }
}

impl std::fmt::Display for FirstFit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("first fit")
    }
}

fn is_destination(host: &HostState, request: &RequestSpec) -> bool {
    let named = request.destination.as_ref().and_then(|destination| destination.host.as_ref());
    named.is_none_or(|name| *name == host.name)
}

fn is_up(host: &HostState, _: &RequestSpec) -> bool {
    host.is_open()
}

fn is_in_zone(host: &HostState, request: &RequestSpec) -> bool {
    request.zone.as_ref().is_none_or(|zone| *zone == host.zone)
}

fn is_new(host: &HostState, request: &RequestSpec) -> bool {
    !request.tried.contains(&host.id)
}

fn has_room(host: &HostState, request: &RequestSpec) -> bool {
    let has_class = || request.flavor.classes().is_ok_and(|all| host.lacks_class(all).is_none());
    host.lacks(&request.flavor.resources()).is_none() && has_class()
}

fn has_devices(host: &HostState, request: &RequestSpec) -> bool {
    request.numa.is_none() && request.pci.is_empty() || Assigned::is_possible(host, request)
}

fn has_wanted(host: &HostState, request: &RequestSpec) -> bool {
    let wanted = &request.hints.same_host;
    wanted.is_empty() || wanted.iter().any(|instance| host.has_instance(*instance))
}

fn has_no_unwanted(host: &HostState, request: &RequestSpec) -> bool {
    !request.hints.different_host.iter().any(|instance| host.has_instance(*instance))
}

fn suits_group(host: &HostState, request: &RequestSpec) -> bool {
    let Some(group) = &request.group else { return true };
    let here = group.members_on(host.id);
    match group.policy {
        GroupPolicy::Affinity => group.hosts.is_empty() || group.hosts.contains(&host.id),
        GroupPolicy::AntiAffinity => here < group.max_per_host,
        GroupPolicy::SoftAffinity | GroupPolicy::SoftAntiAffinity => true,
    }
}

/// How many hosts each check left, up to the first that left none.
fn funnel<'a>(rows: impl Iterator<Item = &'a HostState>, request: &RequestSpec) -> Funnel {
    let mut left: Vec<&HostState> = rows.collect();
    let mut funnel = Funnel::default();
    for check in checks(request) {
        let hosts_in = left.len();
        left.retain(|row| (check.passes)(row, request));
        let refused = hosts_in - left.len();
        let reasons = (refused > 0).then(|| (check.refusal.to_owned(), refused));
        funnel.stages.push(FunnelStage {
            filter: check.name.to_owned(),
            hosts_in,
            hosts_out: left.len(),
            reasons: reasons.into_iter().collect(),
        });
        if left.is_empty() {
            break;
        }
    }
    funnel
}
