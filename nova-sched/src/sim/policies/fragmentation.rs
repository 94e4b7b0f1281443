//! Free resources that the next VM cannot have.

use nova_core::domain::{HostState, Invalid, RequestSpec, ResourceKind, Resources};

use crate::Weigher;

/// Minus the increase of what the next VM cannot have of the host's free vCPUs, when this one comes:
/// fragmentation gradient descent of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023),
/// applied to vCPUs.
///
/// The next VM is drawn from given shapes by their frequency; free vCPUs count as lost for a shape
/// that does not fit the host.
#[derive(Debug, Clone)]
pub struct FragmentationGradient {
    shapes: Vec<(Resources, f64)>,
}

impl FragmentationGradient {
    /// With these shapes, each with its frequency on any scale.
    ///
    /// # Errors
    /// [`Invalid`] for no shape, a frequency that is not a number above zero, or more than 4096
    /// shapes.
    pub fn new(shapes: impl IntoIterator<Item = (Resources, f64)>) -> Result<Self, Invalid> {
        let mut shapes: Vec<(Resources, f64)> = shapes.into_iter().collect();
        if !(1..=4096).contains(&shapes.len()) {
            return Err(Invalid::new("fragmentation.shapes", shapes.len(), "1 to 4096"));
        }
        let bad = shapes.iter().find(|(_, often)| !(*often > 0.0 && *often <= 1e15));
        if let Some((_, often)) = bad {
            let allowed = "above 0, at most 1e15";
            return Err(Invalid::new("fragmentation.frequency", often, allowed));
        }
        let all: f64 = shapes.iter().map(|(_, often)| often).sum();
        shapes.iter_mut().for_each(|(_, often)| *often /= all);
        Ok(Self { shapes })
    }

    /// The free vCPUs that the next VM cannot have, on average, when so much is used.
    fn lost(&self, host: &HostState, used: &Resources) -> f64 {
        let capacity = host.inventory.capacity(ResourceKind::Vcpus);
        let free = (capacity - f64::from(used.vcpus.get())).max(0.0);
        let shut =
            self.shapes.iter().filter(|(shape, _)| host.inventory.lacks(used, shape).is_some());
        free * shut.map(|(_, often)| often).fold(0.0, |a, b| a + b)
    }
}

impl Weigher for FragmentationGradient {
    fn name(&self) -> &str {
        "fragmentation-gradient"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        let after = host.used().saturating_add(request.flavor.resources());
        self.lost(host, host.used()) - self.lost(host, &after)
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{GiB, MiB, Vcpus};

    use super::*;
    use crate::sim::policies::asks;
    use crate::testkit::host;

    fn shape(vcpus: u32, memory: u64) -> Resources {
        Resources { vcpus: Vcpus(vcpus), memory: MiB(memory), disk: GiB(0) }
    }

    #[test]
    fn what_becomes_useless_counts_by_frequency() {
        let weigher =
            FragmentationGradient::new([(shape(1, 1024), 3.0), (shape(8, 1024), 1.0)]).unwrap();
        // An empty host of 8 takes both; with 2 gone the large one is shut out of 6.
        assert_eq!(weigher.weigh(&host(1), &asks(2, 1024)), -0.25 * 6.0);
        // Without memory, what is left is lost for all.
        assert_eq!(weigher.weigh(&host(1), &asks(2, 8192)), -6.0);
        // What fills a host leaves nothing to lose.
        assert_eq!(weigher.weigh(&host(1), &asks(8, 1024)), 0.0);
    }

    #[test]
    fn frequencies_are_numbers_above_zero() {
        for often in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(FragmentationGradient::new([(shape(1, 1), often)]).is_err(), "{often}");
        }
        assert!(FragmentationGradient::new([]).is_err());
    }
}
