//! Simulations from outside: replays, a second account of every log, what each part of a scenario
//! promises, and input that makes no sense.

mod asking;
mod checker;
mod drawn;
mod input;
mod promises;
mod properties;
pub(crate) mod replay;
mod runs;
