//! Decisions of a running cloud, written down so that they can be replayed.
//!
//! [`DecisionLog`] is a scheduler around any other: a cloud that is given it decides as before, and
//! every question is written down with its time, its seed and its answer, and with the hosts that
//! changed since the question before. [`LogReader`] gives the questions back, each with the table it
//! was asked about, and [`replay`] asks a scheduler all of them again: the same one gives the same
//! answers, and another one shows where it would have decided otherwise. For what would have come of
//! that, `sim::trace::decisions` (feature `sim`) makes a trace of a log, which a simulation runs.
//!
//! ```
//! # use std::sync::Arc;
//! # use nova_core::domain::*;
//! use nova_core::memory::VirtualClock;
//! use nova_core::port::Scheduler;
//! use nova_core::seed::Seed;
//! use nova_sched::FilterScheduler;
//! use nova_sched::explain::{DecisionLog, replay};
//!
//! # let zone = ZoneName::new("z")?;
//! # let host = |id: u128| {
//! #     let total = Resources { vcpus: Vcpus(8), memory: MiB(4096), disk: GiB(10) };
//! #     let name = HostName::new(format!("host-{id}"))?;
//! #     Ok::<_, Invalid>(HostState::new(HostId::from_u128(id), name, zone.clone(), Inventory::new(total)))
//! # };
//! # let flavor = Arc::new(Flavor::new(FlavorName::new("small")?, Vcpus(2), MiB(512))?);
//! # let request = RequestSpec::new(InstanceId::from_u128(1), ProjectId::new("p")?, flavor);
//! let mut hosts = HostTable::new([host(1)?, host(2)?]);
//! let clock = Arc::new(VirtualClock::new());
//! let scheduler = DecisionLog::new(FilterScheduler::first_fit(), clock, Vec::new());
//! scheduler.select(&hosts, &request, Seed::new(1))?;
//! hosts.update(HostId::from_u128(1), |row| row.admission = Admission::Disabled);
//! scheduler.select(&hosts, &request, Seed::new(2))?;
//!
//! let log = scheduler.finish()?;
//! let same = replay(&log[..], &FilterScheduler::first_fit(), |_| {})?;
//! assert_eq!((same.asked, same.same), (2, 2));
//! let other = replay(&log[..], &FilterScheduler::worst_fit(), |_| {})?;
//! assert_eq!(other.asked, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The form
//! JSON, one array a line: its number in its part of the log, and an object that says one thing.
//! Blank lines say nothing; one is before each part.
//!
//! | | |
//! |---|---|
//! | `{"log":{"decisions":1,"policy":"nova"}}` | a part of the log begins, in version 1 |
//! | `{"table":0}` | a table begins, without hosts, in place of the one with this number, 0 to 7 |
//! | `{"aggregate":{…}}` | an aggregate as it is in the rows that follow |
//! | `{"host":[0,{…}]}` | the row of a host in table 0, whole, as a [`HostRow`](nova_core::domain::HostRow) |
//! | `{"gone":[0,"…"]}` | a host left table 0 |
//! | `{"asked":{"table":0,"at_ns":…,"seed":…,"request":{…},"placed":["…"]}}` | a question: nanoseconds of the cloud's clock, the [`RequestSpec`](nova_core::domain::RequestSpec), and a host for each of its instances, or null |
//!
//! A part needs nothing that is before it, so a log may be cut where a part begins, and logs of the
//! same cloud may be put behind each other. A part begins every
//! [`QUESTIONS_EACH`](DecisionLog::QUESTIONS_EACH) questions, and with every file. What departs
//! shows as a claim that is not in a row any more.
//!
//! What a log holds is what schedulers see: names of hosts, flavors and projects, ids of servers,
//! hints, and properties of images. No user data, no keys, no addresses but those that hosts report.
//!
//! # Damage
//! A process that dies while it writes leaves a last line without an end; what is before it is
//! whole. When a line in the middle cannot be read or is missing, nobody knows the tables until the
//! next part begins, and what is between is left out and counted.

mod form;
mod reader;
mod replay;
mod writer;

#[cfg(feature = "sim")]
pub(crate) use form::BEGINS as LOG_BEGINS;
pub use reader::{Asked, LogError, LogReader};
pub use replay::{Replay, Replayed, replay};
pub use writer::{DecisionLog, LogFailure};
