//! The least that would have to change for a request to find hosts.

use std::sync::Arc;

use nova_core::domain::{
    Change, Destination, Flavor, GiB, GuestTopology, HostTable, ImageProperties, Invalid, MiB,
    PciRequest, RequestSpec, ResourceKind, SchedulerHints, Vcpus,
};

use crate::FilterScheduler;

/// What leaving a wish out costs, beside a shrink that costs the share it takes away.
const WISH_COST: f64 = 0.5;

/// The request after `changes`, in order. NUMA cells that follow from its flavor and its image
/// change with them, and PCI devices that its extra specs ask for go with those.
///
/// # Errors
/// [`Invalid`] when a flavor cannot shrink to what a change says.
pub fn apply(request: &RequestSpec, changes: &[Change]) -> Result<RequestSpec, Invalid> {
    let cells = |of: &RequestSpec| GuestTopology::from_specs(&of.flavor, &of.image);
    let follow = |cells: &Option<GuestTopology>| cells.as_ref() == request.numa.as_deref();
    let cells_follow = cells(request).is_ok_and(|cells| follow(&cells));
    let mut request = request.clone();
    for change in changes {
        match change {
            Change::Shrink { resource, to, .. } => {
                request.flavor = Arc::new(shrink(&request.flavor, *resource, *to)?);
            }
            Change::AnyZone => request.zone = None,
            Change::AnyHost => {
                if let Some(destination) = &mut request.destination {
                    (destination.host, destination.node) = (None, None);
                }
                (request.ignore_hosts, request.force_hosts) = Default::default();
                request.force_nodes.clear();
            }
            Change::WithoutGroup => request.group = None,
            Change::WithoutHints => request.hints = SchedulerHints::default(),
            Change::WithoutExtraSpecs => {
                if request.flavor.extra_specs().get(PciRequest::ALIAS_KEY).is_some() {
                    request.pci.clear();
                }
                let flavor = (*request.flavor).clone().with_extra_specs(Default::default());
                request.flavor = Arc::new(flavor);
            }
            Change::WithoutImageProperties => request.image = ImageProperties::default(),
            other => return Err(Invalid::new("change", other, "a change that is known here")),
        }
    }
    if cells_follow {
        request.numa = cells(&request)?.map(Arc::new);
    }
    Ok(request)
}

impl FilterScheduler {
    /// The smallest change of flavor or wishes after which `request` finds hosts, tried by asking
    /// again; no change where it finds some as it is, and nothing where neither one change nor two
    /// together help. Chance is left out.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use nova_core::domain::*;
    /// use nova_sched::FilterScheduler;
    ///
    /// # let total = Resources { vcpus: Vcpus(8), memory: MiB(4096), disk: GiB(10) };
    /// # let (name, zone) = (HostName::new("host-1")?, ZoneName::new("z")?);
    /// # let host = HostState::new(HostId::from_u128(1), name, zone, Inventory::new(total));
    /// # let hosts = HostTable::new([host]);
    /// // The host has 4096 MiB.
    /// let flavor = Arc::new(Flavor::new(FlavorName::new("large")?, Vcpus(1), MiB(5000))?);
    /// let request = RequestSpec::new(InstanceId::from_u128(1), ProjectId::new("p")?, flavor);
    /// let changes = FilterScheduler::nova().what_would_fit(&hosts, &request).unwrap();
    /// assert_eq!(changes[0].to_string(), "ask for 4096 MiB of memory instead of 5000 MiB");
    /// # Ok::<(), Invalid>(())
    /// ```
    pub fn what_would_fit(&self, hosts: &HostTable, request: &RequestSpec) -> Option<Vec<Change>> {
        if self.fits(hosts, request) {
            return Some(Vec::new());
        }
        smallest_change(self, hosts, request)
    }
}

/// The smallest change after which the request finds hosts, each tried by asking again.
///
/// Single changes come before pairs. A shrink costs the share it takes away, leaving a wish out
/// costs one half, a pair costs the sum; the cheapest wins, and of equally cheap ones the first in
/// the order vcpus, memory, disk, zone, hosts, hints, group, image properties, extra specs. A shrink
/// keeps as much as finds a host; in a pair of two, as much of the second resource as the first
/// allows at its least, and then as much of the first.
pub(super) fn smallest_change(
    scheduler: &FilterScheduler,
    hosts: &HostTable,
    request: &RequestSpec,
) -> Option<Vec<Change>> {
    let fits = |changed: &RequestSpec| scheduler.fits(hosts, changed);
    let wishes = wishes(request);
    let mut best = Cheapest::default();
    for kind in ResourceKind::ALL {
        best.offer(largest(request, kind, &fits).map(|change| vec![change]), request);
    }
    for wish in &wishes {
        best.offer(changed(request, std::slice::from_ref(wish), &fits), request);
    }
    if best.changes.is_some() {
        return best.changes;
    }
    for (nth, first) in ResourceKind::ALL.into_iter().enumerate() {
        for second in ResourceKind::ALL.into_iter().skip(nth + 1) {
            best.offer(shrink_both(request, first, second, &fits), request);
        }
    }
    for kind in ResourceKind::ALL {
        for wish in &wishes {
            let Ok(without) = apply(request, std::slice::from_ref(wish)) else { continue };
            let shrunk = largest(&without, kind, &fits);
            best.offer(shrunk.map(|shrink| vec![shrink, wish.clone()]), request);
        }
    }
    for (nth, first) in wishes.iter().enumerate() {
        for second in &wishes[nth + 1..] {
            best.offer(changed(request, &[first.clone(), second.clone()], &fits), request);
        }
    }
    best.changes
}

