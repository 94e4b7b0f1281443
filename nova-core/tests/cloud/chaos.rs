//! What comes of a whole cloud whose parts fail.

use std::sync::Arc;

use nova_core::domain::{GiB, MiB, Resources, Vcpus};
use nova_core::memory::MemoryHost;
use nova_core::testing::{Batch, Bug, Fault, Parts, Simulation};

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
    let missing = Fault::ALL.iter().find(|fault| !batch.faults.contains_key(fault));
    assert_eq!(missing, None, "every kind of fault happens");
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
        let simulation = Simulation::new(Parts::default()).with_bug(bug);
        assert!(simulation.catches(&simulation.run(0)), "{}", bug.name());
    }
}

#[test]
fn what_is_found_without_a_mistake_too_does_not_catch_it() {
    // Every host of this cloud is the same one, so that each guest runs on all of them.
    let total = Resources { vcpus: Vcpus(64), memory: MiB(1 << 16), disk: GiB(1 << 10) };
    let host = Arc::new(MemoryHost::new(total));
    let broken = Parts::default().with_driver(move |_, _| Arc::<MemoryHost>::clone(&host));
    let simulation = Simulation::new(broken).with_bug(Bug::KeepClaim);
    let outcome = simulation.run(0);
    assert_ne!(outcome.findings, []);
    assert!(!simulation.catches(&outcome));
    let sober = Simulation::new(Parts::default());
    assert!(!sober.catches(&outcome), "there is no mistake to catch");
}
