//! Telling an interface's neighbours that an address has come here.

use std::net::{IpAddr, Ipv4Addr};

use nova_core::domain::InterfaceName;
use pnet_datalink::{Channel, Config, interfaces};

/// Why nobody could be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnnounceError {
    #[error("there is no interface {0} with an Ethernet address")]
    Absent(InterfaceName),
    #[error("cannot announce {address} on {interface}")]
    Send { address: IpAddr, interface: InterfaceName, source: std::io::Error },
}

/// Sends a gratuitous ARP request for `address` (RFC 5227, section 3): who knew it elsewhere knows
/// it here now. Of an IPv6 address nothing is said yet.
pub(super) fn announce(interface: &InterfaceName, address: IpAddr) -> Result<(), AnnounceError> {
    let IpAddr::V4(ip) = address else { return Ok(()) };
    let found = interfaces().into_iter().find(|found| found.name == interface.as_str());
    let found = found.and_then(|found| Some((found.mac?.octets(), found)));
    let (mac, found) = found.ok_or(AnnounceError::Absent(*interface))?;
    let send = || match pnet_datalink::channel(&found, Config::default())? {
        Channel::Ethernet(mut sender, _) => sender
            .send_to(&frame(mac, ip), None)
            .unwrap_or_else(|| Err(std::io::Error::other("the interface takes no frames"))),
        _ => Err(std::io::Error::other("the interface is not Ethernet")),
    };
    let interface = *interface;
    send().map_err(|source| AnnounceError::Send { address, interface, source })
}

/// The frame: to everybody, an ARP request (RFC 826) whose sender and target are the address.
fn frame(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    const EVERYBODY: [u8; 6] = [0xff; 6];
    const ARP: [u8; 2] = [0x08, 0x06];
    /// Ethernet, IPv4, six and four bytes, a request.
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let ip = ip.octets();
    [&EVERYBODY[..], &mac, &ARP, &REQUEST, &mac, &ip, &[0; 6], &ip].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_an_arp_request_of_the_address_for_itself() {
        let frame = frame([2, 0, 0, 0, 0, 9], Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 6]);
        assert_eq!(
            (&frame[22..32], &frame[38..]),
            (&[2, 0, 0, 0, 0, 9, 192, 0, 2, 7][..], &[192, 0, 2, 7][..])
        );
    }
}
