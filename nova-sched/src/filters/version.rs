//! Requirements on a hypervisor's version, such as `>=6.2, <8`.

/// Enough parts for any version that fits into the number a host reports.
const PARTS: usize = 8;

/// Whether `version`, each part times 1000 (6.2.0 is 6002000), meets every one of the
/// comma-separated requirements; none when they are malformed.
pub(crate) fn meets(version: u64, requirements: &str) -> Option<bool> {
    let version = decode(version);
    let mut all = true;
    for requirement in requirements.split(',').map(str::trim) {
        let rest = requirement.trim_start_matches(['<', '>', '=', '!']);
        let operator = &requirement[..requirement.len() - rest.len()];
        let wanted = parse(rest.trim())?;
        all &= match operator {
            "<" => version < wanted,
            "<=" => version <= wanted,
            "==" => version == wanted,
            "!=" => version != wanted,
            ">" => version > wanted,
            ">=" => version >= wanted,
            _ => return None,
        };
    }
    Some(all)
}

/// The parts, most significant first; parts that are not there are 0, so that 6 is 6.0.0.
fn decode(mut version: u64) -> [u64; PARTS] {
    let mut parts = [0; PARTS];
    let mut count = 0;
    while version > 0 && count < PARTS {
        parts[count] = version % 1000;
        version /= 1000;
        count += 1;
    }
    parts[..count].reverse();
    parts
}

fn parse(text: &str) -> Option<[u64; PARTS]> {
    let mut parts = [0; PARTS];
    let mut words = text.split('.');
    for part in &mut parts {
        match words.next() {
            Some(word) if word.bytes().all(|b| b.is_ascii_digit()) => *part = word.parse().ok()?,
            Some(_) => return None,
            None => break,
        }
    }
    words.next().is_none().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: u64, requirements: &str, expected: Option<bool>) {
        assert_eq!(meets(version, requirements), expected, "{version} against {requirements:?}");
    }

    #[test]
    fn versions_compare_part_by_part() {
        check(6_002_000, ">=6.2", Some(true));
        check(6_002_000, ">= 6.10", Some(false));
        check(6_002_000, "==6.2.0", Some(true));
        check(7, "== 7.0", Some(true));
        check(6_002_000, "!=6.2.1", Some(true));
    }

    #[test]
    fn all_of_several_must_hold() {
        check(6_002_000, ">=6, <8", Some(true));
        check(8_000_000, ">=6, <8", Some(false));
    }

    #[test]
    fn what_is_malformed_is_said_to_be() {
        for bad in ["", "6", "=6", ">=", ">=six", ">=6,", "><6", ">=6..2", ">=1.2.3.4.5.6.7.8.9"] {
            check(6_002_000, bad, None);
        }
    }
}
