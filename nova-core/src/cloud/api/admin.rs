//! What an operator may do: hosts, aggregates, flavors, images, quotas.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::cloud::api::project::Project;
use crate::cloud::api::specs::{AggregateSpec, FlavorSpec, UnknownKeys};
use crate::cloud::api::views::{Census, HostStatus};
use crate::cloud::api::{Door, Plan};
use crate::cloud::error::ApiError;
use crate::cloud::view::View;
use crate::domain::{
    AddressState, Admission, Aggregate, AggregateId, FixedIp, Flavor, FlavorName, FloatingIp,
    ForcedDown, GuestTopology, Host, HostId, ImageProperties, Invalid, OpId, Operation, PciRequest,
    ProjectId, Quota, RequestId, Resources, VlanClaim,
};
use crate::store::record::{Ledger, NameClaim, ProjectQuota, Record, keys};
use crate::store::{Guard, StoreExt as _, Txn, Versioned, Write};

/// The scope of administrators' request ids; no project can be called so.
pub(crate) const SCOPE: &str = "_admin";

/// The operator's handle. Cheap to copy.
#[derive(Debug, Clone)]
pub struct Admin {
    pub(crate) door: Arc<Door>,
}

impl Admin {
    /// Whose request ids these are.
    pub(crate) fn scope(&self) -> &str {
        SCOPE
    }

    /// A request id that was never used.
    pub fn new_request(&self) -> RequestId {
        self.door.new_request()
    }

    /// A project's way in, for a process that has no [`Cloud`](crate::cloud::Cloud).
    pub fn project(&self, id: ProjectId) -> Project {
        Project { door: Arc::clone(&self.door), id }
    }

