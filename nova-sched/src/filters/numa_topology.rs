//! NUMA cells that a guest wants against those of the host.

use nova_core::domain::{GuestTopology, HostState, Invalid, NumaMisfit, RequestSpec};

use crate::{Filter, Reason, Rules, Verdict};

/// Passes hosts into whose NUMA cells those of the guest fit, each into one of its own, together
/// with the request's PCI devices as near as they are wanted.
///
/// A guest that wants CPUs for itself and threads of one core is kept from hosts that tell of
/// cells but have no threads, even when it wants no cells. Under [Nova's rules](Rules::Nova) a
/// request without an image fails altogether.
#[derive(Debug, Default, Clone, Copy)]
pub struct NumaTopology {
    /// Whose rules hold.
    pub rules: Rules,
}

const NO_IMAGE: Reason = Reason("there is no image to ask");
const NO_THREADS: Reason = Reason("no core has several threads");
const NO_CELLS: Reason = Reason("tells of no NUMA cells");

impl Filter for NumaTopology {
    fn name(&self) -> &str {
        "numa-topology"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        if self.rules == Rules::Nova && has_no_image(request) {
            return Verdict::Error(NO_IMAGE);
        }
        let cells = host.numa.as_deref().filter(|numa| !numa.cells.is_empty());
        if requires_threads(request) && cells.is_some_and(|numa| !numa.has_threads()) {
            return Verdict::Reject(NO_THREADS);
        }
        let Some(guest) = wanted(request) else { return Verdict::Pass };
        let Some(cells) = cells else { return Verdict::Reject(NO_CELLS) };
        match cells.fit(guest, host.overcommit(), &host.pci, &request.pci) {
            Ok(_) => Verdict::Pass,
            Err(misfit) => Verdict::Reject(why(misfit)),
        }
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        let fails = self.rules == Rules::Nova && has_no_image(request);
        fails || wanted(request).is_some() || requires_threads(request)
    }

    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        GuestTopology::check_extra_spec(key, value)
    }
}

/// The cells that the guest wants, if any.
fn wanted(request: &RequestSpec) -> Option<&GuestTopology> {
    request.numa.as_deref().filter(|guest| !guest.cells.is_empty())
}

fn has_no_image(request: &RequestSpec) -> bool {
    request.image_id.is_none() && request.image.iter().next().is_none()
}

/// Whether flavor or image want dedicated CPUs, and flavor or image threads of one core.
fn requires_threads(request: &RequestSpec) -> bool {
    let says = |extra_spec: &str, property: &str, value: &str| {
        request.flavor.extra_specs().get(extra_spec) == Some(value)
            || request.image.get(property) == Some(value)
    };
    says("hw:cpu_policy", "hw_cpu_policy", "dedicated")
        && says("hw:cpu_thread_policy", "hw_cpu_thread_policy", "require")
}

