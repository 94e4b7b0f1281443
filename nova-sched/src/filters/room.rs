//! What the filters of a single resource have in common.

use nova_core::domain::{HostState, Quantity, Stock};

use super::aggregates;
use crate::{Reason, Verdict};

/// Passes when `wanted` fits beside `used`: against the ratio that the host's aggregates name
/// under `key`, the least of several, or else against the host's own.
pub(super) fn fits<Q: Quantity>(
    host: &HostState,
    stock: &Stock<Q>,
    key: Option<&str>,
    used: Q,
    wanted: Q,
    reason: Reason,
) -> Verdict {
    let named = key.and_then(|key| aggregates::least_number(host, key));
    let passes = match named {
        None => stock.fits(used, wanted),
        Some(ratio) => {
            let there = (stock.total().amount() - stock.reserved().amount()) as f64 * ratio;
            wanted <= stock.total() && used.amount() as f64 + wanted.amount() as f64 <= there
        }
    };
    Verdict::pass_if(passes, reason)
}

/// Passes when `wanted` is exactly what is free, as hosts are given away whole.
pub(super) fn is_exactly<Q: Quantity>(
    stock: &Stock<Q>,
    used: Q,
    wanted: Q,
    reason: Reason,
) -> Verdict {
    let free = stock.total().amount() - stock.reserved().amount();
    Verdict::pass_if(free.checked_sub(used.amount()) == Some(wanted.amount()), reason)
}
