//! The story of `private_cloud`, told to nobody: to its end, in two halves, and with the process
//! ending anywhere in between.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::Table;
use nova_core::store::RedbStore;
use nova_examples::one_line;
use nova_examples::private_cloud::{Ending, Failure, Options, Screen, Silent, Stage, Summary, run};
use tokio::sync::Notify;

/// As the example, with hosts that are quick.
fn options(directory: &Path) -> Options {
    Options::new(directory).with_slowest(Duration::from_millis(1))
}

/// Runs it as a process would: whatever it leaves behind in memory is gone afterwards.
fn tell(options: &Options) -> Result<Summary, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(options, &mut Silent::default()))
}

#[track_caller]
fn check(options: &Options) -> Summary {
    let summary = tell(options).unwrap_or_else(|failure| panic!("{}", one_line(&failure)));
    let failed: Vec<_> = summary.checks.iter().filter(|check| !check.holds).collect();
    assert!(summary.ok, "{failed:#?}");
    summary
}

#[test]
fn a_run_does_everything_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let summary = check(&options(directory.path()));
    assert_eq!(summary.stages, Stage::ALL);
    assert_eq!((summary.run, summary.hosts.len(), summary.servers.len()), (1, 12, 42));
    let json = serde_json::to_value(&summary).unwrap();
    let funnel = json["refusal"]["refusal"]["funnel"]["stages"].as_array().unwrap();
    assert_eq!(funnel.last().unwrap()["hosts_out"], 0);
    assert!(!json["refusal"]["refusal"]["nearest"].as_array().unwrap().is_empty());
    assert!(!json["refusal"]["advice"].as_array().unwrap().is_empty());
    assert_eq!(json["census"]["before"], json["census"]["after"]);
    assert_eq!(json["census"]["most"]["claim"], 41);
    assert_eq!(json["failure"]["to"], "shop/web-4");
}

#[test]
fn a_cloud_that_is_kept_is_found_and_deleted_by_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let keep = options.clone().with_ending(Ending::Keep);
    let first = check(&keep);
    assert_eq!((first.continued_at, first.census.after), (None, None));
    let still = check(&keep);
    assert_eq!(still.stages, []);
    assert_eq!((still.found.servers, still.found.guests), (42, 41));
    assert_eq!((still.found.volumes, still.found.floating_ips), (6, 6));
    let last = check(&options);
    assert_eq!((last.run, last.continued_at), (1, Some(Stage::Deletion)));
    assert_eq!(last.found, still.found);
    // The directory is good for another run, on the hosts that are registered there.
    let again = check(&keep);
    assert_eq!((again.run, again.continued_at, again.found.hosts), (2, None, 12));
    assert!(again.hosts.iter().all(|host| host.known));
}

/// Calls out after so many signs of progress.
struct Cut {
    after: usize,
    seen: usize,
    reached: Arc<Notify>,
}

impl Screen for Cut {
    fn section(&mut self, _: &str, _: &str) {}
    fn say(&mut self, _: &str) {}
    fn table(&mut self, _: &Table) {}
    fn progress(&mut self, _: &str, _: usize, _: usize) {
        self.seen += 1;
        if self.seen == self.after {
            self.reached.notify_one();
        }
    }
}

/// Runs it until it has shown so much progress, and ends it there. False when it was over before.
fn tell_until(after: usize, options: &Options) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reached = Arc::new(Notify::new());
        let mut cut = Cut { after, seen: 0, reached: Arc::clone(&reached) };
        tokio::select! {
            biased;
            () = reached.notified() => true,
            summary = run(options, &mut cut) => {
                summary.unwrap_or_else(|failure| panic!("{}", one_line(&failure)));
                false
            }
        }
    })
}

#[test]
fn a_run_that_ends_anywhere_is_finished_by_the_next() {
    // While hosts come; while servers boot; while volumes, then floating IPs, are attached; while
    // power changes; when the floating IP moves; while servers, then volumes, are deleted.
    for after in [8, 15, 35, 50, 60, 73, 80, 92, 110, 140] {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path());
        assert!(tell_until(after, &options), "it was over before {after}");
        let summary = check(&options);
        assert_eq!(summary.run, 1, "ended after {after}");
        assert_eq!(summary.found.hosts == 12, after > 13, "ended after {after}");
    }
}

#[test]
fn a_run_that_ends_again_and_again_comes_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    // Each time it gets a little further than registering its hosts again.
    let mut ends = 0;
    while tell_until(40, &options) {
        ends += 1;
        assert!(ends < 20, "it does not get on");
    }
    assert!(ends > 1);
    assert_eq!(check(&options).run, 2);
}

#[test]
fn a_directory_that_is_in_use_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let _store = RedbStore::open(directory.path()).unwrap();
    let refused = tell(&options(directory.path())).map(|_| ()).map_err(|error| one_line(&error));
    let line = refused.unwrap_err();
    assert!(line.starts_with("cannot use the store: ") && !line.contains('\n'), "{line}");
}
