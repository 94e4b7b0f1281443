//! What a host is and has, as its daemon says.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use nova_core::domain::{
    ClassStocks, GiB, GuestKind, HostFacts, MemoryPages, MiB, NumaCell, NumaTopology, Resources,
    TraitName, Vcpus,
};
use nova_core::port::VirtError;

use super::daemon::LibvirtError;
use super::host::{Inner, host};
use super::xml::Element;
use crate::domain::Hypervisor;
use crate::files::FileError;

impl Inner {
    pub(super) async fn facts(self: &Arc<Self>) -> Result<HostFacts, VirtError> {
        let operation = "ask what the host is";
        let capabilities = self.daemon().capabilities().await.map_err(host(operation))?;
        let version = self.daemon().version().await.map_err(host(operation))?;
        let tree =
            Element::read(&capabilities).ok_or_else(|| host(operation)("it does not read"))?;
        let hypervisor = self.options.hypervisor();
        let kinds = guest_kinds(&tree, hypervisor);
        if kinds.is_empty() {
            return Err(host(operation)(format!("it runs no {} guests", hypervisor.name())));
        }
        let numa = numa(&tree);
        let disk = self.files(operation, |inner| {
            let path = inner.options.homes();
            let path = Path::new(&path);
            let room = rustix::fs::statvfs(path).map_err(std::io::Error::from);
            let room = room.map_err(FileError::io(path, "ask how large it is"))?;
            Ok(GiB(room.f_blocks.saturating_mul(room.f_frsize) >> 30))
        });
        let cpus: usize = numa.cells.iter().map(|cell| cell.shared_cpus.len()).sum();
        let total = Resources {
            vcpus: Vcpus(u32::try_from(cpus).unwrap_or(u32::MAX)),
            memory: MiB(numa.cells.iter().map(|cell| cell.memory).sum()),
            disk: disk.await?,
        };
        // Only guests that execute on the host's own processor have what it can do.
        let traits = if hypervisor == Hypervisor::Kvm { traits(&tree) } else { BTreeSet::new() };
        Ok(HostFacts {
            total,
            guest_kinds: kinds,
            hypervisor: hypervisor.name().to_owned(),
            hypervisor_version: version,
            traits,
            classes: ClassStocks::default(),
            numa: Some(numa).filter(|numa| !numa.cells.is_empty()),
            pci: self.devices(operation).await?,
        })
    }
}

impl Inner {
    /// What confines machines on this host; none where there is nothing. It is asked once.
    pub(super) async fn confined_by(&self) -> Result<Option<String>, LibvirtError> {
        if !self.has_disks() {
            return Ok(None);
        }
        let kept = || self.confined_by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().clone() {
            return Ok(known);
        }
        let capabilities = self.daemon().capabilities().await?;
        let tree = Element::read(&capabilities);
        let unread = LibvirtError::Message { reason: "the capabilities do not read" };
        let driver = confinement(&tree.ok_or(unread)?);
        *kept() = Some(driver.clone());
        Ok(driver)
    }

