//! What many clients hear at once could have come from one thing that does one call after the
//! other.

use nova_core::testing::{Bug, Call, Hand, Histories, History, Pool, Verdict, linearize, record};

fn wrong<X: Clone + Ord + std::fmt::Debug>(what: &str, history: &History<X>) -> Option<String> {
    let calls: &[Call<Hand<X>>] = &history.calls;
    let pool: &Pool<X> = &history.pool;
    match linearize(pool, std::collections::BTreeMap::new(), calls) {
        Verdict::Linearizable { .. } => None,
        verdict => Some(format!("{what}: {verdict:?} in {calls:#?}")),
    }
}

fn findings(seen: &Histories) -> Vec<String> {
    let all = [
        wrong("floating IPs", &seen.floating),
        wrong("addresses", &seen.fixed),
        wrong("claims", &seen.claims),
        wrong("quota", &seen.quota),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn what_clients_hear_could_have_come_from_one_after_the_other() {
    let mut counts = [0; 5];
    for seed in 0..40 {
        let seen = record(seed, None).unwrap();
        assert_eq!(findings(&seen), Vec::<String>::new(), "seed {seed}");
        let lengths = [seen.floating.calls.len(), seen.fixed.calls.len()];
        let more = [seen.claims.calls.len(), seen.quota.calls.len(), seen.died];
        for (count, more) in counts.iter_mut().zip(lengths.into_iter().chain(more)) {
            *count += more;
        }
    }
    assert!(counts.iter().all(|count| *count > 40), "too little happened: {counts:?}");
}

#[test]
fn mistakes_in_handing_out_are_found() {
    for bug in [Bug::SkipProjectLedger, Bug::NoQuarantine, Bug::SkipHostLedger] {
        let found = (0..60).any(|seed| {
            let findings = findings(&record(seed, Some(bug)).unwrap());
            findings.iter().any(|finding| finding.contains("Refuted"))
        });
        assert!(found, "{} was not found", bug.name());
    }
}
