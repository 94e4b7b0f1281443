//! Looks at everything whenever something has changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clock as _, Timestamp};
use crate::doctor::{Finding, Snapshot, Strictness, examine};
use crate::domain::{AddressState, FixedIp, HostId, InstanceId, OpId};
use crate::memory::MemoryNetworks;
use crate::store::record::keys;
use crate::store::{Change, Event, Key, Prefix, Record as _, Revision, StoreError, Watch};
use crate::testing::world::World;

/// A request that was answered with yes.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) request: Key,
    pub(crate) operation: Option<OpId>,
}

/// What users were promised, and what they found wrong themselves.
#[derive(Debug, Default)]
pub(crate) struct Promises(Mutex<(Vec<Acknowledged>, Vec<Finding>)>);

impl Promises {
    pub(crate) fn keep(&self, acknowledged: Acknowledged) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.push(acknowledged);
    }

    pub(crate) fn complain(&self, invariant: &'static str, detail: String) {
        let finding = Finding { invariant, detail };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.push(finding);
    }

    fn all(&self) -> (Vec<Acknowledged>, Vec<Finding>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The records as they are, beside what is really there.
#[derive(Debug)]
pub(crate) struct Auditor {
    world: Arc<World>,
    promises: Arc<Promises>,
    watch: Watch,
    snapshot: Snapshot,
    seen: u64,
    kept: usize,
    /// When a server was last seen to use its addresses, or got them.
    used: BTreeMap<InstanceId, Timestamp>,
    pub(crate) findings: Vec<Finding>,
}

/// Findings of one moment that are told.
const FINDINGS_MAX: usize = 8;

impl Auditor {
    pub(crate) async fn new(
        world: Arc<World>,
        promises: Arc<Promises>,
    ) -> Result<Self, StoreError> {
        let watch = world.store.watch(&Prefix::all(), Revision::default()).await?;
        let snapshot = Snapshot::default();
        let (used, findings) = (BTreeMap::new(), Vec::new());
        Ok(Self { world, promises, watch, snapshot, seen: u64::MAX, kept: 0, used, findings })
    }

    fn complain(&mut self, invariant: &'static str, detail: String) {
        self.findings.push(Finding { invariant, detail });
    }

    /// Follows the store, and looks at everything if anything has changed.
    pub(crate) async fn look(&mut self) {
        let mut changed = false;
        while let Some(event) = self.watch.try_next() {
            match event {
                Event::Changed(change) => changed |= self.follow(&change),
                Event::Resync => self.complain("the simulation keeps up", String::new()),
            }
        }
        let seen: u64 = self.world.machines.iter().map(|machine| machine.driver.changes()).sum();
        if changed || seen != self.seen {
            self.seen = seen;
            self.examine(Strictness::Busy).await;
        }
        self.hold_promises().await;
    }

    fn follow(&mut self, change: &Change) -> bool {
        let log = &self.world.log;
        log.mix(change.key.as_str().as_bytes());
        log.mix(&change.revision.0.to_le_bytes());
        log.mix(change.value.as_deref().unwrap_or_default());
        self.watch_address(change);
        match self.snapshot.apply(change) {
            Ok(changed) => changed,
            Err(error) => {
                self.complain("every record can be read", error.to_string());
                false
            }
        }
    }

    /// An address that somebody gave back rests before somebody else gets it.
    fn watch_address(&mut self, change: &Change) {
        if !FixedIp::all().covers(&change.key) {
            return;
        }
        let known = self.snapshot.fixed_ips.iter().find(|ip| ip.key() == change.key);
        let next = change.value.as_ref().and_then(|v| FixedIp::decode(&change.key, v).ok());
        let Some(AddressState::Owned(owner)) = known.map(|known| &known.state) else {
            if let Some(AddressState::Owned(owner)) = next.map(|next| next.state) {
                self.used.insert(owner, self.world.clock.now());
            }
            return;
        };
        // It rests from when its guest was last there, however long it took to write that down.
        // Clocks may differ, but not by so much.
        let used = self.used.get(owner).copied().unwrap_or_default();
        let least = used.after(MemoryNetworks::QUARANTINE / 2);
        let rests = match next.map(|next| next.state) {
            Some(AddressState::Quarantined { until }) => until >= least,
            Some(AddressState::Owned(next)) => next == *owner,
            _ => false,
        };
        if !rests {
            let detail = format!("{} of server {owner} does not rest", change.key);
            self.complain("an address rests before it is used again", detail);
        }
    }

    /// Holds the invariants against this moment.
    pub(crate) async fn examine(&mut self, strictness: Strictness) {
        self.snapshot.guests = self.guests().await;
        let now = self.world.clock.now();
        self.used
            .extend(self.snapshot.guests.values().flatten().map(|guest| (guest.instance, now)));
        self.snapshot.real_volumes = self.world.volumes.list().await.ok();
        self.snapshot.real_images = self.world.images.list().await.ok();
        let findings = examine(&self.snapshot, strictness);
        self.findings.extend(findings.into_iter().take(FINDINGS_MAX));
    }

    /// What is really on the hosts that have power.
    async fn guests(&self) -> BTreeMap<HostId, Vec<crate::port::Guest>> {
        let mut guests = BTreeMap::new();
        for machine in &self.world.machines {
            let host = self.snapshot.hosts.iter().find(|host| host.name == machine.spec.name);
            if let (Some(host), true) = (host, machine.driver.is_powered())
                && let Ok(there) = machine.driver.truth().guests().await
            {
                guests.insert(host.id, there);
            }
        }
        guests
    }

    /// Nothing that was acknowledged is ever absent.
    async fn hold_promises(&mut self) {
        let (kept, complaints) = self.promises.all();
        self.findings.extend(complaints);
        let new = kept.get(self.kept..).unwrap_or_default().to_vec();
        self.kept = kept.len();
        for promise in new {
            self.hold(&promise).await;
        }
    }

    async fn hold(&mut self, promise: &Acknowledged) {
        let known = self.world.store.get(&promise.request).await;
        if !matches!(known, Ok(Some(_))) {
            let detail = format!("{} was acknowledged and is not there", promise.request);
            self.complain("what was acknowledged is there", detail);
        }
        if let Some(id) = promise.operation {
            let known = self.world.store.get(&keys::operation(id)).await;
            if !matches!(known, Ok(Some(_))) {
                let detail = format!("operation {id} was acknowledged and is not there");
                self.complain("what was acknowledged is there", detail);
            }
        }
    }

    /// Looks at every promise again, at the end.
    pub(crate) async fn hold_all(&mut self) {
        for promise in self.promises.all().0 {
            self.hold(&promise).await;
        }
    }

    /// The records as they are now.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}