    /// Asks again: the daemon may be another one since.
    pub(super) fn forget_confinement(&self) {
        *self.confined_by.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The host's first security driver that keeps guests apart. Owners of files, which every host
/// has, do not.
fn confinement(tree: &Element) -> Option<String> {
    let models = tree.at(&["host"])?.all("secmodel").filter_map(|model| model.at(&["model"]));
    let mut names = models.map(Element::text_of);
    names.find(|name| !["", "none", "dac"].contains(name)).map(ToOwned::to_owned)
}

/// The kinds of guest that the host starts on this hypervisor.
fn guest_kinds(tree: &Element, hypervisor: Hypervisor) -> Vec<GuestKind> {
    let mode = hypervisor.vm_mode();
    let of = |guest: &Element| {
        let kind = guest.at(&["os_type"])?.text_of();
        let arch = guest.at(&["arch"])?;
        let starts = arch.all("domain").any(|d| d.get("type") == Some(hypervisor.name()));
        (kind == mode && starts).then(|| GuestKind {
            architecture: arch.get("name").unwrap_or_default().to_owned(),
            hypervisor: hypervisor.name().to_owned(),
            vm_mode: mode.to_owned(),
        })
    };
    tree.all("guest").filter_map(of).collect()
}

fn numa(tree: &Element) -> NumaTopology {
    let cells = tree.at(&["host", "topology", "cells"]);
    NumaTopology { cells: cells.iter().flat_map(|cells| cells.all("cell")).map(cell).collect() }
}

fn cell(cell: &Element) -> NumaCell {
    let number = |element: &Element, name: &str| element.get(name).and_then(|n| n.parse().ok());
    let kib = |element: &Element| element.text_of().trim().parse::<u64>().unwrap_or_default();
    let cpus = cell.at(&["cpus"]);
    let cpus: Vec<&Element> = cpus.iter().flat_map(|cpus| cpus.all("cpu")).collect();
    let mut thread_siblings: Vec<BTreeSet<u32>> = Vec::new();
    for siblings in cpus.iter().filter_map(|cpu| cpu.get("siblings")).filter_map(set) {
        if !thread_siblings.contains(&siblings) {
            thread_siblings.push(siblings);
        }
    }
    let pages = cell.all("pages").filter_map(|pages| {
        let size_kb = pages.get("size")?.parse().ok()?;
        Some(MemoryPages { size_kb, total: kib(pages), used: 0, reserved: 0 })
    });
    NumaCell {
        id: number(cell, "id").unwrap_or_default(),
        shared_cpus: cpus.iter().filter_map(|cpu| number(cpu, "id")).collect(),
        memory: cell.at(&["memory"]).map(kib).unwrap_or_default() / 1024,
        thread_siblings,
        socket: cpus.first().and_then(|cpu| number(cpu, "socket_id")),
        pages: pages.collect(),
        ..NumaCell::default()
    }
}

/// A set of numbers such as `0-3,8`.
pub(super) fn set(text: &str) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last.checked_sub(first)? > CPUS_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// More CPUs than any host has.
const CPUS_MAX: u32 = 8192;

/// What the processor can do, in the names that schedulers use for it.
fn traits(tree: &Element) -> BTreeSet<TraitName> {
    let cpu = tree.at(&["host", "cpu"]);
    let features = cpu.iter().flat_map(|cpu| cpu.all("feature")).filter_map(|f| f.get("name"));
    let name = |feature: &str| {
        let name = feature.to_uppercase().replace(['.', '-'], "_");
        let known = KNOWN.contains(&feature);
        known.then(|| TraitName::new(format!("HW_CPU_X86_{name}")).ok()).flatten()
    };
    features.filter_map(name).collect()
}

/// The features that have a standard trait of the same name.
const KNOWN: [&str; 24] = [
    "abm", "aesni", "amx-tile", "avx", "avx2", "avx512f", "avx512cd", "avx512bw", "avx512dq",
    "avx512vl", "bmi1", "bmi2", "f16c", "fma3", "mmx", "mpx", "sgx", "sha", "sse", "sse2", "sse3",
    "ssse3", "svm", "vmx",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn confined_by(models: &[&str], expected: Option<&str>) {
        let model = |name: &&str| Element::new("secmodel").with(Element::leaf("model", name));
        let host = Element::new("host").with_all(models.iter().map(model));
        let tree = Element::new("capabilities").with(host);
        assert_eq!(confinement(&tree).as_deref(), expected, "{models:?}");
    }

    #[test]
    fn what_keeps_guests_apart_is_found_and_nothing_else() {
        confined_by(&[], None);
        confined_by(&["none", "dac"], None);
        confined_by(&["apparmor", "dac"], Some("apparmor"));
        confined_by(&["dac", "selinux"], Some("selinux"));
    }
}
