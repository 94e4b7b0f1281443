//! Hostile text in everything that a definition holds: it is refused, or it is only text.

use nova_core::domain::{
    ImageFormat, ImageProperties, InstanceId, InterfaceName, PciAddress, ProjectId, ServerName,
};
use nova_core::port::GuestSpec;
use proptest::prelude::*;

use super::compare::{missing, sayings, shape};
use super::daemons::{by_every_way, is_here};
use super::samples;
use crate::domain::{Boot, CpuMode, CpuModel, DomainOptions, DomainSpec, Hypervisor, MachineType};
use crate::libvirt::daemon::{Daemon, LibvirtError, Which};
use crate::libvirt::definition::{Extras, VolumeSource, definition};
use crate::libvirt::xml::Element;

/// What has broken descriptions, commands, paths and those who read them.
const HOSTILE: [&str; 40] = [
    "",
    " ",
    "a b",
    " leading and trailing ",
    "</name><name>other",
    "'/><disk type='file'><source file='/etc/shadow'/></disk><x a='",
    "\"/><hostdev mode=\"subsystem\"/><x a=\"",
    "<!-- hidden -->",
    "<![CDATA[<devices/>]]>",
    "]]>",
    "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
    "&b;",
    "&amp;lt;devices&amp;gt;",
    "&#60;devices&#62;",
    "&#0;",
    "%x;",
    "<?xml version='1.0' encoding='UTF-7'?>",
    "<?php echo 1 ?>",
    "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='/etc/passwd'/>",
    "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'",
    "<qemu:commandline/>",
    "../../../../etc/shadow",
    "/etc/shadow",
    "..",
    ".",
    "a/../b",
    "-drive file=/etc/shadow",
    "x,file=/etc/shadow,readonly=off",
    "nbd:localhost:10809",
    "json:{\"driver\":\"file\"}",
    "$(reboot)",
    "`reboot`; reboot | reboot && reboot",
    "%s%n%d",
    "a\0b",
    "a\nb",
    "a\r\nb\tc",
    "\u{1b}[2J",
    "\u{202e}txet",
    "\u{feff}\u{fffe}\u{ffff}",
    "𝕏 ünïcødé \u{10ffff}",
];

/// Nobody else's.
const GUEST: u128 = 0xdef;

/// Everywhere that text comes in from outside.
#[derive(Debug, Clone, Copy)]
enum Field {
    Name,
    Project,
    Directory,
    Checksum,
    Machine,
    MachineOfImage,
    DiskBus,
    NicModel,
    Cpu,
    Bridge,
    Device,
    Kernel,
    Ramdisk,
    CommandLine,
    VolumePath,
    VolumeTarget,
    Confinement,
}

impl Field {
    const ALL: [Self; 17] = [
        Self::Name,
        Self::Project,
        Self::Directory,
        Self::Checksum,
        Self::Machine,
        Self::MachineOfImage,
        Self::DiskBus,
        Self::NicModel,
        Self::Cpu,
        Self::Bridge,
        Self::Device,
        Self::Kernel,
        Self::Ramdisk,
        Self::CommandLine,
        Self::VolumePath,
        Self::VolumeTarget,
        Self::Confinement,
    ];

    /// Whether it is no name of something: a path, a command line, or this host's own word.
    fn is_free(self) -> bool {
        matches!(
            self,
            Self::Directory
                | Self::Kernel
                | Self::Ramdisk
                | Self::CommandLine
                | Self::VolumePath
                | Self::VolumeTarget
                | Self::Confinement
        )
    }

    /// What may stand there.
    fn harmless(self) -> &'static str {
        match self {
            Self::Directory => "/srv/cloud",
            Self::Checksum => "0000000000000000000000000000000000000000000000000000000000000000",
            Self::DiskBus => "sata",
            Self::NicModel => "e1000",
            Self::Device => "0000:00:01.0",
            Self::Kernel | Self::Ramdisk | Self::VolumePath => "/srv/file",
            _ => "harmless",
        }
    }
}

