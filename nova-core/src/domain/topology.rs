//! What flavor and image say of the NUMA cells of a guest.
//!
//! | extra spec | image property | value |
//! |---|---|---|
//! | `hw:cpu_policy` | `hw_cpu_policy` | `shared`, `dedicated`, `mixed` |
//! | `hw:cpu_thread_policy` | `hw_cpu_thread_policy` | `prefer`, `require`, `isolate` |
//! | `hw:cpu_dedicated_mask` | | the CPUs of a `mixed` guest that have host CPUs for themselves: `0-2,^1`; `^0` is all but 0 |
//! | `hw:mem_page_size` | `hw_mem_page_size` | `small`, `large`, `any`, KiB, or a size: `2MB`, `1GiB` |
//! | `hw:numa_nodes` | `hw_numa_nodes` | how many cells |
//! | `hw:numa_cpus.N` | `hw_numa_cpus.N` | the virtual CPUs of cell N: `0-3,6` |
//! | `hw:numa_mem.N` | `hw_numa_mem.N` | the memory of cell N in MiB |
//!
//! CPUs and memory are told of all cells or of none; then each cell has an equal share. A guest
//! has cells when somebody says how many, or asks for pages or for dedicated CPUs.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    CpuPolicy, CpuThreadPolicy, Flavor, GuestCell, GuestTopology, ImageProperties, Invalid,
    PageSize,
};

/// How flavor or image call what they say.
struct Names {
    policy: &'static str,
    threads: &'static str,
    mask: &'static str,
    pages: &'static str,
    nodes: &'static str,
    cpus: &'static str,
    memory: &'static str,
}

const FLAVOR: Names = Names {
    policy: "hw:cpu_policy",
    threads: "hw:cpu_thread_policy",
    mask: "hw:cpu_dedicated_mask",
    pages: "hw:mem_page_size",
    nodes: "hw:numa_nodes",
    cpus: "hw:numa_cpus",
    memory: "hw:numa_mem",
};

const IMAGE: Names = Names {
    policy: "hw_cpu_policy",
    threads: "hw_cpu_thread_policy",
    // An image has no say in it.
    mask: "",
    pages: "hw_mem_page_size",
    nodes: "hw_numa_nodes",
    cpus: "hw_numa_cpus",
    memory: "hw_numa_mem",
};

/// What one of them says, or both together.
#[derive(Default)]
struct Wishes {
    policy: Option<CpuPolicy>,
    threads: Option<CpuThreadPolicy>,
    mask: Option<CpuSet>,
    pages: Option<PageSize>,
    nodes: Option<usize>,
    /// For each cell that is named.
    cpus: BTreeMap<usize, CpuSet>,
    memory: BTreeMap<usize, u64>,
}

impl GuestTopology {
    /// The cells that a guest of `flavor` that starts from `image` wants; none when it does not
    /// mind where its CPUs and its memory are.
    ///
    /// # Errors
    /// [`Invalid`] for a value that is malformed, for one of the image that contradicts the
    /// flavor, and for cells that are not all of the guest's CPUs and memory.
    pub fn from_specs(flavor: &Flavor, image: &ImageProperties) -> Result<Option<Self>, Invalid> {
        let image = Wishes::read(&IMAGE, image.iter())?;
        Wishes::of_flavor(flavor)?.joined(image)?.topology(flavor)
    }

    /// Whether servers of `flavor` can have the cells it wants, whatever their image says. What it
    /// leaves open an image may say.
    ///
    /// # Errors
    /// As [`from_specs`](Self::from_specs).
    pub fn check_flavor(flavor: &Flavor) -> Result<(), Invalid> {
        let mut wishes = Wishes::of_flavor(flavor)?;
        if wishes.policy.is_none() {
            // An image may ask for the CPUs that these are about.
            (wishes.threads, wishes.mask) = (None, None);
        }
        wishes.topology(flavor).map(drop)
    }

    /// Whether `value` is well-formed for the extra spec `key`; none when no cells follow from it.
    pub fn check_extra_spec(key: &str, value: &str) -> Option<Result<(), Invalid>> {
        let Names { policy, threads, mask, pages, nodes, cpus, memory } = FLAVOR;
        let of_cell = |name| numbered(name, key).is_some();
        let ours = [policy, threads, mask, pages, nodes].contains(&key);
        let ours = ours || of_cell(cpus) || of_cell(memory);
        ours.then(|| Wishes::read(&FLAVOR, std::iter::once((key, value))).map(drop))
    }
}

