//! What may come to guests, as nftables looks it up.
//!
//! A filter is a chain. It looks the sender up, once for each length of prefix that occurs: ranges
//! of one length are the same or apart, so that the kernel finds the one that holds in a tree or a
//! table, however many there are. There it finds a list of what that range may send, which is a
//! chain, too; ranges that may send the same share one. So the rules are never gone through one
//! after the other.
//!
//! A filter is named by what it lets in. So it never changes: another one takes its place, and
//! what it let in bears its number, which is not that of the other. That is how connections end
//! whose rule is gone, and why only the first packet of a connection is looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nova_core::domain::Traffic;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::host::{Allowed, PortFilter};

/// The first and the last of some numbers in a row.
type Span = (u16, u16);

/// The two kinds of IP, each of which has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family of its table.
    const fn table(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The type of its addresses, and their length in bits.
    const fn address(self) -> (&'static str, u8) {
        match self {
            Self::V4 => ("ipv4_addr", 32),
            Self::V6 => ("ipv6_addr", 128),
        }
    }

    /// What its ICMP is called, and its number.
    const fn icmp(self) -> (&'static str, u8) {
        match self {
            Self::V4 => ("icmp", 1),
            Self::V6 => ("icmpv6", 58),
        }
    }

    /// The number of a protocol in it: ICMP is the one that it has.
    const fn protocol(self, number: u8) -> u8 {
        if number == 1 { self.icmp().1 } else { number }
    }
}

/// What somebody may send, each as numbers that are apart, in order.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct List {
    protocols: Vec<Span>,
    tcp: Vec<Span>,
    udp: Vec<Span>,
    icmp_types: Vec<Span>,
    icmp_codes: BTreeSet<(u8, u8)>,
}

/// One filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    /// The name of its chain, and the beginning of all other names.
    pub(super) name: String,
    /// What connections bear that it let in.
    mark: u32,
    /// For each length of prefix, what each range may send.
    senders: BTreeMap<(Family, u8), BTreeMap<IpAddr, List>>,
}

/// What is seen of a filter in the kernel: how many rules each of its chains has, and how many
/// elements each of its maps, each by the family of its table and its name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) chains: BTreeMap<(&'static str, String), usize>,
    pub(super) maps: BTreeMap<(&'static str, String), usize>,
}

/// How the name of every chain and map of a filter begins, and no other.
pub(super) const FILTER: &str = "in_";
/// How many digits follow that.
pub(super) const FILTER_DIGITS: usize = 16;

/// All numbers of a byte.
const ALL: Span = (0, 255);

impl List {
    fn add(&mut self, traffic: Traffic, family: Family) {
        match traffic {
            Traffic::Any => self.protocols.push(ALL),
            Traffic::Protocol(number) => {
                let number = family.protocol(number).into();
                self.protocols.push((number, number));
            }
            Traffic::Tcp(ports) => self.tcp.push((ports.first(), ports.last())),
            Traffic::Udp(ports) => self.udp.push((ports.first(), ports.last())),
            Traffic::IcmpType(kind) => self.icmp_types.push((kind.into(), kind.into())),
            Traffic::IcmpCode(kind, code) => drop(self.icmp_codes.insert((kind, code))),
        }
    }

    fn merge(&mut self) {
        let all = [&mut self.protocols, &mut self.tcp, &mut self.udp, &mut self.icmp_types];
        all.into_iter().for_each(merge);
    }

    /// What a packet has to match, one after the other, to be let in; no match lets in all.
    fn matches(&self, family: Family) -> Vec<Option<Value>> {
        if self.protocols == [ALL] {
            return vec![None];
        }
        let field = |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
        let of = |left: Value, spans: &[Span]| {
            (!spans.is_empty()).then(|| Some(is_in(&left, spans.iter().map(span))))
        };
        let icmp = |what: &str| field(family.icmp().0, what);
        let protocol = match family {
            Family::V4 => field("ip", "protocol"),
            // Other headers may stand before it.
            Family::V6 => json!({ "meta": { "key": "l4proto" } }),
        };
        let codes = (!self.icmp_codes.is_empty()).then(|| {
            let both = json!({ "concat": [icmp("type"), icmp("code")] });
            let codes = self.icmp_codes.iter();
            Some(is_in(&both, codes.map(|(kind, code)| json!({ "concat": [kind, code] }))))
        });
        let all = [
            of(protocol, &self.protocols),
            of(field("tcp", "dport"), &self.tcp),
            of(field("udp", "dport"), &self.udp),
            of(icmp("type"), &self.icmp_types),
            codes,
        ];
        all.into_iter().flatten().collect()
    }
}

