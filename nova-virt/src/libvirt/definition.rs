//! What a hypervisor is told of a guest: its definition as XML.
//!
//! A plain function of the guest. Every file is named with its format and with what lies below it,
//! so that no hypervisor has to guess.

use std::collections::BTreeSet;

use nova_core::domain::{Invalid, VolumeId};

use super::disks::word;
use super::xml::Element;
use crate::domain::{
    Backing, Boot, Console, CpuMode, Disk, DiskBus, DiskFormat, DiskRole, DomainSpec, Hypervisor,
    Interface, NicModel,
};
use crate::inspect::archive::USERS;

/// Names the elements that this project puts into a definition.
const NAMESPACE: &str = "urn:nova:guest:1";

/// The channel at which agents in guests of QEMU hear.
const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

/// What is plugged into a guest beside its own disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumeDisk {
    pub(super) volume: VolumeId,
    pub(super) source: VolumeSource,
    pub(super) target: String,
}

/// Where a volume's bytes are, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VolumeSource {
    File(String),
    Device(String),
}

/// What the definition says beside what the guest is.
#[derive(Debug, Default, Clone)]
pub(super) struct Extras {
    pub(super) volumes: Vec<VolumeDisk>,
    /// The first user of the host that belongs to containers; those before it are the host's own.
    pub(super) first_user: Option<u32>,
    /// What confines machines on this host, such as `apparmor`; none where there is nothing.
    pub(super) confined_by: Option<String>,
}

/// The definition of a guest.
pub(super) fn definition(domain: &DomainSpec, extras: &Extras) -> Result<Element, Invalid> {
    let container = domain.hypervisor() == Hypervisor::Lxc;
    let memory = domain.memory().0;
    let mut root = Element::new("domain")
        .attr("type", domain.hypervisor().name())
        .with(Element::leaf("name", domain.name()))
        .with(Element::leaf("uuid", domain.instance()))
        .with(Element::leaf("title", domain.title()))
        .with(
            Element::new("metadata").with(
                Element::new("nova:guest")
                    .attr("xmlns:nova", NAMESPACE)
                    .with(Element::leaf("nova:project", domain.project())),
            ),
        )
        .with(Element::leaf("memory", memory).attr("unit", "MiB"))
        .with_all(pages(domain))
        .with(Element::leaf("vcpu", domain.vcpus().0).attr("placement", "static"))
        .with_all(cpu_tune(domain))
        .with_all(numa_tune(domain))
        .with(os(domain));
    if let (true, Some(first)) = (container, extras.first_user) {
        let map = |kind: &str| {
            Element::new(kind).attr("start", 0).attr("target", first).attr("count", USERS)
        };
        root = root.with(Element::new("idmap").with(map("uid")).with(map("gid")));
    }
    if container {
        // A network of its own, also without any interface: otherwise it would have the host's.
        root = root.with(Element::new("features").with(Element::new("privnet")));
    } else {
        let features = Element::new("features").with(Element::new("acpi"));
        let features = features.with(Element::new("apic")).with_all(translation(domain));
        root = root.with(features).with_all(cpu(domain));
        root = root.with(Element::new("clock").attr("offset", "utc"));
    }
    root = root
        .with(Element::leaf("on_poweroff", "destroy"))
        .with(Element::leaf("on_reboot", "restart"))
        .with(Element::leaf("on_crash", "destroy"));
    let label = extras.confined_by.iter().filter(|_| !container).map(|driver| {
        // Another one for each start, so that no two guests are confined to the same.
        let label = Element::new("seclabel").attr("type", "dynamic").attr("model", driver);
        label.attr("relabel", "yes")
    });
    Ok(root.with(devices(domain, extras)?).with_all(label))
}

fn os(domain: &DomainSpec) -> Element {
    let mut kind = Element::leaf("type", domain.hypervisor().vm_mode());
    if let Some(machine) = domain.machine() {
        kind = kind.attr("machine", machine.as_str());
    }
    let os = Element::new("os").with(kind);
    match domain.boot() {
        Boot::Disk => os.with(Element::new("boot").attr("dev", "hd")),
        Boot::Init { path } => os.with(Element::leaf("init", path)),
        Boot::Kernel { kernel, ramdisk, command_line } => os
            .with(Element::leaf("kernel", kernel))
            .with_all(ramdisk.iter().map(|file| Element::leaf("initrd", file)))
            .with(Element::leaf("cmdline", command_line)),
    }
}

