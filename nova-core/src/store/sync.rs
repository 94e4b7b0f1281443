//! The locks, queues and threads of the stores: the standard library's.
//!
//! With `--cfg shuttle`, a build for tests only, they are those of `shuttle`, which runs the
//! models in `races` in one order of steps after another.

#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(all(feature = "redb", not(all(test, shuttle))))]
pub(crate) use std::{sync::mpsc, thread};

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(all(feature = "redb", test, shuttle))]
pub(crate) use shuttle::{sync::mpsc, thread};
