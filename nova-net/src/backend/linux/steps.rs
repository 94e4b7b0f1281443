//! Which steps of a plan go together.

use crate::host::Part;
use crate::plan::Step;

/// Whether the host is a way out for guests with IPv6 by this.
pub(super) fn is_router_of_ipv6(part: &Part) -> bool {
    matches!(part, Part::RouterAdvertiser(_))
}

/// Steps that are done together: neighbours that change nothing but the firewall and leases.
pub(super) fn groups(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    let light = |step: &Step| match step.action.part() {
        Part::Lease(_)
        | Part::Nat(_)
        | Part::PortFilter(_)
        | Part::GuestPort(_)
        | Part::GuestIpv6(_)
        | Part::Floating(_) => true,
        Part::VlanInterface(_)
        | Part::VxlanInterface(_)
        | Part::Bridge(_)
        | Part::BridgeAddress(_)
        | Part::DhcpServer(_)
        | Part::RouterAdvertiser(_)
        | Part::MetadataService(_)
        | Part::PublicAddress(_) => false,
    };
    steps.chunk_by(move |a, b| light(a) && light(b))
}