impl Filter {
    pub(super) fn of(filter: &PortFilter) -> Self {
        let mut senders: BTreeMap<_, BTreeMap<IpAddr, List>> = BTreeMap::new();
        for Allowed { traffic, from } in &filter.allows {
            let family = Family::of(from.network());
            let ranges = senders.entry((family, from.prefix())).or_default();
            ranges.entry(from.network()).or_default().add(*traffic, family);
        }
        senders.values_mut().flat_map(BTreeMap::values_mut).for_each(List::merge);
        let hash = digest(&filter.allows);
        let digits = hash[..FILTER_DIGITS / 2].iter();
        let name = digits.fold(FILTER.to_owned(), |name, byte| format!("{name}{byte:02x}"));
        // Zero is what connections bear that nobody has marked.
        let mark = u32::from_be_bytes([hash[8], hash[9], hash[10], hash[11]]).max(1);
        Self { name, mark, senders }
    }

    /// What the ranges of one family may send, by the lengths of their prefixes.
    fn senders(&self, family: Family) -> impl Iterator<Item = (u8, &BTreeMap<IpAddr, List>)> {
        let all = self.senders.range((family, 0)..=(family, u8::MAX));
        all.map(|((_, prefix), ranges)| (*prefix, ranges))
    }

    /// The different lists of one family, with the names of their chains.
    fn lists(&self, family: Family) -> BTreeMap<&List, String> {
        let all: BTreeSet<&List> = self.senders(family).flat_map(|(_, all)| all.values()).collect();
        let named = all.into_iter().enumerate();
        named.map(|(at, list)| (list, format!("{}_{at}", self.name))).collect()
    }

    /// The name of the map of the senders of one length of prefix.
    fn map(&self, prefix: u8) -> String {
        format!("{}_from_{prefix}", self.name)
    }

    /// What is seen of it when it is there.
    pub(super) fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        for family in Family::ALL {
            let lists = self.lists(family);
            let lists = lists.into_iter().map(|(list, name)| (name, list.matches(family).len()));
            // One for those that are no connections, one for those that were let in, one at the end.
            let own = (self.name.clone(), self.senders(family).count() + 3);
            let maps = self.senders(family).map(|(prefix, from)| (self.map(prefix), from.len()));
            let at = |(name, count)| ((family.table(), name), count);
            shape.chains.extend(lists.chain([own]).map(at));
            shape.maps.extend(maps.map(at));
        }
        shape
    }

    /// The commands that lay it.
    pub(super) fn lay(&self) -> Vec<Value> {
        let mut commands = Vec::new();
        Family::ALL.into_iter().for_each(|family| self.lay_for(family, &mut commands));
        commands
    }

    fn lay_for(&self, family: Family, commands: &mut Vec<Value>) {
        let lists = self.lists(family);
        let add = |kind: &str, name: &str, more: Value| add(family, kind, name, more);
        let ct = |key: &str| json!({ "ct": { "key": key } });
        commands.push(add("chain", &self.name, json!({})));
        for (list, name) in &lists {
            commands.push(add("chain", name, json!({})));
            for matches in list.matches(family) {
                let mark = json!({ "mangle": { "key": ct("mark"), "value": self.mark } });
                let rule = matches.into_iter().chain([mark, json!({ "accept": null })]);
                commands.push(add("rule", name, json!({ "expr": rule.collect::<Vec<_>>() })));
            }
        }
        let rule = |expr: Value| add("rule", &self.name, json!({ "expr": expr }));
        commands.push(rule(json!([is(&ct("state"), &json!("invalid")), { "drop": null }])));
        commands.push(rule(json!([is(&ct("mark"), &json!(self.mark)), { "accept": null }])));
        let sender = json!({ "payload": { "protocol": family.table(), "field": "saddr" } });
        let (address, longest) = family.address();
        for (prefix, ranges) in self.senders(family) {
            let name = self.map(prefix);
            let elements = ranges.iter().filter_map(|(network, list)| {
                let list = lists.get(list)?;
                let range = match prefix {
                    len if len == longest => json!(network.to_string()),
                    len => json!({ "prefix": { "addr": network.to_string(), "len": len } }),
                };
                Some(json!([range, { "jump": { "target": list } }]))
            });
            let elements: Vec<Value> = elements.collect();
            let mut map = json!({ "type": address, "map": "verdict", "elem": elements });
            if prefix < longest {
                map["flags"] = json!(["interval"]);
            }
            commands.push(add("map", &name, map));
            commands.push(rule(json!([{ "vmap": { "key": sender, "data": format!("@{name}") } }])));
        }
        commands.push(rule(json!([{ "drop": null }])));
    }

    /// Whether it lets in what is sent so. Only for tests: what the kernel does with it.
    #[cfg(test)]
    fn admits(&self, packet: &Packet) -> bool {
        let holds = |spans: &[Span], number: u16| {
            spans.iter().any(|(low, high)| (*low..=*high).contains(&number))
        };
        let family = Family::of(packet.from);
        self.senders(family).any(|(prefix, ranges)| {
            let range = ipnetwork::IpNetwork::new(packet.from, prefix).unwrap().network();
            ranges.get(&range).is_some_and(|list| {
                holds(&list.protocols, packet.protocol.into())
                    || match packet.protocol {
                        number if number == family.icmp().1 => {
                            let (kind, code) = packet.icmp;
                            holds(&list.icmp_types, kind.into())
                                || list.icmp_codes.contains(&(kind, code))
                        }
                        6 => holds(&list.tcp, packet.port),
                        17 => holds(&list.udp, packet.port),
                        _ => false,
                    }
            })
        })
    }
}