/// What the request wishes besides its size, each as the change that leaves it out.
fn wishes(request: &RequestSpec) -> Vec<Change> {
    let there = [
        (request.zone.is_some(), Change::AnyZone),
        (names_hosts(request), Change::AnyHost),
        (request.hints != SchedulerHints::default(), Change::WithoutHints),
        (request.group.is_some(), Change::WithoutGroup),
        (request.image != ImageProperties::default(), Change::WithoutImageProperties),
        (!request.flavor.extra_specs().is_empty(), Change::WithoutExtraSpecs),
    ];
    there.into_iter().filter_map(|(there, change)| there.then_some(change)).collect()
}

/// Whether the request says to which hosts it wants to go, or not to go.
fn names_hosts(request: &RequestSpec) -> bool {
    let goes_to = |to: &Destination| to.host.is_some() || to.node.is_some();
    let named = request.ignore_hosts.len() + request.force_hosts.len() + request.force_nodes.len();
    named > 0 || request.destination.as_ref().is_some_and(goes_to)
}

/// The cheapest of the changes that were offered; of equally cheap ones the first.
#[derive(Default)]
struct Cheapest {
    changes: Option<Vec<Change>>,
    cost: f64,
}

impl Cheapest {
    fn offer(&mut self, changes: Option<Vec<Change>>, request: &RequestSpec) {
        let Some(changes) = changes else { return };
        let wanted = request.flavor.resources();
        let cost = changes.iter().map(|change| match change {
            Change::Shrink { resource, to, .. } => {
                let from = resource.of(&wanted);
                from.saturating_sub(*to) as f64 / from.max(1) as f64
            }
            _ => WISH_COST,
        });
        let cost = cost.sum();
        if self.changes.is_none() || cost < self.cost {
            *self = Self { changes: Some(changes), cost };
        }
    }
}

fn changed(
    request: &RequestSpec,
    changes: &[Change],
    fits: &impl Fn(&RequestSpec) -> bool,
) -> Option<Vec<Change>> {
    let fitting = apply(request, changes).is_ok_and(|changed| fits(&changed));
    fitting.then(|| changes.to_vec())
}

/// The shrink of `kind` that keeps most and still fits; none when even the least does not.
///
/// It searches by halves, which finds the most as long as less is never harder to place. That
/// holds for every filter that is built in, but for guests whose NUMA cells cannot have any size,
/// and for several instances at once: smaller ones may begin on a host where they do not go on. Of
/// those, and of other filters, the answer fits, and may not be the most.
fn largest(
    request: &RequestSpec,
    kind: ResourceKind,
    fits: &impl Fn(&RequestSpec) -> bool,
) -> Option<Change> {
    let from = kind.of(&request.flavor.resources());
    let least = least(kind);
    let shrunk = |to| Change::Shrink { resource: kind, from, to };
    let works = |to| apply(request, &[shrunk(to)]).is_ok_and(|changed| fits(&changed));
    // Where the least does not fit, more of it may.
    let halves = (1..64).map(|nth| from.saturating_sub(from.saturating_sub(least) >> nth));
    let between = halves.take_while(|to| *to < from);
    let mut low = std::iter::once(least).chain(between).find(|to| *to < from && works(*to))?;
    // `low` fits; `high` is what was asked for, or does not fit.
    let mut high = from;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if works(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(shrunk(low))
}

fn shrink_both(
    request: &RequestSpec,
    first: ResourceKind,
    second: ResourceKind,
    fits: &impl Fn(&RequestSpec) -> bool,
) -> Option<Vec<Change>> {
    let from = first.of(&request.flavor.resources());
    if from <= least(first) {
        return None;
    }
    let least = Change::Shrink { resource: first, from, to: least(first) };
    let at_least = apply(request, &[least]).ok()?;
    let second = largest(&at_least, second, fits)?;
    let with_second = apply(request, std::slice::from_ref(&second)).ok()?;
    let first = largest(&with_second, first, fits)?;
    Some(vec![first, second])
}

/// The least of a resource that a flavor may have.
fn least(kind: ResourceKind) -> u64 {
    match kind {
        ResourceKind::Disk => 0,
        _ => 1,
    }
}

fn shrink(flavor: &Flavor, kind: ResourceKind, to: u64) -> Result<Flavor, Invalid> {
    let vcpus = || u32::try_from(to).map(Vcpus).unwrap_or(flavor.vcpus());
    let smaller = match kind {
        ResourceKind::Vcpus => Flavor::new(flavor.name().clone(), vcpus(), flavor.memory())?,
        ResourceKind::Memory => Flavor::new(flavor.name().clone(), flavor.vcpus(), MiB(to))?,
        _ => Flavor::new(flavor.name().clone(), flavor.vcpus(), flavor.memory())?,
    };
    let smaller = match kind {
        // The amount is that of all disks together; which of them shrinks is not for us to say.
        ResourceKind::Disk => smaller.with_root_disk(GiB(to))?,
        _ => smaller
            .with_root_disk(flavor.root_disk())?
            .with_ephemeral_disk(flavor.ephemeral_disk())?
            .with_swap(flavor.swap())?,
    };
    Ok(smaller.with_extra_specs(flavor.extra_specs().clone()))
}