impl Wishes {
    fn of_flavor(flavor: &Flavor) -> Result<Self, Invalid> {
        Self::read(&FLAVOR, flavor.extra_specs().iter())
    }

    fn read<'a>(
        names: &Names,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Invalid> {
        let mut wishes = Self::default();
        for (key, value) in pairs {
            if key == names.policy {
                wishes.policy = Some(policy(names.policy, value)?);
            } else if key == names.threads {
                wishes.threads = Some(thread_policy(names.threads, value)?);
            } else if key == names.mask {
                wishes.mask = Some(CpuSet::parse(names.mask, value)?);
            } else if key == names.pages {
                wishes.pages = Some(page_size(names.pages, value)?);
            } else if key == names.nodes {
                wishes.nodes = Some(nodes(names.nodes, value)?);
            } else if let Some(cell) = numbered(names.cpus, key) {
                let cell = cell_number(names.cpus, cell)?;
                wishes.cpus.insert(cell, CpuSet::parse(names.cpus, value)?);
            } else if let Some(cell) = numbered(names.memory, key) {
                let cell = cell_number(names.memory, cell)?;
                let size = value.parse().ok().filter(|size: &u64| *size > 0 && digits(value));
                let size = size.ok_or_else(|| Invalid::new(names.memory, value, "MiB, at least 1"));
                wishes.memory.insert(cell, size?);
            }
        }
        Ok(wishes)
    }

    /// What a flavor says, together with what an image says.
    fn joined(self, image: Self) -> Result<Self, Invalid> {
        use CpuPolicy::{Dedicated, Mixed, Shared};
        let contradicts = |name, allowed| Err(Invalid::new(name, "another", allowed));
        let policy = match (self.policy, image.policy) {
            (Some(Mixed), Some(Dedicated)) | (Some(Shared), Some(Mixed | Dedicated)) => {
                return contradicts(IMAGE.policy, "no more than the flavor's hw:cpu_policy gives");
            }
            (own, image) => own.or(image),
        };
        let threads = match (self.threads, image.threads) {
            (None | Some(CpuThreadPolicy::Prefer), image) => self.threads.or(image),
            (own, Some(image)) if own != Some(image) => {
                return contradicts(IMAGE.threads, "the flavor's hw:cpu_thread_policy");
            }
            (own, _) => own,
        };
        let pages = match (self.pages, image.pages) {
            (own, None) => own,
            (Some(PageSize::Any | PageSize::Large), image) => image,
            _ => {
                let allowed = "one only where the flavor's hw:mem_page_size is large or any";
                return contradicts(IMAGE.pages, allowed);
            }
        };
        let once = "nothing where the flavor says it";
        if self.nodes.is_some() && image.nodes.is_some() {
            return contradicts(IMAGE.nodes, once);
        }
        if !self.cpus.is_empty() && !image.cpus.is_empty() {
            return contradicts(IMAGE.cpus, once);
        }
        if !self.memory.is_empty() && !image.memory.is_empty() {
            return contradicts(IMAGE.memory, once);
        }
        Ok(Self {
            policy,
            threads,
            mask: self.mask,
            pages,
            nodes: self.nodes.or(image.nodes),
            cpus: if self.cpus.is_empty() { image.cpus } else { self.cpus },
            memory: if self.memory.is_empty() { image.memory } else { self.memory },
        })
    }

    fn topology(self, flavor: &Flavor) -> Result<Option<GuestTopology>, Invalid> {
        let dedicated = self.dedicated(flavor)?;
        let pinned = matches!(self.policy, Some(CpuPolicy::Dedicated | CpuPolicy::Mixed));
        if self.nodes.is_none() && self.pages.is_none() && !pinned {
            if let Some(cell) = self.cpus.keys().chain(self.memory.keys()).next() {
                let allowed = "cells only together with hw:numa_nodes";
                return Err(Invalid::new(FLAVOR.cpus, cell, allowed));
            }
            return Ok(None);
        }
        let cells = self.cells(flavor)?.into_iter().zip(0..).map(|((cpus, memory), id)| {
            let dedicated_vcpus: BTreeSet<u32> = &cpus & &dedicated;
            // Who has no CPU for itself asks nothing of the threads of a core.
            let cpu_thread_policy = self.threads.filter(|_| !dedicated_vcpus.is_empty());
            GuestCell {
                id,
                memory,
                shared_vcpus: &cpus - &dedicated,
                dedicated_vcpus,
                cpu_policy: self.policy,
                cpu_thread_policy,
                page_size: self.pages,
            }
        });
        Ok(Some(GuestTopology { cells: cells.collect() }))
    }

