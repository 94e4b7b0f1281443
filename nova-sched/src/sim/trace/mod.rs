//! Traces: what came, when it went, and how large it was, read row by row.
//!
//! [`open`] reads a file and [`read`] any bytes; both recognise gz and zstd by their first bytes
//! and most formats by their first line or their columns, and hand out [`Rows`]: an iterator in the
//! order of arrival that never holds a whole trace. A row that makes no sense comes out as
//! [`TraceError::BadRow`] with its line, and reading goes on after it; any other error is the end.
//! [`TraceWriter`] and [`JsonWriter`] write the two forms of this workspace, and
//! [`Synthetic`](synthetic::Synthetic) makes rows from a seed.
//!
//! ```
//! use nova_sched::sim::trace::{Format, ReadOptions, TraceWriter, Columns, read};
//!
//! let events = "vmid,cpu,memory,time,type\n7,2,4,100,0\n8,1,1,160,0\n7,2,4,400,1\n";
//! let rows = read(events.as_bytes(), None, &ReadOptions::default())?;
//! let mut plain = TraceWriter::new(Vec::new(), Columns::Core)?;
//! for row in rows {
//!     plain.write(&row?)?;
//! }
//! let text = String::from_utf8(plain.finish()?)?;
//! assert_eq!(text, "vm,arrival_s,end_s,vcpu,mem_mib\n7,100,400,2,4096\n8,160,-1,1,1024\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The plain form
//! CSV without quotes. The header is `vm,arrival_s,end_s,vcpu,mem_mib`, then any of
//! `disk_gib,priority,gang,cpu_permille`, each at most once. Rows are in the order of arrival;
//! `end_s` is -1 for what stays; an empty further column is not told. The JSON form is one object
//! a line with the same names, where what is absent or null is not told (and what has no `end_s`
//! stays). As a table in a Parquet file it has the same columns, found by name, where null is not
//! told.
//!
//! # Formats
//! | [`Format`] | columns that are read | kept | lost |
//! |---|---|---|---|
//! | `plain` | see above | everything | |
//! | `json` | see above | everything | |
//! | `parquet` | see above | everything | |
//! | `azure` | the 11 of vmtable, headerless: `vmid`, `subscriptionid`, `deploymentid`, `vmcreated` s, `vmdeleted` s, `maxcpu`, `avgcpu` %, `p95maxcpu`, `vmcategory`, `vmcorecountbucket`, `vmmemorybucket` GB | times, shape, mean use | ids (`vm` is the line), category, subscription, maxima. What is there at the end has the end as `vmdeleted` |
//! | `azure-packing` | `vm(vmId,tenantId,vmTypeId,priority,starttime,endtime)` in days, and [`ReadOptions::vm_types`] with `vmType(id,vmTypeId,machineId,core,memory,hdd,ssd,nic)` in machines | times, shape, ssd as disk, priority (high is 1, low is 0) | tenant, hdd, nic, what other machines a type fits |
//! | `huawei` | `vmid,cpu,memory` GB`,time` s`,type` 0 creates, 1 deletes | everything | |
//! | `alibaba-2017` | container_event, headerless: `ts` s, `event` Create or Remove, `instance_id`, `machine_id`, `plan_cpu` cores, `plan_mem`, `plan_disk` in machines, `cpuset` | times, shape, disk | machine, cpuset |
//! | `alibaba-2018` | container_meta, headerless: `container_id`, `machine_id`, `time_stamp` s, `app_du`, `status`, `cpu_request` in 1/100 cores, `cpu_limit`, `mem_size` in 1/100 machines | first time seen, shape | ends (the trace has none), limit, status, app, machine |
//! | `alibaba-2018-batch` | batch_task, headerless: `task_name`, `instance_num`, `job_name`, `task_type`, `status`, `start_time` s, `end_time` s, `plan_cpu` in 1/100 cores, `plan_mem` in 1/100 machines | a row for each instance, with the times of its task | names, dependencies, times of single instances |
//! | `alibaba-2023` | openb pods: `name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time` | times, shape, qos as priority (BE 0, Burstable 1, LS and Guaranteed 2) | GPUs, phase, waiting time |
//! | `google-2011` | task_events, headerless, 13 columns: `time` µs, `missing info`, `job ID`, `task index`, `machine ID`, `event type`, `user`, `scheduling class`, `priority`, `CPU request`, `memory request`, `disk space request` in machines, `different machines` | each run of a task from SCHEDULE to its end, shape, disk, priority | waiting time, updates while it runs, constraints, users |
//! | `google-2019` | instance_events as JSON lines: `time` µs, `type`, `collection_id`, `instance_index`, `collection_type`, `alloc_collection_id`, `priority`, `resource_request.cpus`, `.memory` in machines | as above, half the priority | as above, and what runs inside an alloc, whose room is the alloc's |
//! | `decisions` | a log that a cloud wrote with [`DecisionLog`](crate::explain::DecisionLog) | see [`decisions`]; the rows, which ask for room only | what was asked for besides, what was there before: [`decisions::open`] has both |
//! | `planetlab` | a folder or tar of files, one whole percent a line, 5 minutes apart | each file as a VM of [`ReadOptions::shape`] from 0 to its last sample, mean use | the course of use, for which see [`planetlab::Series`] |
//! | `opendc` | a folder with `tasks.parquet` (`id`, `submission_time` ms, `duration` ms, `cpu_count`, `cpu_capacity` MHz, `mem_capacity`) and perhaps `fragments.parquet` (`id`, `duration` ms, `cpu_usage` MHz), or the tasks alone; versions 4 and 5, and the names of older ones | times from the first submission on, shape, mean use | the course of use, for which see `opendc::series`; deadlines, what is deferrable |
//!
//! | format | source | licence of the trace |
//! |---|---|---|
//! | `azure` | Cortez et al., SOSP 2017; Azure/AzurePublicDataset V1 and V2 | CC-BY 4.0 |
//! | `azure-packing` | Hadary et al., OSDI 2020; Azure/AzurePublicDataset | CC-BY 4.0 |
//! | `huawei` | Sheng et al., VMAgent; huaweicloud/VM-placement-dataset | CC BY-NC-SA |
//! | `alibaba-*` | alibaba/clusterdata: v2017, v2018, gpu-v2023 | for research and study, see there |
//! | `google-*` | google/cluster-data: 2011-2, 2019 | CC-BY 4.0 |
//! | `planetlab` | Beloglazov and Buyya, 2012; planetlab-workload-traces | see there |
//! | `opendc` | atlarge-research/opendc-traces: SURF, Bitbrains (Shen et al., CCGrid 2015) and others | see there |
//!
//! # Parquet
//! `opendc` and `parquet` need the feature `parquet`; without it they are [`TraceError::NotBuilt`].
//! Both are told apart by their columns. A table is not read from its beginning to its end, so
//! [`read`] copies it to a temporary file first, and [`open`] does not. Pages are compressed with
//! snappy or not at all; of other compressions a program can ask the crate `parquet` for, by its
//! features. Tables of strangers are read within limits: 64 MiB for a page and for what the file
//! says of itself, and a dictionary has no more entries than its page has room for. The library
//! that decodes them panics at some damaged files; that is caught, and an error, but a hook for
//! panics hears of it, and a program that aborts at panics should not read files of strangers.
//!
//! The packing trace is an SQLite file. Its tables become CSV with
//! ```text
//! sqlite3 -header -csv packing_trace_zone_a_v1.sqlite 'SELECT * FROM vm' > vm.csv
//! sqlite3 -header -csv packing_trace_zone_a_v1.sqlite 'SELECT * FROM vmType' > vmType.csv
//! ```
//!
//! # Shares of a machine
//! Some traces tell sizes as shares of a machine whose size they do not tell.
//! [`ReadOptions::machine`] says how large it is. A share becomes the next whole vCPU, MiB or GiB
//! above it, at least one vCPU and one MiB; what is within a millionth of a whole number is that
//! number. GB in Azure's and Huawei's traces are GiB.
//!
//! # Order
//! Rows of a trace that is not in the order of arrival are sorted outside of memory, see
//! [`sort`]: bad rows come first, then the others, those of one second in the order of the file.
//! Events become rows in two such passes: by VM, then by arrival. A second creation of what is
//! there already and a deletion of what is not are bad rows; what is never deleted stays. In
//! Google's traces the end of what never ran is no fault, since what waits can be cancelled, and a
//! second start without an end between them is the same run. A trace in parts that are compressed
//! each for itself is one trace when they are put behind each other (`cat part-*.gz`).