/// The commands that take a filter of this shape away.
pub(super) fn take_away(name: &str, shape: &Shape) -> Vec<Value> {
    let object = |verb: &str, kind: &str, (family, name): &(&str, String)| json!({ verb: { kind: { "family": family, "table": "nova", "name": name } } });
    let gone = |chain| ["flush", "delete"].map(|verb| object(verb, "chain", chain));
    // Who leads to another goes first.
    let (own, lists): (Vec<_>, Vec<_>) = shape.chains.keys().partition(|(_, n)| n == name);
    let maps = shape.maps.keys().map(|map| object("delete", "map", map));
    own.into_iter().flat_map(gone).chain(maps).chain(lists.into_iter().flat_map(gone)).collect()
}

/// A command that adds something to the table of a family.
fn add(family: Family, kind: &str, name: &str, more: Value) -> Value {
    let place = if kind == "rule" { "chain" } else { "name" };
    let mut what = json!({ "family": family.table(), "table": "nova", place: name });
    if let (Some(what), Value::Object(more)) = (what.as_object_mut(), more) {
        what.extend(more);
    }
    json!({ "add": { kind: what } })
}

fn is(left: &Value, right: &Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

fn is_in(left: &Value, elements: impl Iterator<Item = Value>) -> Value {
    is(left, &json!({ "set": elements.collect::<Vec<_>>() }))
}

fn span((low, high): &Span) -> Value {
    if low == high { json!(low) } else { json!({ "range": [low, high] }) }
}

/// Makes spans that are apart, in order.
fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    let mut apart: Vec<Span> = Vec::with_capacity(spans.len());
    for (low, high) in spans.drain(..) {
        match apart.last_mut() {
            Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
            _ => apart.push((low, high)),
        }
    }
    *spans = apart;
}

fn digest(allows: &BTreeSet<Allowed>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for allowed in allows {
        hash.update(allowed.to_string());
        hash.update("\n");
    }
    hash.finalize().into()
}

/// What a rule is about.
#[cfg(test)]
#[derive(Debug, Clone)]
struct Packet {
    from: IpAddr,
    protocol: u8,
    port: u16,
    icmp: (u8, u8),
}

#[cfg(test)]
mod tests {
    use ipnetwork::IpNetwork;
    use nova_core::domain::PortRange;
    use proptest::prelude::*;

    use super::*;

    /// A small world, so that rules often meet each other and packets often meet rules.
    fn traffic() -> impl Strategy<Value = Traffic> {
        let ports =
            || (0..6_u16, 0..6_u16).prop_map(|(a, b)| (a.min(b) * 13_000, a.max(b) * 13_000));
        let range = |(first, last)| PortRange::new(first, last).unwrap();
        prop_oneof![
            Just(Traffic::Any),
            prop::sample::select(vec![1, 6, 17, 47, 58]).prop_map(Traffic::Protocol),
            ports().prop_map(move |ports| Traffic::Tcp(range(ports))),
            ports().prop_map(move |ports| Traffic::Udp(range(ports))),
            (0..3_u8).prop_map(Traffic::IcmpType),
            (0..3_u8, 0..3_u8).prop_map(|(kind, code)| Traffic::IcmpCode(kind, code)),
        ]
    }

