//! The driver on real daemons: in a world of its own that `.ci/lab` makes, with guests that boot.
//! Elsewhere each of these says that it was skipped.

mod alone;
mod lab;
mod lost;
mod proxy;
mod suite;
mod verbs;
