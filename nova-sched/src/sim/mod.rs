//! VM traces replayed through any scheduler, with virtual time.
//!
//! A trace is rows in the order of arrival: a number that identifies the VM, the seconds at which
//! it comes and goes, its virtual CPUs and its memory. [`TraceReader`] streams the plain form, and
//! a [`Simulation`] asks the same [`Scheduler`](nova_core::port::Scheduler) that a cloud would.
//!
//! ```
//! use nova_core::domain::{GiB, MiB, Resources, Vcpus};
//! use nova_core::seed::Seed;
//! use nova_sched::FilterScheduler;
//! use nova_sched::sim::{Scenario, Simulation, TraceReader, uniform_hosts};
//!
//! let trace = "vm,arrival_s,end_s,vcpu,mem_mib\n1,0,10,4,1024\n2,5,-1,4,1024\n3,10,20,4,1024\n";
//! let shape = Resources { vcpus: Vcpus(8), memory: MiB(4096), disk: GiB(0) };
//!
//! let policy = FilterScheduler::best_fit();
//! let hosts = uniform_hosts(1, shape)?;
//! let mut simulation = Simulation::new(hosts, &policy, Scenario::default(), Seed::new(1))?;
//! let report = simulation.run(TraceReader::new(trace.as_bytes())?)?;
//! assert_eq!((report.placed, report.rejected), (3, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rules
//! - Of what happens in one moment, what makes room comes first: repairs, departures (in the order
//!   in which their VMs came), ends of migrations; then failures, maintenance and resizes, readings
//!   of use and plans; arrivals come last, in the order of the trace.
//! - A VM that finds no host is rejected for good, unless the [scenario](Scenario) lets it wait.
//! - No host promises more than its allocation ratios allow: an answer of the scheduler that would
//!   is an error. What VMs then use of what they were promised is [`CpuUse`].
//! - Chance comes from the seed: the same trace, cluster, policy, scenario and seed give the same
//!   events, and the same [`Report`].
//!
//! What is measured, and over which time, is said at the fields of [`Report`].
//!
//! # Rooms
//! - [`trace`]: rows from files in many formats, or of chance;
//! - [`Cluster`], [`Scenario`]: what there is, and what happens besides;
//! - [`Requests`], [`trace::decisions`]: VMs that ask for more than room, and what a cloud recorded;
//! - [`Simulation`], [`World`]: virtual time, and what there is at each moment of it;
//! - [`CpuUse`], [`Courses`]: what VMs use of what they were promised;
//! - [`Watcher`], [`Event`], [`EventLog`]: whoever wants to know all of it;
//! - [`policies`], [`Planner`]: what papers compare, and who moves VMs;
//! - [`Report`]: what came out;
//! - [`experiment`]: many of them, compared.

mod agenda;
mod asking;
mod bound;
mod cluster;
mod columns;
mod contention;
mod cost;
mod counts;
mod event;
pub mod experiment;
mod failing;
mod histogram;
mod maintenance;
mod meter;
mod moment;
mod moving;
#[cfg(feature = "parquet")]
mod parquet;
mod placing;
pub mod policies;
mod preempting;
mod range;
mod report;
mod resizing;
mod sampling;
mod scenario;
mod simulation;
mod superposed;
pub mod trace;
mod usage;
mod vm;
mod waiting;
mod world;

pub use asking::Requests;
pub use cluster::{Cluster, ClusterConfig, HostGroup, uniform_hosts};
pub use cost::{MoveCost, PowerCurve};
pub use event::{Event, EventLog, PutOff, Refused, Watcher};
pub use histogram::{Histogram, Step};
pub use moment::Moment;
pub use moving::{Move, Planner};
pub use report::{
    ByShape, Fragmentation, NPlusOne, Quantiles, RejectedFor, Report, Sample, SkippedRow, Stranded,
    Use,
};
pub use scenario::{
    Failures, Foresight, Maintenance, Planning, Preemption, Resizes, Scenario, Several, Waiting,
};
pub use simulation::{Simulation, SimulationError, Stopwatch};
pub use superposed::Superposed;
pub use trace::{BadRow, TraceError, TraceReader, TraceRow};
pub use usage::{CPU_PERCENT, Courses, CpuUse, CpuUsed, Follow};
pub use vm::{Place, Shape, ShapeKey, Vm, VmKey};
pub use world::{EXPECTED_END_S, World};

/// What to do with a row that makes no sense.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnBadRow {
    /// Stop with an error that names it.
    #[default]
    Refuse,
    /// Leave it out, and say so in the report.
    Skip,
}
