//! Which PCI devices of a host guests may have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nova_core::domain::{Invalid, PciAddress, PciDevice};
use nova_core::port::VirtError;

use super::host::{Inner, host};
use super::xml::Element;

/// Devices of a host that an operator gives to guests, as `pci.device_spec` of Nova names them.
///
/// ```
/// use nova_virt::libvirt::PciSpec;
///
/// // Every virtual function of a card, for whoever asks for the network.
/// let card = PciSpec::new([("address", "0000:3b:00.0"), ("physical_network", "lan")])?;
/// let gpus = PciSpec::new([("vendor_id", "10de"), ("product_id", "1db4")])?;
/// # let _ = (card, gpus);
/// # Ok::<(), nova_core::domain::Invalid>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciSpec {
    vendor_id: Option<String>,
    product_id: Option<String>,
    address: Option<Pattern>,
    tags: BTreeMap<String, String>,
}

/// Domain, bus, slot and function, each of them one number or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pattern([Option<u32>; 4]);

/// The largest domain, bus, slot and function, and their digits.
const PARTS: [(u32, usize); 4] = [(0xffff, 4), (0xff, 2), (0x1f, 2), (7, 1)];

impl PciSpec {
    /// The most that is said of devices beside what they are.
    pub const TAGS_MAX: usize = 16;

    /// Devices of which all of this holds: `vendor_id` and `product_id`, four hexadecimal digits
    /// each, and `address`, such as `0000:3b:00.1` or `*:3b:*.*`. An address that is one physical
    /// function's stands for its virtual functions as well. Everything else is a tag by which
    /// requests find them.
    ///
    /// # Errors
    /// [`Invalid`] for a value that is none of these, for none of the three keys, for keys of Nova
    /// that are not known here (`devname`) or are not an operator's to say (`dev_type`,
    /// `numa_node`), and for tags that are not `a-z 0-9 _ -` with a value of at most 255 bytes.
    pub fn new<K: Into<String>, V: Into<String>>(
        says: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Invalid> {
        let mut spec =
            Self { vendor_id: None, product_id: None, address: None, tags: BTreeMap::new() };
        for (key, value) in says {
            let (key, value) = (key.into(), value.into());
            match key.as_str() {
                "vendor_id" => spec.vendor_id = Some(digits("pci spec vendor_id", value)?),
                "product_id" => spec.product_id = Some(digits("pci spec product_id", value)?),
                "address" => spec.address = Some(Pattern::new(&value)?),
                "devname" | "dev_type" | "numa_node" => {
                    let allowed = "vendor_id, product_id, address, and tags";
                    return Err(Invalid::new("pci spec", key, allowed));
                }
                _ => {
                    let known =
                        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
                    let plain = !key.is_empty() && key.len() <= 255 && key.bytes().all(known);
                    if !plain || value.len() > 255 || value.chars().any(char::is_control) {
                        let allowed = "a key of a-z, 0-9, _ and -, and 255 bytes without controls";
                        return Err(Invalid::new(
                            "pci spec",
                            format!("{key:?}={value:?}"),
                            allowed,
                        ));
                    }
                    spec.tags.insert(key, value);
                }
            }
        }
        if spec.tags.len() > Self::TAGS_MAX {
            return Err(Invalid::new("pci spec tags", spec.tags.len(), "at most 16"));
        }
        if (&spec.vendor_id, &spec.product_id, spec.address) == (&None, &None, None) {
            let allowed = "at least one of vendor_id, product_id and address";
            return Err(Invalid::new("pci spec", "nothing", allowed));
        }
        Ok(spec)
    }

    fn names(&self, device: &NodeDevice) -> bool {
        let is = |wanted: &Option<String>, id: &String| wanted.as_ref().is_none_or(|w| w == id);
        let there = self.address.is_none_or(|address| {
            let of_parent = device.parent.is_some_and(|parent| address.is_only(parent));
            of_parent || address.has(device.address)
        });
        there && is(&self.vendor_id, &device.vendor_id) && is(&self.product_id, &device.product_id)
    }
}

fn digits(field: &'static str, value: String) -> Result<String, Invalid> {
    let good = value.len() == 4 && value.bytes().all(|b| b.is_ascii_hexdigit());
    if good {
        Ok(value.to_ascii_lowercase())
    } else {
        Err(Invalid::new(field, value, "four hexadecimal digits"))
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, Invalid> {
        let allowed = "domain:bus:slot.function, such as 0000:3b:00.1, '*' standing for any of one";
        let wrong = || Invalid::new("pci spec address", text, allowed);
        let (front, function) = text.rsplit_once('.').ok_or_else(wrong)?;
        let mut words = front.split(':').chain([function]);
        let mut parts = [None; 4];
        for (part, (most, long)) in parts.iter_mut().zip(PARTS) {
            let word = words.next().ok_or_else(wrong)?;
            if word != "*" {
                let plain = (1..=long).contains(&word.len())
                    && word.bytes().all(|digit| digit.is_ascii_hexdigit());
                let number = u32::from_str_radix(word, 16).ok().filter(|n| plain && *n <= most);
                *part = Some(number.ok_or_else(wrong)?);
            }
        }
        if words.next().is_some() { Err(wrong()) } else { Ok(Self(parts)) }
    }

    fn has(self, address: Place) -> bool {
        self.0.iter().zip(address).all(|(wanted, is)| wanted.is_none_or(|wanted| wanted == is))
    }

    fn is_only(self, address: Place) -> bool {
        self.0.iter().zip(address).all(|(wanted, is)| *wanted == Some(is))
    }
}

/// Domain, bus, slot and function.
type Place = [u32; 4];

/// A PCI device as a daemon tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeDevice {
    address: Place,
    vendor_id: String,
    product_id: String,
    numa_node: Option<u32>,
    kind: Kind,
    /// The physical function that it is one of.
    parent: Option<Place>,
    /// Whether the host can keep it from memory that is not its guest's.
    is_fenced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Physical,
    Virtual,
    /// It connects others, and is the host's.
    Bridge,
}

/// What a description says; none when it is not that of a PCI device that can be told.
fn read(xml: &str) -> Option<NodeDevice> {
    let tree = Element::read(xml).filter(|tree| tree.name() == "device")?;
    let pci = tree.all("capability").find(|capability| capability.get("type") == Some("pci"))?;
    let mut address = [0; 4];
    for (part, (name, (most, _))) in
        address.iter_mut().zip(["domain", "bus", "slot", "function"].into_iter().zip(PARTS))
    {
        *part = number(pci.at(&[name])?.text_of().trim())?;
        if *part > most {
            return None;
        }
    }
    let id = |name| {
        let id = pci.at(&[name])?.get("id")?.strip_prefix("0x")?;
        digits("id", id.to_owned()).ok()
    };
    let more = |kind: &'static str| {
        pci.all("capability").find(move |capability| capability.get("type") == Some(kind))
    };
    let parent = more("phys_function").and_then(|of| place(of.at(&["address"])?));
    let kind = match () {
        () if more("pci-bridge").is_some() || more("cardbus-bridge").is_some() => Kind::Bridge,
        () if more("virt_functions").is_some() => Kind::Physical,
        () if parent.is_some() => Kind::Virtual,
        () => Kind::Plain,
    };
    let numa = pci.at(&["numa"]).and_then(|numa| numa.get("node")?.parse().ok());
    let is_fenced = pci.at(&["iommuGroup"]).is_some_and(|group| {
        group.get("number").is_some_and(|number| number.parse::<u32>().is_ok())
    });
    Some(NodeDevice {
        address,
        vendor_id: id("vendor")?,
        product_id: id("product")?,
        numa_node: numa,
        kind,
        parent,
        is_fenced,
    })
}

