//! What a project may do: its key pairs, its groups, and what it can see.

use std::sync::Arc;

use crate::cloud::api::specs::GroupSpec;
use crate::cloud::api::views::Server;
use crate::cloud::api::{Door, Plan};
use crate::cloud::error::ApiError;
use crate::domain::{
    Flavor, Image, InstanceId, KeyPair, KeyPairName, Network, OpId, Operation, ProjectId,
    PublicKey, Quantum, Quota, RequestId, Resources, ServerGroup, ServerGroupId, Volume,
};
use crate::plant::{Bug, planted};
use crate::store::record::{Ledger, Record, keys};
use crate::store::{StoreExt as _, Txn};

/// A project's handle. Cheap to copy.
///
/// What belongs to other projects does not exist for it: asking for it is
/// [`ApiError::NotFound`].
#[derive(Debug, Clone)]
pub struct Project {
    pub(crate) door: Arc<Door>,
    pub(crate) id: ProjectId,
}

impl Project {
    /// Whose request ids these are.
    pub(crate) fn scope(&self) -> &str {
        self.id.as_str()
    }

    /// The project.
    pub fn id(&self) -> &ProjectId {
        &self.id
    }

    /// A request id that was never used.
    pub fn new_request(&self) -> RequestId {
        self.door.new_request()
    }

