//! One moment of a cloud.

use std::collections::BTreeMap;

use crate::domain::{
    Aggregate, FixedIp, FloatingIp, FloatingPool, Host, HostId, Image, ImageId, Instance, MacClaim,
    Network, Operation, Port, SecurityGroup, ServerGroup, VlanClaim, Volume,
};
use crate::port::{Guest, VolumeFacts};
use crate::store::record::{Claim, LateImage, Lingering, OpenOperation, ProjectQuota};
use crate::store::{Entry, Prefix, Record, Scan, Store, StoreError};

macro_rules! snapshot {
    ($($(#[$doc:meta])* $field:ident: $record:ty),+ $(,)?) => {
        /// Every record of a cloud at one revision, and what was seen outside of the records.
        #[derive(Debug, Default, Clone)]
        #[non_exhaustive]
        pub struct Snapshot {
            $($(#[$doc])* pub $field: Vec<$record>,)+
            /// The guests that are really on each host that could be asked; a host that could
            /// not be asked is absent.
            pub guests: BTreeMap<HostId, Vec<Guest>>,
            /// The volumes that really exist, when their driver could be asked.
            pub real_volumes: Option<Vec<VolumeFacts>>,
            /// The images whose bytes really exist, when their store could be asked.
            pub real_images: Option<Vec<ImageId>>,
        }

        impl Snapshot {
            /// Sorts entries of a store by what they are. Entries that no invariant is about are
            /// left out.
            ///
            /// # Errors
            /// [`StoreError::Corrupt`] for an entry that cannot be read.
            pub fn of<'e>(
                entries: impl IntoIterator<Item = &'e Entry>,
            ) -> Result<Self, StoreError> {
                let mut snapshot = Self::default();
                for entry in entries {
                    let table = entry.key.as_str().split('/').next().unwrap_or_default();
                    $(if table == <$record as Record>::TABLE {
                        snapshot.$field.push(<$record>::decode(&entry.key, &entry.value)?);
                    })+
                }
                Ok(snapshot)
            }

            /// Brings one record up to what a store's watch told. Every list has to be sorted by
            /// key, as [`of`](Self::of) leaves it when it is given sorted entries. False when no
            /// invariant is about the record.
            ///
            /// # Errors
            /// [`StoreError::Corrupt`] for a value that cannot be read.
            pub fn apply(&mut self, change: &crate::store::Change) -> Result<bool, StoreError> {
                let key = &change.key;
                let table = key.as_str().split('/').next().unwrap_or_default();
                $(if table == <$record as Record>::TABLE {
                    let at = self.$field.binary_search_by(|record| record.key().cmp(key));
                    match (at, &change.value) {
                        (Ok(at), Some(bytes)) => {
                            self.$field[at] = <$record>::decode(key, bytes)?;
                        }
                        (Err(at), Some(bytes)) => {
                            self.$field.insert(at, <$record>::decode(key, bytes)?);
                        }
                        (Ok(at), None) => drop(self.$field.remove(at)),
                        (Err(_), None) => {}
                    }
                    return Ok(true);
                })+
                Ok(false)
            }
        }
    };
}

snapshot! {
    /// Hosts.
    hosts: Host,
    /// Aggregates.
    aggregates: Aggregate,
    /// Images.
    images: Image,
    /// Servers.
    instances: Instance,
    /// Capacity that servers have claimed.
    claims: Claim,
    /// Guests that hosts which could not be asked may still have.
    lingering: Lingering,
    /// Images that were given up, and the hosts that may still be storing them.
    late_images: LateImage,
    /// Networks.
    networks: Network,
    /// Addresses that are not free.
    fixed_ips: FixedIp,
    /// Interfaces of servers.
    ports: Port,
    /// VLANs that are not free.
    vlans: VlanClaim,
    /// Ethernet addresses that are taken.
    macs: MacClaim,
    /// Pools of floating IPs.
    pools: FloatingPool,
    /// Floating IPs that are not free.
    floating_ips: FloatingIp,
    /// Volumes.
    volumes: Volume,
    /// Server groups.
    groups: ServerGroup,
    /// Security groups.
    security_groups: SecurityGroup,
    /// Limits that are not the default.
    quotas: ProjectQuota,
    /// Operations.
    operations: Operation,
    /// Operations that have not ended.
    open: OpenOperation,
}

impl Snapshot {
    /// Reads a whole store, again and again until two readings in a row show that nothing
    /// changed meanwhile, at most [`READINGS_MAX`](Self::READINGS_MAX) times.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Unavailable`] when it never held still.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        for _ in 0..Self::READINGS_MAX {
            let mut entries = Vec::new();
            let mut scan = Scan::new(Prefix::all());
            let mut first = None;
            loop {
                let page = store.scan(scan.clone()).await?;
                let begun = *first.get_or_insert(page.revision);
                let (still, more) = (begun == page.revision, page.more);
                let last = page.entries.last().map(|entry| entry.key.clone());
                entries.extend(page.entries);
                match last {
                    _ if !still => break,
                    Some(last) if more => scan = scan.with_after(last),
                    _ => return Self::of(&entries),
                }
            }
        }
        Err(StoreError::Unavailable {
            operation: "read everything at one moment",
            source: "it changed all the time".into(),
        })
    }

    /// How often [`read`](Self::read) begins again.
    pub const READINGS_MAX: u32 = 100;

    /// Adds what is really on a host.
    #[must_use]
    pub fn with_guests(mut self, host: HostId, guests: Vec<Guest>) -> Self {
        self.guests.insert(host, guests);
        self
    }

    /// Adds which volumes really exist.
    #[must_use]
    pub fn with_volumes(self, volumes: Vec<VolumeFacts>) -> Self {
        Self { real_volumes: Some(volumes), ..self }
    }

    /// Adds which images' bytes really exist.
    #[must_use]
    pub fn with_images(self, images: Vec<ImageId>) -> Self {
        Self { real_images: Some(images), ..self }
    }
}
