//! Hosts that measure what is weighed.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reason, Verdict};

/// Passes hosts that report every one of these metrics: those that a
/// [weigher](crate::weighers::Metrics) asks for.
#[derive(Debug, Default, Clone)]
pub struct Metrics {
    /// Their names.
    pub names: Vec<String>,
}

impl Filter for Metrics {
    fn name(&self) -> &str {
        "metrics"
    }

    fn check(&self, host: &HostState, _: &RequestSpec) -> Verdict {
        let passes = self.names.iter().all(|name| host.report.metrics.contains_key(name));
        Verdict::pass_if(passes, Reason("does not measure what is weighed"))
    }

    fn concerns(&self, _: &RequestSpec) -> bool {
        !self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::HostReport;

    use super::*;
    use crate::filters::check;

    #[test]
    fn every_metric_must_be_there() {
        let measures = |h: &mut HostState| {
            let metrics = [("a".to_owned(), 0), ("b".to_owned(), 7)].into();
            h.report = Arc::new(HostReport { metrics, ..HostReport::default() });
        };
        let filter =
            |names: &[&str]| Metrics { names: names.iter().map(|n| n.to_string()).collect() };
        check(filter(&[]), measures, |_| {}, Ok(()));
        check(filter(&["b", "a"]), measures, |_| {}, Ok(()));
        check(filter(&["a", "c"]), measures, |_| {}, Err("does not measure what is weighed"));
    }
}
