//! The records as they are now, in memory: what every decision is made on.
//!
//! A view follows the store through one watch, so that it always shows one moment of the past.
//! It may be behind. That is safe, because a decision guards what it relied on; after a conflict
//! the view catches up and the decision is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::clock::{Clock, ClockExt as _, Timestamp};
use crate::cloud::board::Board;
use crate::domain::{
    AddressState, Aggregate, Flavor, FloatingIp, FloatingPool, GroupPolicy, GroupView, Host,
    HostId, HostTable, Image, Instance, InstanceId, Network, Port, ProjectId, Quota, Resources,
    SecurityGroup, ServerGroup, ServerGroupId, Volume,
};
use crate::store::record::{
    Beat, Claim, HostImages, LateImage, Ledger, Lingering, OpenOperation, ProjectQuota, keys,
};
use crate::store::{
    Change, Event, Key, Prefix, Record, Revision, Scan, Store, StoreError, StoreExt as _, Txn,
    Versioned, Watch, Write,
};

/// All records of one kind, sorted by key.
pub(crate) type Table<R> = BTreeMap<Key, Versioned<R>>;

macro_rules! view {
    ($($field:ident: $record:ty),+ $(,)?) => {
        /// A moment of the store; see the module.
        #[derive(Debug)]
        pub(crate) struct View {
            store: Arc<dyn Store>,
            watch: Watch,
            /// What happened up to and including this revision has been applied.
            seen: Revision,
            /// What happened up to and including this revision was in the last full reading.
            read_at: Revision,
            board: Board,
            /// Something could not be read: nothing here counts before everything was read again.
            stale: bool,
            $(pub(crate) $field: Table<$record>,)+
        }

        impl View {
            /// Reads everything and begins to follow.
            pub(crate) async fn open(
                store: Arc<dyn Store>,
                now: Timestamp,
            ) -> Result<Self, StoreError> {
                let revision = newest(&*store).await?;
                let watch = store.watch(&Prefix::all(), revision).await?;
                let mut view = Self {
                    store,
                    watch,
                    seen: revision,
                    read_at: revision,
                    board: Board::default(),
                    stale: true,
                    $($field: Table::new(),)+
                };
                view.reload(now).await?;
                Ok(view)
            }

            async fn reload(&mut self, now: Timestamp) -> Result<(), StoreError> {
                self.stale = true;
                let revision = newest(&*self.store).await?;
                $(self.$field = load::<$record>(&*self.store).await?;)+
                for host in self.hosts.values() {
                    self.board.soil(host.value.id);
                }
                self.board.forget_others(self.hosts.values().map(|host| host.value.id).collect());
                // A beat may have been lost with the place in the watch.
                for Beat { host, epoch, count, .. } in self.beats.values().map(|beat| &beat.value) {
                    self.board.heard(*host, (*epoch, *count), now);
                }
                self.seen = self.seen.max(revision);
                self.read_at = revision;
                self.stale = false;
                Ok(())
            }

            /// How many records of each kind there are, without ledgers, signs of life, what hosts
            /// have at hand and what operations leave while they last.
            pub(crate) fn count(&self) -> BTreeMap<&'static str, usize> {
                let mut counts = BTreeMap::new();
                $(counts.insert(<$record as Record>::TABLE, self.$field.len());)+
                counts.remove(Ledger::TABLE);
                counts.remove(Beat::TABLE);
                counts.remove(HostImages::TABLE);
                counts.remove(OpenOperation::TABLE);
                counts.remove(LateImage::TABLE);
                counts
            }

            fn take(&mut self, change: &Change, now: Timestamp) -> Result<(), StoreError> {
                let table = change.key.as_str().split('/').next().unwrap_or_default();
                self.before(change);
                $(if table == <$record as Record>::TABLE {
                    put(&mut self.$field, change)?;
                })+
                self.after(change, now);
                Ok(())
            }
        }
    };
}

