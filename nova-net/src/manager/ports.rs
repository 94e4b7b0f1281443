//! Interfaces: reserving and releasing them.

use nova_core::domain::{
    AddressState, FixedIp, FloatingIp, FloatingOwner, InstanceId, Invalid, Mac, MacClaim, Network,
    Port, ProjectId,
};
use nova_core::port::{NetError, PortRequest};
use nova_core::seed::Seed;
use nova_core::store::record::keys;
use nova_core::store::{Draft, Guard, Key, Store, Txn, Versioned, Write};

use crate::manager::view::View;
use crate::manager::{Networks, READ, cannot};
use crate::pool::{Pick, Pool, address, macs};
use crate::topology::Access;

/// The most interfaces of one server: as many as a virtual machine has room for.
const INTERFACES_MAX: usize = 32;

/// How often a number is drawn before one is taken unseen, which at worst conflicts.
const DRAWS_MAX: usize = 16;

impl Networks {
    pub(super) async fn draft_ports(
        &self,
        request: &PortRequest,
    ) -> Result<Draft<Vec<Port>>, NetError> {
        let mut txn = Txn::new();
        let mut ports = Vec::new();
        let mut wanted: Vec<(Network, std::net::IpAddr)> = Vec::new();
        {
            let view = self.view().await?;
            for port in view.ports_of(request.instance) {
                txn.unchanged(port);
                ports.push(port.value.clone());
            }
            if !ports.is_empty() {
                self.lead_there(&view, request, &ports, &mut txn)?;
                return Ok(Draft { value: ports, txn });
            }
            for (index, (network, access)) in (0..).zip(self.choose(&view, request)?) {
                if access == Access::Claimable {
                    let project = Some(request.project.clone());
                    txn.replace(network, &Network { project, ..network.value.clone() });
                } else {
                    txn.unchanged(network);
                }
                let id = network.value.id;
                let none = || NetError::NoMoreAddresses { of: network.value.name.to_string() };
                let pool = view.addresses(id).ok_or_else(none)?;
                let seed = self.seed.child_of("address", request.instance.as_u128());
                let seed = seed.child_of("port", index);
                let key = |address| keys::fixed_ip(id, address);
                let pick = self.unseen(pool, seed, key).await?.ok_or_else(none)?;
                let address = address(pick.number());
                let state = AddressState::Owned(request.instance);
                let row = FixedIp { network: id, address, state };
                match (pick, view.fixed(id, address)) {
                    (Pick::Rested(_), Some(rested)) => txn.replace(rested, &row),
                    (Pick::Fresh(_) | Pick::Rested(_), _) => txn.create(&row),
                };
                wanted.push((network.value.clone(), address));
            }
        }
        for (index, (network, address)) in (0..).zip(wanted) {
            let instance = request.instance;
            let mac = self.free_mac(instance, index, &ports).await?;
            txn.create(&MacClaim { mac, instance });
            let security_groups = request.security_groups.clone();
            let address_v6 = network.cidr_v6.map(|range| mac.address_in(range));
            let network = network.id;
            let port = Port { instance, index, network, mac, address, address_v6, security_groups };
            txn.create(&port);
            ports.push(port);
        }
        self.lead_there(&*self.view().await?, request, &ports, &mut txn)?;
        Ok(Draft { value: ports, txn })
    }

    pub(super) async fn draft_release(&self, instance: InstanceId) -> Result<Draft<()>, NetError> {
        let view = self.view().await?;
        let mut txn = Txn::new();
        for port in view.ports_of(instance) {
            let Port { network, address, mac, .. } = port.value;
            txn.remove(port);
            // The claim lives as long as the port, which is guarded.
            txn.write(Write::Remove(keys::mac(mac)));
            if let Some(row) = view.fixed(network, address) {
                txn.replace(row, &FixedIp { network, address, state: self.resting() });
            }
        }
        if txn.writes().is_empty() {
            // That there is nothing to release has to be true when this is committed.
            txn.guard(Guard::Absent(keys::port(instance, 0)));
        }
        for (floating, _) in view.allocated_with(instance) {
            txn.replace(floating, &FloatingIp { state: self.resting(), ..floating.value.clone() });
        }
        let others = view.led_to(instance).filter(|(_, owner)| owner.server != Some(instance));
        for (floating, owner) in others {
            txn.replace(floating, &led(&floating.value, owner, None));
        }
        Ok(Draft { value: (), txn })
    }

