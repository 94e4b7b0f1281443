//! Moves that stay in their cell.

use nova_core::domain::{HostState, RequestSpec};

use crate::Weigher;

/// 1 for hosts in the cell that the server comes from, -1 for others, where it may leave its cell;
/// 0 when it may not, and when it comes from nowhere.
#[derive(Debug, Default, Clone, Copy)]
pub struct CrossCellMove;

impl Weigher for CrossCellMove {
    fn name(&self) -> &str {
        "cross-cell-move"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        let destination = request.destination.as_ref().filter(|d| d.allow_cross_cell_move);
        match destination.and_then(|destination| destination.cell.as_ref()) {
            None => 0.0,
            Some(cell) if host.report.cell.as_ref() == Some(cell) => 1.0,
            Some(_) => -1.0,
        }
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.destination.as_ref().is_some_and(|destination| destination.allow_cross_cell_move)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::{Destination, HostReport};

    use super::*;
    use crate::weighers::check;

    #[test]
    fn the_own_cell_is_better_than_any_other() {
        let from = |cell: &str, allow_cross_cell_move| {
            let cell = Some(cell.to_owned());
            let destination = Destination { cell, allow_cross_cell_move, ..Destination::default() };
            move |r: &mut RequestSpec| r.destination = Some(destination)
        };
        let in_a = |h: &mut HostState| {
            h.report = Arc::new(HostReport { cell: Some("a".to_owned()), ..Default::default() });
        };
        check(CrossCellMove, in_a, |_| {}, 0.0);
        check(CrossCellMove, in_a, from("a", false), 0.0);
        check(CrossCellMove, in_a, from("a", true), 1.0);
        check(CrossCellMove, in_a, from("b", true), -1.0);
    }
}
