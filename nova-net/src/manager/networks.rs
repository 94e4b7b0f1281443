//! Making and deleting networks.

use std::collections::BTreeMap;

use nova_core::domain::{
    AddressState, FixedIp, FloatingPool, Invalid, Network, NetworkId, VlanClaim, VlanId,
};
use nova_core::port::{NetError, NetworkSpec};
use nova_core::store::record::{Ledger, keys};
use nova_core::store::{Draft, Guard, Record, Revision, StoreExt, Txn, Versioned};

use crate::manager::{Networks, READ, cannot};
use crate::pool::{Pool, Use, address};
use crate::topology::Taken;

impl Networks {
    pub(super) async fn draft_networks(
        &self,
        spec: &NetworkSpec,
    ) -> Result<Draft<Vec<Network>>, NetError> {
        let Some(topology) = self.topologies.get(&spec.kind) else {
            let allowed = "a kind that this manager has a topology for";
            return Err(Invalid::new("network.kind", spec.kind, allowed).into());
        };
        let (ledger, mut taken) = self.ranges().await?;
        let claims = self.store.read_all::<VlanClaim>(&VlanClaim::all()).await;
        let claims: BTreeMap<VlanId, Versioned<VlanClaim>> =
            claims.map_err(cannot(READ))?.into_iter().map(|row| (row.value.vlan, row)).collect();
        taken.vlans =
            claims.iter().map(|(vlan, row)| (vlan.get(), Use::from(&row.value.state))).collect();

        // The ledger is written once for each draft that commits, so its revision, and with it
        // each id, belongs to this draft alone.
        let made_on = ledger.as_ref().map_or(Revision(0), |ledger| ledger.revision);
        let seed = self.seed.child_of("network", made_on.0.into());
        let id = |n: u32| NetworkId::draw(&mut seed.child_of("nth", n.into()).chance());
        let blueprints = topology.plan(spec, &taken, &id)?;

        let mut txn = Txn::new();
        txn.touch(ledger.as_ref(), &Ledger::for_ranges());
        for blueprint in &blueprints {
            let network = &blueprint.network;
            txn.create(network);
            for address in &blueprint.reserved {
                let (network, address) = (network.id, *address);
                txn.create(&FixedIp { network, address, state: AddressState::Reserved });
            }
            if let Some(vlan) = network.vlan {
                let claim = VlanClaim { vlan, state: AddressState::Owned(network.id) };
                txn.touch(claims.get(&vlan), &claim);
            }
        }
        Ok(Draft { value: blueprints.into_iter().map(|made| made.network).collect(), txn })
    }

    pub(super) async fn draft_deletion(&self, id: NetworkId) -> Result<Draft<()>, NetError> {
        let mut txn = Txn::new();
        let vlan = {
            let view = self.view().await?;
            let network = view.network(id).ok_or(NetError::NoSuchNetwork { network: id })?;
            txn.remove(network);
            for row in view.fixed_of(id) {
                if let AddressState::Owned(owner) = &row.value.state {
                    let (what, by) = (network.value.name.to_string(), owner.to_string());
                    return Err(NetError::InUse { what, by });
                }
                txn.remove(row);
            }
            for fresh in view.addresses(id).into_iter().flat_map(Pool::window) {
                txn.guard(Guard::Absent(keys::fixed_ip(id, address(fresh))));
            }
            network.value.vlan
        };
        if let Some(vlan) = vlan {
            let claim = self.store.read::<VlanClaim>(&keys::vlan(vlan)).await;
            if let Some(claim) = claim.map_err(cannot(READ))? {
                txn.replace(&claim, &VlanClaim { vlan, state: self.resting() });
            }
        }
        Ok(Draft { value: (), txn })
    }

    /// Every range in use, with the ledger that adding one writes.
    ///
    /// Ranges are read from the store itself, and after the ledger: whatever was added before
    /// the ledger was written last is among them.
    pub(super) async fn ranges(&self) -> Result<(Option<Versioned<Ledger>>, Taken), NetError> {
        let ledger = self.store.read(&Ledger::for_ranges().key()).await.map_err(cannot(READ))?;
        let networks = self.store.read_all::<Network>(&Network::all()).await;
        let pools = self.store.read_all::<FloatingPool>(&FloatingPool::all()).await;
        let mut taken = Taken::nothing(self.clock.now());
        taken.networks = networks.map_err(cannot(READ))?.into_iter().map(|n| n.value).collect();
        taken.pools = pools.map_err(cannot(READ))?.into_iter().map(|p| p.value).collect();
        Ok((ledger, taken))
    }
}