    /// All hosts, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn hosts(&self) -> Result<Vec<HostStatus>, ApiError> {
        let door = &self.door;
        let mut view = door.fresh().await?;
        let rows =
            view.hosts(door.now(), door.options.down_after).rows().cloned().collect::<Vec<_>>();
        let status = rows.into_iter().filter_map(|row| {
            Some(HostStatus {
                host: view.hosts.get(&keys::host(row.id))?.value.clone(),
                liveness: row.liveness,
                unready: view.unready(row.id).map(str::to_owned),
                used: *row.used(),
                used_classes: row.classes_used().clone(),
                instances: row.claims().map(|(instance, _)| instance).collect(),
            })
        });
        Ok(status.collect())
    }

    /// Lets new servers come to a host, or not.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn set_admission(
        &self,
        request: RequestId,
        host: HostId,
        admission: Admission,
    ) -> Result<(), ApiError> {
        accept!(self, request, "set admission", &(host, &admission), {
            let change = |host: Host| {
                let disabled_reason =
                    host.disabled_reason.filter(|_| admission == Admission::Disabled);
                Host { admission: admission.clone(), disabled_reason, ..host }
            };
            self.change_host(host, change).await
        })
    }

    /// Declares a host down, whatever its agent says.
    ///
    /// This is a promise by the operator: the host is off, or cannot reach its volumes and
    /// networks any more. What it holds may be given to others on the strength of it.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::Invalid`] for a reason longer than 255 bytes or with
    /// control characters.
    pub async fn force_down(
        &self,
        request: RequestId,
        host: HostId,
        reason: &str,
    ) -> Result<(), ApiError> {
        if reason.len() > 255 || reason.chars().any(char::is_control) {
            let allowed = "at most 255 bytes without control characters";
            return Err(Invalid::new("reason", reason, allowed).into());
        }
        let forced = ForcedDown { reason: reason.to_owned() };
        accept!(self, request, "force down", &(host, reason), {
            self.change_host(host, |host| Host { forced_down: Some(forced.clone()), ..host }).await
        })
    }

    /// Takes back [`force_down`](Self::force_down).
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::InUse`] while a server is being evacuated from it, or
    /// live-migrated to it and not there.
    pub async fn clear_forced_down(
        &self,
        request: RequestId,
        host: HostId,
    ) -> Result<(), ApiError> {
        accept!(self, request, "clear forced down", &host, {
            let plan = self.change_host(host, |host| Host { forced_down: None, ..host }).await;
            // In this order: an evacuation that is accepted later conflicts with the plan.
            self.not_evacuating(host).await?;
            plan
        })
    }

    async fn change_host(
        &self,
        id: HostId,
        change: impl Fn(Host) -> Host,
    ) -> Result<Plan<()>, ApiError> {
        let view = self.door.fresh().await?;
        let missing = || ApiError::not_found("host", id);
        let host = view.hosts.get(&keys::host(id)).ok_or_else(missing)?;
        let mut txn = Txn::new();
        txn.replace(host, &change(host.value.clone()));
        Ok(Plan::now((), txn))
    }

    /// Forgets a host that has no servers. Its agent has to be stopped first, or it registers
    /// the host again.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::InUse`] while it has servers or is in an aggregate.
    pub async fn remove_host(&self, request: RequestId, id: HostId) -> Result<(), ApiError> {
        accept!(self, request, "remove host", &id, {
            let view = self.door.fresh().await?;
            let host = view.hosts.get(&keys::host(id));
            let host = host.ok_or_else(|| ApiError::not_found("host", id))?;
            let in_use = |by: String| ApiError::InUse { what: "host", id: id.to_string(), by };
            if let Some(claim) = view.claims_on(id).next() {
                return Err(in_use(format!("server {}", claim.instance)));
            }
            if let Some(aggregate) = view.aggregates_of(id).first() {
                return Err(in_use(format!("aggregate {}", aggregate.name)));
            }
            let mut txn = Txn::new();
            txn.remove(host);
            txn.write(Write::Remove(keys::host_name(&host.value.name)));
            txn.write(Write::Remove(keys::beat(id)));
            txn.write(Write::Remove(keys::host_images(id)));
            // A claim that is being made right now touches the ledger, and conflicts.
            match view.ledger(&keys::host_ledger(id)) {
                Some(ledger) => txn.remove(ledger),
                None => txn.guard(Guard::Absent(keys::host_ledger(id))),
            };
            Ok(Plan::now((), txn))
        })
    }

    /// All aggregates, sorted by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn aggregates(&self) -> Result<Vec<Aggregate>, ApiError> {
        let view = self.door.fresh().await?;
        Ok(view.aggregates.values().map(|aggregate| aggregate.value.clone()).collect())
    }

    /// Makes an aggregate.
    ///
    /// # Errors
    /// [`ApiError::Exists`] when the name is taken.
    pub async fn create_aggregate(
        &self,
        request: RequestId,
        spec: &AggregateSpec,
    ) -> Result<AggregateId, ApiError> {
        let id = self.door.draw(AggregateId::draw);
        accept!(self, request, "create aggregate", spec, {
            let view = self.door.fresh().await?;
            if view.aggregates.values().any(|a| a.value.name == spec.name) {
                let id = spec.name.to_string();
                return Err(ApiError::Exists { what: "aggregate", id });
            }
            let mut txn = Txn::new();
            // Two aggregates of one name that are made at the same time conflict here.
            let ledger = Ledger::for_names("aggregate");
            txn.touch(view.ledger(&ledger.key()), &ledger);
            txn.create(&Aggregate {
                id,
                name: spec.name.clone(),
                hosts: Vec::new(),
                metadata: spec.metadata.clone(),
            });
            Ok(Plan::now(id, txn))
        })
    }

    /// Puts a host into an aggregate; it may be in several.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for either.
    pub async fn add_to_aggregate(
        &self,
        request: RequestId,
        aggregate: AggregateId,
        host: HostId,
    ) -> Result<(), ApiError> {
        accept!(self, request, "add to aggregate", &(aggregate, host), {
            let view = self.door.fresh().await?;
            let known = view.hosts.get(&keys::host(host));
            let known = known.ok_or_else(|| ApiError::not_found("host", host))?;
            let old = aggregate_of(&view.aggregates, aggregate)?;
            let mut next = old.value.clone();
            if let Err(at) = next.hosts.binary_search(&host) {
                next.hosts.insert(at, host);
            }
            let mut txn = Txn::new();
            txn.unchanged(known).replace(old, &next);
            Ok(Plan::now((), txn))
        })
    }

    /// Takes a host out of an aggregate; one that is not in it is success.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for the aggregate.
    pub async fn remove_from_aggregate(
        &self,
        request: RequestId,
        aggregate: AggregateId,
        host: HostId,
    ) -> Result<(), ApiError> {
        accept!(self, request, "remove from aggregate", &(aggregate, host), {
            let view = self.door.fresh().await?;
            let old = aggregate_of(&view.aggregates, aggregate)?;
            let mut next = old.value.clone();
            next.hosts.retain(|known| *known != host);
            let mut txn = Txn::new();
            txn.replace(old, &next);
            Ok(Plan::now((), txn))
        })
    }

    /// Removes an aggregate; its hosts stay.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn delete_aggregate(
        &self,
        request: RequestId,
        aggregate: AggregateId,
    ) -> Result<(), ApiError> {
        accept!(self, request, "delete aggregate", &aggregate, {
            let view = self.door.fresh().await?;
            let mut txn = Txn::new();
            txn.remove(aggregate_of(&view.aggregates, aggregate)?);
            Ok(Plan::now((), txn))
        })
    }

    /// Makes a flavor.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a number out of range, for an extra spec that no filter reads or
    /// one finds malformed, unless the spec keeps those, and for NUMA cells or PCI devices that no
    /// server can have; [`ApiError::Exists`].
    pub async fn create_flavor(
        &self,
        request: RequestId,
        spec: &FlavorSpec,
    ) -> Result<Flavor, ApiError> {
        let flavor = spec.flavor()?;
        let scheduler = &self.door.ports.scheduler;
        if spec.unknown_keys == UnknownKeys::Refuse {
            let mut specs = flavor.extra_specs().iter();
            specs.try_for_each(|(key, value)| scheduler.check_extra_spec(key, value))?;
        }
        GuestTopology::check_flavor(&flavor)?;
        let aliases = &self.door.options.pci_aliases;
        PciRequest::from_specs(&flavor, &ImageProperties::default(), aliases)?;
        accept!(self, request, "create flavor", spec, {
            let view = self.door.fresh().await?;
            if view.flavors.contains_key(&flavor.key()) {
                return Err(ApiError::Exists { what: "flavor", id: spec.name.to_string() });
            }
            let mut txn = Txn::new();
            txn.create(&flavor);
            Ok(Plan::now(flavor.clone(), txn))
        })
    }

    /// Removes a flavor. Servers keep the one they were made with.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn delete_flavor(
        &self,
        request: RequestId,
        name: &FlavorName,
    ) -> Result<(), ApiError> {
        accept!(self, request, "delete flavor", name, {
            let view = self.door.fresh().await?;
            let flavor = view.flavors.get(&keys::flavor(name));
            let mut txn = Txn::new();
            txn.remove(flavor.ok_or_else(|| ApiError::not_found("flavor", name))?);
            Ok(Plan::now((), txn))
        })
    }

    /// Sets the limits of a project.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn set_quota(
        &self,
        request: RequestId,
        project: &ProjectId,
        quota: Quota,
    ) -> Result<(), ApiError> {
        accept!(self, request, "set quota", &(project, quota), {
            let view = self.door.fresh().await?;
            let mut txn = Txn::new();
            let had = over(&view, project, &quota, &mut txn);
            txn.put(&ProjectQuota { project: project.clone(), quota, had });
            Ok(Plan::now((), txn))
        })
    }

    /// Puts a project back to the default limits.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn clear_quota(
        &self,
        request: RequestId,
        project: &ProjectId,
    ) -> Result<(), ApiError> {
        accept!(self, request, "clear quota", project, {
            let view = self.door.fresh().await?;
            let mut txn = Txn::new();
            let (project, quota) = (project.clone(), Quota::default());
            match over(&view, &project, &quota, &mut txn) {
                None => drop(txn.write(Write::Remove(keys::quota(&project)))),
                had => drop(txn.put(&ProjectQuota { project, quota, had })),
            }
            Ok(Plan::now((), txn))
        })
    }

    /// An operation of any project.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn operation(&self, id: OpId) -> Result<Operation, ApiError> {
        self.door.operation(id).await
    }

    /// Counts what there is.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn census(&self) -> Result<Census, ApiError> {
        let mut view = self.door.fresh().await?;
        let used = view.hosts(self.door.now(), self.door.options.down_after);
        let used: BTreeMap<HostId, Resources> =
            used.rows().map(|row| (row.id, *row.used())).collect();
        let mut records = view.count();
        let mut resting = BTreeMap::new();
        let now = self.door.now();
        let floating = view.floating_ips.values().map(|floating| &floating.value.state);
        split::<FloatingIp, _>(floating, now, &mut records, &mut resting);
        let store = &self.door.ports.store;
        let fixed = store.read_all::<FixedIp>(&FixedIp::all()).await?;
        let fixed = fixed.iter().map(|fixed| &fixed.value.state);
        split::<FixedIp, _>(fixed, now, &mut records, &mut resting);
        let vlans = store.read_all::<VlanClaim>(&VlanClaim::all()).await?;
        let vlans = vlans.iter().map(|vlan| &vlan.value.state);
        split::<VlanClaim, _>(vlans, now, &mut records, &mut resting);
        let macs = self.door.count::<crate::domain::MacClaim>().await?;
        records.insert(crate::domain::MacClaim::TABLE, macs);
        let names = self.door.count::<NameClaim>().await?;
        records.insert(NameClaim::TABLE, names);
        let pairs = self.door.count::<crate::domain::KeyPair>().await?;
        records.insert(crate::domain::KeyPair::TABLE, pairs);
        Ok(Census { records, resting, used })
    }
}

