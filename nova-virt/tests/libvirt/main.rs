//! The driver on real daemons: in a world of its own that `.ci/lab` makes, with guests that boot.
//! Elsewhere each of these says that it was skipped.

mod lab;
mod suite;
