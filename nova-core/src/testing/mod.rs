//! A whole cloud on one thread, in virtual time, whose parts fail by seed.
//!
//! [`Simulation`] runs real conductors, agents and handles over the [`Parts`] it is given, each
//! process with a clock, a bus and a way to the store of its own that fail as real ones do:
//! [`ChaosBus`], [`ChaosStore`], [`ChaosHost`], [`ChaosStorage`], [`Process`]. Users work, an operator works,
//! machines lose power; after every change all invariants of [`doctor`](crate::doctor) are held
//! against the records and against what is really on the hosts. Then the faults end, and
//! everything has to come to rest within [`LIVENESS_BOUND`]; then everything is deleted, and
//! nothing may be left.
//!
//! The same seed is the same run, byte for byte: [`Outcome::hash`]. What a seed finds is made
//! smaller with [`Simulation::shrink`].
//!
//! [`Crashes`] looks at fewer things more closely: in a calm cloud, one operation runs and somebody
//! dies at one [`Site`], for every operation, every step and every moment of it.
//!
//! [`record`] writes down what many clients of one cloud hear whose views are behind, and
//! [`linearize`] says whether one thing that does one call after the other could have said it.
//!
//! It does not replace the suites of the ports (`conformance`): those say which law a part
//! breaks, this says what comes of it.

mod alone;
mod audit;
mod bus;
mod client;
mod crash;
mod fate;
mod history;
mod host;
mod late;
mod linear;
mod parts;
mod probe;
mod process;
mod run;
mod scenario;
mod scheduler;
mod silence;
mod simulation;
mod sites;
mod storage;
mod store;
mod users;
mod weather;
mod world;

pub use crate::cloud::steps::Moment;
pub use crate::plant::Bug;
pub use alone::alone;
pub use bus::{ChaosBus, Cuts};
pub use crash::{Crashed, Crashes};
pub use fate::{Allow, Fate, Fault, Fired, Strike};
pub use history::{Hand, Histories, History, Pool, record};
pub use host::ChaosHost;
pub use late::LateStore;
pub use linear::{Call, Model, STEPS_MAX, Verdict, linearize};
pub use parts::Parts;
pub(crate) use probe::Probe;
pub use process::{Log, Process};
pub use run::LIVENESS_BOUND;
pub use scheduler::ChaosScheduler;
pub use simulation::{Batch, Outcome, Simulation, Tally};
pub use sites::{Site, Victim};
pub use storage::ChaosStorage;
pub use store::ChaosStore;