/// Counts what is held apart from what rests. What has rested long enough is free, whether its
/// record is still there or not.
fn split<'a, R: Record, Owner: 'a>(
    states: impl Iterator<Item = &'a AddressState<Owner>>,
    now: Timestamp,
    records: &mut BTreeMap<&'static str, usize>,
    resting: &mut BTreeMap<&'static str, usize>,
) {
    let (mut held, mut rest) = (0, 0);
    for state in states {
        match state {
            AddressState::Quarantined { until } if *until > now => rest += 1,
            AddressState::Quarantined { .. } => {}
            AddressState::Reserved | AddressState::Owned(_) => held += 1,
        }
    }
    records.insert(R::TABLE, held);
    resting.insert(R::TABLE, rest);
}

fn aggregate_of(
    aggregates: &crate::cloud::view::Table<Aggregate>,
    id: AggregateId,
) -> Result<&Versioned<Aggregate>, ApiError> {
    aggregates.get(&keys::aggregate(id)).ok_or_else(|| ApiError::not_found("aggregate", id))
}

/// What a project has, if that is more than `quota` allows. Whoever is being let in right now
/// under the old limits conflicts.
fn over(
    view: &View,
    project: &ProjectId,
    quota: &Quota,
    txn: &mut Txn,
) -> Option<(u64, Resources)> {
    let ledger = Ledger::for_project(project.clone());
    txn.touch(view.ledger(&keys::project_ledger(project)), &ledger);
    let used = view.usage(project);
    quota.admits_servers(used, 0, Resources::ZERO).is_err().then_some(used)
}
