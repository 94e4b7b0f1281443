//! The machines and processes of a simulated cloud.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::clock::{Clock, ClockExt as _};
use crate::cloud::{Agent, CloudOptions, Conductor, HostSpec, Ports};
use crate::domain::{GiB, MiB, PciAlias, PciAliases, Resources, Stock, Vcpus};
use crate::memory::{LocalBus, MemoryImages, VirtualClock};
use crate::port::{ImageStore, Scheduler, VirtDriver, VolumeDriver};
use crate::seed::Seed;
use crate::store::Store;
use crate::testing::bus::{ChaosBus, Cuts};
use crate::testing::fate::{Fate, Fault};
use crate::testing::host::ChaosHost;
use crate::testing::parts::Parts;
use crate::testing::process::{Log, Process};
use crate::testing::scheduler::ChaosScheduler;
use crate::testing::storage::ChaosStorage;
use crate::testing::store::ChaosStore;

/// A resource class of every host, of which large servers take one each.
pub(crate) const LICENCE: &str = "CUSTOM_LICENCE";

/// The vendor and the product of a card that a guest may have for itself.
pub(crate) const CARD: [&str; 2] = ["8086", "1572"];

/// The name of that card.
fn aliases() -> PciAliases {
    let card = PciAlias::new([("vendor_id", CARD[0]), ("product_id", CARD[1])]);
    PciAliases::default().with("card", card).unwrap_or_default()
}

/// How large a run is; drawn by its seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) conductors: usize,
    pub(crate) hosts: usize,
    pub(crate) users: usize,
    pub(crate) operations: usize,
    pub(crate) vcpus: u32,
    /// How many servers a project may have at first, where that is little.
    pub(crate) quota: Option<u64>,
    /// Everybody asks at the same moments.
    pub(crate) rush: bool,
    /// Servers come in pairs, and belong to groups.
    pub(crate) pairs: bool,
    /// When everything has come to rest, a host falls silent.
    pub(crate) silence: bool,
}

impl Size {
    pub(crate) fn draw(seed: Seed) -> Self {
        let mut chance = seed.child("size").chance();
        let mut tight = seed.child("tight").chance();
        Self {
            quota: tight.happens(0.4).then(|| 2 + tight.below(3)),
            rush: tight.happens(0.4),
            pairs: tight.happens(0.3),
            silence: tight.happens(0.2),
            conductors: 1 + chance.index(3),
            hosts: 2 + chance.index(5),
            users: 1 + chance.index(3),
            operations: 4 + chance.index(16),
            vcpus: [2, 4, 6, 8][chance.index(4)],
        }
    }
}

/// Everything that all processes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) log: Arc<Log>,
    pub(crate) seed: Seed,
    pub(crate) options: CloudOptions,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) volumes: Arc<dyn VolumeDriver>,
    pub(crate) cuts: Arc<Cuts>,
    pub(crate) conductors: Vec<Service>,
    pub(crate) machines: Vec<Machine>,
    bus: Arc<LocalBus>,
    pub(crate) images: Arc<dyn ImageStore>,
    scheduler: Arc<dyn Scheduler>,
    parts: Parts,
}

/// A process that is started again when it dies.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) process: Arc<Process>,
    ports: Ports,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A host with its agent.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) spec: HostSpec,
    pub(crate) driver: Arc<ChaosHost<dyn VirtDriver>>,
    pub(crate) agent: Service,
    /// Held by whoever is doing something to it.
    pub(crate) busy: Arc<Mutex<()>>,
}

/// How soon a process that could not start is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

impl World {
    /// Everything in place, nothing started.
    pub(crate) fn new(
        parts: &Parts,
        seed: Seed,
        fate: Arc<Fate>,
        log: Arc<Log>,
        size: Size,
        options: CloudOptions,
    ) -> Self {
        let clock = Arc::new(VirtualClock::new());
        let mut world = Self {
            bus: Arc::new(LocalBus::new(Arc::clone(&clock) as Arc<dyn Clock>)),
            store: (parts.store)(),
            volumes: (parts.volumes)(),
            scheduler: Arc::new(ChaosScheduler::new((parts.scheduler)(), Arc::clone(&fate))),
            images: Arc::new(MemoryImages::new()),
            cuts: Arc::new(Cuts::default()),
            conductors: Vec::new(),
            machines: Vec::new(),
            parts: parts.clone(),
            clock,
            fate,
            log,
            seed,
            options: options.with_pci_aliases(aliases()),
        };
        for n in 0..size.conductors {
            let (process, ports) = world.process(&format!("conductor-{n}"));
            world.conductors.push(Service { process, ports, task: Mutex::default() });
        }
        for n in 0..size.hosts {
            let name = format!("host-{n}");
            let (Ok(host), Ok(licence)) = (name.parse(), LICENCE.parse()) else { continue };
            let (process, ports) = world.process(&name);
            let total = Resources {
                vcpus: Vcpus(size.vcpus),
                memory: MiB(u64::from(size.vcpus) * 1024),
                disk: GiB(100),
            };
            // Enough for as many large servers as there is memory for, but for one.
            let licences = Stock::new((u64::from(size.vcpus) * 1024 / 1536).saturating_sub(1));
            let driver = (world.parts.driver)(&name, total);
            let driver = Arc::new(ChaosHost::new(driver, Arc::clone(&process)));
            let agent = Service { process, ports, task: Mutex::default() };
            world.machines.push(Machine {
                spec: HostSpec::new(host).with_class(licence, licences),
                driver,
                agent,
                busy: Arc::default(),
            });
        }
        world
    }

