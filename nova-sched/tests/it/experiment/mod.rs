//! Experiments: what they refuse, and that whoever runs them, however often interrupted, on however
//! many threads and machines, has the same bytes in the end.

mod compared;
mod recorded;
mod refused;
mod resumed;
mod tables;
mod using;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use nova_sched::sim::experiment::{Bench, Experiment, Outcome, Progress, Run, Silence};

/// Two traces, one of them a file, two policies, a sweep and three seeds: 24 runs of a moment.
pub(crate) const SMALL: &str = r#"
    name = "small"
    seeds = [1, 2, 3]
    baseline = "best-fit"
    traces = [
        { name = "drawn", synthetic = { rows = 300, arrivals = { poisson = { per_hour = 600.0 } } } },
        { name = "told", file = "told.csv", window_s = 3600 },
    ]
    clusters = [{ name = "c", hosts = [{ name = "h", count = 5, vcpus = 32, memory_mib = 131072 }] }]
    policies = [{ name = "worst-fit" }, { name = "best-fit" }]

    [scenario]
    sample_every_s = 600

    [[sweeps]]
    set = "scenario.waiting.patience_s"
    values = [60, 600]
"#;

/// The experiment with its trace in a folder.
pub(crate) fn small(folder: &Path) -> Experiment {
    let rows = (0..400_u64).map(|n| {
        let end = n * 20 + 300 + n * 7919 % 5000;
        format!("{n},{},{end},{},{}\n", n * 20, 1 + n % 7, 1024 * (1 + n % 9))
    });
    let trace = format!("vm,arrival_s,end_s,vcpu,mem_mib\n{}", rows.collect::<String>());
    std::fs::write(folder.join("told.csv"), trace).unwrap();
    std::fs::write(folder.join("small.toml"), SMALL).unwrap();
    Experiment::read(&folder.join("small.toml")).unwrap()
}

/// Every file under a folder, with its bytes.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = files(&path).into_iter();
            all.extend(inner.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            all.insert(name, std::fs::read(&path).unwrap());
        }
    }
    all
}

pub(crate) fn run(bench: &Bench) -> Vec<Outcome> {
    bench.run(&Silence).unwrap()
}

/// Counts what it is told, and stops when so many runs have ended anew.
#[derive(Debug)]
pub(crate) struct Counting {
    stop_after: usize,
    told: Mutex<(usize, usize, usize)>,
    shares: Mutex<Vec<f64>>,
}

impl Counting {
    pub(crate) fn until(stop_after: usize) -> Self {
        Self { stop_after, told: Mutex::default(), shares: Mutex::default() }
    }

    /// Runs that began, that ended anew, that were there.
    pub(crate) fn told(&self) -> (usize, usize, usize) {
        *self.told.lock().unwrap()
    }

    pub(crate) fn shares(&self) -> Vec<f64> {
        self.shares.lock().unwrap().clone()
    }
}

impl Progress for Counting {
    fn begins(&self, nth: usize, all: usize, _: &Run) {
        assert!(nth < all);
        self.told.lock().unwrap().0 += 1;
    }

    fn goes_on(&self, _: usize, share: f64) {
        self.shares.lock().unwrap().push(share);
    }

    fn ends(&self, _: usize, _: usize, anew: bool) {
        let mut told = self.told.lock().unwrap();
        if anew { told.1 += 1 } else { told.2 += 1 }
    }

    fn stops(&self) -> bool {
        self.told().1 >= self.stop_after
    }
}