/// The pages that the guest's memory is made of, where they were chosen and are not the smallest.
fn pages(domain: &DomainSpec) -> Option<Element> {
    let cells = domain.assigned().cells.as_ref()?;
    let mut backing = Element::new("hugepages");
    for (cell, fit) in cells.guest.cells.iter().zip(&cells.fit.cells) {
        if let Some(size) = fit.page_size_kb.filter(|size| *size > SMALL_PAGE_KIB) {
            backing = backing.with(
                Element::new("page")
                    .attr("size", size)
                    .attr("unit", "KiB")
                    .attr("nodeset", cell.id),
            );
        }
    }
    let any = !backing.children().is_empty();
    any.then(|| Element::new("memoryBacking").with(backing))
}

/// Pages that every x86 and most other hosts have.
const SMALL_PAGE_KIB: u64 = 4;

/// How much of the translated instructions is kept.
fn translation(domain: &DomainSpec) -> Option<Element> {
    let cache = Element::leaf("tb-cache", domain.translation_cache()?.0).attr("unit", "MiB");
    Some(Element::new("tcg").with(cache))
}

fn cpu_tune(domain: &DomainSpec) -> Option<Element> {
    if domain.hypervisor() == Hypervisor::Lxc {
        return Some(shares(domain));
    }
    let cells = domain.assigned().cells.as_ref()?;
    let mut pins: Vec<(u32, u32)> =
        cells.fit.cells.iter().flat_map(|cell| cell.pins.iter().map(|(v, h)| (*v, *h))).collect();
    pins.sort_unstable();
    let pin =
        |(vcpu, cpu): &(u32, u32)| Element::new("vcpupin").attr("vcpu", vcpu).attr("cpuset", cpu);
    (!pins.is_empty()).then(|| Element::new("cputune").with_all(pins.iter().map(pin)))
}

/// The processor time of a container, which sees all of the host's CPUs: of a second no more than
/// as many CPUs give as it has, and where others want some too, in proportion to that.
fn shares(domain: &DomainSpec) -> Element {
    let cpus = u64::from(domain.vcpus().0);
    Element::new("cputune")
        .with(Element::leaf("shares", (cpus * SHARES_OF_A_CPU).min(SHARES_MAX)))
        .with(Element::leaf("period", PERIOD_MICROSECONDS))
        .with(Element::leaf("quota", cpus * PERIOD_MICROSECONDS))
}

/// What groups of processes have in proportion to each other, unless told otherwise.
const SHARES_OF_A_CPU: u64 = 1024;

/// The kernel takes no more.
const SHARES_MAX: u64 = 262_144;

/// How often what is left is given out anew: the kernel's own choice.
const PERIOD_MICROSECONDS: u64 = 100_000;

fn numa_tune(domain: &DomainSpec) -> Option<Element> {
    let cells = domain.assigned().cells.as_ref()?;
    let hosts: BTreeSet<u32> = cells.fit.cells.iter().map(|cell| cell.host_cell).collect();
    let memory = Element::new("memory").attr("mode", "strict").attr("nodeset", list(&hosts));
    let node = |(cell, fit): (&nova_core::domain::GuestCell, &nova_core::domain::CellFit)| {
        let node = Element::new("memnode").attr("cellid", cell.id).attr("mode", "strict");
        node.attr("nodeset", fit.host_cell)
    };
    let nodes = cells.guest.cells.iter().zip(&cells.fit.cells).map(node);
    Some(Element::new("numatune").with(memory).with_all(nodes))
}

