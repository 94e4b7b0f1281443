//! Where else a request could go, for when a chosen host does not take it after all.

use std::collections::BTreeSet;

use nova_core::domain::{HostId, HostTable, Placement, RequestSpec};

use crate::FilterScheduler;
use crate::view::View;

impl FilterScheduler {
    /// At most `most` other hosts that would take one more of what `request` asks for, once its
    /// instances are on the hosts of `placement`; best first, of equal ones those with the lowest
    /// ids, and nothing is drawn.
    ///
    /// They are alternates for every instance of the request alike, as in Nova: nothing is
    /// claimed on them, and what is tried there must be claimed like any placement. A single
    /// instance's come in the order in which its hosts were ranked.
    ///
    /// Instances and hosts are paired in their order; where there are more of one, they are left
    /// out. Empty when no other host would do.
    pub fn alternates(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        placement: &Placement,
        most: usize,
    ) -> Vec<HostId> {
        let Some((&last, before)) = request.instances.split_last() else { return Vec::new() };
        let mut view = View::new(hosts);
        let mut another = request.clone();
        // The one host of a single instance is not an alternate, whatever it has left.
        if !before.is_empty() {
            for (&instance, &host) in request.instances.iter().zip(&placement.hosts) {
                another.instances = vec![instance];
                if let Some(slot) = hosts.slot(host) {
                    view.change(slot, |row| self.consume(row, &another));
                }
                if let Some(group) = &mut another.group {
                    group.join(host);
                }
            }
        }
        another.instances = vec![last];
        let chosen: BTreeSet<HostId> = placement.hosts.iter().copied().collect();
        let (ranking, failed) = self.ranking(&view, &another);
        if failed.is_some() {
            return Vec::new();
        }
        let order = ranking.order().into_iter();
        let ranked = order.filter_map(|at| view.row(ranking.passed[at])).map(|row| row.id);
        ranked.filter(|host| !chosen.contains(host)).take(most).collect()
    }
}