    /// The networks of a request, in its order, and how its project comes to each.
    fn choose<'a>(
        &self,
        view: &'a View,
        request: &PortRequest,
    ) -> Result<Vec<(&'a Versioned<Network>, Access)>, NetError> {
        if request.networks.is_empty() {
            return self.choose_for(view, &request.project);
        }
        if request.networks.len() > INTERFACES_MAX {
            let count = request.networks.len();
            return Err(Invalid::new("port request.networks", count, "at most 32").into());
        }
        let mut chosen: Vec<(&Versioned<Network>, Access)> = Vec::new();
        for id in &request.networks {
            if chosen.iter().any(|(network, _)| network.value.id == *id) {
                return Err(Invalid::new("port request.networks", id, "each network once").into());
            }
            let network = view.network(*id);
            let access = network.map_or(Access::Denied, |n| self.access(n, &request.project));
            match network.filter(|_| access != Access::Denied) {
                Some(network) => chosen.push((network, access)),
                None => return Err(NetError::NoSuchNetwork { network: *id }),
            }
        }
        Ok(chosen)
    }

    /// What a project gets by itself: every network that it may use, or else the first that it
    /// can make its own. Networks come in the order of their ranges, which never changes.
    fn choose_for<'a>(
        &self,
        view: &'a View,
        project: &ProjectId,
    ) -> Result<Vec<(&'a Versioned<Network>, Access)>, NetError> {
        let mut all: Vec<_> =
            view.networks().map(|network| (network, self.access(network, project))).collect();
        all.sort_by_key(|(network, _)| (network.value.vlan, network.value.cidr));
        let free = all.iter().find(|(_, access)| *access == Access::Claimable).copied();
        all.retain(|(_, access)| *access == Access::Granted);
        match (all.is_empty(), free) {
            (false, _) if all.len() > INTERFACES_MAX => {
                let allowed = "at most 32; name the ones you want";
                Err(Invalid::new("port request.networks", all.len(), allowed).into())
            }
            (false, _) => Ok(all),
            (true, Some(free)) => Ok(vec![free]),
            (true, None) => Err(NetError::NoNetwork { project: project.clone() }),
        }
    }

    fn access(&self, network: &Versioned<Network>, project: &ProjectId) -> Access {
        // A network of a kind that this manager does not know is left to one that does.
        let topology = self.topology(&network.value);
        topology.map_or(Access::Denied, |topology| topology.access(&network.value, project))
    }

    /// A number of `pool` that, if it was never used, has no record in the store either: the
    /// pool may be behind, and many may be drawing from it. None when the pool is exhausted.
    pub(super) async fn unseen(
        &self,
        pool: &Pool,
        seed: Seed,
        key: impl Fn(std::net::IpAddr) -> Key,
    ) -> Result<Option<Pick>, NetError> {
        let mut chance = seed.chance();
        let mut pick = None;
        for _ in 0..DRAWS_MAX {
            pick = pool.draw(self.clock.now(), &mut chance).ok();
            let Some(Pick::Fresh(number)) = pick else { break };
            let record = self.store.get(&key(address(number))).await.map_err(cannot(READ))?;
            if record.is_none() {
                break;
            }
        }
        Ok(pick)
    }

    /// The first MAC of the interface's own sequence that nobody has.
    async fn free_mac(
        &self,
        instance: InstanceId,
        index: u8,
        drawn: &[Port],
    ) -> Result<Mac, NetError> {
        for mac in macs(self.mac_prefix, self.seed, instance, index) {
            let taken = self.store.get(&keys::mac(mac)).await.map_err(cannot(READ))?;
            if taken.is_none() && drawn.iter().all(|port| port.mac != mac) {
                return Ok(mac);
            }
        }
        Err(NetError::NoMoreAddresses { of: format!("mac prefix {}", self.mac_prefix) })
    }
}

/// `floating` of `owner`, leading to `binding`.
pub(super) fn led(
    floating: &FloatingIp,
    owner: &FloatingOwner,
    binding: Option<nova_core::domain::FloatingBinding>,
) -> FloatingIp {
    FloatingIp { state: AddressState::Owned(owner.led(binding)), ..floating.clone() }
}
