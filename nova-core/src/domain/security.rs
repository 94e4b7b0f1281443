//! Security groups: who may open a connection to a server.
//!
//! What is not allowed is denied, and only what comes to a server is judged: what it sends, and
//! the answers to that, always pass. Rules add up; there is none that forbids. A change of rules
//! counts for connections that are open, too.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use crate::domain::{Invalid, Label, ProjectId, SecurityGroupId};
use crate::seed::Seed;

/// A set of rules that servers of a project share (EC2's and Nova's security group).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecurityGroup {
    /// The id.
    pub id: SecurityGroupId,
    /// Who owns it.
    pub project: ProjectId,
    /// Its name.
    pub name: Label,
    /// What its members may be sent.
    pub rules: BTreeSet<SecurityRule>,
}

impl SecurityGroup {
    /// The most rules of one group: as many as fit well into one record.
    pub const RULES_MAX: usize = 1000;

    /// The group of a project's servers for which none was named. In the beginning its members
    /// may send each other anything, and nobody else may send them anything; it has a record only
    /// while it is otherwise.
    ///
    /// ```
    /// # use nova_core::domain::{Peer, ProjectId, SecurityGroup, SecurityGroupId, Traffic};
    /// let group = SecurityGroup::default_of(&ProjectId::new("web")?);
    /// assert_eq!(group.id, SecurityGroupId::default_of(&group.project));
    /// assert_eq!(group.rules.first().unwrap().to_string(), format!("anything from {}", group.id));
    /// # Ok::<(), nova_core::domain::Invalid>(())
    /// ```
    pub fn default_of(project: &ProjectId) -> Self {
        let id = SecurityGroupId::default_of(project);
        let inside = SecurityRule { traffic: Traffic::Any, from: Peer::Group(id) };
        let rules = BTreeSet::from([inside]);
        Self { id, project: project.clone(), name: Label::of_default_group(), rules }
    }

    /// Whether it is the one of servers for which none was named.
    pub fn is_default(&self) -> bool {
        self.id == SecurityGroupId::default_of(&self.project)
    }

    /// The groups whose members its rules name.
    pub fn peers(&self) -> impl Iterator<Item = SecurityGroupId> {
        self.rules.iter().filter_map(|rule| match rule.from {
            Peer::Group(group) => Some(group),
            Peer::Range(_) => None,
        })
    }
}

impl SecurityGroupId {
    /// The id of a project's [default group](SecurityGroup::default_of): always the same one, so
    /// that two who make it at once make the same one.
    pub fn default_of(project: &ProjectId) -> Self {
        const ANY: u64 = 0;
        let seed = Seed::new(ANY).child("default security group").child(project.as_str());
        Self::draw(&mut seed.chance())
    }
}

/// Who may send what to the members of a group.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "RawRule", into = "RawRule")]
pub struct SecurityRule {
    traffic: Traffic,
    from: Peer,
}

impl SecurityRule {
    /// Checks a rule.
    ///
    /// ```
    /// # use nova_core::domain::{Peer, PortRange, SecurityRule, Traffic};
    /// let web = Traffic::Tcp(PortRange::one(443));
    /// let rule = SecurityRule::new(web, Peer::Range("0.0.0.0/0".parse()?))?;
    /// assert_eq!(rule.to_string(), "tcp 443 from 0.0.0.0/0");
    /// assert!(SecurityRule::new(web, Peer::Range("10.0.0.1/8".parse()?)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`] for a range that has bits set behind its prefix.
    pub fn new(traffic: Traffic, from: Peer) -> Result<Self, Invalid> {
        match from {
            Peer::Range(range) if range.ip() != range.network() => {
                let allowed = "a range without bits behind its prefix";
                Err(Invalid::new("security rule.from", range, allowed))
            }
            from => Ok(Self { traffic, from }),
        }
    }

    /// What may be sent.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// By whom.
    pub const fn from(&self) -> Peer {
        self.from
    }
}

impl std::fmt::Display for SecurityRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.traffic, self.from)
    }
}

/// A rule as it is written down, before it is checked.
#[derive(serde::Serialize, serde::Deserialize)]
struct RawRule {
    traffic: Traffic,
    from: Peer,
}

impl TryFrom<RawRule> for SecurityRule {
    type Error = Invalid;

    fn try_from(raw: RawRule) -> Result<Self, Invalid> {
        Self::new(raw.traffic, raw.from)
    }
}

