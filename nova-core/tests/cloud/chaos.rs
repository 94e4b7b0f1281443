//! What comes of a whole cloud whose parts fail.

use nova_core::testing::{Batch, Bug, Parts, Simulation};

/// Seeds of the normal test run; `examples/chaos.rs` runs as many as anybody wants.
const SEEDS: u64 = 40;

#[test]
fn nothing_is_found_and_most_of_the_work_is_done() {
    let simulation = Simulation::new(Parts::default());
    let mut batch = Batch::default();
    for seed in 0..SEEDS {
        let outcome = simulation.run(seed);
        assert_eq!(outcome.findings, [], "seed {seed}");
        batch.add(&outcome);
    }
    assert!(batch.done_share() >= 0.6, "{batch:#?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let simulation = Simulation::new(Parts::default());
    let (first, second) = (simulation.run(2), simulation.run(2));
    assert_eq!(first.hash, second.hash);
    assert_ne!(first.hash, simulation.run(3).hash);
}

#[test]
fn a_planted_mistake_is_found() {
    for bug in [Bug::AnswerFirst, Bug::NoQuarantine, Bug::KeepClaim, Bug::StayOpen] {
        let outcome = Simulation::new(Parts::default()).with_bug(bug).run(0);
        assert_ne!(outcome.findings, [], "{}", bug.name());
    }
}
