//! Security groups: from their rules and members to what may come to a host's guests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use nova_core::domain::{Peer, Port, SecurityGroup, SecurityGroupId, Traffic};
use nova_core::store::record::keys;
use nova_core::store::{Key, Mirror, Store, StoreError};

use crate::host::{Allowed, PortFilter};

/// The groups, and who is in them.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Mirror<SecurityGroup>,
    /// The addresses of the members of each group. No two servers have the same address, as the
    /// ranges of networks do not overlap.
    members: BTreeMap<SecurityGroupId, BTreeSet<IpAddr>>,
    /// What the members say of a port, to take it out again.
    ports: BTreeMap<Key, (Vec<IpAddr>, BTreeSet<SecurityGroupId>)>,
}

impl Groups {
    pub(super) async fn new(store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        let groups = Mirror::new(Arc::clone(store)).await?;
        Ok(Self { groups, members: BTreeMap::new(), ports: BTreeMap::new() })
    }

    /// Learns what has changed, of `ports` those that `changed` names.
    pub(super) async fn follow(
        &mut self,
        changed: &[Key],
        ports: &Mirror<Port>,
    ) -> Result<(), StoreError> {
        self.groups.catch_up().await?;
        for key in changed {
            if let Some((addresses, groups)) = self.ports.remove(key) {
                for group in groups {
                    if let Some(members) = self.members.get_mut(&group) {
                        for address in &addresses {
                            members.remove(address);
                        }
                    }
                }
            }
            if let Some(port) = ports.get(key) {
                let groups = port.value.security_groups.clone();
                let address_v6 = port.value.address_v6.map(IpAddr::from);
                let addresses = Vec::from_iter([port.value.address].into_iter().chain(address_v6));
                for group in &groups {
                    self.members.entry(*group).or_default().extend(&addresses);
                }
                self.ports.insert(key.clone(), (addresses, groups));
            }
        }
        self.members.retain(|_, members| !members.is_empty());
        Ok(())
    }

    /// What may come to those who are in these groups. One that has no record is a default group
    /// that nobody has changed.
    pub(super) fn filter(&self, groups: &BTreeSet<SecurityGroupId>) -> PortFilter {
        let mut allows = BTreeSet::new();
        for id in groups {
            let Some(group) = self.groups.get(&keys::security_group(*id)) else {
                allows.extend(self.members(*id, Traffic::Any));
                continue;
            };
            for rule in &group.value.rules {
                match (rule.traffic(), rule.from()) {
                    (traffic, Peer::Range(from)) => drop(allows.insert(Allowed { traffic, from })),
                    (traffic, Peer::Group(peer)) => allows.extend(self.members(peer, traffic)),
                }
            }
        }
        PortFilter { groups: groups.clone(), allows }
    }

    /// That the members of a group may send this.
    fn members(
        &self,
        group: SecurityGroupId,
        traffic: Traffic,
    ) -> impl Iterator<Item = Allowed> + '_ {
        let members = self.members.get(&group).into_iter().flatten();
        members.map(move |address| Allowed { traffic, from: IpNetwork::from(*address) })
    }
}
