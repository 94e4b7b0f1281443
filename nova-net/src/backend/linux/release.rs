//! Telling a DHCP server that a guest needs its address no more.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use nova_core::domain::Mac;
use socket2::{Domain, Socket, Type};

use crate::host::DhcpServer;

/// Ends the lease of an address, so that another guest may have it at once. A server that has not
/// leased it takes no notice.
pub(super) fn release(server: &DhcpServer, mac: Mac, address: IpAddr) -> io::Result<()> {
    const DHCP: u16 = 67;
    let (IpAddr::V4(listen), IpAddr::V4(address)) = (server.listen, address) else {
        return Ok(());
    };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // It hears what comes by its bridge.
    socket.bind_device(Some(server.bridge.as_str().as_bytes()))?;
    socket.send_to(&message(mac, address, listen), &SocketAddrV4::new(listen, DHCP).into())?;
    Ok(())
}

/// A DHCPRELEASE (RFC 2131, section 4.4.4).
fn message(mac: Mac, address: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
    /// A request, by Ethernet, with addresses of six bytes.
    const REQUEST: [u8; 4] = [1, 1, 6, 0];
    const COOKIE: [u8; 4] = [99, 130, 83, 99];
    /// The kind of message, and how an option begins that names the server.
    const RELEASE: [u8; 3] = [53, 1, 7];
    const SERVER: [u8; 2] = [54, 4];
    // Between the hardware address and the options: the rest of its field, two names.
    const REST: [u8; 10 + 64 + 128] = [0; 10 + 64 + 128];
    let mac = mac.bytes();
    // An id and flags come first, other addresses after the guest's own.
    let head = [&REQUEST[..], &[0; 8], &address.octets(), &[0; 12], &mac, &REST].concat();
    [&head[..], &COOKIE, &RELEASE, &SERVER, &server.octets(), &[255]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_who_gives_back_what_to_whom() {
        let mac = "fa:16:3e:00:00:02".parse().unwrap();
        let message = message(mac, [10, 0, 0, 2].into(), [10, 0, 0, 1].into());
        assert_eq!((&message[12..16], &message[28..34]), (&[10, 0, 0, 2][..], &mac.bytes()[..]));
        assert_eq!(message[236..], [99, 130, 83, 99, 53, 1, 7, 54, 4, 10, 0, 0, 1, 255]);
    }
}
