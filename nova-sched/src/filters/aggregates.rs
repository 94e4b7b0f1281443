//! What the aggregates of a host say.

use nova_core::domain::HostState;

use super::extra_specs_ops::number;

/// The values of `key` in the aggregates of `host` that have it.
pub(crate) fn values<'a>(host: &'a HostState, key: &'a str) -> impl Iterator<Item = &'a str> {
    host.aggregates.iter().filter_map(move |aggregate| aggregate.metadata.get(key))
}

/// The pieces of a value: it may be several, joined by commas.
pub(crate) fn pieces(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// The least number that the aggregates of `host` name under `key`, as `read` reads it. None when
/// no aggregate has the key, or one of the values is no number: Nova ignores the others then.
pub(crate) fn least<N: PartialOrd>(
    host: &HostState,
    key: &str,
    read: impl Fn(&str) -> Option<N>,
) -> Option<N> {
    let mut least: Option<N> = None;
    for value in values(host, key) {
        let number = read(value)?;
        least = Some(match least {
            Some(least) if least <= number => least,
            _ => number,
        });
    }
    least
}

/// The least number of `key`, with or without a point.
pub(crate) fn least_number(host: &HostState, key: &str) -> Option<f64> {
    least(host, key, number)
}

/// The least whole number of `key`.
pub(crate) fn least_integer(host: &HostState, key: &str) -> Option<i128> {
    least(host, key, |text| text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{host, join_aggregate};

    #[test]
    fn the_least_number_counts_unless_one_is_none() {
        for (values, integer, float) in [
            (&[][..], None, None),
            (&["5"], Some(5), Some(5.0)),
            (&["5", " -2 "], Some(-2), Some(-2.0)),
            (&["5", "2.5"], None, Some(2.5)),
            (&["5", "many"], None, None),
            (&["5", ""], None, None),
        ] {
            let mut host = host(1);
            values.iter().for_each(|value| join_aggregate(&mut host, &[("n", value)]));
            join_aggregate(&mut host, &[("other", "1")]);
            let found = (least_integer(&host, "n"), least_number(&host, "n"));
            assert_eq!(found, (integer, float), "{values:?}");
        }
    }
}