mod alibaba;
mod azure;
pub mod decisions;
mod decode;
mod events;
mod google;
mod huawei;
mod json;
mod lines;
mod open;
#[cfg(feature = "parquet")]
pub mod opendc;
mod packing;
#[cfg(feature = "parquet")]
mod parquet;
mod plain;
pub mod planetlab;
pub mod sort;
pub mod synthetic;
mod tables;
mod tar;

use std::io;

use nova_core::domain::{Flavor, GiB, Invalid, MiB, Resources, Vcpus};

use super::range::within;
use crate::explain::LogError;

pub(in crate::sim) use tables::is_opendc;

pub use json::{JsonReader, JsonWriter};
pub(crate) use open::format_of;
pub use open::{Format, MemoryUnit, ReadOptions, open, read};
#[cfg(feature = "parquet")]
pub use parquet::{ParquetReader, ParquetWriter};
pub use plain::{Columns, TraceReader, TraceWriter};

/// What every reader comes out as: rows in the order of arrival.
///
/// After a [`TraceError::BadRow`] the next call goes on with the next row; after any other error
/// there is nothing more.
pub type Rows = Box<dyn Iterator<Item = Result<TraceRow, TraceError>> + Send>;

/// One VM of a trace.
// Exhaustive on purpose: it is the canonical row, and simulations make their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRow {
    /// The line of the file, counted from 1 with the header; of a table's or a generated row its
    /// number.
    pub line: u64,
    /// What identifies it among those that run at the same time.
    pub vm: u64,
    /// When it comes, in seconds of the trace.
    pub arrival_s: u64,
    /// When it goes; none when it stays.
    pub end_s: Option<u64>,
    /// Its virtual CPUs.
    pub vcpus: Vcpus,
    /// Its memory.
    pub memory: MiB,
    /// Its disk; 0 where that is not told.
    pub disk: GiB,
    /// How important it is; 0 is the least important, and where that is not told.
    pub priority: u8,
    /// Rows with the same number that follow each other stand together: they arrive in the same
    /// second, and all of them are placed or none.
    pub gang: Option<u64>,
    /// The mean share of its vCPUs that it uses, in thousandths; none where that is not told.
    pub cpu_permille: Option<u16>,
}

