use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::{Meter, SystemClock};
use nova_core::port::VirtDriver as _;
use tokio::sync::broadcast;

use super::*;
use crate::domain::{DomainOptions, Hypervisor};
use crate::libvirt::daemon::{
    Agents, Change, CopyDisks, Daemon, DomainId, DomainState, LibvirtError, Migrations, Traffic,
    Which,
};
use crate::libvirt::{LibvirtHost, Libvirtd};

/// A device as a daemon describes it: its address in the words of the kernel, ids, and what
/// follows in its capability.
fn described(at: &str, ids: &str, more: &str) -> String {
    let hex = |range: std::ops::Range<usize>| u32::from_str_radix(&at[range], 16).unwrap();
    let (domain, bus, slot, function) = (hex(0..4), hex(5..7), hex(8..10), hex(11..12));
    let (vendor, product) = ids.split_once(':').unwrap();
    let name = at.replace([':', '.'], "_");
    format!(
        "<device>\n  <name>pci_{name}</name>\n  <path>/sys/devices/pci0000:00/{at}</path>\n  \
         <parent>computer</parent>\n  <driver>\n    <name>igb</name>\n  </driver>\n  \
         <capability type='pci'>\n    <class>0x020000</class>\n    <domain>{domain}</domain>\n    \
         <bus>{bus}</bus>\n    <slot>{slot}</slot>\n    <function>{function}</function>\n    \
         <product id='0x{product}'>A card &amp; &lt;more&gt;</product>\n    \
         <vendor id='0x{vendor}'>Somebody</vendor>\n    {more}\n  </capability>\n</device>\n"
    )
}

const GROUP: &str = "<iommuGroup number='7'><address domain='0x0000' bus='0x3b' slot='0x00' \
                     function='0x0'/></iommuGroup>";

fn parent(function: u32) -> String {
    format!(
        "<capability type='phys_function'><address domain='0x0000' bus='0x3b' slot='0x00' \
         function='0x{function}'/></capability>"
    )
}

/// A card with two physical functions, the first with two virtual ones; two GPUs, one of them not
/// fenced; and a bridge.
fn host_of_cards() -> Vec<String> {
    let group = |more: &str| format!("{more}{GROUP}<numa node='1'/>");
    let functions = "<capability type='virt_functions' maxCount='8'><address domain='0x0000' \
                     bus='0x3b' slot='0x02' function='0x0'/></capability>";
    let none = "<capability type='virt_functions' maxCount='8'/>";
    vec![
        described("0000:3b:02.1", "8086:10ca", &group(&parent(0))),
        described("0000:3b:00.0", "8086:10c9", &group(functions)),
        described("0000:3b:00.1", "8086:10c9", &group(none)),
        described("0000:3b:02.0", "8086:10ca", &group(&parent(0))),
        described("0000:81:00.0", "10de:1db4", GROUP),
        described("0000:82:00.0", "10de:1db4", "<numa node='0'/>"),
        described("0000:00:01.0", "8086:2f02", &group("<capability type='pci-bridge'/>")),
    ]
}

fn spec(says: &[(&str, &str)]) -> PciSpec {
    PciSpec::new(says.iter().copied()).unwrap()
}

/// What is told of the host of cards: addresses and kinds.
#[track_caller]
fn check(specs: &[PciSpec], expected: &[&str]) {
    let told = given(&host_of_cards(), specs);
    let told: Vec<String> = told
        .iter()
        .map(|device| format!("{} {}", device.address, device.dev_type.as_deref().unwrap()))
        .collect();
    assert_eq!(told, expected, "{specs:?}");
}

const VIRTUAL: [&str; 2] = ["0000:3b:02.0 type-VF", "0000:3b:02.1 type-VF"];

#[test]
fn nothing_is_given_away_that_is_not_named() {
    check(&[], &[]);
    check(&[spec(&[("vendor_id", "8087")])], &[]);
    check(&[spec(&[("vendor_id", "8086"), ("product_id", "1db4")])], &[]);
    check(&[spec(&[("address", "0000:81:00.1")])], &[]);
    check(&[spec(&[("vendor_id", "10DE")])], &["0000:81:00.0 type-PCI"]);
    check(&[spec(&[("vendor_id", "8086"), ("product_id", "10CA")])], &VIRTUAL);
    check(&[spec(&[("address", "*:3b:02.*")])], &VIRTUAL);
    check(&[spec(&[("address", "0000:3B:2.0")])], &VIRTUAL[..1]);
}