    /// The virtual CPUs that have host CPUs for themselves.
    fn dedicated(&self, flavor: &Flavor) -> Result<BTreeSet<u32>, Invalid> {
        let all: BTreeSet<u32> = (0..flavor.vcpus().0).collect();
        let pinned = matches!(self.policy, Some(CpuPolicy::Dedicated | CpuPolicy::Mixed));
        if self.threads.is_some() && !pinned {
            let allowed = "one only where hw:cpu_policy is dedicated or mixed";
            return Err(Invalid::new(FLAVOR.threads, "another", allowed));
        }
        match (self.policy, &self.mask) {
            (Some(CpuPolicy::Mixed), Some(mask)) => {
                let dedicated = mask.among(&all);
                if dedicated.is_empty()
                    || dedicated.len() >= all.len()
                    || !dedicated.is_subset(&all)
                {
                    let allowed = "some of the flavor's CPUs, and not all";
                    return Err(Invalid::new(FLAVOR.mask, mask, allowed));
                }
                Ok(dedicated)
            }
            (Some(CpuPolicy::Mixed), None) => {
                Err(Invalid::new(FLAVOR.mask, "", "the CPUs that a mixed guest has for itself"))
            }
            (_, Some(mask)) => {
                Err(Invalid::new(FLAVOR.mask, mask, "one only where hw:cpu_policy is mixed"))
            }
            (Some(CpuPolicy::Dedicated), None) => Ok(all),
            (_, None) => Ok(BTreeSet::new()),
        }
    }

    /// The CPUs and the memory of each cell.
    fn cells(&self, flavor: &Flavor) -> Result<Vec<(BTreeSet<u32>, u64)>, Invalid> {
        let (vcpus, memory) = (flavor.vcpus().0, flavor.memory().0);
        let count = self.nodes.unwrap_or(1);
        if self.cpus.is_empty() && self.memory.is_empty() {
            let share = u32::try_from(count).ok().filter(|count| {
                vcpus.is_multiple_of(*count) && memory.is_multiple_of((*count).into())
            });
            let Some(share) = share else {
                let allowed = "a number that divides CPUs and memory of the flavor, \
                               or hw:numa_cpus.N and hw:numa_mem.N for each cell";
                return Err(Invalid::new(FLAVOR.nodes, count, allowed));
            };
            let each = vcpus / share;
            let cell = |nth| ((nth * each..(nth + 1) * each).collect(), memory / u64::from(share));
            return Ok((0..share).map(cell).collect());
        }
        for (field, told) in [
            (FLAVOR.cpus, self.cpus.keys().copied().collect::<Vec<_>>()),
            (FLAVOR.memory, self.memory.keys().copied().collect()),
        ] {
            if told != (0..count).collect::<Vec<_>>() {
                let told = format!("{} of {count} cells", told.len());
                return Err(Invalid::new(field, told, "one for each cell, counted from 0"));
            }
        }
        let mut left: BTreeSet<u32> = (0..vcpus).collect();
        let mut cells = Vec::with_capacity(count);
        for (cpus, memory) in self.cpus.values().zip(self.memory.values()) {
            if let Some(cpu) = cpus.numbers.iter().find(|cpu| !left.remove(cpu)) {
                let allowed = "CPUs of the flavor, each in one cell";
                return Err(Invalid::new(FLAVOR.cpus, cpu, allowed));
            }
            cells.push((cpus.numbers.clone(), *memory));
        }
        if let Some(cpu) = left.first() {
            let allowed = "all CPUs of the flavor";
            return Err(Invalid::new(FLAVOR.cpus, format!("none with CPU {cpu}"), allowed));
        }
        let sum = self.memory.values().fold(0, |sum: u64, size| sum.saturating_add(*size));
        if sum != memory {
            let allowed = "as much in all cells as the flavor's memory";
            return Err(Invalid::new(FLAVOR.memory, sum, allowed));
        }
        Ok(cells)
    }
}

