//! Floating IPs.

use std::net::IpAddr;

use async_trait::async_trait;
use nova_core::domain::{
    AddressState, FloatingBinding, FloatingIp, FloatingOwner, FloatingPool, Invalid, PoolName, Port,
};
use nova_core::port::{FloatingIps, FloatingRequest, NetError, PortRequest};
use nova_core::store::record::{Ledger, keys};
use nova_core::store::{Draft, Guard, StoreExt, Txn, Versioned};

use crate::manager::ports::led;
use crate::manager::view::{View, owner};
use crate::manager::{Networks, READ, cannot};
use crate::pool::{Pick, Pool, address};
use crate::topology::unicast_range;

#[async_trait]
impl FloatingIps for Networks {
    async fn create_pool(&self, pool: &FloatingPool) -> Result<Draft<()>, NetError> {
        let range = unicast_range("floating pool.range", pool.range)?;
        let (ledger, taken) = self.ranges().await?;
        let present = self.store.read::<FloatingPool>(&keys::floating_pool(&pool.name)).await;
        if present.map_err(cannot(READ))?.is_some() {
            return Err(NetError::Exists { name: pool.name.to_string() });
        }
        let ranges = taken.networks.iter().map(|network| network.cidr);
        for other in ranges.chain(taken.pools.iter().map(|pool| pool.range)) {
            if matches!(other, ipnetwork::IpNetwork::V4(v4) if v4.overlaps(range)) {
                return Err(NetError::CidrConflict { cidr: pool.range, other });
            }
        }
        let mut txn = Txn::new();
        txn.touch(ledger.as_ref(), &Ledger::for_ranges()).create(pool);
        Ok(Draft { value: (), txn })
    }

    async fn delete_pool(&self, name: &PoolName) -> Result<Draft<()>, NetError> {
        let view = self.view().await?;
        let mut txn = Txn::new();
        txn.remove(known(&view, name)?);
        for row in view.floating_of(name) {
            if let Some(owner) = owner(&row.value) {
                let (what, by) = (name.to_string(), owner.project.to_string());
                return Err(NetError::InUse { what, by });
            }
            txn.remove(row);
        }
        for fresh in view.public(name).into_iter().flat_map(Pool::window) {
            txn.guard(Guard::Absent(keys::floating_ip(address(fresh))));
        }
        Ok(Draft { value: (), txn })
    }

    async fn allocate(&self, request: &FloatingRequest) -> Result<Draft<FloatingIp>, NetError> {
        let view = self.view().await?;
        let pool = known(&view, &request.pool)?;
        let none = || NetError::NoMoreAddresses { of: request.pool.to_string() };
        let addresses = view.public(&request.pool).ok_or_else(none)?;
        // Each allocation changes the pool, and so what the next one draws.
        let newest = view.floating_of(&request.pool).map(|row| row.revision.0).max();
        let seed = self.seed.child_of("floating IP", newest.unwrap_or(0).into());
        let key = keys::floating_ip;
        let pick = self.unseen(addresses, seed, key).await?.ok_or_else(none)?;
        let address = address(pick.number());
        let project = request.project.clone();
        let server = request.server;
        let owner = FloatingOwner { project, binding: None, server, operation: None };
        let state = AddressState::Owned(owner);
        let floating = FloatingIp { address, pool: request.pool.clone(), state };
        let mut txn = Txn::new();
        txn.unchanged(pool);
        match (pick, view.floating(address)) {
            (Pick::Rested(_), Some(rested)) => txn.replace(rested, &floating),
            (Pick::Fresh(_) | Pick::Rested(_), _) => txn.create(&floating),
        };
        Ok(Draft { value: floating, txn })
    }

    async fn associate(
        &self,
        address: IpAddr,
        binding: FloatingBinding,
    ) -> Result<Draft<FloatingIp>, NetError> {
        let view = self.view().await?;
        let (row, owner) = held(&view, address)?;
        let port = view.ports_of(binding.instance).find(|port| port.value.address == binding.fixed);
        let Some(port) = port else {
            let allowed = "one of the server's own addresses";
            return Err(Invalid::new("floating ip.fixed", binding.fixed, allowed).into());
        };
        if !self.leads_floating_ips(&view, &port.value) {
            return Err(Invalid::new("floating ip.fixed", binding.fixed, LEADING).into());
        }
        let mut txn = Txn::new();
        if owner.binding.as_ref() == Some(&binding) {
            txn.unchanged(row).unchanged(port);
            return Ok(Draft { value: row.value.clone(), txn });
        }
        let floating = led(&row.value, owner, Some(binding));
        // The port is written as it is, not only guarded: a release that was decided before
        // does not know of this floating IP, and must fail.
        txn.replace(row, &floating).replace(port, &port.value);
        Ok(Draft { value: floating, txn })
    }

    async fn disassociate(&self, address: IpAddr) -> Result<Draft<FloatingIp>, NetError> {
        let view = self.view().await?;
        let (row, owner) = held(&view, address)?;
        let floating = led(&row.value, owner, None);
        let mut txn = Txn::new();
        match owner.binding {
            Some(_) => txn.replace(row, &floating),
            None => txn.unchanged(row),
        };
        Ok(Draft { value: floating, txn })
    }

    async fn release(&self, address: IpAddr) -> Result<Draft<()>, NetError> {
        let view = self.view().await?;
        let (row, owner) = held(&view, address)?;
        if let Some(binding) = &owner.binding {
            let (what, by) = (address.to_string(), binding.instance.to_string());
            return Err(NetError::InUse { what, by });
        }
        let mut txn = Txn::new();
        txn.replace(row, &FloatingIp { state: self.resting(), ..row.value.clone() });
        Ok(Draft { value: (), txn })
    }
}

impl Networks {
    /// Leads the floating IPs that were allocated with a server to the first of its `ports` that
    /// they can stand for.
    pub(super) fn lead_there(
        &self,
        view: &View,
        request: &PortRequest,
        ports: &[Port],
        txn: &mut Txn,
    ) -> Result<(), NetError> {
        let PortRequest { instance, host, .. } = *request;
        for (row, owner) in view.allocated_with(instance) {
            let port = ports.iter().find(|port| self.leads_floating_ips(view, port));
            let address = row.value.address;
            let port = port.ok_or_else(|| Invalid::new("floating ip.fixed", address, LEADING))?;
            let binding = Some(FloatingBinding { instance, fixed: port.address, host });
            if owner.binding == binding {
                txn.unchanged(row);
            } else {
                txn.replace(row, &led(&row.value, owner, binding));
            }
        }
        Ok(())
    }

    fn leads_floating_ips(&self, view: &View, port: &Port) -> bool {
        let network = view.network(port.network);
        let topology = network.and_then(|network| self.topology(&network.value));
        topology.is_some_and(|topology| topology.leads_floating_ips())
    }
}

/// What a floating IP can stand for.
const LEADING: &str =
    "an address in a network whose gateway is the host, such as flat-dhcp or vlan";

fn known<'a>(view: &'a View, name: &PoolName) -> Result<&'a Versioned<FloatingPool>, NetError> {
    view.pool(name).ok_or_else(|| NetError::NoSuchPool { pool: name.clone() })
}

/// A floating IP that somebody holds, with its holder.
fn held(
    view: &View,
    address: IpAddr,
) -> Result<(&Versioned<FloatingIp>, &FloatingOwner), NetError> {
    view.floating(address)
        .and_then(|row| Some((row, owner(&row.value)?)))
        .ok_or(NetError::NoSuchFloatingIp { address })
}
