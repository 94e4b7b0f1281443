//! Conductors that race on views that are behind place everything and promise nothing twice.

use std::sync::Arc;

use nova_examples::race::{Race, run};
use nova_sched::Registry;

#[test]
fn racing_conductors_place_as_many_as_one_and_never_too_many() {
    for conductors in [1, 4] {
        let policy = Registry::default().policy("nova").unwrap();
        let finish = run(&Race::new(conductors, 16), Arc::new(policy)).unwrap();
        assert_eq!(finish.findings, Vec::<String>::new());
        assert_eq!(finish.placed, finish.asked);
        assert!(conductors == 1 || finish.conflicts > 0, "nobody raced: {finish:?}");
        assert!(finish.retries_p99 <= 3, "{finish:?}");
    }
}
