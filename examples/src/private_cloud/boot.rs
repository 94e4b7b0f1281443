//! Forty servers.

use std::collections::BTreeMap;

use nova_core::cloud::{Server, ServerSpec};
use nova_core::domain::{
    ImageId, InstanceId, Liveness, NetworkId, ResourceKind, SchedulerHints, ServerGroupId,
};

use super::house::{Doing as _, House, Pending, pending, took};
use super::plan::{self, Want};
use super::show::{count, memory, table, time};
use super::{Failure, summary::ServerRow};

/// What a server's spec refers to.
struct Names {
    image: ImageId,
    networks: BTreeMap<String, NetworkId>,
    groups: BTreeMap<String, ServerGroupId>,
    servers: BTreeMap<String, InstanceId>,
}

impl House<'_> {
    /// Boots what is missing of the forty servers, all at once; those whose wishes name another
    /// server come when that one has its host.
    pub(super) async fn boot_servers(&mut self) -> Result<(), Failure> {
        let wanted = plan::servers();
        let sentence = format!(
            "{} for three projects, all asked for at once; wishes decide where some of them go.",
            count(wanted.len(), "server")
        );
        self.screen.section("Servers", &sentence);
        let mut times = BTreeMap::new();
        let mut waiting: Vec<&Want> = wanted.iter().collect();
        while !waiting.is_empty() {
            let named: Vec<String> = waiting.iter().map(|want| want.path()).collect();
            let (later, ready): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|want| want.needs().is_some_and(|path| named.contains(&path)));
            waiting = later;
            let known = self.servers().await?;
            let names = self.names(&known).await?;
            let mut asked = Vec::new();
            for want in ready {
                asked.extend(self.ask_for(want, &names, &known).await?);
            }
            for (path, operation) in self.wait_for("servers", asked).await? {
                times.insert(path, took(&operation));
            }
        }
        self.show_servers(&wanted, &times).await?;
        if !times.is_empty() {
            let mut times: Vec<f64> = times.values().map(|t| t.as_secs_f64() * 1000.0).collect();
            times.sort_by(f64::total_cmp);
            let (least, most) = (times[0], times[times.len() - 1]);
            self.summary.timing.boot_ms = Some([least, times[times.len() / 2], most]);
        }
        self.screen.section(
            "Use of the hosts",
            "Claims against what may be promised; the policy is nova's: it spreads.",
        );
        self.show_hosts().await
    }

    async fn names(&self, servers: &BTreeMap<String, Server>) -> Result<Names, Failure> {
        let mut groups = BTreeMap::new();
        for project in self.projects()? {
            for group in project.groups().await.doing(|| "list server groups")? {
                groups.insert(format!("{}/{}", project.id(), group.name), group.id);
            }
        }
        let networks = self.networks().await?;
        Ok(Names {
            image: self.image().await?,
            networks: networks.into_iter().map(|(name, network)| (name, network.id)).collect(),
            groups,
            servers: servers.iter().map(|(path, s)| (path.clone(), s.instance.id)).collect(),
        })
    }

    /// Asks for a server, or finds the operation of one that is being made.
    async fn ask_for(
        &self,
        want: &Want,
        names: &Names,
        known: &BTreeMap<String, Server>,
    ) -> Result<Option<Pending>, Failure> {
        let project = self.project(want.project)?;
        let doing = format!("boot {}", want.path());
        if let Some(server) = known.get(&want.path()) {
            let operation = server.instance.operation;
            return Ok(operation.map(|operation| Pending { doing, project, operation }));
        }
        let spec = spec(want, names)?;
        let request = self.request(format_args!("boot-{}", want.name))?;
        pending(doing, &project, project.create_server(request, &spec).await).map(Some)
    }

    /// Boots one more, and waits for it, however it ends.
    pub(super) async fn boot_one(&mut self, want: &Want) -> Result<Server, Failure> {
        let known = self.servers().await?;
        let names = self.names(&known).await?;
        let asked = self.ask_for(want, &names, &known).await?;
        self.wait(&want.path(), asked.into_iter().collect()).await?;
        self.server(want.project, &want.name).await
    }

    async fn show_servers(
        &mut self,
        wanted: &[Want],
        times: &BTreeMap<String, std::time::Duration>,
    ) -> Result<(), Failure> {
        let mut rows =
            table(&["Server", "Flavor", "State", "Host", "Zone", "Addresses", "Wish", ">Took"]);
        let servers = self.servers().await?;
        let hosts = self.hosts().await?;
        for want in wanted {
            let Some(server) = servers.get(&want.path()) else { continue };
            let zone = hosts.iter().find(|status| Some(status.host.id) == server.instance.host);
            let addresses: Vec<String> =
                server.ports.iter().map(|port| port.address.to_string()).collect();
            let took = times.get(&format!("boot {}", want.path()));
            rows.add_row([
                want.path(),
                want.flavor.to_owned(),
                server.instance.state.to_string(),
                server.host.as_ref().map_or_else(String::new, ToString::to_string),
                zone.map_or_else(String::new, |status| status.host.zone.to_string()),
                addresses.join(" "),
                want.wish(),
                took.map_or("was there".to_owned(), |took| time(*took)),
            ]);
        }
        self.screen.table(&rows);
        Ok(())
    }

    /// A table of hosts with what is claimed on them.
    pub(super) async fn show_hosts(&mut self) -> Result<(), Failure> {
        let mut rows =
            table(&["Host", "Zone", "Is", ">Servers", ">vCPU", ">Memory", ">Disk", ">Memory used"]);
        for status in self.hosts().await? {
            let host = &status.host;
            let of = |kind| host.inventory.capacity(kind);
            let is = match (status.liveness, &host.forced_down) {
                (Liveness::Up, _) => "up",
                (Liveness::Down, Some(_)) => "forced down",
                (Liveness::Down, None) => "silent",
            };
            let capacity = nova_core::domain::MiB(of(ResourceKind::Memory) as u64);
            let share = 100.0 * status.used.memory.0 as f64 / of(ResourceKind::Memory).max(1.0);
            rows.add_row([
                host.name.to_string(),
                host.zone.to_string(),
                is.to_owned(),
                status.instances.len().to_string(),
                format!("{} of {:.0}", status.used.vcpus.0, of(ResourceKind::Vcpus)),
                format!("{} of {}", memory(status.used.memory), memory(capacity)),
                format!("{} of {:.0} GiB", status.used.disk.0, of(ResourceKind::Disk)),
                format!("{share:.0} %"),
            ]);
        }
        self.screen.table(&rows);
        Ok(())
    }

    /// The servers as the summary lists them.
    pub(super) async fn list_servers(&mut self) -> Result<(), Failure> {
        let servers = self.servers().await?.into_iter().map(|(path, server)| ServerRow {
            server: path,
            flavor: server.instance.flavor.name().to_string(),
            state: server.instance.state.to_string(),
            host: server.host,
            addresses: server.ports.iter().map(|port| port.address).collect(),
            floating_ips: server.floating_ips,
            volumes: server.volumes.len(),
        });
        self.summary.servers = servers.collect();
        Ok(())
    }
}

fn spec(want: &Want, names: &Names) -> Result<ServerSpec, Failure> {
    let missing = |what: String| Failure::Missing { what };
    let mut spec = ServerSpec::new(want.name.parse()?, want.flavor.parse()?, names.image)
        .with_key_pair(plan::KEY_PAIR.parse()?);
    for network in &want.networks {
        let id = names.networks.get(network);
        spec = spec.with_network(*id.ok_or_else(|| missing(format!("network {network}")))?);
    }
    if let Some(zone) = want.zone {
        spec = spec.with_zone(zone.parse()?);
    }
    if let Some(group) = want.group {
        let id = names.groups.get(&format!("{}/{group}", want.project));
        spec = spec.with_group(*id.ok_or_else(|| missing(format!("server group {group}")))?);
    }
    let server = |name: &str| {
        let path = format!("{}/{name}", want.project);
        names.servers.get(&path).copied().ok_or_else(|| missing(format!("server {path}")))
    };
    let mut hints = SchedulerHints::default();
    if let Some(name) = want.apart_from {
        hints.different_host.insert(server(name)?);
    }
    if let Some(name) = want.beside {
        hints.same_host.insert(server(name)?);
    }
    Ok(spec.with_hints(hints))
}