#[test]
fn what_is_not_fenced_and_bridges_are_nobodys() {
    let all = [VIRTUAL[0], VIRTUAL[1], "0000:81:00.0 type-PCI"];
    let sorted = ["0000:3b:00.1 type-PF", all[0], all[1], all[2]];
    check(&[spec(&[("address", "*:*:*.*")])], &sorted);
    check(&[spec(&[("address", "0000:82:00.0")]), spec(&[("address", "0000:00:01.0")])], &[]);
}

#[test]
fn a_physical_function_stands_for_its_virtual_ones_and_is_not_given_beside_them() {
    check(&[spec(&[("address", "0000:3b:00.0")])], &VIRTUAL);
    // One without is itself.
    check(&[spec(&[("address", "0000:3b:00.1")])], &["0000:3b:00.1 type-PF"]);
    // Not when it is one of many that are meant.
    let of_product = spec(&[("address", "0000:3b:00.*")]);
    check(&[of_product], &["0000:3b:00.0 type-PF", "0000:3b:00.1 type-PF"]);
}

#[test]
fn the_first_that_names_a_device_says_its_tags_and_the_rest_is_the_daemons_word() {
    let lan = [("product_id", "10ca"), ("physical_network", "lan"), ("trusted", "true")];
    let specs = [spec(&lan), spec(&[("address", "*:*:*.*"), ("other", "x")])];
    let told = given(&host_of_cards(), &specs);
    let function = told.iter().find(|device| &*device.address.to_string() == "0000:3b:02.1");
    let function = function.unwrap();
    assert_eq!((&*function.vendor_id, &*function.product_id), ("8086", "10ca"));
    assert_eq!(function.numa_node, Some(1));
    let tags = [("physical_network", "lan"), ("trusted", "true")];
    assert_eq!(function.tags, tags.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let gpu = told.last().unwrap();
    assert_eq!((gpu.numa_node, gpu.tags.len()), (None, 1));
    // However the daemon sorts them, and however often it tells of one.
    let mut twice = [host_of_cards(), host_of_cards()].concat();
    twice.reverse();
    assert_eq!(given(&twice, &specs), told);
}

#[test]
fn a_description_that_lies_is_no_device() {
    let whole = described("0000:3b:02.1", "8086:10ca", GROUP);
    assert!(read(&whole).is_some());
    for (what, by) in [
        ("<domain>0</domain>", "<domain>65536</domain>"),
        ("<domain>0</domain>", "<domain>-1</domain>"),
        ("<domain>0</domain>", ""),
        ("<bus>59</bus>", "<bus>256</bus>"),
        ("<bus>59</bus>", "<bus>59'/><evil</bus>"),
        ("<slot>2</slot>", "<slot>32</slot>"),
        ("<function>1</function>", "<function>8</function>"),
        ("<function>1</function>", "<function>4294967297</function>"),
        ("id='0x10ca'", "id='0x10ca; rm -rf /'"),
        ("id='0x10ca'", "id='10ca'"),
        ("id='0x10ca'", "id='0x10c\u{661}'"),
        ("id='0x8086'", "id='0x80'"),
        ("type='pci'", "type='usb'"),
        ("<device>", "<domain>"),
        ("<device>", "<!DOCTYPE d [<!ENTITY e 'x'>]><device>"),
        ("</device>", ""),
    ] {
        let lies = whole.replace(what, by);
        assert_ne!(lies, whole, "{what}");
        assert_eq!(read(&lies), None, "{by}");
    }
    for (what, by) in [
        ("number='7'", "number='../../7'"),
        ("number='7'", "number=''"),
        ("<iommuGroup", "<iommugroup"),
    ] {
        let read = read(&whole.replace(what, by).replace("</iommuGroup", "</iommugroup"));
        assert!(read.is_none_or(|device| !device.is_fenced), "{by}");
    }
    // A name is a name.
    let named = whole.replace("pci_0000_3b_02_1", "]]&gt;&lt;evil/&gt;\u{202e}");
    assert_eq!(read(&named), read(&whole));
    assert_eq!(given(&["\0".to_owned(), String::new()], &[spec(&[("vendor_id", "8086")])]), []);
}

#[test]
fn a_spec_that_means_nothing_is_refused() {
    let long = "x".repeat(256);
    for says in [
        &[][..],
        &[("physical_network", "lan")],
        &[("vendor_id", "808")],
        &[("vendor_id", "*")],
        &[("product_id", "0x10ca")],
        &[("address", "3b:00.0")],
        &[("address", "0000:3b:00")],
        &[("address", "0000:3b:20.0")],
        &[("address", "0000:3b:00.8")],
        &[("address", "0000:3b:00:00.0")],
        &[("address", "10000:3b:00.0")],
        &[("address", "0000:+b:00.0")],
        &[("address", "0000:3*:00.0")],
        &[("address", "")],
        &[("vendor_id", "8086"), ("devname", "eth0")],
        &[("vendor_id", "8086"), ("dev_type", "type-PF")],
        &[("vendor_id", "8086"), ("numa_node", "0")],
        &[("vendor_id", "8086"), ("", "x")],
        &[("vendor_id", "8086"), ("Tag", "x")],
        &[("vendor_id", "8086"), ("tag", "a\nb")],
        &[("vendor_id", "8086"), ("tag", &long)],
    ] {
        assert!(PciSpec::new(says.iter().copied()).is_err(), "{says:?}");
    }
    let many = (0..=PciSpec::TAGS_MAX).map(|number| (format!("tag-{number}"), "x".to_owned()));
    assert!(PciSpec::new(many.chain([("vendor_id".to_owned(), "8086".to_owned())])).is_err());
}

proptest::proptest! {
    /// Whatever a daemon says, what is told has an address, and is fenced and named.
    #[test]
    fn descriptions_of_chance_tell_of_nothing_else(
        which in 0..7_usize,
        at in proptest::prelude::any::<proptest::sample::Index>(),
        by in "[ -~]{0,6}",
    ) {
        let mut text = host_of_cards().swap_remove(which);
        let at = at.index(text.len());
        text.replace_range(at..(at + by.len()).min(text.len()), &by);
        let specs = [spec(&[("vendor_id", "8086")])];
        for device in given(std::slice::from_ref(&text), &specs) {
            proptest::prop_assert_eq!(device.vendor_id, "8086");
            proptest::prop_assert!(text.contains("iommuGroup") && text.contains("0x8086"));
        }
    }
}

/// A daemon of a host with cards, or one that does not know what devices are.
#[derive(Debug)]
struct Fake(Option<Vec<String>>);

impl std::fmt::Display for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a daemon with cards")
    }
}