/// CPU numbers as people write them: `0-3,6,^2`.
struct CpuSet {
    text: String,
    numbers: BTreeSet<u32>,
    /// What is taken out of them, or out of all where the first is taken out.
    without: BTreeSet<u32>,
}

impl CpuSet {
    fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        let allowed = "numbers below 4096 as in 0-3,6,^2";
        let number = |word: &str| {
            let number = word.parse().ok().filter(|_: &u32| digits(word));
            number.filter(|number| *number < Flavor::VCPUS_MAX.0)
        };
        let (mut numbers, mut without) = (BTreeSet::new(), BTreeSet::new());
        for word in text.split(',').map(str::trim) {
            let (set, word) = match word.strip_prefix('^') {
                Some(word) => (&mut without, word),
                None => (&mut numbers, word),
            };
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            match (number(first.trim()), number(last.trim())) {
                (Some(first), Some(last)) if first <= last => set.extend(first..=last),
                _ => return Err(Invalid::new(field, text, allowed)),
            }
        }
        numbers.retain(|number| !without.contains(number));
        Ok(Self { text: text.trim().to_owned(), numbers, without })
    }

    /// The set, where one that begins with what is taken out is taken out of `all`.
    fn among(&self, all: &BTreeSet<u32>) -> BTreeSet<u32> {
        if self.text.starts_with('^') {
            let all = all.iter().filter(|number| !self.without.contains(number));
            return all.chain(&self.numbers).copied().collect();
        }
        self.numbers.clone()
    }
}

impl std::fmt::Display for CpuSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn policy(field: &'static str, value: &str) -> Result<CpuPolicy, Invalid> {
    match value {
        "shared" => Ok(CpuPolicy::Shared),
        "dedicated" => Ok(CpuPolicy::Dedicated),
        "mixed" => Ok(CpuPolicy::Mixed),
        _ => Err(Invalid::new(field, value, "shared, dedicated or mixed")),
    }
}

fn thread_policy(field: &'static str, value: &str) -> Result<CpuThreadPolicy, Invalid> {
    match value {
        "prefer" => Ok(CpuThreadPolicy::Prefer),
        "require" => Ok(CpuThreadPolicy::Require),
        "isolate" => Ok(CpuThreadPolicy::Isolate),
        _ => Err(Invalid::new(field, value, "prefer, require or isolate")),
    }
}

fn page_size(field: &'static str, value: &str) -> Result<PageSize, Invalid> {
    let size = match value {
        "small" => return Ok(PageSize::Small),
        "large" => return Ok(PageSize::Large),
        "any" => return Ok(PageSize::Any),
        size if digits(size) => size.parse().ok(),
        size => bytes(size).filter(|bytes| bytes.is_multiple_of(1024)).map(|bytes| bytes / 1024),
    };
    let allowed = "small, large, any, KiB, or a size such as 2MB or 1GiB";
    size.filter(|size| *size > 0)
        .map(PageSize::Kib)
        .ok_or_else(|| Invalid::new(field, value, allowed))
}

/// `2MB`, `2MiB`: both count in 1024s.
fn bytes(text: &str) -> Option<u64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    let power = match unit.strip_suffix('B')?.trim_end_matches('i') {
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1024_u64.pow(power))
}

fn nodes(field: &'static str, value: &str) -> Result<usize, Invalid> {
    let count = value.parse().ok().filter(|_| digits(value));
    count
        .filter(|count| (1..=GuestTopology::CELLS_MAX).contains(count))
        .ok_or_else(|| Invalid::new(field, value, "1 to 16"))
}

/// What follows `name` and a point in `key`.
fn numbered<'a>(name: &str, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('.')
}

fn cell_number(field: &'static str, text: &str) -> Result<usize, Invalid> {
    let cell = text.parse().ok().filter(|cell: &usize| cell.to_string() == text);
    cell.filter(|cell| *cell < GuestTopology::CELLS_MAX)
        .ok_or_else(|| Invalid::new(field, text, "the number of a cell, 0 to 15"))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
