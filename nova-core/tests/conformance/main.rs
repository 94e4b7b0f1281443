//! The public suites on the implementations of this crate, and what holds between two of them.

mod bus;
mod clock;
mod store;