view! {
    // First: a ledger that is read before what it covers is at most too old, and then conflicts.
    ledgers: Ledger,
    hosts: Host,
    beats: Beat,
    host_images: HostImages,
    aggregates: Aggregate,
    flavors: Flavor,
    images: Image,
    networks: Network,
    pools: FloatingPool,
    floating_ips: FloatingIp,
    ports: Port,
    instances: Instance,
    claims: Claim,
    lingering: Lingering,
    late_images: LateImage,
    volumes: Volume,
    groups: ServerGroup,
    security_groups: SecurityGroup,
    quotas: ProjectQuota,
    open_operations: OpenOperation,
}

async fn load<R: Record>(store: &dyn Store) -> Result<Table<R>, StoreError> {
    let records = store.read_all::<R>(&R::all()).await?;
    Ok(records.into_iter().map(|record| (record.value.key(), record)).collect())
}

fn put<R: Record>(table: &mut Table<R>, change: &Change) -> Result<(), StoreError> {
    // What was read after the watch began may already show what the watch is about to tell.
    if table.get(&change.key).is_some_and(|known| known.revision >= change.revision) {
        return Ok(());
    }
    match &change.value {
        Some(bytes) => {
            let value = R::decode(&change.key, bytes)?;
            table.insert(change.key.clone(), Versioned { value, revision: change.revision });
        }
        None => drop(table.remove(&change.key)),
    }
    Ok(())
}

impl View {
    fn apply(&mut self, change: Change, now: Timestamp) -> Result<(), StoreError> {
        // A watch may be further behind than the last full reading: what that reading did not
        // show any more must not come back.
        if change.revision <= self.read_at {
            return Ok(());
        }
        self.take(&change, now)?;
        self.seen = self.seen.max(change.revision);
        Ok(())
    }

    /// Shows what this process has just committed at `revision`, without waiting until it hears
    /// of it. Only for transactions that remove nothing: of a removal the view could not tell
    /// later that it came after what is still to be heard.
    ///
    /// # Errors
    /// As for [`catch_up`](Self::catch_up).
    pub(crate) fn learn(
        &mut self,
        txn: Txn,
        revision: Revision,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.has_seen(revision) {
            // It has been heard of, and what came later with it: that may have been removed.
            return Ok(());
        }
        for write in txn.writes() {
            if let Write::Put(key, value) = write {
                let (key, value) = (key.clone(), Some(value.clone()));
                self.stale = true;
                self.take(&Change { key, value, revision }, now)?;
                self.stale = false;
            }
        }
        Ok(())
    }

    /// Shows what somebody has seen on a host, unless that is known already.
    pub(crate) fn merge(&mut self, look: Look) {
        let (key, host) = (look.ledger.value.key(), look.host);
        if self.ledger(&key).is_some_and(|known| known.revision >= look.ledger.revision) {
            return;
        }
        let known: Vec<Key> = self.claims_on(host).map(Record::key).collect();
        for key in known {
            self.claims.remove(&key);
        }
        self.claims.extend(look.claims.into_iter().map(|claim| (claim.value.key(), claim)));
        self.ledgers.insert(key, look.ledger);
        self.board.soil(host);
    }

    /// Applies everything that has arrived.
    ///
    /// # Errors
    /// Those of the store, or [`StoreError::Corrupt`].
    pub(crate) async fn catch_up(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.watch.has_ended() {
            // Only a reading can show what the watch did not tell before it ended.
            self.stale = true;
            let revision = newest(&*self.store).await?;
            self.watch = self.store.watch(&Prefix::all(), revision).await?;
        }
        if self.stale {
            self.reload(now).await?;
        }
        while let Some(event) = self.watch.try_next() {
            match event {
                Event::Changed(change) => {
                    // A change that cannot be read is gone from the watch; it must not be gone
                    // from the view without anybody noticing.
                    self.stale = true;
                    self.apply(change, now)?;
                    self.stale = false;
                }
                Event::Resync => self.reload(now).await?,
            }
        }
        Ok(())
    }

    /// Whether what happened up to `revision` has arrived.
    pub(crate) fn has_seen(&self, revision: Revision) -> bool {
        self.seen >= revision
    }

