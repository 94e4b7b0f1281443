//! What holds for every simulation.

use proptest::prelude::*;

use super::drawn::run;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_second_account_agrees_with_every_log_and_report(run in run()) {
        run.checked();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_same_again_is_the_same_to_the_byte_and_nobody_needs_to_watch(run in run()) {
        let (log, report) = run.watched();
        let (again, _) = run.watched();
        prop_assert_eq!(log, again);
        prop_assert_eq!(run.unwatched(), report);
    }
}
