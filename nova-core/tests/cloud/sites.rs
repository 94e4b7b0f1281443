//! Somebody dies at every moment of every step of every operation.

use std::collections::BTreeSet;

use nova_core::domain::OpKind;
use nova_core::testing::{Bug, Crashes, Parts, Site};

/// Runs every site on two threads, and tells what was found.
fn found(crashes: &Crashes, sites: &[Site]) -> Vec<String> {
    let half = |nth: usize| {
        let mut found = Vec::new();
        for site in sites.iter().skip(nth).step_by(2) {
            for finding in crashes.run(std::slice::from_ref(site)).findings {
                found.push(format!("{site}: {finding}"));
            }
        }
        found
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mut found = half(0);
        found.extend(other.join().unwrap());
        found
    })
}

#[test]
fn every_operation_has_sites_and_its_word() {
    let sites = Crashes::sites();
    // The sites come from an exhaustive match over the kinds, the words are written down.
    let known: BTreeSet<&str> = sites.iter().map(Site::operation).collect();
    assert_eq!(known, OpKind::WORDS.iter().copied().collect());
}

/// One site in so many is run here, besides the first of each operation; `examples/chaos.rs` runs
/// all of them.
const SITES_SHARE: usize = 31;

#[test]
fn nothing_is_wrong_after_a_death_at_a_site() {
    let mut seen = BTreeSet::new();
    let sites = Crashes::sites().into_iter().enumerate();
    let share = sites.filter(|(at, site)| seen.insert(site.operation()) || at % SITES_SHARE == 0);
    let sites: Vec<Site> = share.map(|(_, site)| site).collect();
    let found = found(&Crashes::new(Parts::default()), &sites);
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), sites.len(), found.join("\n"));
}

#[test]
fn going_back_begins_at_each_step_that_can_be_undone() {
    let sites: BTreeSet<String> = Crashes::sites().iter().map(ToString::to_string).collect();
    for site in [
        "create server/place fails/undo place/done/conductor",
        "create server/spawn fails/undo place/begins/conductor",
        "create server/finish fails/undo spawn/recorded/power-here",
        "live migrate server/cut over fails/undo carry live/done/agent-there",
        "migrate server/carry fails/give up/begins/conductor",
    ] {
        assert!(sites.contains(site), "{site}");
    }
    let beyond = |site: &&String| site.contains("/go on fails/");
    assert_eq!(sites.iter().find(beyond), None, "nothing leads back from there");
    let later = |site: &&String| site.contains("/wire fails/undo spawn/");
    assert_eq!(sites.iter().find(later), None, "it was never begun");
}

#[test]
fn a_move_that_fails_when_its_volumes_have_left_has_them_back_where_it_was() {
    let of = |site: &Site| {
        let site = site.to_string();
        site.contains("/hand over fails/undo let go/") && site.ends_with("/conductor")
    };
    let sites: Vec<Site> = Crashes::sites().into_iter().filter(of).collect();
    assert!(!sites.is_empty());
    let found = found(&Crashes::new(Parts::default()), &sites);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_mistake_in_going_back_is_found_at_its_sites() {
    let sites = Crashes::sites();
    for (bug, operation) in [(Bug::SkipUndo, "create server"), (Bug::KeepTask, "stop server")] {
        let of = |site: &&Site| site.operation() == operation && site.step().ends_with("finish");
        let of: Vec<Site> = sites.iter().filter(of).cloned().collect();
        let found = found(&Crashes::new(Parts::default()).with_bug(bug), &of);
        assert!(!found.is_empty(), "{}", bug.name());
    }
}

#[test]
fn a_site_that_is_not_reached_is_a_finding() {
    let sites = Crashes::sites();
    let forward = sites.iter().find(|site| site.step() == "finish").unwrap();
    let begun = sites.iter().find(|site| site.step() == "place").unwrap();
    // The first step does not come after the last.
    let outcome = Crashes::new(Parts::default()).run(&[forward.clone(), begun.clone()]);
    assert_eq!(outcome.findings[0].invariant, "every site is reached");
    let alone = Crashes::new(Parts::default()).run(std::slice::from_ref(begun));
    assert_eq!(alone.findings, []);
    assert!(alone.recovery.iter().any(|site| site.step() == "spawn"));
}
