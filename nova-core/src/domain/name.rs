//! Names that people choose, as types: text that has been checked once, at the edge.

use crate::domain::Invalid;

/// How a name type decides what it accepts.
type Rule = fn(&str) -> bool;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $field:literal, $allowed:expr, $rule:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// [`Invalid`] names the field, the text and the accepted form.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                const RULE: Rule = $rule;
                let text = text.as_ref();
                if RULE(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Invalid::new($field, text, $allowed))
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Invalid;

            fn try_from(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }
    )+};
}

const LABEL: &str =
    "1 to 63 of a-z, 0-9 and '-', neither first nor last a '-' (an RFC 1123 label, lower case)";
const HOST: &str = "labels of 1 to 63 of a-z, A-Z, 0-9 and '-' joined by '.', 253 characters in \
                    all (an RFC 1123 host name)";
const WORD: &str = "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or a digit";
const TRAIT: &str = "1 to 255 of A-Z, 0-9 and '_'";
const CLASS: &str = "CUSTOM_ and more of A-Z, 0-9 and '_', at most 255 in all, or a standard class \
                     such as VGPU; VCPU, PCPU, MEMORY_MB and DISK_GB follow from other fields of a \
                     flavor";
const PCI: &str = "domain:bus:slot.function in lower-case hexadecimal, as in 0000:81:00.1";
const TOKEN: &str = "1 to 255 printable ASCII characters without space or '/'";

names! {
    /// The name of a compute host: an RFC 1123 host name.
    HostName, "host name", HOST, is_host_name;
    /// The name of a server, which is also its name in DNS: one RFC 1123 label, lower case.
    ServerName, "server name", LABEL, is_lower_label;
    /// A project (tenant): who owns servers, addresses and volumes.
    ProjectId, "project", WORD, is_word;
    /// An availability zone.
    ZoneName, "availability zone", WORD, is_word;
    /// A flavor.
    FlavorName, "flavor name", WORD, is_word;
    /// A key pair, unique within a project.
    KeyPairName, "key pair name", WORD, is_word;
    /// A pool of floating IPs.
    PoolName, "floating IP pool", WORD, is_word;
    /// Any other thing that a person labels: an image, a network, a volume, an aggregate, a group.
    Label, "name", WORD, is_word;
    /// A trait of a host as Placement names it: `HW_CPU_X86_AVX2`, `CUSTOM_GOLD`.
    TraitName, "trait", TRAIT, is_trait;
    /// Where a PCI device is on its host: `0000:81:00.1`.
    PciAddress, "PCI address", PCI, is_pci;
    /// A resource class of a host as Placement names it, beyond those that are fields of a flavor:
    /// `CUSTOM_LICENCE`, `VGPU`.
    ResourceClass, "resource class", CLASS, is_class;
    /// The caller's own number for one write: the same id again means the same write.
    RequestId, "request id", TOKEN, is_token;
}

impl RequestId {
    /// The request id that is written as this id.
    pub fn from_id(id: crate::domain::OpId) -> Self {
        Self(id.to_string().into())
    }
}

impl Label {
    /// The name of the security group of servers for which none was named.
    pub(crate) fn of_default_group() -> Self {
        Self("default".into())
    }
}

impl Default for ZoneName {
    /// The zone of hosts that were given none: `nova`.
    fn default() -> Self {
        Self("nova".into())
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_lower_label(text: &str) -> bool {
    is_label(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn is_trait(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// The standard resource classes (os-resource-classes 1.1.0) without those that a flavor has fields
/// for.
const STANDARD_CLASSES: [&str; 17] = [
    "FPGA",
    "IPV4_ADDRESS",
    "MEM_ENCRYPTION_CONTEXT",
    "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC",
    "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC",
    "NUMA_CORE",
    "NUMA_MEMORY_MB",
    "NUMA_SOCKET",
    "NUMA_THREAD",
    "PCI_DEVICE",
    "PGPU",
    "SRIOV_NET_VF",
    "VGPU",
    "VGPU_DISPLAY_HEAD",
];

fn is_class(text: &str) -> bool {
    let own = text.strip_prefix("CUSTOM_").is_some_and(|rest| !rest.is_empty());
    is_trait(text) && (own || STANDARD_CLASSES.contains(&text))
}

fn is_pci(text: &str) -> bool {
    text.len() == 12
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b':',
            10 => byte == b'.',
            11 => (b'0'..=b'7').contains(&byte),
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

fn is_token(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_rfc_1123() {
        for good in ["a", "node-1", "N1.rack-2.example", "1"] {
            assert!(HostName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", ".a", "a\n", "a b", "ä", "a_b", &"x".repeat(64)] {
            assert!(HostName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_newline_never_enters_a_name() {
        assert!(ServerName::new("web\nserver=evil").is_err());
        assert!(ProjectId::new("p\n").is_err());
        assert!(RequestId::new("r\r\n").is_err());
        assert!(serde_json::from_str::<ServerName>("\"a\\nb\"").is_err());
    }

    #[test]
    fn the_error_names_field_value_and_form() {
        let error = ServerName::new("Web").map_err(|e| (e.field, e.value));
        assert_eq!(error, Err(("server name", "Web".to_owned())));
    }
}
