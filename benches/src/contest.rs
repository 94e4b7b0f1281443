//! Ours and the references on the same stream, each with a state of its own.

use std::error::Error;
use std::sync::Arc;

use nova_core::domain::{
    Flavor, FlavorName, HostTable, InstanceId, Invalid, MiB, ProjectId, RequestSpec, Slot, Vcpus,
};
use nova_core::port::Scheduler as _;
use nova_core::seed::Seed;
use nova_sched::{FilterScheduler, Lookup, Reason, Verdict, filter_fn, host_weigher_fn};

use crate::grid::Grid;
use crate::packed::Packed;
use crate::stream::{Event, QUANTUM_MIB, Shape, Stream};
use crate::{Rule, empty_hosts};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contestant {
    /// Ours, asking every host.
    Rows = 0,
    /// Ours, by the index.
    Fast = 1,
    /// The scan of packed columns.
    #[value(name = "scan")]
    Packed = 2,
    /// The index made for one policy.
    #[value(name = "index")]
    Grid = 3,
}

/// What one contestant knows besides its state: where each VM is.
type Places = Vec<u32>;

const NOWHERE: u32 = u32::MAX;

/// All contestants, each in the same state after each batch.
#[derive(Debug)]
pub struct Contest {
    table: HostTable,
    fast: FilterScheduler,
    rows: FilterScheduler,
    requests: Vec<RequestSpec>,
    packed: Packed,
    grid: Grid,
    places: [Places; 4],
    /// The same without the parts that the references do not know, where the policy has some.
    plain: Option<Box<Contest>>,
    /// Arrivals that found no host.
    pub refused: usize,
    seed: Seed,
}

impl Contest {
    /// So many hosts with the residents of `stream` on them, placed by the policy itself.
    ///
    /// # Errors
    /// When a shape is no flavor.
    pub fn new(
        hosts: usize,
        policy: &str,
        rule: Rule,
        stream: &Stream,
    ) -> Result<Self, Box<dyn Error>> {
        let scheduler = scheduler(policy)?;
        let requests =
            stream.shapes.iter().map(|shape| request(*shape)).collect::<Result<_, _>>()?;
        let places = vec![NOWHERE; stream.shape_of.len()];
        let mut contest = Self {
            table: empty_hosts(hosts)?,
            rows: scheduler.clone().with_lookup(Lookup::RowByRow),
            fast: scheduler.with_lookup(Lookup::Indexed),
            requests,
            packed: Packed::new(hosts, rule),
            grid: Grid::new(hosts, rule),
            places: [Vec::new(), places.clone(), places.clone(), places],
            plain: match policy.strip_suffix("-custom") {
                Some(plain) => Some(Box::new(Self::new(hosts, plain, rule, stream)?)),
                None => None,
            },
            refused: 0,
            seed: Seed::new(1),
        };
        let arrivals: Vec<Event> = (0..stream.residents).map(Event::Arrival).collect();
        contest.play(Contestant::Fast, stream, &arrivals)?;
        // The references take over where the residents went; they would have done the same.
        for vm in 0..stream.residents {
            let host = contest.places[Contestant::Fast as usize][vm as usize];
            if host != NOWHERE {
                contest.packed.claim(host as usize, stream.shape(vm));
                contest.grid.claim(host as usize, stream.shape(vm));
            }
            contest.places[Contestant::Packed as usize][vm as usize] = host;
            contest.places[Contestant::Grid as usize][vm as usize] = host;
        }
        contest.refused = 0;
        Ok(contest)
    }

    /// Lets one of them go through these events; gives the number of arrivals.
    ///
    /// # Errors
    /// When ours answers with a host that is not there.
    pub fn play(
        &mut self,
        contestant: Contestant,
        stream: &Stream,
        events: &[Event],
    ) -> Result<usize, Box<dyn Error>> {
        let mut placed = 0;
        if self.plain.is_some() && contestant != Contestant::Fast {
            return Ok(0);
        }
        for event in events {
            match *event {
                Event::Arrival(vm) => {
                    placed += 1;
                    self.arrive(contestant, stream, vm)?;
                }
                Event::Departure(vm) => self.depart(contestant, stream, vm),
            }
        }
        Ok(placed)
    }

