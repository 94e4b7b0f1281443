//! What lies at the visible top level, and nothing else.

use std::collections::BTreeSet;

use crate::workspace;

const REQUIRED: [&str; 12] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "examples",
    "nova-core",
    "nova-net",
    "nova-sched",
    "nova-virt",
];

const OPTIONAL: [&str; 1] = ["rustfmt.toml"];

fn offences<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let top: BTreeSet<&str> = paths
        .into_iter()
        .map(|path| path.split('/').next().unwrap_or(path))
        .filter(|name| !name.starts_with('.') && !name.starts_with("target"))
        .collect();
    let missing = REQUIRED.iter().filter(|name| !top.contains(**name));
    let strange = top.iter().filter(|name| !REQUIRED.contains(name) && !OPTIONAL.contains(name));
    missing
        .map(|name| format!("{name} is missing"))
        .chain(strange.map(|name| format!("{name} does not belong here")))
        .collect()
}

#[test]
fn the_top_level_is_what_the_plan_says() {
    let paths = workspace::tracked();
    crate::assert_none("the visible top level", &offences(paths.iter().map(String::as_str)));
}

#[test]
fn a_missing_and_a_strange_entry_are_named() {
    let there = REQUIRED.iter().filter(|name| **name != "README.md").copied();
    let found = offences(there.chain(["rustfmt.toml", ".ci/test", "target-2/x", "notes/a.txt"]));
    assert_eq!(found, ["README.md is missing", "notes does not belong here"]);
}