/// Numbers as hypervisors write sets of them.
fn list(numbers: &BTreeSet<u32>) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn cpu(domain: &DomainSpec) -> Option<Element> {
    let numa = domain.assigned().cells.as_ref().map(|cells| {
        let cell = |cell: &nova_core::domain::GuestCell| {
            let cpus: BTreeSet<u32> =
                cell.shared_vcpus.union(&cell.dedicated_vcpus).copied().collect();
            let element = Element::new("cell").attr("id", cell.id).attr("cpus", list(&cpus));
            element.attr("memory", cell.memory).attr("unit", "MiB")
        };
        Element::new("numa").with_all(cells.guest.cells.iter().map(cell))
    });
    let cpu = Element::new("cpu");
    let cpu = match domain.cpu() {
        None => return numa.map(|numa| cpu.with(numa)),
        Some(CpuMode::HostModel) => cpu.attr("mode", "host-model").attr("check", "partial"),
        Some(CpuMode::HostPassthrough) => {
            let cpu = cpu.attr("mode", "host-passthrough").attr("check", "none");
            // Without what could not be taken along to another host.
            cpu.attr("migratable", "on")
        }
        Some(CpuMode::Named(model)) => {
            let model = Element::leaf("model", model.as_str()).attr("fallback", "forbid");
            let cpu = cpu.attr("mode", "custom").attr("match", "exact");
            cpu.attr("check", "partial").with(model)
        }
    };
    Some(cpu.with_all(numa))
}

fn devices(domain: &DomainSpec, extras: &Extras) -> Result<Element, Invalid> {
    let bus = domain.bus().unwrap_or(DiskBus::Virtio);
    let volumes = |root: bool| {
        // Machines boot from the first disk that they are told of.
        let these = extras.volumes.iter();
        let these = these.filter(move |plugged| (domain.root() == Some(plugged.volume)) == root);
        these.map(move |volume| volume_disk(volume, bus))
    };
    let mut devices = Element::new("devices")
        .with_all(volumes(true))
        .with_all(domain.disks().iter().map(disk))
        .with_all(volumes(false));
    if let Some(root) = domain.root_fs() {
        devices = devices.with(
            Element::new("filesystem")
                .attr("type", "mount")
                .attr("accessmode", "passthrough")
                .with(Element::new("source").attr("dir", &root.source))
                .with(Element::new("target").attr("dir", &root.target)),
        );
    }
    let container = domain.hypervisor() == Hypervisor::Lxc;
    let cards = domain.interfaces().iter().enumerate();
    devices = devices.with_all(
        cards.map(|(index, card)| self::card(card, container.then(|| format!("eth{index}")))),
    );
    devices = match domain.console() {
        Console::Serial { log } => {
            let log = Element::new("log").attr("file", log).attr("append", "on");
            let serial = Element::new("serial").attr("type", "pty").with(log);
            let serial = serial.with(Element::new("target").attr("port", 0));
            let target = Element::new("target").attr("type", "serial").attr("port", 0);
            let console = Element::new("console").attr("type", "pty").with(target);
            devices.with(serial).with(console)
        }
        // The daemon keeps what a container writes in a file of its own.
        Console::Container { .. } => devices.with(Element::new("console").attr("type", "pty")),
    };
    for address in &domain.assigned().devices {
        devices = devices.with(host_device(&address.to_string())?);
    }
    if domain.has_agent() {
        // The daemon chooses where on the host it ends.
        let target = Element::new("target").attr("type", "virtio").attr("name", AGENT_CHANNEL);
        devices = devices.with(Element::new("channel").attr("type", "unix").with(target));
    }
    if matches!(domain.hypervisor(), Hypervisor::Kvm | Hypervisor::Qemu) {
        let source = Element::leaf("backend", "/dev/urandom").attr("model", "random");
        devices = devices
            .with(Element::new("controller").attr("type", "usb").attr("model", "none"))
            .with(Element::new("rng").attr("model", "virtio").with(source))
            .with(Element::new("memballoon").attr("model", "virtio"));
    }
    Ok(devices)
}

