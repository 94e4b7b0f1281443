//! From records to a host: the desired network, and the way there.

use std::collections::BTreeMap;

use nova_core::domain::{HostId, Instance, InstanceId, Network, NetworkId, Port, ServerName};
use nova_core::port::NetError;
use nova_core::store::record::{Claim, keys};
use nova_core::store::{Scan, Store, StoreExt};

use crate::backend::BackendError;
use crate::check::check;
use crate::dns;
use crate::host::{Flaw, Floating, HostNet, MetadataService, Part, PublicAddress};
use crate::manager::{Networks, READ, cannot};
use crate::metadata;
use crate::plan::{Plan, diff};
use crate::topology::GuestOnHost;

/// How often a host is looked at again because somebody was faster.
const CONVERGE_ATTEMPTS_MAX: usize = 4;

/// A plan that the checker found unsound. It has not been applied.
#[derive(Debug, thiserror::Error)]
#[error("the plan is unsound: {}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
struct Unsound {
    violations: Vec<crate::check::Violation>,
}

impl Networks {
    /// The network that `host` should have, by the records.
    ///
    /// The guests of a host are those that hold a claim on it. A network is there as long as one
    /// of its guests is; a floating IP is there when its binding names the host and its server
    /// is one of the host's guests.
    ///
    /// # Errors
    /// [`NetError::Store`]; [`NetError::Backend`] when the records contradict each other.
    pub async fn desired(&self, host: HostId) -> Result<HostNet, NetError> {
        let claims = self.store.read_all::<Claim>(&keys::claims_on(host)).await;
        let claims = claims.map_err(cannot(READ))?;
        let mut networks: BTreeMap<NetworkId, (Network, Vec<(Port, ServerName)>)> = BTreeMap::new();
        let mut ports: Vec<Port> = Vec::new();
        let mut floating = Vec::new();
        let mut filters: BTreeMap<_, Part> = BTreeMap::new();
        {
            let view = self.view().await?;
            for claim in &claims {
                for port in view.ports_of(claim.value.instance) {
                    let Some(network) = view.network(port.value.network) else { continue };
                    let network = || (network.value.clone(), Vec::new());
                    networks.entry(port.value.network).or_insert_with(network);
                    let groups = &port.value.security_groups;
                    let filter = || view.groups.filter(groups).into();
                    filters.entry(groups.clone()).or_insert_with(filter);
                    ports.push(port.value.clone());
                }
            }
            for (row, owner) in view.answered_by(host) {
                let pool = view.pool(&row.value.pool);
                if let Some((pool, binding)) = pool.zip(owner.binding.clone()) {
                    floating.push((row.value.address, pool.value.interface, binding));
                }
            }
        }

        let mut named: Option<(InstanceId, ServerName)> = None;
        for port in ports {
            // The ports of a server come one after the other, so that each is asked for once.
            let name = match named.take().filter(|(instance, _)| *instance == port.instance) {
                Some((_, name)) => name,
                None => self.name_of(&port).await?,
            };
            named = Some((port.instance, name.clone()));
            if let Some((_, guests)) = networks.get_mut(&port.network) {
                guests.push((port, name));
            }
        }

        let mut net = HostNet::new();
        let contradiction = |source: Box<dyn std::error::Error + Send + Sync>| NetError::Backend {
            host,
            operation: "tell from the records what it should be".to_owned(),
            source,
        };
        let filters = filters.into_values().collect();
        insert(&mut net, filters).map_err(|flaw| contradiction(flaw.into()))?;
        for (network, guests) in networks.values() {
            let Some(topology) = self.topology(network) else { continue };
            let guests: Vec<_> = guests.iter().map(|(p, name)| GuestOnHost::new(p, name)).collect();
            let parts = topology.parts(network, &guests).map_err(|e| contradiction(e.into()))?;
            insert(&mut net, parts).map_err(|flaw| contradiction(flaw.into()))?;
            if self.metadata && topology.leads_floating_ips() {
                let service = MetadataService { address: metadata::ADDRESS }.into();
                insert(&mut net, vec![service]).map_err(|flaw| contradiction(flaw.into()))?;
            }
        }
        for (address, interface, binding) in floating {
            let guest = networks.values().find(|(_, guests)| {
                let is_it = |port: &Port| {
                    port.instance == binding.instance && port.address == binding.fixed
                };
                guests.iter().any(|(port, _)| is_it(port))
            });
            let Some((network, _)) = guest else { continue };
            let (fixed, bridge) = (binding.fixed, network.bridge);
            let parts = vec![
                PublicAddress { address, interface }.into(),
                Floating { address, fixed, bridge }.into(),
            ];
            insert(&mut net, parts).map_err(|flaw| contradiction(flaw.into()))?;
        }
        Ok(net)
    }

    /// What converging `host` would do now; nothing is done.
    ///
    /// # Errors
    /// As for [`desired`](Self::desired); [`NetError::Backend`] when the host cannot be seen.
    pub async fn plan(&self, host: HostId) -> Result<Plan, NetError> {
        let desired = self.desired(host).await?;
        let observed = self.backend.observe(host).await;
        Ok(diff(&observed.map_err(|error| at(host, "see its network", error))?, &desired))
    }

    pub(super) async fn converge_host(&self, host: HostId) -> Result<(), NetError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            // The revision is taken first: what is read afterwards is at least as new, so that
            // a plan never bears a number that is newer than what it was decided on.
            let page = self.store.scan(Scan::new(keys::claims_on(host)).with_limit(1)).await;
            let generation = page.map_err(cannot(READ))?.revision;
            let desired = self.desired(host).await?;
            let observed = self.backend.observe(host).await;
            let observed = observed.map_err(|error| at(host, "see its network", error))?;
            let plan = diff(&observed, &desired);
            check(&observed, &plan, &desired)
                .map_err(|violations| at(host, "plan its network", Unsound { violations }))?;
            // A plan without steps is applied too: it tells the host that older ones are void.
            match self.backend.apply(host, generation, &plan).await {
                Ok(()) => return self.tell_names(host, &desired).await,
                Err(BackendError::Outdated { .. } | BackendError::Refused { .. })
                    if attempt < CONVERGE_ATTEMPTS_MAX => {}
                Err(error) => return Err(at(host, "change its network", error)),
            }
        }
    }

    async fn tell_names(&self, host: HostId, net: &HostNet) -> Result<(), NetError> {
        let Some(dns) = &self.dns else { return Ok(()) };
        let told = dns.tell(host, &dns::names(net)).await;
        told.map_err(|error| at(host, "tell its names", error))
    }

    /// What DHCP calls the owner of `port`: the server's name, or one made of its address as
    /// long as the server has no record.
    async fn name_of(&self, port: &Port) -> Result<ServerName, NetError> {
        let instance = self.store.read::<Instance>(&keys::instance(port.instance)).await;
        match instance.map_err(cannot(READ))? {
            Some(instance) => Ok(instance.value.name),
            None => {
                let address = port.address.to_string().replace(['.', ':'], "-");
                Ok(ServerName::new(format!("host-{address}"))?)
            }
        }
    }
}

fn insert(net: &mut HostNet, parts: Vec<Part>) -> Result<(), Flaw> {
    parts.into_iter().try_for_each(|part| net.insert(part))
}

fn at(
    host: HostId,
    operation: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> NetError {
    NetError::Backend { host, operation: operation.to_owned(), source: Box::new(source) }
}
