//! Whether a value is in its range.

use std::fmt::Display;
use std::ops::RangeInclusive;

use nova_core::domain::Invalid;

/// Whether `value` is in `range`, which `allowed` says in words. What is no number is in none.
pub(crate) fn within<T: PartialOrd + Display>(
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
    allowed: &'static str,
) -> Result<(), Invalid> {
    if range.contains(&value) { Ok(()) } else { Err(Invalid::new(field, value, allowed)) }
}
