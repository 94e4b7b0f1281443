//! The parts of the cloud, put together, and what all stages need of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, SystemClock};
use nova_core::cloud::{
    Accepted, Admin, ApiError, Cloud, CloudOptions, HostSpec, HostStatus, Ports, Project, Server,
};
use nova_core::domain::{HostName, Network, OpId, OpState, Operation, RequestId, VmState};
use nova_core::seed::Seed;
use nova_core::store::record::{CloudMeta, keys};
use nova_core::store::{RedbStore, Store, StoreExt as _};
use nova_net::Networks;
use nova_net::backend::Recorder;
use nova_sched::Registry;
use nova_virt::sim::{Latency, Verb};
use nova_virt::{DirImageStore, FileVolumes, Fleet, SimHost, SimOptions};
use tokio::task::JoinSet;

use super::plan::{self, SHAPES, TENANTS};
use super::progress::{Progress, Stage};
use super::show::{Screen, count, memory, table, time};
use super::summary::{CensusRow, Found, HostRow, Summary, Timing};
use super::{Ending, Failure, Options};
use crate::Stopwatch;

/// A simulated host with what its operator says of it.
pub(super) struct Machine {
    pub(super) spec: HostSpec,
    pub(super) driver: Arc<SimHost>,
}

/// The cloud, what it stands on, and what has been told of it so far.
pub(super) struct House<'a> {
    pub(super) cloud: Cloud,
    pub(super) admin: Admin,
    pub(super) machines: BTreeMap<HostName, Machine>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) seed: Seed,
    pub(super) screen: &'a mut dyn Screen,
    pub(super) summary: Summary,
    pub(super) progress: Progress,
    stopwatch: Stopwatch,
}

/// Something that was accepted and goes on as an operation.
pub(super) struct Pending {
    pub(super) doing: String,
    pub(super) project: Project,
    pub(super) operation: OpId,
}

/// A boot shows whether a host is slow; nothing else in this house takes a guest's time.
const SLOW_VERBS: [Verb; 3] = [Verb::Create, Verb::Reboot, Verb::Remove];

impl<'a> House<'a> {
    /// Composes the cloud in the directory, and finds what is there.
    pub(super) async fn open(
        options: &Options,
        screen: &'a mut dyn Screen,
    ) -> Result<Self, Failure> {
        let stopwatch = Stopwatch::start();
        let directory = &options.data_dir;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let seed = Seed::new(options.seed);
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(directory)?);
        let machines = machines(options, &clock, seed)?;

