//! Where servers go: filters, weighers, policies, explanations and trace replay.
//!
//! A placement runs every host through the [filters] of a policy, ranks those that are
//! left with its [weighers], and takes the best: Nova's algorithm, with Nova's order,
//! normalisation and multipliers. [`FilterScheduler`] is that algorithm as a
//! [`Scheduler`](nova_core::port::Scheduler), the port through which a cloud and a simulation ask.
//!
//! ```
//! use nova_core::domain::{HostState, RequestSpec};
//! use nova_sched::{Filter, FilterScheduler, Reason, Verdict};
//!
//! /// Keeps servers away from hosts that run many already.
//! #[derive(Debug)]
//! struct NotCrowded;
//!
//! impl Filter for NotCrowded {
//!     fn name(&self) -> &str {
//!         "not-crowded"
//!     }
//!
//!     fn check(&self, host: &HostState, _: &RequestSpec) -> Verdict {
//!         Verdict::pass_if(host.instance_count() < 50, Reason("50 servers already"))
//!     }
//! }
//!
//! let scheduler = FilterScheduler::nova().with_filter(NotCrowded);
//! assert_eq!(scheduler.to_string(), "nova");
//! ```
//!
//! # The row contract
//! A filter's verdict and a weigher's weight depend on nothing but the host and the request they
//! are given: no clock, no chance, no state of their own, no other host. The request they see
//! names the instance that is being placed first in
//! [`instances`](nova_core::domain::RequestSpec::instances), those that still wait behind it;
//! host and group count the earlier instances of the same request as placed already. So the
//! answer for one host may be kept, computed in another order or not computed at all when it
//! cannot matter, and nobody has to ask whether a filter allows it.
//!
//! # Rooms
//! - [`Filter`], [`Weigher`]: what to implement;
//! - [`filters`], [`weighers`]: those that are built in, one file each;
//! - [`FilterScheduler`]: a policy put together in code, and the named ones `nova`,
//!   `nova-compat`, `first-fit`, `best-fit` and `worst-fit`;
//! - [`Registry`], [`PolicyConfig`]: policies put together from configuration, by name;
//! - [`explain`]: why a request found no host, and what would have helped; decisions written down
//!   and replayed;
//! - [`Rules`], [`differences`]: where Nova surprises, and what happens here instead;
//! - `conformance` (feature of that name): cases computed by the real Nova, and a runner for them;
//! - `sim` (feature of that name): VM traces replayed through any scheduler with virtual time, and
//!   readers of the traces that clouds have published; with the feature `parquet` also tables in
//!   Parquet files.

mod alternates;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod differences;
pub mod explain;
mod filter;
pub mod filters;
mod hex;
mod index;
mod normalise;
mod options;
mod pipeline;
mod registry;
mod rules;
mod scheduler;
#[cfg(feature = "sim")]
pub mod sim;
mod tally;
#[cfg(test)]
mod testkit;
mod view;
mod weigher;
pub mod weighers;

pub use config::{PolicyConfig, WeigherConfig};
pub use filter::{Filter, FilterFn, Reads, Reason, Runs, Verdict, filter_fn};
pub use index::Lookup;
pub use options::{Options, Ratio};
pub use registry::{PolicyError, Registry};
pub use rules::Rules;
pub use scheduler::{FilterScheduler, Ties};
pub use weigher::{Ends, HostWeigherFn, Sense, Weigher, host_weigher_fn};
