//! PCI devices that hosts pass through to guests, and which of them a request takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::NumaTopology;

/// The free PCI devices of a host that guests may have, in pools of equal devices.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PciPools {
    /// The pools, in the order in which the host tells of them.
    pub pools: Vec<PciPool>,
}

/// Free PCI devices of one host that are equal.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PciPool {
    /// The vendor: four hexadecimal digits.
    pub vendor_id: String,
    /// The product: four hexadecimal digits.
    pub product_id: String,
    /// The NUMA cell they are next to; none when the host does not tell.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// What kind of device: `type-PCI`, `type-PF`, `type-VF`, `vdpa`.
    #[serde(default)]
    pub dev_type: Option<String>,
    /// How many are free.
    pub count: u32,
    /// What else an operator says of them.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// So many devices of a kind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PciRequest {
    /// How many.
    pub count: u32,
    /// The kinds that would do. A pool is of a kind when it has every key of it with the same
    /// value, upper and lower case being the same. The keys are `vendor_id`, `product_id`,
    /// `dev_type` and those of [`tags`](PciPool::tags).
    pub spec: Vec<BTreeMap<String, String>>,
    /// How near they have to be to the guest's cells.
    #[serde(default)]
    pub numa_policy: PciNumaPolicy,
}

/// How near PCI devices have to be to the NUMA cells of their guest.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PciNumaPolicy {
    /// At one of them.
    Required,
    /// At a cell of the same socket.
    Socket,
    /// At one of them where possible.
    Preferred,
    /// At one of them, or nobody knows where.
    #[default]
    Legacy,
}

/// The NUMA cells of a host that a guest gets, to which its devices should be near.
#[derive(Debug, Clone, Copy)]
pub struct Near<'a> {
    /// All cells of the host.
    pub host: &'a NumaTopology,
    /// The ids of those that the guest gets.
    pub cells: &'a [u32],
}

/// A host has too few devices for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PCI request {request} wants {wanted} devices: {suitable} suit it")]
pub struct PciShort {
    /// Which of the requests, counted from 0.
    pub request: usize,
    /// How many devices it wants.
    pub wanted: u32,
    /// How many of those that are left suit it. They may be enough for one that wants none, when
    /// there is no pool of its kind at all.
    pub suitable: u64,
}

/// Devices of these kinds are given only to requests that name the kind.
const ONLY_BY_NAME: [&str; 2] = ["type-PF", "vdpa"];

impl PciPools {
    /// Whether there are devices for all of `requests`, taken one after the other.
    ///
    /// With `near`, each request's [`numa_policy`](PciRequest::numa_policy) has to hold too;
    /// without, policies play no role, as for a guest that has no cells.
    ///
    /// # Errors
    /// [`PciShort`] names the first request for which too few are left.
    pub fn check(&self, requests: &[PciRequest], near: Option<Near<'_>>) -> Result<(), PciShort> {
        self.after(requests, near).map(drop)
    }

    /// Takes the devices of all `requests`, one after the other, or none: which ones is up to the
    /// [check](Self::check). A pool that is emptied disappears.
    ///
    /// # Errors
    /// [`PciShort`] names the first request for which too few are left. Nothing is taken then.
    pub fn take(
        &mut self,
        requests: &[PciRequest],
        near: Option<Near<'_>>,
    ) -> Result<(), PciShort> {
        if requests.is_empty() {
            return Ok(());
        }
        let after = self.after(requests, near)?;
        let pools = std::mem::take(&mut self.pools).into_iter().zip(after);
        self.pools =
            pools.filter_map(|(pool, left)| Some(PciPool { count: left?, ..pool })).collect();
        Ok(())
    }

    /// How many devices of each pool `requests` take, one after the other.
    ///
    /// # Errors
    /// As those of [`check`](Self::check).
    pub fn taken(
        &self,
        requests: &[PciRequest],
        near: Option<Near<'_>>,
    ) -> Result<Vec<u32>, PciShort> {
        if requests.is_empty() {
            return Ok(vec![0; self.pools.len()]);
        }
        let left = self.after(requests, near)?.into_iter().map(Option::unwrap_or_default);
        Ok(self.pools.iter().zip(left).map(|(pool, left)| pool.count - left).collect())
    }

