//! The kernel's own switches, as files of the namespace of this thread.

use std::io;

/// Whether it forwards packets: of IPv4, and of IPv6.
pub(super) const IPV4: &str = "/proc/sys/net/ipv4/ip_forward";
pub(super) const IPV6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// Whether it shows what crosses any bridge to the tables of IP. They are there when it can.
const BRIDGED: [&str; 2] = [
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
];

fn is_on(file: &str) -> io::Result<bool> {
    Ok(std::fs::read_to_string(file)?.trim() == "1")
}

pub(super) fn forwards(kind: &str) -> io::Result<bool> {
    is_on(kind)
}

pub(super) fn set_forwards(kind: &str, forward: bool) -> io::Result<()> {
    if forwards(kind)? == forward {
        return Ok(());
    }
    std::fs::write(kind, if forward { "1" } else { "0" })
}

/// Whether what crosses any bridge is shown, beside those bridges that show it by themselves.
pub(super) fn shows_bridges() -> io::Result<bool> {
    BRIDGED.into_iter().try_fold(true, |all, file| Ok(is_on(file)? && all))
}
