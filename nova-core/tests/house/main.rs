//! The rules of the house that no compiler knows, as tests.
//!
//! They read the whole workspace as files and as cargo's description of itself, so they live in
//! the crate at the bottom, which every other room needs anyway. They are a second integration
//! binary on purpose: they test no code of this crate, need none of its features, and whoever
//! writes a crate may run them alone, `cargo test -p nova-core --test house`.
//!
//! Nothing here reaches for the network. Where a rule has an exception, the exception stands in
//! the rule's own file, with its reason.

mod directions;
mod layout;
mod rust_version;
mod sources;
mod workspace;

/// Fails with every offence on a line of its own: one run shows all there is to mend.
#[track_caller]
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}\n", offences.join("\n  "));
}