    /// Notes which hosts look different because of what is about to disappear or be replaced.
    fn before(&mut self, change: &Change) {
        if let Some(aggregate) = self.aggregates.get(&change.key) {
            aggregate.value.hosts.iter().for_each(|host| self.board.soil(*host));
        }
        if let Some(claim) = self.claims.get(&change.key) {
            self.board.soil(claim.value.host);
        }
        if let Some(instance) = self.instances.get(&change.key) {
            instance.value.hosts().into_iter().for_each(|host| self.board.soil(host));
        }
        if let Some(host) = self.hosts.get(&change.key) {
            self.board.soil(host.value.id);
        }
        if let Some(images) = self.host_images.get(&change.key) {
            self.board.soil(images.value.host);
        }
    }

    /// Notes which hosts look different because of what has appeared.
    fn after(&mut self, change: &Change, now: Timestamp) {
        self.before(change);
        if let Some(beat) = self.beats.get(&change.key) {
            self.board.heard(beat.value.host, (beat.value.epoch, beat.value.count), now);
        }
    }

    /// The hosts as the scheduler sees them. A host that was silent since `silent_since` or
    /// longer is down.
    pub(crate) fn hosts(&mut self, now: Timestamp, down_after: Duration) -> &HostTable {
        let mut board = std::mem::take(&mut self.board);
        board.refresh(self, now, down_after);
        self.board = board;
        self.board.table()
    }

    /// Why a host is not ready, if its agent says that it is not.
    pub(crate) fn unready(&self, host: HostId) -> Option<&str> {
        self.beats.get(&keys::beat(host))?.value.unready.as_deref()
    }

    /// The volumes of a server, also one that is kept for it as its root disk.
    pub(crate) fn volumes_of(
        &self,
        instance: InstanceId,
    ) -> impl Iterator<Item = &Versioned<Volume>> {
        self.volumes.values().filter(move |volume| volume.value.belongs_to(instance))
    }

    /// The interfaces of an instance, in order.
    pub(crate) fn ports_of(&self, instance: InstanceId) -> impl Iterator<Item = &Port> {
        self.port_records_of(instance).map(|port| &port.value)
    }

    /// Their records.
    pub(crate) fn port_records_of(
        &self,
        instance: InstanceId,
    ) -> impl Iterator<Item = &Versioned<Port>> {
        range(&self.ports, &keys::ports_of(instance))
    }

    /// The floating IPs that lead to a server.
    pub(crate) fn led_to(
        &self,
        instance: InstanceId,
    ) -> impl Iterator<Item = &Versioned<FloatingIp>> {
        self.floating_ips.values().filter(move |floating| match &floating.value.state {
            AddressState::Owned(owner) => {
                owner.binding.as_ref().is_some_and(|to| to.instance == instance)
            }
            _ => false,
        })
    }

    /// The claims on a host.
    pub(crate) fn claims_on(&self, host: HostId) -> impl Iterator<Item = &Claim> {
        range(&self.claims, &keys::claims_on(host)).map(|claim| &claim.value)
    }

    /// How many servers a project has, and what they take together.
    pub(crate) fn usage(&self, project: &ProjectId) -> (u64, Resources) {
        let mine = self.instances.values().filter(|i| i.value.project == *project);
        mine.fold((0, Resources::ZERO), |(count, sum), instance| {
            (count + 1, sum.saturating_add(instance.value.usage()))
        })
    }

    /// The limits of a project.
    pub(crate) fn quota(&self, project: &ProjectId) -> Quota {
        self.quotas.get(&keys::quota(project)).map(|row| row.value.quota).unwrap_or_default()
    }

    /// The ledger under `key`, when something was ever written to it.
    pub(crate) fn ledger(&self, key: &Key) -> Option<&Versioned<Ledger>> {
        self.ledgers.get(key)
    }

    /// A group with its members where they have claims now, seen by one of them, which does not
    /// count. A member that has no host yet counts nowhere, one that moves at both ends.
    pub(crate) fn group(&self, id: ServerGroupId, but: InstanceId) -> Option<GroupView> {
        let group = &self.groups.get(&keys::group(id))?.value;
        let mut seen = GroupView::new(id, group.policy, group.max_per_host.get());
        let others = self.members(id).filter(|member| member.id != but);
        others.flat_map(Instance::hosts).for_each(|host| seen.join(host));
        Some(seen)
    }

