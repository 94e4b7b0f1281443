//! What monitors measure.

use nova_core::domain::{HostState, RequestSpec};

use crate::filters::least_number;
use crate::{Rules, Weigher};

/// The sum of a host's metrics, each times a ratio.
///
/// What a metric that a host does not report counts as depends on `unavailable`. Without it the
/// weight is no number: the host is the worst there is, and under [Nova's rules](Rules::Nova) the
/// whole request fails. With it, it is the whole weight of the host, unless the ratio is 0.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    /// Names of metrics and their ratios, in the order in which they are added up.
    pub ratios: Vec<(String, f64)>,
    /// The weight of a host that does not report one of them; none when every host has to.
    pub unavailable: Option<f64>,
    /// Whose rules hold.
    pub rules: Rules,
    /// The multiplier of the policy, which Nova looks at here too: where it is 0, and that of the
    /// host's aggregates, a missing metric is passed over.
    pub multiplier: f64,
}

impl Weigher for Metrics {
    fn name(&self) -> &str {
        "metrics"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        let mut sum = 0.0;
        for (name, ratio) in &self.ratios {
            match (host.report.metrics.get(name), self.unavailable) {
                (Some(value), _) => sum += *value as f64 * ratio,
                (None, None) => return f64::NAN,
                (None, Some(weight)) if ratio * self.multiplier_on(host) != 0.0 => return weight,
                (None, Some(_)) => {}
            }
        }
        sum
    }

    fn by_host(&self) -> bool {
        true
    }
}

impl Metrics {
    fn multiplier_on(&self, host: &HostState) -> f64 {
        match self.rules {
            Rules::Strict => 1.0,
            Rules::Nova => {
                let named = least_number(host, "metrics_weight_multiplier");
                named.unwrap_or(self.multiplier)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::HostReport;

    use super::*;
    use crate::weighers::check;

    fn weigher(ratios: &[(&str, f64)]) -> Metrics {
        let ratios = ratios.iter().map(|(name, ratio)| (name.to_string(), *ratio)).collect();
        Metrics { ratios, ..Metrics::default() }
    }

    fn measures(host: &mut HostState) {
        let metrics = [("a".to_owned(), 10), ("b".to_owned(), -3)].into();
        host.report = Arc::new(HostReport { metrics, ..HostReport::default() });
    }

    #[test]
    fn metrics_are_added_up_with_their_ratios() {
        check(weigher(&[]), measures, |_| {}, 0.0);
        check(weigher(&[("a", 0.5), ("b", 2.0)]), measures, |_| {}, -1.0);
        check(weigher(&[("a", 1.0), ("a", 1.0)]), measures, |_| {}, 20.0);
    }

    #[test]
    fn a_metric_that_is_missing_is_the_whole_weight() {
        let or = |ratios: &[(&str, f64)]| Metrics { unavailable: Some(-9.0), ..weigher(ratios) };
        check(or(&[("a", 1.0), ("c", 1.0)]), measures, |_| {}, -9.0);
        check(or(&[("a", 1.0), ("c", 0.0)]), measures, |_| {}, 10.0);
        let unmultiplied = Metrics { rules: Rules::Nova, ..or(&[("a", 1.0), ("c", 1.0)]) };
        check(unmultiplied, measures, |_| {}, 10.0);
        let host = crate::testkit::host(1);
        let request = crate::testkit::request(1);
        assert!(weigher(&[("c", 1.0)]).weigh(&host, &request).is_nan());
    }
}
