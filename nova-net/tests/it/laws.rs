//! The suite of nova-core, on each topology and through a pointer.

use std::sync::Arc;

use nova_core::conformance::network::Subject;
use nova_core::domain::NetworkKind;
use nova_core::port::NetworkManager;

use crate::world::World;

fn subject(world: World, kind: NetworkKind) -> Subject {
    let World { store, clock, networks, .. } = world;
    Subject::new(networks, store, move |time| clock.advance(time)).with_kind(kind)
}

mod flat {
    use super::*;
    nova_core::network_laws!(async {
        subject(World::of(Arc::new(nova_net::topology::Flat)), NetworkKind::Flat)
    });
}

mod flat_dhcp {
    use super::*;
    nova_core::network_laws!(async {
        subject(World::of(Arc::new(nova_net::topology::FlatDhcp)), NetworkKind::FlatDhcp)
    });
}

mod vlan {
    use super::*;
    nova_core::network_laws!(async {
        subject(World::of(Arc::new(nova_net::topology::Vlan)), NetworkKind::Vlan)
    });
}

mod vxlan {
    use super::*;
    nova_core::network_laws!(async {
        subject(World::of(Arc::new(nova_net::topology::Vxlan)), NetworkKind::Vxlan)
    });
}

mod all_topologies {
    use super::*;
    nova_core::network_laws!(async { subject(World::new(), NetworkKind::FlatDhcp) });
}

mod an_arc {
    use super::*;
    nova_core::network_laws!(async {
        let subject = subject(World::new(), NetworkKind::Vlan);
        let manager: Arc<dyn NetworkManager> = Arc::new(Arc::clone(&subject.manager));
        Subject { manager, ..subject }
    });
}

#[test]
fn a_manager_without_a_topology_that_leads_floating_ips_has_none() {
    let flat = World::of(Arc::new(nova_net::topology::Flat));
    assert!(flat.networks.floating_ips().is_none());
    assert!(World::new().networks.floating_ips().is_some());
}
