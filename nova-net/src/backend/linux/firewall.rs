//! What a host's network asks of nftables: sets and maps under rules that never change.
//!
//! All rules are in `rules.nft` and look things up in sets and maps, so that a packet costs the
//! same however many guests there are; only [filters](super::filters) have chains of their own. A
//! [`Firewall`] is what the sets and maps hold. From one to another leads one batch, which the
//! kernel takes whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::process::{Command, Output, Stdio};

use nova_core::domain::{InterfaceName, Mac, SecurityGroupId};
use serde_json::{Value, json};

use super::filters::{FILTER, FILTER_DIGITS, Filter, Shape, take_away};
use crate::host::{BridgeOrigin, GuestIpv6, HostNet, Part, PartId, PortFilter};

/// The tables, with their chains, sets and maps, all empty.
const RULES: &str = include_str!("rules.nft");

/// The filters that a host should have, by their groups.
pub(super) type Filters<'a> = BTreeMap<&'a BTreeSet<SecurityGroupId>, Filter>;

/// Those of some parts.
pub(super) fn filters(parts: &[Part]) -> Filters<'_> {
    let filter = |part| match part {
        &Part::PortFilter(ref filter @ PortFilter { ref groups, .. }) => {
            Some((groups, Filter::of(filter)))
        }
        _ => None,
    };
    parts.iter().filter_map(filter).collect()
}

/// A set or a map: the family of its table, which is always called `nova`, and its name.
type Place = (&'static str, &'static str);

const PORTS: Place = ("bridge", "ports");
const MACS: Place = ("bridge", "macs");
const ADDRESSES: Place = ("bridge", "addresses");
const SAME: Place = ("bridge", "same");
const HOMES: Place = ("bridge", "homes");
const WALLED: Place = ("bridge", "walled");
const ADDRESSES6: Place = ("bridge", "addresses6");
const HOMES6: Place = ("bridge", "homes6");
const UPLINKS: Place = ("bridge", "uplinks");
const GATEWAYS: Place = ("bridge", "gateways");
const GATEWAYS6: Place = ("bridge", "gateways6");
const BRIDGES: Place = ("ip", "bridges");
const INSIDE: Place = ("ip", "inside");
const RANGES: Place = ("ip", "ranges");
const FLOATING_IN: Place = ("ip", "floating_in");
const FLOATING_OUT: Place = ("ip", "floating_out");
const FLOATING: Place = ("ip", "floating");
const GUESTS: Place = ("ip", "guests");
const GUESTS6: Place = ("ip6", "guests");

/// The families of our tables.
const FAMILIES: [&str; 3] = ["bridge", "ip", "ip6"];

/// Every set and map, in the order in which they are in `rules.nft`.
const PLACES: [Place; 19] = [
    PORTS,
    MACS,
    ADDRESSES,
    SAME,
    HOMES,
    WALLED,
    ADDRESSES6,
    HOMES6,
    UPLINKS,
    GATEWAYS,
    GATEWAYS6,
    BRIDGES,
    INSIDE,
    RANGES,
    FLOATING_IN,
    FLOATING_OUT,
    FLOATING,
    GUESTS,
    GUESTS6,
];

/// What the sets and maps hold, and which filters there are.
#[derive(Debug, Clone)]
pub(super) struct Firewall {
    /// Each element as the texts of its fields, of a map the key and then the value.
    held: BTreeMap<Place, BTreeSet<Vec<String>>>,
    /// The filters by their names, which say what they let in.
    filters: BTreeMap<String, Shape>,
    /// The same, as they are laid. Of those that were found there nothing is known but the above.
    made_of: BTreeMap<String, Filter>,
    /// The network that all this is for, when it was made for one.
    net: Option<HostNet>,
}