impl From<SecurityRule> for RawRule {
    fn from(rule: SecurityRule) -> Self {
        Self { traffic: rule.traffic, from: rule.from }
    }
}

/// Who sends.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums)] // a backend that does not know a peer must not compile
pub enum Peer {
    /// Whoever has an address of this range. `0.0.0.0/0` is everybody with IPv4, `::/0` everybody
    /// with IPv6.
    Range(IpNetwork),
    /// The members of a group, with their fixed IPs and their IPv6 addresses.
    Group(SecurityGroupId),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range(range) => write!(f, "{range}"),
            Self::Group(group) => write!(f, "{group}"),
        }
    }
}

/// What is sent.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::exhaustive_enums)] // a backend that does not know a kind must not compile
pub enum Traffic {
    /// Anything.
    Any,
    /// All of one IP protocol, by IANA's number: 1 is ICMP, 6 TCP, 17 UDP, 47 GRE. From senders
    /// with IPv6, 1 is their ICMP.
    Protocol(u8),
    /// TCP to these ports.
    Tcp(PortRange),
    /// UDP to these ports.
    Udp(PortRange),
    /// ICMP of one type, such as 8 for an echo request; from senders with IPv6 that is 128.
    IcmpType(u8),
    /// ICMP of one type and code.
    IcmpCode(u8, u8),
}

impl Traffic {
    /// All of ICMP.
    pub const ICMP: Self = Self::Protocol(1);
    /// All of TCP.
    pub const TCP: Self = Self::Protocol(6);
    /// All of UDP.
    pub const UDP: Self = Self::Protocol(17);
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            &Self::ICMP => f.write_str("icmp"),
            &Self::TCP => f.write_str("tcp"),
            &Self::UDP => f.write_str("udp"),
            Self::Protocol(number) => write!(f, "protocol {number}"),
            Self::Tcp(ports) => write!(f, "tcp {ports}"),
            Self::Udp(ports) => write!(f, "udp {ports}"),
            Self::IcmpType(kind) => write!(f, "icmp type {kind}"),
            Self::IcmpCode(kind, code) => write!(f, "icmp type {kind} code {code}"),
        }
    }
}

/// Ports of TCP or UDP, from the first to the last, both with them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Checks a range.
    ///
    /// # Errors
    /// [`Invalid`] when it ends before it begins.
    pub fn new(first: u16, last: u16) -> Result<Self, Invalid> {
        if first <= last {
            Ok(Self { first, last })
        } else {
            let allowed = "a range that does not end before it begins";
            Err(Invalid::new("port range", format!("{first}-{last}"), allowed))
        }
    }

    /// A single port.
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl TryFrom<(u16, u16)> for PortRange {
    type Error = Invalid;

    fn try_from((first, last): (u16, u16)) -> Result<Self, Invalid> {
        Self::new(first, last)
    }
}

impl From<PortRange> for (u16, u16) {
    fn from(range: PortRange) -> Self {
        (range.first, range.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_was_written_and_a_bad_one_is_refused() {
        let range = |text: &str| Peer::Range(text.parse().unwrap());
        for rule in [
            SecurityRule::new(Traffic::Any, Peer::Group(SecurityGroupId::from_u128(3))),
            SecurityRule::new(Traffic::Udp(PortRange::new(53, 60).unwrap()), range("10.0.0.0/8")),
            SecurityRule::new(Traffic::IcmpCode(3, 4), range("0.0.0.0/0")),
            SecurityRule::new(Traffic::ICMP, range("fd00::/8")),
        ] {
            let rule = rule.unwrap();
            let text = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<SecurityRule>(&text).unwrap(), rule, "{text}");
        }
        for bad in [
            r#"{"traffic":"any","from":{"range":"10.0.0.1/8"}}"#,
            r#"{"traffic":"any","from":{"range":"fd00::1/8"}}"#,
            r#"{"traffic":{"tcp":[2,1]},"from":{"range":"10.0.0.0/8"}}"#,
            r#"{"traffic":{"tcp":[2,70000]},"from":{"range":"10.0.0.0/8"}}"#,
            r#"{"traffic":{"protocol":256},"from":{"range":"10.0.0.0/8"}}"#,
        ] {
            assert!(serde_json::from_str::<SecurityRule>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_project_has_a_default_group_of_its_own() {
        let of = |name: &str| SecurityGroup::default_of(&ProjectId::new(name).unwrap());
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a").id, of("b").id);
        assert!(of("a").is_default());
    }
}
