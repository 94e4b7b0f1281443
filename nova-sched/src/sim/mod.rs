//! VM traces replayed through any scheduler, with virtual time.
//!
//! A trace is a CSV file with the header `vm,arrival_s,end_s,vcpu,mem_mib`, one row for each VM in
//! the order of arrival: a number that identifies the VM, the seconds at which it comes and goes
//! (-1: never), its virtual CPUs and its memory in mebibytes. [`TraceReader`] streams it, and
//! [`Replay`] asks the same [`Scheduler`](nova_core::port::Scheduler) that a cloud would.
//!
//! ```
//! use nova_core::domain::{GiB, MiB, Resources, Vcpus};
//! use nova_core::seed::Seed;
//! use nova_sched::FilterScheduler;
//! use nova_sched::sim::{OnBadRow, Replay, TraceReader, uniform_hosts};
//!
//! let trace = "vm,arrival_s,end_s,vcpu,mem_mib\n1,0,10,4,1024\n2,5,-1,4,1024\n3,10,20,4,1024\n";
//! let shape = Resources { vcpus: Vcpus(8), memory: MiB(4096), disk: GiB(0) };
//!
//! let policy = FilterScheduler::best_fit();
//! let mut replay = Replay::new(&policy, uniform_hosts(1, shape)?, Seed::new(1));
//! let report = replay.run(TraceReader::new(trace.as_bytes())?, OnBadRow::Refuse)?;
//! assert_eq!((report.placed, report.rejected), (3, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rules of a replay
//! - Departures at a second come before arrivals at that second; several departures at one second
//!   come in the order in which their VMs came; arrivals keep the order of the file.
//! - A VM that finds no host is rejected for good.
//! - Nothing is ever over-committed: an answer of the scheduler that would is an error.
//! - Chance comes from the seed and the number of the request, so that the same trace, hosts,
//!   policy and seed give the same report.
//!
//! What is measured, and over which time, is said at the fields of [`Report`].

mod meter;
mod replay;
mod report;
mod trace;

use nova_core::domain::{
    HostId, HostName, HostState, HostTable, Invalid, Inventory, Resources, ZoneName,
};

pub use replay::{OnBadRow, Replay, ReplayError};
pub use report::{Fragmentation, RejectedFor, Report, SkippedRow, Use};
pub use trace::{BadRow, TraceError, TraceReader, TraceRow};

/// So many hosts, all of one shape, numbered from 1, without reserve or over-commit.
///
/// # Errors
/// [`Invalid`] for no host, more than a million, or a host without CPUs or memory.
pub fn uniform_hosts(count: u32, shape: Resources) -> Result<HostTable, Invalid> {
    if !(1..=1_000_000).contains(&count) {
        return Err(Invalid::new("hosts", count, "1 to 1000000"));
    }
    if shape.vcpus.get() == 0 {
        return Err(Invalid::new("host.vcpus", shape.vcpus, "at least 1"));
    }
    if shape.memory.get() == 0 {
        return Err(Invalid::new("host.memory", shape.memory, "at least 1 MiB"));
    }
    let zone = ZoneName::new("sim")?;
    let inventory = Inventory::new(shape);
    let host = |number: u32| {
        let name = HostName::new(format!("host-{number:07}"))?;
        Ok(HostState::new(HostId::from_u128(number.into()), name, zone.clone(), inventory))
    };
    Ok(HostTable::new((1..=count).map(host).collect::<Result<Vec<_>, Invalid>>()?))
}
