//! Which guests have taken their address.

use std::net::Ipv4Addr;
use std::path::Path;
use std::{fs, io};

use nova_core::clock::Timestamp;
use nova_core::domain::{Mac, NetworkId};

/// An address that a guest has asked for by DHCP and was given: it has come so far in its boot
/// that its network works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeasedAddress {
    /// In which network.
    pub network: NetworkId,
    /// The guest's interface.
    pub mac: Mac,
    /// The address.
    pub address: Ipv4Addr,
    /// When it ends unless the guest asks again: two minutes after it last did, and at once when
    /// the port is removed from the host.
    pub until: Timestamp,
}

/// What the DHCP servers with files in `folder` have leased, sorted.
pub(super) fn leased(folder: &Path) -> io::Result<Vec<LeasedAddress>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let network = name
            .to_str()
            .and_then(|name| name.strip_prefix("dnsmasq-")?.strip_suffix(".leases")?.parse().ok());
        let Some(network) = network else { continue };
        let text = match fs::read_to_string(folder.join(&name)) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => continue,
            text => text?,
        };
        all.extend(text.lines().filter_map(|line| read(network, line)));
    }
    all.sort_unstable();
    Ok(all)
}

/// A line of dnsmasq's: when the lease ends in seconds of Unix time, the MAC, the address, the
/// name and the client's own id.
fn read(network: NetworkId, line: &str) -> Option<LeasedAddress> {
    let mut words = line.split(' ');
    let seconds: u64 = words.next()?.parse().ok()?;
    let mac = words.next()?.parse().ok()?;
    let address = words.next()?.parse().ok()?;
    let until = Timestamp(seconds.saturating_mul(1_000_000_000));
    Some(LeasedAddress { network, mac, address, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_lease_is_read_and_any_other_is_passed_over() {
        let network = NetworkId::from_u128(7);
        let line = "1761000120 fa:16:3e:00:00:02 10.0.0.2 web 01:fa:16:3e:00:00:02";
        let lease = read(network, line).unwrap();
        assert_eq!(lease.mac.to_string(), "fa:16:3e:00:00:02");
        assert_eq!(lease.address, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(lease.until, Timestamp(1_761_000_120_000_000_000));
        for other in ["", "duid 00:01", "1761000120", "1761000120 * 10.0.0.2", "x y z"] {
            assert_eq!(read(network, other), None, "{other:?}");
        }
    }
}
