//! The answers of the real Nova, as far as they lie here.

use std::path::PathBuf;

use nova_sched::conformance;

/// Where the cases are: the folder that `NOVA_VECTORS` names, or the one beside the workspace.
fn folder() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors");
    std::env::var_os("NOVA_VECTORS").map_or_else(|| beside.into(), PathBuf::from)
}

#[test]
fn every_answer_is_that_of_the_real_nova() {
    let folder = folder();
    if !folder.is_dir() {
        println!("skipped: no cases computed by the real Nova in {}", folder.display());
        return;
    }
    let report = conformance::run(&folder).unwrap();
    println!("{report}");
    let shown: Vec<_> = report.failures.iter().take(20).collect();
    assert!(report.is_alike(), "{} differ: {shown:#?}", report.failures.len());
}