    /// The flavors there are, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn flavors(&self) -> Result<Vec<Flavor>, ApiError> {
        let view = self.door.fresh().await?;
        Ok(view.flavors.values().map(|flavor| flavor.value.clone()).collect())
    }

    /// The images it may use, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn images(&self) -> Result<Vec<Image>, ApiError> {
        let view = self.door.fresh().await?;
        let mine = view.images.values().map(|image| &image.value);
        let mine = mine.filter(|i| i.owner.as_ref().is_none_or(|owner| *owner == self.id));
        Ok(mine.cloned().collect())
    }

    /// The networks it may use, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn networks(&self) -> Result<Vec<Network>, ApiError> {
        let view = self.door.fresh().await?;
        let mine = view.networks.values().map(|network| &network.value);
        let mine = mine.filter(|n| n.project.as_ref().is_none_or(|owner| *owner == self.id));
        Ok(mine.cloned().collect())
    }

    /// Its servers, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn servers(&self) -> Result<Vec<Server>, ApiError> {
        let view = self.door.fresh().await?;
        let mine = view.instances.values().filter(|i| i.value.project == self.id);
        Ok(mine.map(|instance| Server::of(&view, &instance.value)).collect())
    }

    /// One of its servers.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn server(&self, id: InstanceId) -> Result<Server, ApiError> {
        let mut view = self.door.fresh().await?;
        if self.own(&view, id).is_err() {
            // It may be there, and not heard of yet.
            drop(view);
            view = self.door.caught_up().await?;
        }
        let instance = self.own(&view, id)?;
        Ok(Server::of(&view, &instance.value))
    }

    /// Its volumes, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn volumes(&self) -> Result<Vec<Volume>, ApiError> {
        let view = self.door.fresh().await?;
        let mine = view.volumes.values().map(|volume| &volume.value);
        Ok(mine.filter(|volume| volume.project == self.id).cloned().collect())
    }

    /// Its server groups, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn groups(&self) -> Result<Vec<ServerGroup>, ApiError> {
        let view = self.door.fresh().await?;
        let mine = view.groups.values().map(|group| &group.value);
        Ok(mine.filter(|group| group.project == self.id).cloned().collect())
    }

    /// Its limits, and how many servers of what size it has.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn quota(&self) -> Result<(Quota, u64, Resources), ApiError> {
        let view = self.door.fresh().await?;
        let (servers, used) = view.usage(&self.id);
        Ok((view.quota(&self.id), servers, used))
    }

    /// One of its operations, as it is now.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn operation(&self, id: OpId) -> Result<Operation, ApiError> {
        let op = self.door.operation(id).await?;
        if op.project.as_ref() == Some(&self.id) {
            Ok(op)
        } else {
            Err(ApiError::not_found("operation", id))
        }
    }

    /// Waits until one of its operations has ended, however it ended.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]. It waits on when the cloud is stopped: what was accepted goes on
    /// when it is started again.
    pub async fn wait(&self, id: OpId) -> Result<Operation, ApiError> {
        self.operation(id).await?;
        self.door.wait(id).await
    }

    /// Its key pairs, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn key_pairs(&self) -> Result<Vec<KeyPair>, ApiError> {
        let mine = keys::key_pairs_of(&self.id);
        let mine = self.door.ports.store.read_all::<KeyPair>(&mine).await?;
        Ok(mine.into_iter().map(|pair| pair.value).collect())
    }

    /// Keeps a public key under a name.
    ///
    /// # Errors
    /// [`ApiError::Exists`], [`ApiError::OverQuota`].
    pub async fn create_key_pair(
        &self,
        request: RequestId,
        name: &KeyPairName,
        public_key: &PublicKey,
    ) -> Result<(), ApiError> {
        let pair = KeyPair {
            project: self.id.clone(),
            name: name.clone(),
            public_key: public_key.clone(),
        };
        accept!(self, request, "create key pair", &pair, {
            let mut txn = Txn::new();
            let quota = {
                let view = self.door.fresh().await?;
                self.touch(&view, &mut txn);
                view.quota(&self.id)
            };
            let known = keys::key_pairs_of(&self.id);
            let known = self.door.ports.store.read_all::<KeyPair>(&known).await?;
            if known.iter().any(|known| known.value.name == *name) {
                return Err(ApiError::Exists { what: "key pair", id: name.to_string() });
            }
            quota.admits(Quantum::KeyPairs, known.len() as u64, 1)?;
            txn.create(&pair);
            Ok(Plan::now((), txn))
        })
    }

    /// Forgets a public key. Servers keep the one they were made with.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn delete_key_pair(
        &self,
        request: RequestId,
        name: &KeyPairName,
    ) -> Result<(), ApiError> {
        accept!(self, request, "delete key pair", name, {
            let key = keys::key_pair(&self.id, name);
            let pair = self.door.ports.store.read::<KeyPair>(&key).await?;
            let mut txn = Txn::new();
            txn.remove(&pair.ok_or_else(|| ApiError::not_found("key pair", name))?);
            Ok(Plan::now((), txn))
        })
    }

    /// Makes a server group.
    ///
    /// # Errors
    /// [`ApiError::OverQuota`].
    pub async fn create_group(
        &self,
        request: RequestId,
        spec: &GroupSpec,
    ) -> Result<ServerGroupId, ApiError> {
        let id = self.door.draw(ServerGroupId::draw);
        accept!(self, request, "create server group", spec, {
            let view = self.door.fresh().await?;
            let used = view.groups.values().filter(|group| group.value.project == self.id).count();
            view.quota(&self.id).admits(Quantum::ServerGroups, used as u64, 1)?;
            let mut txn = Txn::new();
            self.touch(&view, &mut txn);
            txn.create(&ServerGroup {
                id,
                project: self.id.clone(),
                name: spec.name.clone(),
                policy: spec.policy,
                max_per_host: spec.max_per_host,
            });
            Ok(Plan::now(id, txn))
        })
    }

    /// Removes a server group.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::InUse`] while it has members.
    pub async fn delete_group(
        &self,
        request: RequestId,
        id: ServerGroupId,
    ) -> Result<(), ApiError> {
        accept!(self, request, "delete server group", &id, {
            let view = self.door.fresh().await?;
            let group = view.groups.get(&keys::group(id));
            let group = group.filter(|group| group.value.project == self.id);
            let group = group.ok_or_else(|| ApiError::not_found("server group", id))?;
            if let Some(member) = view.members(id).next() {
                let by = format!("server {}", member.id);
                return Err(ApiError::InUse { what: "server group", id: id.to_string(), by });
            }
            let mut txn = Txn::new();
            txn.remove(group);
            // A member that is joining right now touches the ledger, and conflicts.
            match view.ledger(&keys::group_ledger(id)) {
                Some(ledger) => txn.remove(ledger),
                None => txn.guard(crate::store::Guard::Absent(keys::group_ledger(id))),
            };
            Ok(Plan::now((), txn))
        })
    }

    /// Makes the plan conflict with every other one that takes from the same quota, and with a
    /// change of the quota. A project without any limit takes from nothing, and its writes do
    /// not get into each other's way.
    pub(crate) fn touch(&self, view: &crate::cloud::view::View, txn: &mut Txn) {
        let quota = view.quotas.get(&keys::quota(&self.id));
        match quota {
            Some(quota) => txn.unchanged(quota),
            None => txn.guard(crate::store::Guard::Absent(keys::quota(&self.id))),
        };
        let limited = quota.is_none_or(|quota| quota.value.quota != Quota::UNLIMITED);
        if limited && !planted(Bug::SkipProjectLedger) {
            let ledger = Ledger::for_project(self.id.clone());
            txn.touch(view.ledger(&ledger.key()), &ledger);
        }
    }
}

impl Door {
    /// A request id that was never used.
    pub(crate) fn new_request(&self) -> RequestId {
        let id = self.draw(OpId::draw);
        RequestId::from_id(id)
    }

    /// An operation as it is now.
    pub(crate) async fn operation(&self, id: OpId) -> Result<Operation, ApiError> {
        let op = self.ports.store.read::<Operation>(&keys::operation(id)).await?;
        op.map(|op| op.value).ok_or_else(|| ApiError::not_found("operation", id))
    }

    /// How many records of a kind there are.
    pub(crate) async fn count<R: Record>(&self) -> Result<usize, ApiError> {
        Ok(self.ports.store.read_all::<R>(&R::all()).await?.len())
    }
}