    /// The servers of a group, sorted by id.
    pub(crate) fn members(&self, id: ServerGroupId) -> impl Iterator<Item = &Instance> {
        self.instances.values().map(|i| &i.value).filter(move |i| i.group == Some(id))
    }

    /// The aggregates that a host is in, sorted by id.
    pub(crate) fn aggregates_of(&self, host: HostId) -> Vec<Arc<Aggregate>> {
        let within = self.aggregates.values().filter(|a| a.value.hosts.contains(&host));
        within.map(|aggregate| Arc::new(aggregate.value.clone())).collect()
    }
}

/// What is claimed on a host, as somebody saw it in the store.
#[derive(Debug)]
pub(crate) struct Look {
    host: HostId,
    ledger: Versioned<Ledger>,
    claims: Vec<Versioned<Claim>>,
}

/// Reads again what is claimed on a host; none when its ledger is at `known`.
///
/// # Errors
/// Those of the store, or [`StoreError::Corrupt`].
pub(crate) async fn look_at(
    store: &dyn Store,
    host: HostId,
    known: Option<Revision>,
) -> Result<Option<Look>, StoreError> {
    // Whatever changes the claims writes the ledger too. It is read first: a ledger that is older
    // than the claims beside it conflicts, and does no harm.
    let ledger = store.read::<Ledger>(&keys::host_ledger(host)).await?;
    let Some(ledger) = ledger.filter(|ledger| Some(ledger.revision) > known) else {
        return Ok(None);
    };
    let claims = store.read_all::<Claim>(&keys::claims_on(host)).await?;
    Ok(Some(Look { host, ledger, claims }))
}

/// How long a refusal waits for a view that has seen everything.
pub(crate) const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// The revision of the store now.
///
/// # Errors
/// Those of the store.
pub(crate) async fn newest(store: &dyn Store) -> Result<Revision, StoreError> {
    Ok(store.scan(Scan::new(Prefix::all()).with_limit(1)).await?.revision)
}

/// How long whoever waits for a view leaves it to others before looking again.
const REACH_PAUSE: Duration = Duration::from_millis(50);

/// The view as soon as it has seen what happened up to `revision`; none when it has not within
/// `limit`. A store may tell its watchers late, and nobody else may wait for that: the view is
/// not held meanwhile.
///
/// # Errors
/// As for [`View::catch_up`].
pub(crate) async fn reach<'v>(
    view: &'v Mutex<View>,
    revision: Revision,
    clock: &dyn Clock,
    limit: Duration,
) -> Result<Option<MutexGuard<'v, View>>, StoreError> {
    let end = clock.now().after(limit);
    loop {
        {
            let mut view = view.lock().await;
            view.catch_up(clock.now()).await?;
            if view.has_seen(revision) {
                return Ok(Some(view));
            }
        }
        let left = end.since(clock.now());
        if left.is_zero() {
            return Ok(None);
        }
        clock.sleep(left.min(REACH_PAUSE)).await;
    }
}

/// The records below `prefix`.
fn range<'a, R>(
    table: &'a Table<R>,
    prefix: &Prefix,
) -> impl Iterator<Item = &'a Versioned<R>> + use<'a, R> {
    let prefix = prefix.clone();
    table
        .range(Key::from_stored(prefix.as_str())..)
        .take_while(move |(key, _)| prefix.covers(key))
        .map(|(_, record)| record)
}

/// Whether a group's rule lets one more member come to `host`: what the commit of a claim checks
/// again, whatever the scheduler said.
pub(crate) fn group_admits(group: &GroupView, host: HostId) -> bool {
    match group.policy {
        GroupPolicy::Affinity => {
            let used: BTreeSet<HostId> = group.members_by_host.keys().copied().collect();
            // While a member moves nobody can say which of its hosts the group will be on.
            used.is_empty() || used.len() == 1 && used.contains(&host)
        }
        GroupPolicy::AntiAffinity => group.members_on(host) < group.max_per_host,
        GroupPolicy::SoftAffinity | GroupPolicy::SoftAntiAffinity => true,
    }
}

#[cfg(test)]
mod tests;
