//! Quantities with their unit in the type, so that gibibytes never pass for mebibytes.

use crate::domain::Invalid;

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident($raw:ty), $suffix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $raw);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);

            /// The number.
            pub const fn get(self) -> $raw {
                self.0
            }

            /// The sum, stopping at the largest number there is.
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, stopping at zero.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&format!(concat!("{}", $suffix), self.0))
            }
        }
    )+};
}

units! {
    /// Virtual CPUs.
    Vcpus(u32), " vCPU";
    /// Mebibytes (2^20 bytes): memory and swap.
    MiB(u64), " MiB";
    /// Gibibytes (2^30 bytes): disks and volumes.
    GiB(u64), " GiB";
}

impl MiB {
    /// The same amount in gibibytes, rounded up: a started gibibyte counts whole.
    #[must_use]
    pub const fn to_gib_ceil(self) -> GiB {
        GiB(self.0.div_ceil(1024))
    }
}

impl GiB {
    /// The same amount in mebibytes.
    #[must_use]
    pub const fn to_mib(self) -> MiB {
        MiB(self.0.saturating_mul(1024))
    }

    /// The same amount in bytes.
    #[must_use]
    pub const fn to_bytes(self) -> u64 {
        self.0.saturating_mul(1 << 30)
    }
}

/// How much of a resource may be promised for each unit that is there: 1 promises what exists,
/// 4 over-commits fourfold, 0.5 keeps half back.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct AllocationRatio(f64);

impl AllocationRatio {
    /// No over-commit.
    pub const ONE: Self = Self(1.0);

    /// The largest ratio that is accepted.
    pub const MAX: f64 = 1000.0;

    /// Checks `ratio`.
    ///
    /// # Errors
    /// [`Invalid`] unless `0 < ratio <= 1000`.
    pub fn new(ratio: f64) -> Result<Self, Invalid> {
        if ratio > 0.0 && ratio <= Self::MAX {
            Ok(Self(ratio))
        } else {
            Err(Invalid::new("allocation ratio", ratio, "a number above 0, up to 1000"))
        }
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Default for AllocationRatio {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<f64> for AllocationRatio {
    type Error = Invalid;

    fn try_from(ratio: f64) -> Result<Self, Invalid> {
        Self::new(ratio)
    }
}

impl From<AllocationRatio> for f64 {
    fn from(ratio: AllocationRatio) -> f64 {
        ratio.0
    }
}

/// A VLAN id as IEEE 802.1Q allows it for a network: 1 to 4094.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl VlanId {
    /// The highest id.
    pub const MAX: u16 = 4094;

    /// Checks `id`.
    ///
    /// # Errors
    /// [`Invalid`] for 0 (priority tag) and for 4095 (reserved) and above.
    pub fn new(id: u16) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&id) {
            Ok(Self(id))
        } else {
            Err(Invalid::new("vlan", id, "1 to 4094"))
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for VlanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<u16> for VlanId {
    type Error = Invalid;

    fn try_from(id: u16) -> Result<Self, Invalid> {
        Self::new(id)
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> u16 {
        id.0
    }
}

/// The number of a VXLAN segment, 1 to 16 777 215 (RFC 7348, where 24 bits carry it).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// The highest number.
    pub const MAX: u32 = (1 << 24) - 1;

    /// Checks `number`.
    ///
    /// # Errors
    /// [`Invalid`] for 0 and above [`MAX`](Self::MAX).
    pub fn new(number: u32) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Invalid::new("vni", number, "1 to 16777215"))
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Vni {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<u32> for Vni {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Invalid> {
        Self::new(number)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

/// An Ethernet address of six bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address with these bytes.
    ///
    /// # Errors
    /// [`Invalid`] for a multicast address, which no interface may own.
    pub fn new(bytes: [u8; 6]) -> Result<Self, Invalid> {
        let mac = Self(bytes);
        if bytes[0] & 1 == 0 {
            Ok(mac)
        } else {
            Err(Invalid::new("mac address", mac, "a unicast address (first byte even)"))
        }
    }

    /// The bytes, first on the wire first.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The IPv6 address that the interface makes for itself in a range of 64 bits, from what a
    /// router says of the range (SLAAC with the modified EUI-64 of RFC 4291, appendix A).
    ///
    /// ```
    /// # use nova_core::domain::Mac;
    /// let mac: Mac = "fa:16:3e:00:00:02".parse()?;
    /// let address = mac.address_in("fd00:0:0:7::/64".parse()?);
    /// assert_eq!(address.to_string(), "fd00::7:f816:3eff:fe00:2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn address_in(self, range: ipnetwork::Ipv6Network) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        let network = u128::from(range.network()) >> 64 << 64;
        std::net::Ipv6Addr::from(network | u128::from(interface))
    }

    /// The address that it makes for itself on every link: that of `fe80::/64`.
    pub fn link_local_address(self) -> std::net::Ipv6Addr {
        const LINK: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
        self.address_in(LINK.into())
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // By hand: a host with a thousand guests writes them by the ten thousand.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b':'; 17];
        for (pair, byte) in text.chunks_mut(3).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl std::str::FromStr for Mac {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("mac address", text, "six two-digit hex bytes joined by ':'");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Self::new(bytes) }
    }
}

impl TryFrom<String> for Mac {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_gibibyte_counts_whole() {
        assert_eq!([0, 1, 1024, 1025].map(|m| MiB(m).to_gib_ceil().0), [0, 1, 1, 2]);
    }

    #[test]
    fn a_ratio_is_positive_and_finite() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1000.1] {
            assert!(AllocationRatio::new(bad).is_err(), "{bad}");
        }
        assert!(AllocationRatio::new(16.0).is_ok());
    }

    #[test]
    fn a_vlan_is_1_to_4094() {
        assert_eq!([0, 1, 4094, 4095].map(|v| VlanId::new(v).is_ok()), [false, true, true, false]);
        assert!(serde_json::from_str::<VlanId>("4095").is_err());
    }

    #[test]
    fn a_mac_survives_its_text_form() {
        let mac: Result<Mac, _> = "fa:16:3e:00:0a:ff".parse();
        assert_eq!(mac.map(|m| m.to_string()), Ok("fa:16:3e:00:0a:ff".to_owned()));
        for bad in
            ["", "fa:16:3e:00:0a", "fa:16:3e:00:0a:ff:00", "+a:16:3e:00:0a:ff", "01:00:5e:00:00:01"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
