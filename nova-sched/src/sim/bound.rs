//! How few hosts could hold what is there.

use nova_core::domain::{HostTable, ResourceKind, Resources};

/// The fewest hosts whose capacity together is at least what is used, for the resource that needs
/// most: no policy can do with fewer.
#[derive(Debug)]
pub(crate) struct HostsNeeded {
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    kind: ResourceKind,
    /// What the largest hosts have together: at `n`, the largest `n`.
    together: Vec<f64>,
    /// The answer of the last question, from which the next is looked for: it changes little.
    needed: usize,
}

impl HostsNeeded {
    pub(crate) fn new(hosts: &HostTable) -> Self {
        let column = |kind| {
            let mut capacities: Vec<f64> =
                hosts.rows().map(|row| row.inventory.capacity(kind)).collect();
            capacities.sort_unstable_by(|a, b| b.total_cmp(a));
            let mut together = vec![0.0];
            together.extend(capacities.into_iter().scan(0.0, |sum, capacity| {
                *sum += capacity;
                Some(*sum)
            }));
            Column { kind, together, needed: 0 }
        };
        Self { columns: ResourceKind::ALL.into_iter().map(column).collect() }
    }

    /// How many are needed at least; all of them when even those are too few.
    pub(crate) fn of(&mut self, used: &Resources) -> u64 {
        let needed = self.columns.iter_mut().map(|column| {
            let wanted = column.kind.of(used) as f64;
            let last = column.together.len() - 1;
            while column.needed < last && column.together[column.needed] < wanted {
                column.needed += 1;
            }
            while column.needed > 0 && column.together[column.needed - 1] >= wanted {
                column.needed -= 1;
            }
            column.needed as u64
        });
        needed.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{GiB, MiB, Vcpus};

    use super::*;
    use crate::testkit::table;

    #[test]
    fn the_resource_that_needs_most_decides() {
        // Hosts of 8 vCPU, 8192 MiB, 100 GiB.
        let mut needed = HostsNeeded::new(&table(10));
        let mut check = |vcpus, memory, disk, expected| {
            let used = Resources { vcpus: Vcpus(vcpus), memory: MiB(memory), disk: GiB(disk) };
            assert_eq!(needed.of(&used), expected, "{used:?}");
        };
        check(0, 0, 0, 0);
        check(8, 1, 1, 1);
        check(9, 1, 1, 2);
        check(9, 65_000, 1, 8);
        check(1, 1, 101, 2);
        check(100, 1, 1, 10);
        check(1, 0, 0, 1);
    }
}