/// What went wrong with nftables.
#[derive(Debug, thiserror::Error)]
pub(super) enum FirewallError {
    #[error("cannot run nft")]
    Run(#[from] std::io::Error),
    #[error("nft refused: {0}")]
    Refused(String),
    #[error("nft said what is no ruleset")]
    Garbled(#[from] serde_json::Error),
}

impl Default for Firewall {
    fn default() -> Self {
        let held = PLACES.into_iter().map(|place| (place, BTreeSet::new())).collect();
        Self { held, filters: BTreeMap::new(), made_of: BTreeMap::new(), net: None }
    }
}

impl Firewall {
    /// What `net` asks for.
    pub(super) fn of(net: &HostNet) -> Self {
        let mut firewall = Self { net: Some(net.clone()), ..Self::default() };
        let mut floating: BTreeMap<IpAddr, IpAddr> = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (_, part) in net.parts() {
            let texts: Vec<(Place, Vec<String>)> = match part {
                Part::Bridge(bridge) => {
                    let name = bridge.name.to_string();
                    let ours = bridge.origin == BridgeOrigin::Ours;
                    let uplink = bridge.uplink.as_ref().filter(|_| ours);
                    let uplink = uplink.map(|uplink| (UPLINKS, vec![uplink.name().to_string()]));
                    let inside = (INSIDE, vec![name.clone(), name.clone()]);
                    let ours = ours.then(|| [inside, (BRIDGES, vec![name])]);
                    ours.into_iter().flatten().chain(uplink).collect()
                }
                Part::BridgeAddress(part) => match part.address.ip() {
                    IpAddr::V4(address) => vec![(GATEWAYS, vec![address.to_string()])],
                    IpAddr::V6(address) => vec![(GATEWAYS6, vec![bits(address)])],
                },
                Part::Nat(part) => vec![(RANGES, vec![part.range.to_string()])],
                Part::GuestPort(part) => {
                    let (tap, mac) = (part.tap.to_string(), part.mac.to_string());
                    let address = vec![tap.clone(), mac.clone(), part.address.to_string()];
                    let same = vec![tap.clone(), tap.clone()];
                    let home = vec![tap.clone(), part.address.to_string()];
                    let walled = is_ours(net, &part.bridge).then(|| (WALLED, vec![tap.clone()]));
                    let filter = names.get(&part.groups).map(|filter: &String| {
                        let at = [part.bridge.to_string(), part.address.to_string()];
                        (GUESTS, [&at[..], std::slice::from_ref(filter)].concat())
                    });
                    let (port, macs) = (vec![tap.clone()], vec![tap, mac]);
                    let own = [(PORTS, port), (SAME, same), (MACS, macs), (ADDRESSES, address)];
                    own.into_iter().chain([(HOMES, home)]).chain(walled).chain(filter).collect()
                }
                Part::GuestIpv6(part) => {
                    let Some(port) = net.port_of(part) else { continue };
                    let guest = names.get(&port.groups).map(|filter| judged(part, filter));
                    let own = own_ipv6(part, port.mac).map(|own| (ADDRESSES6, own));
                    let home = (HOMES6, vec![part.tap.to_string(), part.address.to_string()]);
                    own.into_iter().chain([home]).chain(guest).collect()
                }
                Part::PortFilter(part) => {
                    let filter = Filter::of(part);
                    names.insert(part.groups.clone(), filter.name.clone());
                    firewall.filters.insert(filter.name.clone(), filter.shape());
                    firewall.made_of.insert(filter.name.clone(), filter);
                    Vec::new()
                }
                Part::Floating(part) => {
                    // While one moves there are two of it for a few steps: either will do.
                    floating.entry(part.address).or_insert(part.fixed);
                    Vec::new()
                }
                Part::MetadataService(part) => vec![(GATEWAYS, vec![part.address.to_string()])],
                Part::VlanInterface(_)
                | Part::VxlanInterface(_)
                | Part::DhcpServer(_)
                | Part::Lease(_)
                | Part::RouterAdvertiser(_)
                | Part::PublicAddress(_) => Vec::new(),
            };
            texts.into_iter().for_each(|(place, texts)| firewall.put(place, texts));
        }
        for (address, fixed) in floating {
            let (address, fixed) = (address.to_string(), fixed.to_string());
            firewall.put(FLOATING_IN, vec![address.clone(), fixed.clone()]);
            firewall.put(FLOATING_OUT, vec![fixed.clone(), address.clone()]);
            firewall.put(FLOATING, vec![address, fixed]);
        }
        firewall
    }

    fn put(&mut self, place: Place, texts: Vec<String>) {
        self.held.entry(place).or_default().insert(texts);
    }

    fn has(&self, place: Place, texts: &[String]) -> bool {
        self.held.get(&place).is_some_and(|elements| elements.contains(texts))
    }

    /// Whether it was made for this network.
    pub(super) fn is_of(&self, net: &HostNet) -> bool {
        self.net.as_ref() == Some(net)
    }

    /// Whether it was made for a network with this very part.
    pub(super) fn was_laid_for(&self, part: &Part) -> bool {
        self.net.as_ref().is_some_and(|net| net.get(&part.id()) == Some(part))
    }

    /// Whether it holds all that `part` of `net` asks for by itself, beside those of `wanted`.
    pub(super) fn serves(&self, part: &Part, net: &HostNet, wanted: &Filters<'_>) -> bool {
        match part {
            Part::PortFilter(part) => wanted.get(&part.groups).is_some_and(|filter| {
                self.filters.get(&filter.name).is_some_and(|found| *found == filter.shape())
            }),
            Part::Nat(part) => self.has(RANGES, &[part.range.to_string()]),
            Part::GuestPort(part) => {
                let texts = [part.tap.to_string(), part.mac.to_string(), part.address.to_string()];
                let filter = wanted.get(&part.groups).is_some_and(|filter| {
                    let bridge = part.bridge.to_string();
                    self.has(GUESTS, &[bridge, part.address.to_string(), filter.name.clone()])
                });
                filter
                    && self.has(PORTS, &texts[..1])
                    && self.has(MACS, &texts[..2])
                    && self.has(ADDRESSES, &texts)
                    && self.has(HOMES, &[texts[0].clone(), texts[2].clone()])
            }
            Part::GuestIpv6(part) => net.port_of(part).is_some_and(|port| {
                let own = own_ipv6(part, port.mac).iter().all(|own| self.has(ADDRESSES6, own));
                let home = self.has(HOMES6, &[part.tap.to_string(), part.address.to_string()]);
                let judged = wanted.get(&port.groups).map(|filter| judged(part, &filter.name));
                own && home && judged.is_some_and(|(place, texts)| self.has(place, &texts))
            }),
            Part::Floating(part) => {
                let texts = [part.address.to_string(), part.fixed.to_string()];
                self.has(FLOATING, &texts)
            }
            _ => true,
        }
    }

    /// The batch that leads from `self` to `to`, as JSON for nft; none when nothing changes.
    pub(super) fn batch(&self, to: &Self) -> Option<Value> {
        let comes = to.made_of.iter().filter(|(name, _)| !self.filters.contains_key(*name));
        let mut commands: Vec<Value> = comes.flat_map(|(_, filter)| filter.lay()).collect();
        let nothing = BTreeSet::new();
        for (verb, from, to) in [("delete", to, self), ("add", self, to)] {
            for ((family, name), elements) in &to.held {
                let there = from.held.get(&(*family, *name)).unwrap_or(&nothing);
                let changed: Vec<Value> =
                    elements.difference(there).map(|e| element((family, name), e)).collect();
                if !changed.is_empty() {
                    let what = json!({
                        "family": family, "table": "nova", "name": name, "elem": changed,
                    });
                    commands.push(json!({ verb: { "element": what } }));
                }
            }
        }
        let goes = self.filters.iter().filter(|(name, _)| !to.filters.contains_key(*name));
        commands.extend(goes.flat_map(|(name, shape)| take_away(name, shape)));
        (!commands.is_empty()).then(|| json!({ "nftables": commands }))
    }

    /// What the kernel holds; none when our tables are not there as they should be.
    pub(super) fn now() -> Result<Option<Self>, FirewallError> {
        let mut firewall = Self::default();
        for family in FAMILIES {
            let output = nft(&["-j", "list", "table", family, "nova"], None)?;
            if !output.status.success() {
                return Ok(None);
            }
            let listed: Value = serde_json::from_slice(&output.stdout)?;
            let objects = listed["nftables"].as_array();
            let mut rules = 0;
            for object in objects.into_iter().flatten() {
                if let Some(filter) = firewall.filter_of(object) {
                    count(object, family, filter);
                    continue;
                }
                rules += usize::from(object.get("rule").is_some());
                let Some(set) = object.get("set").or_else(|| object.get("map")) else { continue };
                let name = set["name"].as_str().unwrap_or_default();
                let place = PLACES.into_iter().find(|place| *place == (family, name));
                let Some(place) = place else { continue };
                for element in set["elem"].as_array().into_iter().flatten() {
                    firewall.put(place, fields(element));
                }
            }
            if rules != rules_of(family) {
                return Ok(None);
            }
        }
        Ok(Some(firewall))
    }

    /// The filter that an object of the kernel is of.
    fn filter_of(&mut self, object: &Value) -> Option<&mut Shape> {
        let (_, object) = object.as_object()?.iter().next()?;
        let name = object.get("chain").or_else(|| object.get("name"))?.as_str()?;
        let (word, rest) = name.strip_prefix(FILTER)?.split_at_checked(FILTER_DIGITS)?;
        (rest.is_empty() || rest.starts_with('_')).then_some(())?;
        Some(self.filters.entry(format!("{FILTER}{word}")).or_default())
    }

    /// Lets the kernel take a batch.
    pub(super) fn take(batch: &Value) -> Result<(), FirewallError> {
        run(&["-j", "-f", "-"], batch.to_string().as_bytes())
    }

    /// Lays our tables anew, empty.
    pub(super) fn lay() -> Result<(), FirewallError> {
        run(&["-f", "-"], RULES.as_bytes())
    }

    /// Removes our tables.
    pub(super) fn clear() -> Result<(), FirewallError> {
        // A table that is added first is there to be deleted.
        let rules: String = FAMILIES
            .map(|family| format!("add table {family} nova\ndelete table {family} nova\n"))
            .concat();
        run(&["-f", "-"], rules.as_bytes())
    }
}

/// How many rules a table of ours has: one on each line between `# rules` and `}`.
fn rules_of(family: &str) -> usize {
    let start = format!("table {family} nova {{");
    let table = RULES.split(&start).nth(1).and_then(|rest| rest.split("\n}").next());
    let lines = table.unwrap_or_default().lines().map(str::trim);
    let is_rule = |line: &&str| {
        !line.is_empty()
            && *line != "}"
            && !["#", "set ", "map ", "chain ", "type "].iter().any(|begin| line.starts_with(begin))
    };
    lines.filter(is_rule).count()
}

/// Counts an object of a filter.
fn count(object: &Value, family: &'static str, filter: &mut Shape) {
    let name = |of: &Value, what: &str| (family, of[what].as_str().unwrap_or_default().to_owned());
    if let Some(rule) = object.get("rule") {
        *filter.chains.entry(name(rule, "chain")).or_default() += 1;
    } else if let Some(chain) = object.get("chain") {
        filter.chains.entry(name(chain, "name")).or_default();
    } else if let Some(map) = object.get("map") {
        let elements = map["elem"].as_array().map_or(0, Vec::len);
        filter.maps.insert(name(map, "name"), elements);
    }
}

/// Whether a bridge is one that we made.
fn is_ours(net: &HostNet, bridge: &InterfaceName) -> bool {
    let bridge = net.get(&PartId::Bridge(*bridge));
    matches!(bridge, Some(Part::Bridge(bridge)) if bridge.origin == BridgeOrigin::Ours)
}

/// With what a guest's IPv6 may come from its interface: its address, and that of its link.
fn own_ipv6(guest: &GuestIpv6, mac: Mac) -> [Vec<String>; 2] {
    [guest.address, mac.link_local_address()]
        .map(|address| vec![guest.tap.to_string(), mac.to_string(), bits(address)])
}

/// By what it is judged what comes to a guest with IPv6.
fn judged(guest: &GuestIpv6, filter: &str) -> (Place, Vec<String>) {
    (GUESTS6, vec![guest.bridge.to_string(), guest.address.to_string(), filter.to_owned()])
}

/// An address as the number that nft compares with bits of a packet.
fn bits(address: Ipv6Addr) -> String {
    format!("{:#x}", u128::from(address))
}

/// An element as nft takes it.
fn element((family, name): (&str, &str), texts: &[String]) -> Value {
    match (family, name, texts) {
        (_, "ranges", [range]) => {
            let (addr, len) = range.split_once('/').unwrap_or((range, "32"));
            json!({ "prefix": { "addr": addr, "len": len.parse().unwrap_or(32) } })
        }
        (_, "floating_in" | "floating_out", [key, value]) => json!([key, value]),
        (_, "guests", [bridge, address, filter]) => {
            json!([{ "concat": [bridge, address] }, { "goto": { "target": filter } }])
        }
        (_, _, [one]) => json!(one),
        _ => json!({ "concat": texts }),
    }
}

/// The fields of an element as nft tells of it.
fn fields(element: &Value) -> Vec<String> {
    let texts = |values: &[Value]| values.iter().flat_map(fields).collect();
    match element {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => texts(values),
        Value::Object(object) if object.contains_key("goto") => {
            vec![object["goto"]["target"].as_str().unwrap_or_default().to_owned()]
        }
        Value::Object(object) => match (object.get("concat"), object.get("prefix")) {
            (Some(Value::Array(values)), _) => texts(values),
            (_, Some(prefix)) => {
                let addr = prefix["addr"].as_str().unwrap_or_default();
                vec![format!("{addr}/{}", prefix["len"])]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn run(arguments: &[&str], input: &[u8]) -> Result<(), FirewallError> {
    let output = nft(arguments, Some(input))?;
    if output.status.success() {
        return Ok(());
    }
    Err(FirewallError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Runs nft in the namespace of this thread.
fn nft(arguments: &[&str], input: Option<&[u8]>) -> Result<Output, FirewallError> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // Who refuses early closes early; what it says is in its output.
        let _ = stdin.write_all(input);
    }
    Ok(child.wait_with_output()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_read_as_it_was_written() {
        for texts in [
            (PORTS, vec!["tap1"]),
            (ADDRESSES, vec!["tap1", "fa:16:3e:00:00:01", "10.0.0.2"]),
            (RANGES, vec!["10.0.0.0/24"]),
            (FLOATING_IN, vec!["192.0.2.1", "10.0.0.2"]),
            (GUESTS, vec!["br100", "10.0.0.2", "in_0123456789abcdef"]),
            (ADDRESSES6, vec!["tap1", "fa:16:3e:00:00:01", "0xfd00000000000000f8163efffe000001"]),
        ] {
            let expected: Vec<String> = texts.1.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(fields(&element(texts.0, &expected)), expected);
        }
    }

    #[test]
    fn what_is_there_is_deleted_before_what_comes_is_added() {
        let with = |value: &str| {
            let mut firewall = Firewall::default();
            firewall.put(FLOATING_IN, vec!["192.0.2.1".to_owned(), value.to_owned()]);
            firewall
        };
        let batch = with("10.0.0.2").batch(&with("10.0.0.3")).unwrap();
        let verbs: Vec<&String> = batch["nftables"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|command| command.as_object().unwrap().keys())
            .collect();
        assert_eq!(verbs, ["delete", "add"]);
        assert_eq!(with("10.0.0.2").batch(&with("10.0.0.2")), None);
    }

    #[test]
    fn the_rules_name_every_set() {
        for (family, name) in PLACES {
            let table = RULES.split(&format!("table {family} nova {{")).nth(1).unwrap();
            let table = table.split("\n}").next().unwrap();
            let is_there =
                table.contains(&format!("set {name} ")) || table.contains(&format!("map {name} "));
            assert!(is_there, "{family} {name}");
        }
        assert!(rules_of("bridge") > 10 && rules_of("ip") > 8);
    }
}