    /// What is left of each pool when the requests have taken their devices; none of a pool that
    /// disappeared.
    fn after(
        &self,
        requests: &[PciRequest],
        near: Option<Near<'_>>,
    ) -> Result<Vec<Option<u32>>, PciShort> {
        let mut left: Vec<Option<u32>> = self.pools.iter().map(|pool| Some(pool.count)).collect();
        // Those of which least is said are taken first: what is special is left to who asks for it.
        let mut order: Vec<usize> = (0..self.pools.len()).collect();
        order.sort_by_key(|at| self.pools[*at].keys());
        for (nth, request) in requests.iter().enumerate() {
            let suitable = self.suitable(&order, &left, request, near);
            let count = total(&suitable, &left);
            if suitable.is_empty() || count < request.count.into() {
                let (wanted, suitable) = (request.count, count);
                return Err(PciShort { request: nth, wanted, suitable });
            }
            let mut wanted = request.count;
            for at in suitable {
                let free = left[at].unwrap_or(0);
                if free > wanted {
                    left[at] = Some(free - wanted);
                    break;
                }
                left[at] = None;
                wanted -= free;
                if wanted == 0 {
                    break;
                }
            }
        }
        Ok(left)
    }

    /// The pools from which `request` may take, in the order in which it does.
    fn suitable(
        &self,
        order: &[usize],
        left: &[Option<u32>],
        request: &PciRequest,
        near: Option<Near<'_>>,
    ) -> Vec<usize> {
        let is_left = |at: &&usize| left[**at].is_some() && request.suits(&self.pools[**at]);
        let mut pools: Vec<usize> = order.iter().filter(is_left).copied().collect();
        if let Some(near) = near {
            pools = self.near_enough(pools, left, request, near);
        }
        for kind in ONLY_BY_NAME {
            let is_kind = |named: Option<&str>| named == Some(kind);
            let named = |spec: &BTreeMap<_, _>| is_kind(spec.get("dev_type").map(String::as_str));
            if !request.spec.iter().any(named) {
                pools.retain(|at| !is_kind(self.pools[*at].dev_type.as_deref()));
            }
        }
        pools
    }

    /// Those of `pools` that are near enough for `request`; only the nearest where they are enough.
    fn near_enough(
        &self,
        pools: Vec<usize>,
        left: &[Option<u32>],
        request: &PciRequest,
        near: Near<'_>,
    ) -> Vec<usize> {
        let node = |at: &usize| self.pools[*at].numa_node;
        let enough = |pools: &[usize]| total(pools, left) >= request.count.into();
        let on_cells = |at: &usize| node(at).is_some_and(|node| near.cells.contains(&node));
        let on: Vec<usize> = pools.iter().copied().filter(|at| on_cells(at)).collect();
        if request.numa_policy == PciNumaPolicy::Required || enough(&on) {
            return on;
        }
        if request.numa_policy == PciNumaPolicy::Socket {
            let same = near.host.beside(near.cells);
            let beside = |at: &usize| node(at).is_some_and(|node| same.contains(&node));
            return pools.into_iter().filter(beside).collect();
        }
        let (mut nearest, far): (Vec<usize>, Vec<usize>) =
            pools.into_iter().partition(|at| on_cells(at) || node(at).is_none());
        if request.numa_policy == PciNumaPolicy::Preferred && !enough(&nearest) {
            nearest.extend(far);
        }
        nearest
    }
}

impl PciPool {
    /// How much is said of its devices.
    fn keys(&self) -> usize {
        usize::from(self.dev_type.is_some()) + self.tags.len()
    }

    fn value(&self, key: &str) -> Option<&str> {
        match key {
            "vendor_id" => Some(&self.vendor_id),
            "product_id" => Some(&self.product_id),
            "dev_type" => self.dev_type.as_deref(),
            _ => self.tags.get(key).map(String::as_str),
        }
    }
}

impl PciRequest {
    /// Whether `pool` is of a kind that would do.
    pub(crate) fn suits(&self, pool: &PciPool) -> bool {
        let has =
            |(key, value): (&String, &String)| pool.value(key).is_some_and(|has| same(has, value));
        self.spec.iter().any(|spec| spec.iter().all(has))
    }
}

impl NumaTopology {
    /// The ids of all cells in a socket of one of `cells`; none when a cell's socket is not known.
    fn beside(&self, cells: &[u32]) -> BTreeSet<u32> {
        if self.cells.iter().any(|cell| cell.socket.is_none()) {
            return BTreeSet::new();
        }
        let chosen = self.cells.iter().filter(|cell| cells.contains(&cell.id));
        let sockets: BTreeSet<Option<u32>> = chosen.map(|cell| cell.socket).collect();
        let beside = self.cells.iter().filter(|cell| sockets.contains(&cell.socket));
        beside.map(|cell| cell.id).collect()
    }
}

fn total(pools: &[usize], left: &[Option<u32>]) -> u64 {
    pools.iter().map(|at| u64::from(left[*at].unwrap_or(0))).sum()
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
        || !(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase()
}

#[cfg(test)]
mod tests;
