//! Networks on a real kernel: guests in namespaces of their own, real DHCP, real packets.
//!
//! It needs root, `ip`, `nft`, `dnsmasq` and `busybox`, and runs where `NOVA_NET_LAB` is set;
//! elsewhere each test says that it was skipped, and why.

mod cloud;
mod filters;
mod ipv6;
mod killed;
mod lab;
mod life;
mod manager;
mod metadata;
mod repair;
mod segments;
