//! The set of parts, which is whole at every moment.

use std::collections::BTreeMap;

use crate::host::{GuestIpv6, GuestPort, Lease, Part, PartId, Slot};

/// The network of one host.
///
/// Whatever a part needs is there, and what only one part may have only one has: a value of this
/// type that breaks either rule does not exist.
///
/// ```
/// # use nova_net::host::{Bridge, BridgeOrigin, HostNet};
/// # use nova_core::domain::InterfaceName;
/// let mut net = HostNet::new();
/// let name = InterfaceName::new("br100")?;
/// net.insert(Bridge { name, uplink: None, origin: BridgeOrigin::Ours })?;
/// assert_eq!(net.to_string(), "bridge br100 (no uplink)\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<Part>", into = "Vec<Part>")]
pub struct HostNet {
    parts: BTreeMap<PartId, Part>,
    slots: BTreeMap<Slot, PartId>,
}

/// Why a part cannot be added, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Something that it needs is not there.
    #[error("{part} needs {needs}")]
    Needs {
        /// The part.
        part: PartId,
        /// What it needs.
        needs: PartId,
    },
    /// Another one has what only one may have.
    #[error("{part} and {other} both have {slot:?}")]
    Shared {
        /// The part.
        part: PartId,
        /// The one that has it.
        other: PartId,
        /// What they have.
        slot: Slot,
    },
    /// It is there already, and different.
    #[error("{part} is there already and different")]
    Different {
        /// The part.
        part: PartId,
    },
    /// It is not there.
    #[error("{part} is not there")]
    Absent {
        /// The part.
        part: PartId,
    },
    /// It cannot change while it is in use.
    #[error("{part} cannot change so while it is in use")]
    Fixed {
        /// The part.
        part: PartId,
    },
    /// Another one needs it.
    #[error("{part} is needed by {by}")]
    NeededBy {
        /// The part.
        part: PartId,
        /// Who needs it.
        by: PartId,
    },
}

impl HostNet {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The port that an IPv6 address is of, which is there as long as that is.
    pub(crate) fn port_of(&self, guest: &GuestIpv6) -> Option<&GuestPort> {
        match self.parts.get(&PartId::GuestPort(guest.tap)) {
            Some(Part::GuestPort(port)) => Some(port),
            _ => None,
        }
    }

    /// The lease of the guest that an IPv6 address is of, where it has one.
    pub(crate) fn lease_of(&self, guest: &GuestIpv6) -> Option<&Lease> {
        let port = self.port_of(guest)?;
        match self.parts.get(&PartId::Lease(guest.network, port.mac)) {
            Some(Part::Lease(lease)) => Some(lease),
            _ => None,
        }
    }

    /// Adds a part. Adding what is there already changes nothing.
    ///
    /// # Errors
    /// [`Flaw`] when it does not fit; nothing has changed then.
    pub fn insert(&mut self, part: impl Into<Part>) -> Result<(), Flaw> {
        let part = part.into();
        let id = part.id();
        match self.parts.get(&id) {
            Some(present) if *present == part => return Ok(()),
            Some(_) => return Err(Flaw::Different { part: id }),
            None => self.fits(&id, &part)?,
        }
        self.put(id, part);
        Ok(())
    }

    /// Changes a part in place. Changing it to what it is changes nothing.
    ///
    /// # Errors
    /// [`Flaw`] when it is not there or cannot become so; nothing has changed then.
    pub fn change(&mut self, part: impl Into<Part>) -> Result<(), Flaw> {
        let part = part.into();
        let id = part.id();
        match self.parts.get(&id) {
            None => return Err(Flaw::Absent { part: id }),
            Some(present) if *present == part => return Ok(()),
            Some(present) if !present.changes_in_place_to(&part) => {
                return Err(Flaw::Fixed { part: id });
            }
            Some(_) => self.fits(&id, &part)?,
        }
        self.take(&id);
        self.put(id, part);
        Ok(())
    }

    /// Removes a part. Removing what is not there changes nothing.
    ///
    /// # Errors
    /// [`Flaw::NeededBy`] when another part needs it; nothing has changed then.
    pub fn remove(&mut self, id: &PartId) -> Result<(), Flaw> {
        let user = self.parts.iter().find(|(_, part)| part.needs().contains(id));
        if let Some((by, _)) = user {
            return Err(Flaw::NeededBy { part: id.clone(), by: by.clone() });
        }
        self.take(id);
        Ok(())
    }

    /// One part.
    pub fn get(&self, id: &PartId) -> Option<&Part> {
        self.parts.get(id)
    }

    /// Who has what only one may have.
    pub fn holder(&self, slot: &Slot) -> Option<&PartId> {
        self.slots.get(slot)
    }

    /// All parts, each after those that it needs.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = (&PartId, &Part)> {
        self.parts.iter()
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn fits(&self, id: &PartId, part: &Part) -> Result<(), Flaw> {
        for needs in part.needs() {
            if !self.parts.contains_key(&needs) {
                return Err(Flaw::Needs { part: id.clone(), needs });
            }
        }
        for slot in part.slots() {
            if let Some(other) = self.slots.get(&slot).filter(|other| *other != id) {
                return Err(Flaw::Shared { part: id.clone(), other: other.clone(), slot });
            }
        }
        Ok(())
    }

    fn put(&mut self, id: PartId, part: Part) {
        self.slots.extend(part.slots().into_iter().map(|slot| (slot, id.clone())));
        self.parts.insert(id, part);
    }

    fn take(&mut self, id: &PartId) {
        for slot in self.parts.remove(id).iter().flat_map(Part::slots) {
            self.slots.remove(&slot);
        }
    }
}

impl std::fmt::Display for HostNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.values().try_for_each(|part| writeln!(f, "{part}"))
    }
}

impl TryFrom<Vec<Part>> for HostNet {
    type Error = Flaw;

    /// The network of these parts, in any order.
    fn try_from(mut parts: Vec<Part>) -> Result<Self, Flaw> {
        parts.sort_by_key(Part::id);
        let mut net = Self::new();
        parts.into_iter().try_for_each(|part| net.insert(part))?;
        Ok(net)
    }
}

impl From<HostNet> for Vec<Part> {
    fn from(net: HostNet) -> Self {
        net.parts.into_values().collect()
    }
}