    fn arrive(
        &mut self,
        contestant: Contestant,
        stream: &Stream,
        vm: u32,
    ) -> Result<(), Box<dyn Error>> {
        let shape = stream.shape(vm);
        let host = match contestant {
            Contestant::Rows => None,
            Contestant::Fast => {
                let instance = InstanceId::from_u128(u128::from(vm) + 1);
                let request = &mut self.requests[usize::from(stream.shape_of[vm as usize])];
                request.instances[0] = instance;
                match self.fast.find(&self.table, request, self.seed) {
                    None => {
                        self.refused += 1;
                        None
                    }
                    Some(placement) => {
                        let slot = self.table.slot(placement.hosts[0]).ok_or("no such host")?;
                        let amount = request.flavor.resources();
                        self.table.update_at(slot, |row| row.claim(instance, amount));
                        Some(slot.index())
                    }
                }
            }
            Contestant::Packed => {
                let host = self.packed.best(shape);
                host.inspect(|host| self.packed.claim(*host, shape))
            }
            Contestant::Grid => {
                let host = self.grid.best(shape);
                host.inspect(|host| self.grid.claim(*host, shape))
            }
        };
        let host = host.map_or(NOWHERE, |host| host as u32);
        self.places[contestant as usize][vm as usize] = host;
        Ok(())
    }

    fn depart(&mut self, contestant: Contestant, stream: &Stream, vm: u32) {
        let shape = stream.shape(vm);
        let host = self.places[contestant as usize][vm as usize];
        if host == NOWHERE {
            return;
        }
        match contestant {
            Contestant::Rows => {}
            Contestant::Fast => {
                let instance = InstanceId::from_u128(u128::from(vm) + 1);
                self.table.update_at(Slot(host), |row| {
                    row.release(instance);
                });
            }
            Contestant::Packed => self.packed.release(host as usize, shape),
            Contestant::Grid => self.grid.release(host as usize, shape),
        }
    }

    /// The same cloud under the same policy without custom parts, if it has such.
    pub fn plain(&mut self) -> Option<&mut Self> {
        self.plain.as_deref_mut()
    }

    /// Whether all put every VM on the same host.
    ///
    /// # Errors
    /// Names the first on which they differ.
    pub fn agree(&self) -> Result<(), Box<dyn Error>> {
        let [_, fast, packed, grid] = &self.places;
        if self.plain.is_some() || (fast == packed && fast == grid) {
            return Ok(());
        }
        let vm = (0..fast.len()).find(|vm| fast[*vm] != packed[*vm] || fast[*vm] != grid[*vm]);
        let vm = vm.unwrap_or_default();
        let hosts = [fast[vm], packed[vm], grid[vm]];
        Err(format!("VM {vm} went to {hosts:?}: ours, scan and grid differ").into())
    }

    /// Asks every host for one of the shapes, and changes nothing.
    ///
    /// # Errors
    /// When the index answers otherwise.
    pub fn ask_rows(&mut self, stream: &Stream, nth: u32) -> Result<(), Box<dyn Error>> {
        let vm = stream.residents + nth;
        let kind = stream.shape_of.get(vm as usize).copied().unwrap_or_default();
        let request = &self.requests[usize::from(kind)];
        let by_row = self.rows.find(&self.table, request, self.seed);
        if by_row != self.fast.find(&self.table, request, self.seed) {
            return Err("the index and the rows differ".into());
        }
        Ok(())
    }

    /// What the index takes, shared among the hosts.
    pub fn bytes_per_host(&self) -> f64 {
        self.fast.memory_bytes() as f64 / self.table.len().max(1) as f64
    }
}

fn scheduler(policy: &str) -> Result<FilterScheduler, Box<dyn Error>> {
    Ok(match policy {
        "best-fit" => FilterScheduler::best_fit(),
        "worst-fit" => FilterScheduler::worst_fit(),
        "nova" => FilterScheduler::nova(),
        "nova-custom" => {
            let filter = filter_fn("not-crowded", |host, _| {
                Verdict::pass_if(host.instance_count() < 200, Reason("200 servers already"))
            });
            let weigher = host_weigher_fn("crowd", |host| host.instance_count() as f64);
            FilterScheduler::nova().with_filter(filter).with_weigher(weigher, -0.5)?
        }
        other => return Err(format!("unknown policy {other:?}").into()),
    })
}

fn request(shape: Shape) -> Result<RequestSpec, Invalid> {
    let name = FlavorName::new(format!("f{}-{}", shape.vcpus, shape.quanta))?;
    let memory = MiB(u64::from(shape.quanta) * u64::from(QUANTUM_MIB));
    let flavor = Flavor::new(name, Vcpus(shape.vcpus), memory)?;
    let project = ProjectId::new("bench")?;
    Ok(RequestSpec::new(InstanceId::from_u128(1), project, Arc::new(flavor)))
}
