//! A cloud that is killed a few times forgets nothing.

use nova_examples::kill::{self, Options};

/// Not a test by itself: this program starts itself as the process that is killed.
#[test]
fn the_process_that_is_killed() {
    if let Some(job) = kill::job() {
        kill::child(&job);
    }
}

#[test]
fn what_was_acknowledged_outlives_five_kills() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path()).with_seed(20).with_arguments([
        "the_process_that_is_killed",
        "--exact",
        "--nocapture",
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(kill::run(&options, |_| {})).unwrap();
    assert_eq!(outcome.findings, Vec::<String>::new());
    assert_eq!(outcome.kills, 5);
    assert_eq!(outcome.acknowledged, outcome.fates.done + outcome.fates.failed);
}