impl TraceRow {
    /// Some thirty thousand years: sums over it stay far from the largest number.
    pub const SECONDS_MAX: u64 = 1_000_000_000_000;
    /// All of the vCPUs, all of the time.
    pub const PERMILLE_MAX: u16 = 1000;

    /// What it takes from a host.
    pub const fn resources(&self) -> Resources {
        Resources { vcpus: self.vcpus, memory: self.memory, disk: self.disk }
    }

    /// Whether every value is one that a reader would hand out.
    ///
    /// # Errors
    /// [`BadRow`] names the first that is not.
    pub fn check(&self) -> Result<(), BadRow> {
        within("arrival_s", self.arrival_s, 0..=Self::SECONDS_MAX, lines::SECONDS)?;
        if let Some(end_s) = self.end_s {
            within("end_s", end_s, 0..=Self::SECONDS_MAX, lines::END)?;
        }
        within("vcpu", self.vcpus.get(), 1..=Flavor::VCPUS_MAX.get(), lines::VCPUS)?;
        within("mem_mib", self.memory.get(), 1..=Flavor::MEMORY_MAX.get(), lines::MEMORY)?;
        within("disk_gib", self.disk.get(), 0..=Flavor::DISK_MAX.get(), lines::DISK)?;
        if let Some(permille) = self.cpu_permille {
            within("cpu_permille", permille, 0..=Self::PERMILLE_MAX, lines::PERMILLE)?;
        }
        match self.end_s {
            Some(end_s) if end_s < self.arrival_s => {
                Err(BadRow::EndsBeforeArrival { arrival_s: self.arrival_s, end_s })
            }
            _ => Ok(()),
        }
    }
}

/// What rows must keep among each other.
#[derive(Debug, Default)]
struct Order {
    previous_s: u64,
    gang: Option<u64>,
}

impl Order {
    /// Takes the row as the next one.
    fn follow(&mut self, row: &TraceRow) -> Result<(), BadRow> {
        let (arrival_s, previous_s) = (row.arrival_s, self.previous_s);
        if arrival_s < previous_s {
            return Err(BadRow::ArrivesBeforePrevious { arrival_s, previous_s });
        }
        if let Some(gang) = row.gang
            && self.gang == Some(gang)
            && arrival_s != previous_s
        {
            return Err(BadRow::ArrivesWithoutGang { gang, arrival_s, gang_s: previous_s });
        }
        (self.previous_s, self.gang) = (arrival_s, row.gang);
        Ok(())
    }

    /// Takes a row as the next one that is written, in this line; one that a reader would refuse is
    /// refused.
    fn write(&mut self, row: &TraceRow, line: u64) -> Result<(), TraceError> {
        let taken = row.check().and_then(|()| self.follow(row));
        taken.map_err(|why| TraceError::BadRow { line, why })
    }
}

