//! Deaths at every site, for the example `chaos`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use nova_core::testing::{Bug, Crashes, Parts, Site};

use crate::Stopwatch;

#[derive(serde::Serialize)]
struct Report {
    sites: usize,
    pairs: usize,
    findings: Vec<String>,
    timing: serde_json::Value,
}

/// The first site at which a death shows a planted mistake, and what is found there.
pub fn shows(bug: Bug) -> Option<String> {
    let (sites, crashes) = (Crashes::sites(), Crashes::new(Parts::default()).with_bug(bug));
    let (next, found) = (AtomicUsize::new(0), Mutex::new(None::<(usize, String)>));
    let lock = || found.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                // Sites are taken in their order, so those before the first have all been seen.
                while lock().is_none() {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(site) = sites.get(at) else { return };
                    let caught = crashes.catches(std::slice::from_ref(site));
                    let Some(finding) = caught else { continue };
                    let mut found = lock();
                    if found.as_ref().is_none_or(|(first, _)| at < *first) {
                        *found = Some((at, format!("{site}: {finding}")));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(_, told)| told)
}

/// Lets somebody die at every site whose name begins with `only`, and with `pairs` a second one
/// at every site of the recovery. Fails when anything is found.
pub fn run(only: &str, pairs: bool, json: bool) -> ExitCode {
    let watch = Stopwatch::start();
    let sites = Crashes::sites();
    let sites: Vec<Site> =
        sites.into_iter().filter(|site| site.to_string().starts_with(only)).collect();
    let crashes = Crashes::new(Parts::default());
    let (next, seconds) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let found = Mutex::new(Vec::new());
    let one = |deaths: &[Site]| {
        let crashed = crashes.run(deaths);
        let names: Vec<String> = deaths.iter().map(ToString::to_string).collect();
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(crashed.findings.iter().map(|it| format!("{}: {it}", names.join(" then "))));
        crashed.recovery
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(site) = sites.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let recovery = one(std::slice::from_ref(site));
                    for second in recovery.into_iter().filter(|_| pairs) {
                        one(&[site.clone(), second]);
                        seconds.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let mut findings = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort();
    let (wall, pairs) = (watch.elapsed().as_secs_f64(), seconds.into_inner());
    let rate = (sites.len() + pairs) as f64 / wall.max(1e-9);
    let status = match findings.is_empty() && !sites.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    if json {
        let timing = serde_json::json!({ "wall_s": wall, "runs_per_s": rate });
        let report = Report { sites: sites.len(), pairs, findings, timing };
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
        let (sites, found) = (sites.len(), findings.len());
        println!("{sites} sites, {pairs} pairs, {found} findings, {rate:.0} runs/s");
    }
    status
}