/// A number as it is written in descriptions, decimal or hexadecimal.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Where an `address` element says that something is.
fn place(element: &Element) -> Option<Place> {
    let part = |name| element.get(name).and_then(number);
    Some([part("domain")?, part("bus")?, part("slot")?, part("function")?])
}

fn address(place: Place) -> Option<PciAddress> {
    let [domain, bus, slot, function] = place;
    PciAddress::new(format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")).ok()
}

/// The most devices that are told; what comes after is left out.
const DEVICES_MAX: usize = 4096;

/// The devices that guests may have, in the order of their addresses.
///
/// The first that names one says its tags. What cannot be kept from the host's memory is left out,
/// and so are bridges, and a physical function one of whose virtual functions is given away: to
/// give that away as well would take it from somebody.
pub(super) fn given(descriptions: &[String], specs: &[PciSpec]) -> Vec<PciDevice> {
    let there: BTreeMap<Place, NodeDevice> = descriptions
        .iter()
        .filter_map(|xml| read(xml))
        .map(|device| (device.address, device))
        .collect();
    let named = |device: &NodeDevice| {
        let may = device.is_fenced && device.kind != Kind::Bridge;
        specs.iter().find(|spec| may && spec.names(device))
    };
    let divided: BTreeSet<Place> = there
        .values()
        .filter(|device| named(device).is_some())
        .filter_map(|device| device.parent)
        .collect();
    let whole = there.values().filter(|device| !divided.contains(&device.address));
    let tell = |device: &NodeDevice| {
        let spec = named(device)?;
        let kind = match device.kind {
            Kind::Physical => "type-PF",
            Kind::Virtual => "type-VF",
            Kind::Plain | Kind::Bridge => "type-PCI",
        };
        let told = PciDevice::new(address(device.address)?, &device.vendor_id, &device.product_id);
        let (numa_node, dev_type, tags) =
            (device.numa_node, Some(kind.to_owned()), spec.tags.clone());
        Some(PciDevice { numa_node, dev_type, tags, ..told })
    };
    whole.filter_map(tell).take(DEVICES_MAX).collect()
}

impl Inner {
    /// The devices of this host that guests may have.
    pub(super) async fn devices(
        self: &Arc<Self>,
        operation: &'static str,
    ) -> Result<Vec<PciDevice>, VirtError> {
        if self.pci.is_empty() || !self.has_disks() {
            return Ok(Vec::new());
        }
        let descriptions = self.daemon().pci_devices().await.map_err(host(operation))?;
        Ok(given(&descriptions, &self.pci))
    }
}

#[cfg(test)]
mod tests;