fn why(misfit: NumaMisfit) -> Reason {
    Reason(match misfit {
        NumaMisfit::TooFewCells { .. } => "too few NUMA cells",
        NumaMisfit::Cell { .. } => "no NUMA cell has room for a cell of the guest",
        NumaMisfit::Together => "too few NUMA cells have room",
        NumaMisfit::Devices => "too few PCI devices near NUMA cells with room",
        NumaMisfit::TooManyWays => "too many ways to place cells near PCI devices failed",
        _ => "more NUMA cells than are looked at",
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::{GuestCell, ImageProperties, NumaCell, PciNumaPolicy, PciPool};

    use super::*;
    use crate::filters::check as check_filter;
    use crate::testkit::{pci, set_spec};

    /// The free memory of each cell of the host, whose cells have one PCI device each, against
    /// the memory of each cell of the guest.
    fn check(host: &[u64], guest: &[u64], devices: u32, expected: Result<(), &str>) {
        check_filter(
            NumaTopology::default(),
            |row| {
                let cells = (0_u32..).zip(host);
                let cells = cells.map(|(id, memory)| NumaCell { id, memory: *memory, ..cell() });
                let numa = nova_core::domain::NumaTopology { cells: cells.collect() };
                row.pci.pools = (0..host.len() as u32).map(pool).collect();
                row.numa = (!host.is_empty()).then(|| Arc::new(numa));
            },
            |request| {
                let cell = |memory: &u64| GuestCell { memory: *memory, ..GuestCell::default() };
                let guest = GuestTopology { cells: guest.iter().map(cell).collect() };
                request.numa = Some(Arc::new(guest));
                request.pci = (0..devices).map(|_| pci(1, PciNumaPolicy::Required)).collect();
            },
            expected,
        );
    }

    fn cell() -> NumaCell {
        let core = [0].into();
        NumaCell { dedicated_cpus: [0].into(), thread_siblings: vec![core], ..NumaCell::default() }
    }

    fn pool(node: u32) -> PciPool {
        let vendor_id = "8086".to_owned();
        PciPool { vendor_id, numa_node: Some(node), count: 1, ..PciPool::default() }
    }

    #[test]
    fn every_cell_of_the_guest_needs_one_of_the_host() {
        check(&[4, 2], &[2, 4], 0, Ok(()));
        check(&[4, 2], &[4, 4], 0, Err("too few NUMA cells have room"));
        check(&[4, 2], &[5], 0, Err("no NUMA cell has room for a cell of the guest"));
        check(&[4], &[1, 1], 0, Err("too few NUMA cells"));
        check(&[], &[1], 0, Err("tells of no NUMA cells"));
        check(&[], &[], 0, Ok(()));
    }

    #[test]
    fn devices_count_where_the_guest_has_room() {
        check(&[4, 4], &[2, 2], 2, Ok(()));
        check(&[4, 4], &[2], 1, Ok(()));
        check(&[4, 4], &[2], 2, Err("too few PCI devices near NUMA cells with room"));
    }

    /// A flavor for CPUs of its own and an image for threads of a core, on a host with cores like
    /// `core`.
    fn check_threads(policy: &str, core: &[u32], expected: Result<(), &str>) {
        check_filter(
            NumaTopology::default(),
            |row| {
                let thread_siblings = vec![core.iter().copied().collect()];
                let cell = NumaCell { thread_siblings, ..cell() };
                let numa = nova_core::domain::NumaTopology { cells: vec![cell] };
                row.numa = (!core.is_empty()).then(|| Arc::new(numa));
            },
            |request| {
                set_spec(request, "hw:cpu_policy", policy);
                let threads = [("hw_cpu_thread_policy", "require")];
                request.image = ImageProperties::new(threads).unwrap();
            },
            expected,
        );
    }

    #[test]
    fn who_requires_threads_is_kept_from_hosts_without() {
        check_threads("dedicated", &[0, 1], Ok(()));
        check_threads("dedicated", &[0], Err("no core has several threads"));
        check_threads("dedicated", &[], Ok(()));
        check_threads("shared", &[0], Ok(()));
    }

    #[test]
    fn a_request_without_an_image_is_an_error_only_under_novas_rules() {
        let verdict = |rules, image: &[(&str, &str)]| {
            let mut request = crate::testkit::request(1);
            request.image = ImageProperties::new(image.iter().copied()).unwrap();
            let filter = NumaTopology { rules };
            let verdict = filter.check(&crate::testkit::host(1), &request);
            assert_eq!(verdict != Verdict::Pass, filter.concerns(&request), "it is asked");
            verdict
        };
        assert_eq!(verdict(Rules::Strict, &[]), Verdict::Pass);
        assert_eq!(verdict(Rules::Nova, &[]), Verdict::Error(NO_IMAGE));
        assert_eq!(verdict(Rules::Nova, &[("os_type", "linux")]), Verdict::Pass);
    }
}