        // These are all the parts that a cloud is made of. Each could be another.
        let recorder = Arc::new(Recorder::new());
        let networks = Networks::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            seed.child("network"),
            Arc::<Recorder>::clone(&recorder),
        );
        let policy = Registry::default().policy("nova");
        let policy = policy.map_err(|error| Failure::Missing { what: error.to_string() })?;
        let ports = Ports::over(Arc::clone(&store), Arc::clone(&clock), seed)
            .with_scheduler(policy)
            .with_network(networks)
            .with_images(DirImageStore::at(directory.join("images"))?)
            .with_volumes(FileVolumes::at(directory.join("volumes"))?);
        let cloud = Cloud::start(ports, cloud_options()).await.doing(|| "start the cloud")?;

        let stored = Progress::load(&*store).await?;
        let meta = store.read::<CloudMeta>(&keys::cloud_meta()).await?;
        let admin = cloud.admin();
        let mut house = Self {
            summary: Summary {
                ok: false,
                run: 0,
                seed: options.seed,
                data_dir: directory.clone(),
                opening: meta.map_or(0, |meta| meta.value.openings),
                continued_at: None,
                stages: Vec::new(),
                found: Found::default(),
                hosts: Vec::new(),
                servers: Vec::new(),
                refusal: None,
                failure: None,
                census: CensusRow::default(),
                checks: Vec::new(),
                timing: Timing::default(),
            },
            // A run that is over makes way for a new one, with request ids of its own.
            progress: match stored {
                Some(progress) if progress.next.is_some() => progress,
                other => Progress {
                    run: other.map_or(0, |last| last.run) + 1,
                    next: Some(Stage::Ground),
                    before: BTreeMap::new(),
                    most: BTreeMap::new(),
                },
            },
            cloud,
            admin,
            machines,
            recorder,
            seed,
            screen,
            stopwatch,
        };
        house.summary.run = house.progress.run;
        house.say_what_is_there(directory).await?;
        house.register_hosts().await?;
        house.begin(&*store).await?;
        Ok(house)
    }

    /// Says what the directory holds already.
    async fn say_what_is_there(&mut self, directory: &Path) -> Result<(), Failure> {
        let found = Found {
            hosts: self.hosts().await?.len(),
            servers: self.servers().await?.len(),
            volumes: self.count(async |project| Ok(project.volumes().await?.len())).await?,
            floating_ips: self.count(async |p| Ok(p.floating_ips().await?.len())).await?,
            guests: self.guests(),
        };
        let (run, opening) = (self.progress.run, self.summary.opening);
        let sentence = match (opening, self.progress.next) {
            (1, _) => "A new directory: nothing is there yet.".to_owned(),
            _ if self.progress.before.is_empty() => {
                format!(
                    "Opening number {opening}. What was made before is deleted; run {run} begins."
                )
            }
            (_, next) => {
                let next = next.map(|stage| stage.to_string()).unwrap_or_default();
                format!("Opening number {opening}. Run {run} is not over: it goes on with {next}.")
            }
        };
        self.screen.section("What is stored", &sentence);
        self.screen.say(&format!("directory  {}", directory.display()));
        self.screen.say(&format!(
            "found      {}, {}, {}, {}; {} on the simulated hosts",
            count(found.hosts, "host"),
            count(found.servers, "server"),
            count(found.volumes, "volume"),
            count(found.floating_ips, "floating IP"),
            count(found.guests, "guest"),
        ));
        if found.servers > 0 {
            self.show_what_is_there().await?;
        }
        self.summary.found = found;
        Ok(())
    }

    async fn show_what_is_there(&mut self) -> Result<(), Failure> {
        let states = VmState::ALL;
        let mut columns = vec!["Project".to_owned()];
        columns.extend(states.iter().map(|state| format!(">{state}")));
        columns.extend([">Volumes".to_owned(), ">Floating IPs".to_owned()]);
        let mut rows = table(&columns.iter().map(String::as_str).collect::<Vec<_>>());
        for project in self.projects()? {
            let servers = project.servers().await.doing(|| "list servers")?;
            let volumes = project.volumes().await.doing(|| "list volumes")?.len();
            let addresses = project.floating_ips().await.doing(|| "list floating IPs")?.len();
            let of = |state| servers.iter().filter(|s| s.instance.state == state).count();
            let counts = states.into_iter().map(of).chain([volumes, addresses]);
            let mut row = vec![project.id().to_string()];
            row.extend(counts.map(|count| count.to_string()));
            rows.add_row(row);
        }
        self.screen.table(&rows);
        Ok(())
    }

    /// Starts an agent for every host that has power.
    async fn register_hosts(&mut self) -> Result<(), Failure> {
        let known: Vec<HostName> =
            self.hosts().await?.into_iter().map(|status| status.host.name).collect();
        let sentence = format!(
            "{}, each with an agent. Processors are promised twice; 1 vCPU, 2 GiB of memory and \
             20 GiB of disk stay with the host.",
            count(self.machines.len(), "simulated host")
        );
        self.screen.section("Hosts", &sentence);
        let mut rows =
            table(&["Host", "Zone", "Aggregate", ">vCPU", ">Memory", ">Disk", ">Guests", "Agent"]);
        let of = self.machines.len();
        for (done, (name, machine)) in self.machines.iter().enumerate() {
            self.screen.progress("hosts", done, of);
            let known = known.contains(name);
            let agent = if machine.driver.is_powered() {
                let driver = Arc::clone(&machine.driver);
                let added = self.cloud.add_host(machine.spec.clone(), driver).await;
                added.doing(|| format!("register host {name}"))?;
                if known { "started again" } else { "registered" }
            } else {
                "none, no power"
            };
            let shape = SHAPES.iter().find(|shape| name.as_str().starts_with(shape.name));
            let Some(shape) = shape else { continue };
            rows.add_row([
                name.to_string(),
                machine.spec.zone.to_string(),
                shape.disk.to_owned(),
                shape.total.vcpus.0.to_string(),
                memory(shape.total.memory),
                shape.total.disk.to_string(),
                machine.driver.guest_count().to_string(),
                agent.to_owned(),
            ]);
            let (name, zone) = (name.clone(), machine.spec.zone.to_string());
            self.summary.hosts.push(HostRow { name, zone, total: shape.total, known });
        }
        self.screen.progress("hosts", of, of);
        self.screen.table(&rows);
        Ok(())
    }

    /// Remembers that the run has begun, or that it goes on.
    async fn begin(&mut self, store: &dyn Store) -> Result<(), Failure> {
        if self.progress.before.is_empty() {
            self.progress.before = self.census().await?;
            self.progress.save(store).await?;
        } else {
            self.summary.continued_at = self.progress.next;
        }
        self.summary.census.before.clone_from(&self.progress.before);
        self.summary.census.most.clone_from(&self.progress.most);
        Ok(())
    }

    /// The stage that comes next.
    pub(super) fn next_stage(&self) -> Option<Stage> {
        self.progress.next
    }

    /// Remembers that a stage is over.
    pub(super) async fn completed(&mut self, stage: Stage) -> Result<(), Failure> {
        self.progress.next = stage.next();
        self.summary.stages.push(stage);
        Ok(self.progress.save(&*self.cloud.ports().store).await?)
    }

    /// Checks, sums up and stops everything.
    pub(super) async fn close(mut self, ending: Ending) -> Result<Summary, Failure> {
        self.check_the_end(ending).await?;
        self.cloud.stop().await;
        self.summary.timing.wall_s = self.stopwatch.elapsed().as_secs_f64();
        self.summary.timing.peak_rss_mib = crate::peak_rss_mib();
        let memory = self.summary.timing.peak_rss_mib;
        let memory = memory.map_or_else(String::new, |mib| format!(", {mib:.0} MiB of memory"));
        let holding = self.summary.checks.iter().filter(|check| check.holds).count();
        let of = self.summary.checks.len();
        let wall = time(self.stopwatch.elapsed());
        self.screen.say(&format!("{holding} of {of} checks hold. It took {wall}{memory}."));
        Ok(self.summary)
    }

    /// The id of a request of this run: the same one when a run that was interrupted asks again,
    /// so that nothing is done twice.
    pub(super) fn request(&self, what: impl std::fmt::Display) -> Result<RequestId, Failure> {
        Ok(format!("run-{}-{what}", self.progress.run).parse()?)
    }

    pub(super) fn project(&self, name: &str) -> Result<Project, Failure> {
        Ok(self.cloud.project(name.parse()?))
    }

    /// Every project, sorted by name.
    pub(super) fn projects(&self) -> Result<Vec<Project>, Failure> {
        TENANTS.iter().map(|tenant| self.project(tenant.name)).collect()
    }

    /// Every server, by project and name: `shop/web-1`.
    pub(super) async fn servers(&self) -> Result<BTreeMap<String, Server>, Failure> {
        let mut all = BTreeMap::new();
        for project in self.projects()? {
            for server in project.servers().await.doing(|| "list servers")? {
                all.insert(format!("{}/{}", project.id(), server.instance.name), server);
            }
        }
        Ok(all)
    }

    /// One of them.
    pub(super) async fn server(&self, project: &str, name: &str) -> Result<Server, Failure> {
        let path = format!("{project}/{name}");
        let server = self.servers().await?.remove(&path);
        server.ok_or_else(|| Failure::Missing { what: format!("server {path}") })
    }

    pub(super) async fn hosts(&self) -> Result<Vec<HostStatus>, Failure> {
        let mut hosts = self.admin.hosts().await.doing(|| "list hosts")?;
        hosts.sort_by(|a, b| a.host.name.cmp(&b.host.name));
        Ok(hosts)
    }

    pub(super) async fn networks(&self) -> Result<BTreeMap<String, Network>, Failure> {
        let networks = self.admin.networks().await.doing(|| "list networks")?;
        Ok(networks.into_iter().map(|network| (network.name.to_string(), network)).collect())
    }

    /// The sum over all projects of what `of` counts.
    pub(super) async fn count(
        &self,
        of: impl AsyncFn(Project) -> Result<usize, ApiError>,
    ) -> Result<usize, Failure> {
        let mut sum = 0;
        for project in self.projects()? {
            sum += of(project).await.doing(|| "count")?;
        }
        Ok(sum)
    }

    /// Records by table.
    pub(super) async fn census(&self) -> Result<BTreeMap<String, usize>, Failure> {
        let census = self.admin.census().await.doing(|| "count the records")?;
        Ok(census.records.into_iter().map(|(table, n)| (table.to_owned(), n)).collect())
    }

    /// Guests on the simulated hosts, also on those without power, whatever the records say.
    pub(super) fn guests(&self) -> usize {
        self.machines.values().map(|machine| machine.driver.guest_count()).sum()
    }

    /// Waits until all of them have ended, showing how many have.
    pub(super) async fn wait(
        &mut self,
        what: &str,
        pending: Vec<Pending>,
    ) -> Result<Vec<(String, Operation)>, Failure> {
        let of = pending.len();
        self.screen.progress(what, 0, of);
        let mut waiting = JoinSet::new();
        for (at, Pending { doing, project, operation }) in pending.into_iter().enumerate() {
            waiting.spawn(async move { (at, doing, project.wait(operation).await) });
        }
        let mut ended = BTreeMap::new();
        while let Some(joined) = waiting.join_next().await {
            // Nothing cancels them, and what panics there has said why.
            let Ok((at, doing, operation)) = joined else { continue };
            let operation = operation.doing(|| doing.clone())?;
            ended.insert(at, (doing, operation));
            self.screen.progress(what, ended.len(), of);
        }
        Ok(ended.into_values().collect())
    }

    /// Waits until all of them have ended, which has to be well.
    pub(super) async fn wait_for(
        &mut self,
        what: &str,
        pending: Vec<Pending>,
    ) -> Result<Vec<(String, Operation)>, Failure> {
        let ended = self.wait(what, pending).await?;
        for (doing, operation) in &ended {
            if operation.state != OpState::Done {
                return Err(Failure::Operation { doing: doing.clone(), fault: fault(operation) });
            }
        }
        Ok(ended)
    }
}