    fn sender() -> impl Strategy<Value = IpAddr> {
        (0..3_u8, 0..3_u8, any::<bool>()).prop_map(|(b, d, v6)| match v6 {
            false => [10, b, 0, d].into(),
            true => [0xfd00, b.into(), 0, 0, 0, 0, 0, d.into()].into(),
        })
    }

    fn filter() -> impl Strategy<Value = PortFilter> {
        let prefix = prop::sample::select(vec![0, 8, 14, 16, 24, 31, 32]);
        let range = (sender(), prefix).prop_map(|(address, prefix): (IpAddr, u8)| {
            // The same steps in a longer address.
            let prefix = if address.is_ipv4() { prefix } else { prefix * 4 };
            let network = IpNetwork::new(address, prefix).unwrap().network();
            IpNetwork::new(network, prefix).unwrap()
        });
        let allowed = (traffic(), range).prop_map(|(traffic, from)| Allowed { traffic, from });
        let groups = BTreeSet::new();
        prop::collection::btree_set(allowed, 0..30)
            .prop_map(move |allows| PortFilter { groups: groups.clone(), allows })
    }

    fn packet() -> impl Strategy<Value = Packet> {
        let protocol = prop::sample::select(vec![1, 6, 17, 47, 58, 132]);
        let port = (0..6_u16, 0..3_u16).prop_map(|(at, off)| (at * 13_000 + off).saturating_sub(1));
        (sender(), protocol, port, (0..4_u8, 0..4_u8))
            .prop_map(|(from, protocol, port, icmp)| Packet { from, protocol, port, icmp })
    }

    /// What the rules mean, one after the other.
    fn means(filter: &PortFilter, packet: &Packet) -> bool {
        let Packet { from, protocol, port, .. } = *packet;
        filter.allows.iter().any(|allowed| {
            let icmp = if from.is_ipv4() { 1 } else { 58 };
            allowed.from.contains(from)
                && match allowed.traffic {
                    Traffic::Any => true,
                    Traffic::ICMP => protocol == icmp,
                    Traffic::Protocol(number) => number == protocol,
                    Traffic::Tcp(r) => protocol == 6 && r.first() <= port && port <= r.last(),
                    Traffic::Udp(r) => protocol == 17 && r.first() <= port && port <= r.last(),
                    Traffic::IcmpType(kind) => protocol == icmp && kind == packet.icmp.0,
                    Traffic::IcmpCode(kind, code) => {
                        protocol == icmp && (kind, code) == packet.icmp
                    }
                }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_sets_let_in_what_the_rules_mean(filter in filter(), packets in prop::collection::vec(packet(), 20)) {
            let sets = Filter::of(&filter);
            for packet in packets {
                prop_assert_eq!(sets.admits(&packet), means(&filter, &packet), "{:?}", packet);
            }
        }

        #[test]
        fn there_is_no_more_of_anything_than_there_are_rules(filter in filter()) {
            let (rules, shape) = (filter.allows.len(), Filter::of(&filter).shape());
            prop_assert!(shape.maps.values().sum::<usize>() <= rules);
            prop_assert!(shape.chains.len() <= rules + 2);
            prop_assert!(shape.maps.len() <= 33 + 129);
            prop_assert!(shape.chains.iter().all(|((_, name), rules)| *rules <= 5 || *name == Filter::of(&filter).name));
        }
    }

    #[test]
    fn a_filter_is_named_by_what_it_lets_in() {
        let of = |range: &str, group: u128| {
            let allowed = Allowed { traffic: Traffic::TCP, from: range.parse().unwrap() };
            let groups = [nova_core::domain::SecurityGroupId::from_u128(group)].into();
            Filter::of(&PortFilter { groups, allows: [allowed].into() })
        };
        assert_eq!(of("10.0.0.0/8", 1), of("10.0.0.0/8", 2));
        assert_ne!(of("10.0.0.0/8", 1).name, of("10.0.0.0/9", 1).name);
        assert_ne!(of("10.0.0.0/8", 1).mark, of("10.0.0.0/9", 1).mark);
    }
}
