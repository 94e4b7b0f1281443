//! VMs that leave together.

use nova_core::domain::{HostState, RequestSpec};

use crate::Weigher;
use crate::sim::EXPECTED_END_S;

/// Minus the seconds by which the host would be in use for longer: 0 where somebody stays longer
/// anyway. Empty hosts count with all of it.
///
/// It needs what is expected of lifetimes: [`Foresight`](crate::sim::Foresight) tells it. The rule
/// is that of NILAS in Ling et al., "LAVA: Lifetime-Aware VM Allocation with Learned Distributions
/// and Adaptation to Mispredictions" (MLSys 2025), without its repredictions.
#[derive(Debug, Default, Clone, Copy)]
pub struct LifetimeAlignment;

impl Weigher for LifetimeAlignment {
    fn name(&self) -> &str {
        "lifetime-alignment"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        let Some(end) = expected_end(request) else { return 0.0 };
        let stays = host.report.metrics.get(EXPECTED_END_S).copied().unwrap_or(0).max(0);
        -((end - stays as f64).max(0.0))
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        expected_end(request).is_some()
    }
}

fn expected_end(request: &RequestSpec) -> Option<f64> {
    request.hints.custom.get(EXPECTED_END_S)?.first()?.parse::<u64>().ok().map(|end| end as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::HostReport;

    use super::*;
    use crate::sim::policies::asks;
    use crate::testkit::host;

    #[test]
    fn only_what_is_longer_than_the_longest_there_counts() {
        let mut request = asks(1, 1);
        assert!(!LifetimeAlignment.concerns(&request));
        request.hints.custom.insert(EXPECTED_END_S.to_owned(), vec!["100".to_owned()]);
        let weigh = |stays: Option<i64>| {
            let mut row = host(1);
            let metrics = stays.map(|stays| (EXPECTED_END_S.to_owned(), stays)).into_iter();
            row.report =
                Arc::new(HostReport { metrics: metrics.collect(), ..HostReport::default() });
            LifetimeAlignment.weigh(&row, &request)
        };
        assert_eq!([weigh(None), weigh(Some(60)), weigh(Some(500))], [-100.0, -40.0, 0.0]);
    }
}