/// The definition of a guest with `text` there, if it is taken. What refuses it is always an
/// [`Invalid`](nova_core::domain::Invalid).
fn told(hypervisor: Hypervisor, field: Field, text: &str) -> Option<(Element, String)> {
    let mut guest: GuestSpec = samples::guest(hypervisor);
    guest.instance = InstanceId::from_u128(GUEST);
    guest.image.format = ImageFormat::Raw;
    let mut options = samples::options(hypervisor);
    // All of them are there, whichever is tried.
    let mut extras = Extras {
        volumes: vec![samples::volume(1, "vdz")],
        confined_by: Some("apparmor".to_owned()),
        ..Extras::default()
    };
    let (mut kernel, mut ramdisk, mut line) = ("/k".to_owned(), "/r".to_owned(), "l".to_owned());
    guest.assigned.devices = vec![PciAddress::new("0000:3b:00.1").ok()?];
    options = options.with_machine(MachineType::new("q35").ok()?);
    if hypervisor == Hypervisor::Kvm {
        options = options.with_cpu(CpuMode::Named(CpuModel::new("Nehalem").ok()?));
    }
    let property = |key| ImageProperties::new([(key, text)]).ok();
    match field {
        Field::Name => guest.name = ServerName::new(text).ok()?,
        Field::Project => guest.project = ProjectId::new(text).ok()?,
        Field::Directory => options = DomainOptions::new(hypervisor, text).ok()?,
        Field::Checksum => guest.image.content.sha256 = text.to_owned(),
        Field::Machine => options = options.with_machine(MachineType::new(text).ok()?),
        Field::MachineOfImage => guest.image.properties = property("hw_machine_type")?,
        Field::DiskBus => guest.image.properties = property("hw_disk_bus")?,
        Field::NicModel => guest.image.properties = property("hw_vif_model")?,
        Field::Cpu => options = options.with_cpu(CpuMode::Named(CpuModel::new(text).ok()?)),
        Field::Bridge => guest.nics[0].bridge = InterfaceName::new(text).ok()?,
        Field::Device => guest.assigned.devices = vec![PciAddress::new(text).ok()?],
        Field::Kernel => kernel = text.to_owned(),
        Field::Ramdisk => ramdisk = text.to_owned(),
        Field::CommandLine => line = text.to_owned(),
        Field::VolumePath => extras.volumes[0].source = VolumeSource::File(text.to_owned()),
        Field::VolumeTarget => extras.volumes[0].target = text.to_owned(),
        Field::Confinement => extras.confined_by = Some(text.to_owned()),
    }
    let domain = DomainSpec::derive(&guest, &options).ok()?;
    let boot = Boot::Kernel { kernel, ramdisk: Some(ramdisk), command_line: line };
    let tree = definition(&domain.booting(boot), &extras).ok()?;
    let written = tree.write().ok()?;
    Some((tree, written))
}

/// Text there is refused, or read back as it was, in a tree of the same shape.
fn is_only_text(field: Field, text: &str) -> Result<Option<String>, TestCaseError> {
    let Some((tree, written)) = told(Hypervisor::Kvm, field, text) else { return Ok(None) };
    let (harmless, _) =
        told(Hypervisor::Kvm, field, field.harmless()).expect("what is harmless is taken");
    let read = Element::read(&written);
    prop_assert_eq!(read.as_ref(), Some(&tree), "{:?}: {}", field, written);
    prop_assert_eq!(shape(&tree), shape(&harmless), "{:?}: {}", field, written);
    // A PCI address is told in its parts.
    let whole = matches!(field, Field::Device) || sayings(&tree).iter().any(|s| s.contains(text));
    prop_assert!(whole, "{:?}: {}", field, written);
    Ok(Some(written))
}

#[test]
fn hostile_text_is_refused_or_only_text() {
    let mut taken = Vec::new();
    for field in Field::ALL {
        assert!(
            told(Hypervisor::Kvm, field, field.harmless()).is_some(),
            "{field:?} takes what is harmless"
        );
        for text in HOSTILE {
            if is_only_text(field, text).unwrap().is_some() {
                taken.push((field, text));
            }
        }
    }
    // What names something is a word; only what is no name may be anything.
    let odd: Vec<_> = taken.iter().filter(|(field, _)| !field.is_free()).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(taken.len() > 200, "most of it is taken where text is free: {}", taken.len());
}

/// Those who read definitions see the same in it.
async fn is_read_as_it_was_told(daemon: &dyn Daemon, hypervisor: Hypervisor) {
    let (mut kept, mut refused) = (0, 0);
    for field in Field::ALL.into_iter().filter(|field| field.is_free()) {
        // An empty line is none.
        for text in HOSTILE.into_iter().filter(|text| !text.is_empty()) {
            // Schemas know paths by how they begin.
            let begin = if field.harmless().starts_with('/') { "/" } else { "" };
            let text = format!("{begin}{text}");
            let Some((tree, written)) = told(hypervisor, field, &text) else { continue };
            match daemon.define(&written).await {
                Ok(()) => kept += 1,
                Err(LibvirtError::Refused { .. }) => {
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("{error}"),
            }
            let domain = GUEST.to_be_bytes();
            let read = daemon.description(domain, Which::Kept).await.unwrap();
            daemon.undefine(domain).await.unwrap();
            let lost = missing(&tree, &Element::read(&read).unwrap());
            assert_eq!(lost, None, "{field:?} {text:?}: {read}");
        }
    }
    eprintln!("{daemon} kept {kept} hostile texts and refused {refused}");
    assert!(kept > refused, "{kept} were kept, {refused} refused");
}

/// The library has its own reader and a driver that takes all that the schema does.
#[cfg(feature = "libvirt")]
#[tokio::test]
async fn hostile_text_is_read_by_the_library_as_it_was_told() {
    let library = crate::libvirt::Libvirtd::library("test:///default");
    is_read_as_it_was_told(&*library.daemon, Hypervisor::Test).await;
}

#[tokio::test]
async fn hostile_text_is_read_by_a_daemon_as_it_was_told() {
    if is_here("hostile_text_is_read_by_a_daemon_as_it_was_told") {
        let ways = by_every_way("qemu:///system");
        is_read_as_it_was_told(&*ways[0], Hypervisor::Qemu).await;
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_or_only_text(
        field in proptest::sample::select(&Field::ALL[..]),
        text in prop_oneof![
            ".{0,40}",
            "[ -~]{0,40}",
            "[<>&'\"/=a;#x0-9\\]\\[!? \\t\\r\\n-]{0,40}",
            "/[a-z<>&'\" ]{1,20}",
            proptest::collection::vec(proptest::sample::select(&HOSTILE[..]), 1..4)
                .prop_map(|pieces| pieces.concat()),
        ],
    ) {
        is_only_text(field, &text)?;
    }
}