const CAPABILITIES: &str = "<capabilities><host><topology><cells num='1'><cell id='0'>\
     <memory unit='KiB'>1048576</memory><cpus num='1'><cpu id='0' siblings='0'/></cpus></cell>\
     </cells></topology></host><guest><os_type>hvm</os_type><arch name='x86_64'>\
     <domain type='qemu'/></arch></guest></capabilities>";

#[async_trait]
impl Daemon for Fake {
    fn measured_by(&self, _: Meter) {}
    async fn save(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn restore(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn forget_memory(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn version(&self) -> Result<u64, LibvirtError> {
        Ok(7_002_000)
    }
    async fn capabilities(&self) -> Result<String, LibvirtError> {
        Ok(CAPABILITIES.to_owned())
    }
    async fn pci_devices(&self) -> Result<Vec<String>, LibvirtError> {
        self.0.clone().ok_or(LibvirtError::Refused { code: 3, message: "no".to_owned() })
    }
    async fn machine_capabilities(&self, _: &str) -> Result<String, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn domains(&self) -> Result<Vec<(DomainId, String)>, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn state(&self, _: DomainId) -> Result<Option<DomainState>, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn description(&self, _: DomainId, _: Which) -> Result<String, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn define(&self, _: &str) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn start(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn ask_to_shut_down(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn destroy(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn undefine(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn suspend(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn resume(&self, _: DomainId) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn plug(&self, _: DomainId, _: &str) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn unplug(&self, _: DomainId, _: &str) -> Result<(), LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn cpu_time(&self, _: DomainId) -> Result<Duration, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn memory(&self, _: DomainId) -> Result<Option<u64>, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn disk_traffic(&self, _: DomainId, _: &str) -> Result<Traffic, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    async fn card_traffic(&self, _: DomainId, _: &str) -> Result<Traffic, LibvirtError> {
        Err(LibvirtError::Lost)
    }
    fn migrations(&self) -> Option<&dyn Migrations> {
        None
    }
    fn copying(&self) -> Option<&dyn CopyDisks> {
        None
    }
    fn agents(&self) -> Option<&dyn Agents> {
        None
    }
    fn is_told(&self) -> bool {
        false
    }
    fn changes(&self) -> broadcast::Receiver<Change> {
        broadcast::channel(1).1
    }
}

/// The addresses that a host with this daemon tells of.
async fn told(
    fake: Fake,
    hypervisor: Hypervisor,
    specs: Vec<PciSpec>,
) -> Result<Vec<String>, nova_core::port::VirtError> {
    let folder = tempfile::tempdir().unwrap();
    let options = DomainOptions::new(hypervisor, folder.path().to_str().unwrap()).unwrap();
    let libvirtd = Libvirtd { daemon: Arc::new(fake) };
    let host = LibvirtHost::new(libvirtd, options, Arc::new(SystemClock::new())).unwrap();
    let facts = host.with_pci(specs).facts().await?;
    Ok(facts.pci.iter().map(|device| device.address.to_string()).collect())
}

#[tokio::test]
async fn a_host_tells_of_what_its_operator_names_and_by_default_of_nothing() {
    let gpus = || vec![spec(&[("product_id", "1db4")])];
    let cards = || Fake(Some(host_of_cards()));
    let all = told(cards(), Hypervisor::Qemu, gpus()).await.unwrap();
    assert_eq!(all, ["0000:81:00.0"]);
    assert_eq!(told(cards(), Hypervisor::Qemu, vec![]).await.unwrap(), [""; 0]);
    // A daemon that is not asked for devices need not know them.
    assert_eq!(told(Fake(None), Hypervisor::Qemu, vec![]).await.unwrap(), [""; 0]);
    let refused = told(Fake(None), Hypervisor::Qemu, gpus()).await;
    assert!(matches!(refused, Err(VirtError::Host { .. })), "{refused:?}");
}

/// The real thing: every way tells what there is, and all of it reads.
#[tokio::test]
async fn every_way_says_the_same_of_the_devices_of_a_host() {
    use crate::libvirt::tests::daemons::{by_every_way, is_here};
    if !is_here("every_way_says_the_same_of_the_devices_of_a_host") {
        return;
    }
    let mut tool = std::process::Command::new("virsh");
    let listed = tool.args(["-q", "-c", "qemu:///system", "nodedev-list", "--cap", "pci"]);
    let listed = String::from_utf8(listed.output().unwrap().stdout).unwrap();
    let listed: BTreeSet<String> = listed.split_whitespace().map(ToOwned::to_owned).collect();
    for daemon in by_every_way("qemu:///system") {
        let described = daemon.pci_devices().await.unwrap();
        let mut names = BTreeSet::new();
        for xml in &described {
            let device = read(xml).unwrap_or_else(|| panic!("{xml}"));
            let at = address(device.address).unwrap().to_string();
            // As the kernel says it.
            let group = std::path::Path::new("/sys/bus/pci/devices").join(&at).join("iommu_group");
            assert_eq!(device.is_fenced, group.exists(), "{at}");
            names.insert(format!("pci_{}", at.replace([':', '.'], "_")));
        }
        assert_eq!(names, listed, "{daemon}");
        println!("{daemon} has {} devices on PCI buses", names.len());
    }
}