/// A disk of the guest's own.
fn disk(disk: &Disk) -> Element {
    // What a guest discards goes back to the host; the host's cache is left out where it may be.
    let driver = Element::new("driver").attr("name", "qemu").attr("type", word(disk.format));
    Element::new("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .with(driver.attr("discard", "unmap"))
        .with(Element::new("source").attr("file", &disk.path))
        .with(below(disk.backing.as_ref()))
        .with(Element::new("target").attr("dev", &disk.target).attr("bus", bus(disk.bus)))
        .with_all((disk.role == DiskRole::Config).then(|| Element::new("readonly")))
}

/// What lies below a disk's file, to the last: nothing else is looked for.
fn below(backing: Option<&Backing>) -> Element {
    let Some(Backing { path, format }) = backing else { return Element::new("backingStore") };
    Element::new("backingStore")
        .attr("type", "file")
        .with(Element::new("format").attr("type", word(*format)))
        .with(Element::new("source").attr("file", path))
        .with(Element::new("backingStore"))
}

/// A volume. Its bytes are the guest's, so that its format is never asked of them.
pub(super) fn volume_disk(volume: &VolumeDisk, on: DiskBus) -> Element {
    let driver = Element::new("driver").attr("name", "qemu");
    let (kind, source) = match &volume.source {
        VolumeSource::File(path) => ("file", Element::new("source").attr("file", path)),
        VolumeSource::Device(path) => ("block", Element::new("source").attr("dev", path)),
    };
    Element::new("disk")
        .attr("type", kind)
        .attr("device", "disk")
        .with(driver.attr("type", word(DiskFormat::Raw)).attr("discard", "unmap"))
        .with(source)
        .with(Element::new("backingStore"))
        .with(Element::new("target").attr("dev", &volume.target).attr("bus", bus(on)))
        // Guests find it by this under /dev/disk/by-id, where twenty characters are seen.
        .with(Element::leaf("serial", volume.volume))
}

/// An interface; where no kernel of its own chooses, as in a container, with its name inside.
pub(super) fn card(card: &Interface, inside: Option<String>) -> Element {
    Element::new("interface")
        .attr("type", "bridge")
        .with(Element::new("mac").attr("address", card.mac))
        .with(Element::new("source").attr("bridge", card.bridge))
        .with(Element::new("target").attr("dev", card.tap))
        .with_all(card.model.map(|model| Element::new("model").attr("type", nic(model))))
        .with_all(inside.map(|name| Element::new("guest").attr("dev", name)))
}

fn host_device(address: &str) -> Result<Element, Invalid> {
    // As the kernel writes it: domain, bus, slot and function.
    let wrong = || Invalid::new("assigned.devices", address, "such as 0000:3b:00.1");
    let (domain, rest) = address.split_once(':').ok_or_else(wrong)?;
    let (bus, rest) = rest.split_once(':').ok_or_else(wrong)?;
    let (slot, function) = rest.split_once('.').ok_or_else(wrong)?;
    let hex = |digits: &str| format!("0x{digits}");
    let address = Element::new("address")
        .attr("domain", hex(domain))
        .attr("bus", hex(bus))
        .attr("slot", hex(slot))
        .attr("function", hex(function));
    Ok(Element::new("hostdev")
        .attr("mode", "subsystem")
        .attr("type", "pci")
        .attr("managed", "yes")
        .with(Element::new("source").with(address)))
}

const fn bus(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "virtio",
        DiskBus::Scsi => "scsi",
        DiskBus::Sata => "sata",
        DiskBus::Ide => "ide",
        DiskBus::Usb => "usb",
    }
}

const fn nic(model: NicModel) -> &'static str {
    match model {
        NicModel::Virtio => "virtio",
        NicModel::E1000 => "e1000",
        NicModel::E1000e => "e1000e",
        NicModel::Rtl8139 => "rtl8139",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_file_or_a_device_of_the_host_and_always_raw() {
        let disk = |source| {
            let volume = VolumeId::from_u128(5);
            let disk = VolumeDisk { volume, source, target: "vdb".to_owned() };
            volume_disk(&disk, DiskBus::Virtio)
        };
        let file = disk(VolumeSource::File("/v/5.volume".to_owned()));
        let device = disk(VolumeSource::Device("/dev/cloud/5".to_owned()));
        for (disk, kind, name, path) in
            [(file, "file", "file", "/v/5.volume"), (device, "block", "dev", "/dev/cloud/5")]
        {
            assert_eq!(disk.get("type"), Some(kind));
            assert_eq!(disk.at(&["source"]).and_then(|source| source.get(name)), Some(path));
            assert_eq!(disk.at(&["driver"]).and_then(|driver| driver.get("type")), Some("raw"));
        }
    }
}
