//! Where logical volumes come from, and what ours are called.

use nova_core::domain::{Invalid, SnapshotId, VolumeId};

use crate::volumes::ledger::Part;

/// A thin pool of a volume group. Both names are such as LVM takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LvmPool {
    group: String,
    pool: String,
}

impl LvmPool {
    /// The pool called `pool` in the volume group called `group`.
    ///
    /// # Errors
    /// [`Invalid`] unless each is 1 to 48 letters, digits, `+`, `_`, `.` and `-`, without a `-`
    /// or `.` at its beginning.
    pub fn new(group: impl Into<String>, pool: impl Into<String>) -> Result<Self, Invalid> {
        Ok(Self { group: name("lvm.group", group.into())?, pool: name("lvm.pool", pool.into())? })
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn pool(&self) -> &str {
        &self.pool
    }

    /// How the tools call a volume of the group.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.group)
    }

    /// Where the device of a volume of the group is.
    pub(super) fn device_of(&self, name: &str) -> String {
        format!("/dev/{}/{name}", self.group)
    }
}

impl std::fmt::Display for LvmPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.device_of(&self.pool))
    }
}

fn name(field: &'static str, name: String) -> Result<String, Invalid> {
    let fits = (1..=48).contains(&name.len())
        && !name.starts_with(['-', '.'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "+_.-".contains(c));
    if fits { Ok(name) } else { Err(Invalid::new(field, name, "a name that LVM takes")) }
}

/// What all of ours begin with.
const PREFIX: &str = "nova.";

/// What a part is called. Without hyphens, which count twice where devices are named.
pub(super) fn name_of(part: Part) -> String {
    let volume = part.volume.as_u128();
    match part.snapshot {
        None => format!("{PREFIX}{volume:032x}"),
        Some(snapshot) => format!("{PREFIX}{volume:032x}.{:032x}", snapshot.as_u128()),
    }
}

/// The part that is called that; none when it is not ours.
pub(super) fn part_of(name: &str) -> Option<Part> {
    let bits = |text: &str| u128::from_str_radix(text, 16).ok();
    let ids = name.strip_prefix(PREFIX)?;
    let (volume, snapshot) = match ids.split_once('.') {
        None => (ids, None),
        Some((volume, snapshot)) => (volume, Some(SnapshotId::from_u128(bits(snapshot)?))),
    };
    let part = Part { volume: VolumeId::from_u128(bits(volume)?), snapshot };
    // In the only spelling that is looked up again.
    Some(part).filter(|part| name_of(*part) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_tool_could_take_for_something_else_are_refused() {
        for bad in ["", "-y", ".", "..", "a/b", "a b", "a;b", "a\nb", "ä", &"x".repeat(49)] {
            let field = |pool: Result<LvmPool, Invalid>| pool.map_err(|error| error.field);
            assert_eq!(field(LvmPool::new(bad, "pool")), Err("lvm.group"), "{bad:?}");
            assert_eq!(field(LvmPool::new("group", bad)), Err("lvm.pool"), "{bad:?}");
        }
        let pool = LvmPool::new("cloud-1", "thin_pool").unwrap();
        assert_eq!(pool.to_string(), "/dev/cloud-1/thin_pool");
    }

    #[test]
    fn a_part_is_found_by_its_name_and_nothing_else_is_ours() {
        let volume = VolumeId::from_u128(u128::MAX);
        for snapshot in [None, Some(SnapshotId::from_u128(0xAB))] {
            let name = name_of(Part { volume, snapshot });
            assert!(name.len() <= 70, "{name}");
            assert_eq!(part_of(&name), Some(Part { volume, snapshot }));
            for other in [name.to_uppercase(), format!("{name}0"), format!("{name}.x")] {
                assert_eq!(part_of(&other), None, "{other}");
            }
        }
        for other in ["root", "nova.", "nova.5", "nova.+0000000000000000000000000000005"] {
            assert_eq!(part_of(other), None, "{other}");
        }
    }
}
