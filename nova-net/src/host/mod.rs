//! What a host's network should look like, as a value.
//!
//! A [`HostNet`] is a set of [`Part`]s. Everything here is data: nothing touches the kernel, and
//! two equal values mean the same network. [`plan::diff`](crate::plan::diff) turns two of them
//! into steps.
//!
//! Every host is the gateway of its own guests (Nova's multi-host mode, the only one here): it
//! carries the gateway's address on its own bridge, answers DHCP for its own guests only, and
//! answers for the floating IPs of its own guests. The same gateway address is on every host, so
//! a backend has to keep ARP and DHCP for it from leaving the host.
//!
//! A host without guests of a network has nothing of that network. The last guest that leaves
//! takes bridge, VLAN interface and DHCP server along.

mod net;
mod part;

pub use net::{Flaw, HostNet};
pub use part::{
    Allowed, Bridge, BridgeAddress, BridgeOrigin, DhcpServer, Floating, GuestIpv6, GuestPort,
    Lease, MetadataService, Nat, Part, PartId, PortFilter, PublicAddress, RouterAdvertiser, Slot,
    Uplink, VlanInterface, VxlanInterface,
};
