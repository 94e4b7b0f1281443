//! Your first experiment in ten minutes.
//!
//! All commands are run in the root of the workspace. The first build takes some minutes, all else
//! seconds.
//!
//! # 1. Compare policies on nothing but chance
//! ```text
//! cargo run --release -p nova-examples --example compare_policies
//! ```
//! Five policies place twenty thousand drawn VMs on 130 hosts, ten times with other seeds. The table
//! says, for each metric in which they differ, the mean over seeds, how sure it is, the difference
//! to the first policy, and how likely such a difference is by chance. The same with drawings is in
//! `target/experiments/compare_policies/report.html`, one file that any browser opens and that can
//! be sent by mail.
//!
//! # 2. Compare them on a real trace
//! ```text
//! cargo run --release -p nova-examples --example compare_policies -- \
//!     --trace ../shared/traces/azure_v1_dev.csv --hosts 300 --hosts 400 --out target/azure
//! ```
//! A file is the same for every seed, and a policy that draws nothing would give the same ten
//! times: that is no evidence, and the table says so. So each seed sees another window of a day
//! (`--window-h`). Windows begin with empty hosts. `convert_trace` reads other formats; this
//! program recognises most of them by itself.
//!
//! # 3. Write an experiment down
//! `examples/experiments/first.toml` says what to simulate: every trace on every cluster under every
//! policy with every value of every sweep, once for each seed.
//! ```text
//! cargo run --release -p nova-examples --example compare_policies -- \
//!     --experiment examples/experiments/first.toml --out target/first
//! ```
//! Stop it with Ctrl-C, or kill it: the same command goes on with the runs that are missing.
//! `examples/experiments/failures.toml` has hosts that fail, VMs that wait and are put off, windows
//! of maintenance and a planner. In `examples/experiments/planetlab.toml` hosts promise more than
//! they have, VMs use what series of a real day say, and planners act on it. Every table is
//! described at [`Experiment`](super::Experiment) and [`Scenario`](crate::sim::Scenario).
//!
//! # 4. Share it among machines
//! Each task of a job array runs one part, and somebody puts them together:
//! ```text
//! cargo build --release -p nova-examples --example compare_policies
//! FIRST="target/release/examples/compare_policies --experiment examples/experiments/first.toml"
//! $FIRST --out target/part-1 --shard 1/2
//! $FIRST --out target/part-2 --shard 2/2
//! $FIRST --out target/merged --merge target/part-1 target/part-2
//! diff -r target/first target/merged
//! ```
//! `diff` finds nothing: the same inputs give the same bytes, whoever ran them, on however many
//! threads. On a folder that all machines share, one `--out` for all parts does as well.
//!
//! # 5. Read what came out
//! [The module](super) lists the files. `comparison.csv` has every mean, interval and p value with
//! all digits; `results.csv` a row for each run, for programs of your own; `manifest.json` the
//! hashes of traces, the version, the seeds and the whole experiment, for whoever wants to repeat it.
//!
//! Three things to know before you believe a table: intervals of few seeds are too narrow; with few
//! seeds no p value can be small (the table says how small); and p values are corrected for the
//! policies that are compared, not for the metrics: decide beforehand which one you look at.
//!
//! # 6. Try a policy of your own
//! A weigher is a function of a host and a request, see [`Weigher`](crate::Weigher) and the example
//! `custom_filter`. Put it into a [`Registry`](crate::Registry), give that to
//! [`Bench::with_registry`](super::Bench::with_registry), and name it in the experiment.
//!
//! # 7. Ask what would have been in a cloud of yours
//! A cloud whose scheduler is in a [`DecisionLog`](crate::explain::DecisionLog) writes down what was
//! asked, decided and there. Such a log is a trace, and its hosts are a cluster:
//! ```toml
//! traces = [{ name = "last week", file = "week.log" }]
//! clusters = [{ name = "as it was", recorded = true }]
//! ```
//! The example `replay_decisions` has a small cloud write one.
