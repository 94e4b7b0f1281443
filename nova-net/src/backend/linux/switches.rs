//! The kernel's own switches, as files of the namespace of this thread.

use std::io;

/// Whether it forwards packets.
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Whether it shows what crosses any bridge to the tables of IP. It is there when it can.
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

fn is_on(file: &str) -> io::Result<bool> {
    Ok(std::fs::read_to_string(file)?.trim() == "1")
}

pub(super) fn forwards() -> io::Result<bool> {
    is_on(FORWARD)
}

pub(super) fn set_forwards(forward: bool) -> io::Result<()> {
    if forwards()? == forward {
        return Ok(());
    }
    std::fs::write(FORWARD, if forward { "1" } else { "0" })
}

/// Whether what crosses any bridge is shown, beside those bridges that show it by themselves.
pub(super) fn shows_bridges() -> io::Result<bool> {
    is_on(BRIDGED)
}