/// A trace cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The bytes could not be read or decompressed, or a line is longer than a row can be.
    #[error("cannot read the trace")]
    Read(#[source] io::Error),
    /// The trace could not be written.
    #[error("cannot write the trace")]
    Write(#[source] io::Error),
    /// The temporary files of a sort could not be written or read back.
    #[error("cannot sort the trace outside of memory")]
    Sort(#[source] io::Error),
    /// The first line is not the header.
    #[error("line 1: the header is {found:?}, not {expected:?}")]
    Header {
        /// What is there, cut to a readable length.
        found: String,
        /// What a header is.
        expected: &'static str,
    },
    /// The first line is that of no format.
    #[error("line 1: no known format begins with {found:?}; name the format")]
    Unrecognised {
        /// What is there, cut to a readable length.
        found: String,
    },
    /// A table has not the columns of the format.
    #[error("the table has no column {column}; it has {found}")]
    NoColumn {
        /// The one that is missing.
        column: &'static str,
        /// Those that are there, some at least.
        found: String,
    },
    /// The format needs a feature that is not built in.
    #[error(
        "{format} is read from Parquet files, which needs the feature `parquet` of nova-sched; \
         this program was built without it"
    )]
    NotBuilt {
        /// The format.
        format: Format,
    },
    /// A row does not make sense. Reading may go on with the next.
    #[error("line {line}: {why}")]
    BadRow {
        /// The line, counted from 1 with the header.
        line: u64,
        /// What is wrong with it.
        why: BadRow,
    },
    /// An option is out of its range, or one is missing that the format needs.
    #[error(transparent)]
    Option(#[from] Invalid),
    /// A log of decisions cannot be read.
    #[error(transparent)]
    Log(Box<LogError>),
    /// A log of decisions has no question that can be read.
    #[error("the log of decisions has no question")]
    NoQuestion,
    /// The table of VM types, which is held in memory, is damaged or has too many rows.
    #[error("the table of VM types: {0}")]
    VmTypes(#[source] Box<TraceError>),
    /// More of something than is held in memory.
    #[error("more than {max} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The most that is taken.
        max: usize,
    },
}

#[cfg(feature = "parquet")]
impl TraceError {
    fn no_column(table: &super::parquet::Table, column: &'static str) -> Self {
        Self::NoColumn { column, found: table.names() }
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRow {
    /// Too few or too many columns.
    #[error("{found} columns instead of {expected}")]
    Columns {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A value is not what its column holds.
    #[error(transparent)]
    Value(#[from] Invalid),
    /// A line of a JSON form is no such object.
    #[error("not an object of the form: {why}")]
    Json {
        /// What the parser says.
        why: String,
    },
    /// A line of a log of decisions cannot be read, or lines before it are missing.
    #[error("{why}")]
    Log {
        /// What is wrong with it.
        why: String,
    },
    /// It goes before it comes.
    #[error("ends at {end_s} s, before it arrives at {arrival_s} s")]
    EndsBeforeArrival {
        /// When it comes.
        arrival_s: u64,
        /// When it goes.
        end_s: u64,
    },
    /// It comes before a VM that is further up in the file.
    #[error("arrives at {arrival_s} s, before the row above it at {previous_s} s")]
    ArrivesBeforePrevious {
        /// When it comes.
        arrival_s: u64,
        /// When the one before it came.
        previous_s: u64,
    },
    /// It comes later than the rows that it must come with.
    #[error("arrives at {arrival_s} s, but its gang {gang} at {gang_s} s")]
    ArrivesWithoutGang {
        /// The gang.
        gang: u64,
        /// When it comes.
        arrival_s: u64,
        /// When the others came.
        gang_s: u64,
    },
    /// A VM of that number is running at that time.
    #[error("vm {vm} is running already")]
    RunsAlready {
        /// The number.
        vm: u64,
    },
    /// A VM of that number is deleted, but not there.
    #[error("vm {vm} goes, but is not there")]
    IsNotThere {
        /// The number.
        vm: u64,
    },
    /// A sample of a series of utilisation is no percent.
    #[error("{name}, line {line}: {why}")]
    Sample {
        /// The name of the file.
        name: String,
        /// The line in it.
        line: u64,
        /// What is wrong with it.
        why: Invalid,
    },
    /// It has neither a beginning nor an end, or no samples.
    #[error("tells of no time at which it runs")]
    NeverRuns,
    /// Its VM type is not in the table, or not for that machine.
    #[error("there is no VM type {vm_type}")]
    NoVmType {
        /// The type.
        vm_type: u64,
    },
}