/// How long an operation took.
pub(super) fn took(operation: &Operation) -> Duration {
    operation.ended_at.unwrap_or(operation.accepted_at).since(operation.accepted_at)
}

fn fault(operation: &Operation) -> String {
    match &operation.state {
        OpState::Failed(fault) | OpState::NeedsOperator(fault) => fault.message.clone(),
        _ => "it has not ended".to_owned(),
    }
}

/// Patience of one busy machine: a host is down when its operator says so, long before it has
/// been silent for long enough.
fn cloud_options() -> CloudOptions {
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    let mut options = CloudOptions::default()
        .with_beat_interval(Duration::from_millis(200))
        .with_sweep_interval(Duration::from_secs(2))
        .with_journal_kept(week);
    options.down_after = Duration::from_secs(60);
    options
}

/// The simulated hosts, each in a file of its own.
fn machines(
    options: &Options,
    clock: &Arc<dyn Clock>,
    seed: Seed,
) -> Result<BTreeMap<HostName, Machine>, Failure> {
    let quick = Latency::between(options.slowest / 8, options.slowest)?;
    let slow = Latency::between(options.slowest / 2, options.slowest * 4)?;
    let mut behaviour = SimOptions::default().with_latency(quick);
    for verb in SLOW_VERBS {
        behaviour = behaviour.with_latency_of(verb, slow);
    }
    let mut machines = BTreeMap::new();
    for shape in SHAPES {
        let fleet = Fleet::new(shape.name, shape.count, shape.total)
            .with_options(behaviour.clone())
            .with_clock(Arc::clone(clock))
            .with_seed(seed)
            .in_directory(options.data_dir.join("hosts"));
        for (number, host) in fleet.build()?.into_iter().enumerate() {
            let spec = plan::host(host.name(), number)?;
            machines.insert(host.name(), Machine { spec, driver: Arc::new(host) });
        }
    }
    Ok(machines)
}

/// Says what was being done when the cloud refused it.
pub(super) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, ApiError> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| Failure::Cloud { doing: doing().into(), source: Box::new(error) })
    }
}

/// An accepted request with what it is about.
pub(super) fn pending<T>(
    doing: String,
    project: &Project,
    accepted: Result<Accepted<T>, ApiError>,
) -> Result<Pending, Failure> {
    let accepted = accepted.doing(|| doing.clone())?;
    Ok(Pending { doing, project: project.clone(), operation: accepted.operation })
}