    /// A new process with its own clock and its own way to everything that is shared.
    pub(crate) fn process(&self, name: &str) -> (Arc<Process>, Ports) {
        let process = Arc::new(Process::new(
            name,
            Arc::clone(&self.clock),
            Arc::clone(&self.fate),
            Arc::clone(&self.log),
            self.seed.child(name),
        ));
        let clock: Arc<dyn Clock> = Arc::clone(&process) as Arc<dyn Clock>;
        let store = ChaosStore::new(Arc::clone(&self.store), Arc::clone(&process));
        let store: Arc<dyn Store> = Arc::new(store);
        let cuts = Arc::clone(&self.cuts);
        let bus = ChaosBus::new(Arc::clone(&self.bus), Arc::clone(&process), cuts);
        let seed = self.seed.child("cloud");
        let mut ports = Ports::over(Arc::clone(&store), Arc::clone(&clock), seed);
        ports.network = (self.parts.network)(store, clock, seed.child("network"));
        ports.bus = Arc::new(bus);
        ports.scheduler = Arc::clone(&self.scheduler);
        let (images, volumes) = (Arc::clone(&self.images), Arc::clone(&self.volumes));
        ports.images = Arc::new(ChaosStorage::new(images, Arc::clone(&process)));
        ports.volumes = Arc::new(ChaosStorage::new(volumes, Arc::clone(&process)));
        (process, ports)
    }

    /// All clocks that can be wrong.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Arc<Process>> {
        let conductors = self.conductors.iter().map(|service| &service.process);
        conductors.chain(self.machines.iter().map(|machine| &machine.agent.process))
    }

    /// Lets clocks drift, where the seed says so.
    pub(crate) fn drift(&self) {
        for process in self.processes() {
            if let Some(mut strike) = self.fate.strikes(Fault::Drift) {
                process.set_rate(0.99 + 0.02 * strike.unit());
                process.note("its clock drifts");
            }
        }
    }

    /// Starts what is not running.
    pub(crate) async fn start(&self) {
        for service in &self.conductors {
            self.start_conductor(service).await;
        }
        for machine in &self.machines {
            self.start_agent(machine).await;
        }
    }

    /// Starts a conductor, unless it runs.
    pub(crate) async fn start_conductor(&self, service: &Service) {
        let (process, ports) = (Arc::clone(&service.process), service.ports.clone());
        let options = self.options.clone();
        service.start(async move {
            loop {
                match Conductor::start(ports.clone(), options.clone()).await {
                    Ok(_conductor) => std::future::pending().await,
                    Err(_) => process.sleep(RESTART_PAUSE).await,
                }
            }
        });
    }

    /// Starts an agent, unless it runs.
    pub(crate) async fn start_agent(&self, machine: &Machine) {
        let service = &machine.agent;
        let (process, ports) = (Arc::clone(&service.process), service.ports.clone());
        let (options, spec) = (self.options.clone(), machine.spec.clone());
        let driver = Arc::clone(&machine.driver);
        service.start(async move {
            loop {
                let driver = Arc::clone(&driver) as Arc<dyn VirtDriver>;
                let started =
                    Agent::start(ports.clone(), options.clone(), spec.clone(), driver).await;
                match started {
                    Ok(_agent) => std::future::pending().await,
                    Err(_) => process.sleep(RESTART_PAUSE).await,
                }
            }
        });
    }

    /// Lets world time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
    }
}

impl Service {
    fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(mut task) = self.task.try_lock()
            && task.is_none()
        {
            self.process.note("starts");
            *task = Some(tokio::spawn(work));
        }
    }

    /// Ends the process wherever it is, without a word.
    pub(crate) async fn kill(&self) {
        let task = self.task.lock().await.take();
        if let Some(task) = task {
            self.process.note("dies");
            task.abort();
            drop(task.await);
        }
    }
}
