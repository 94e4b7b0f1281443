//! The minimum Rust version: stated once, inherited by every crate, and enough for every
//! dependency. That the code itself keeps to it is the work of clippy's `incompatible_msrv`.

use serde_json::Value;

use crate::workspace;

/// Major, minor, patch.
type Version = (u64, u64, u64);

fn parse(text: &str) -> Option<Version> {
    let mut parts = text.split('-').next()?.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some(version)
}

/// The one statement, in the root manifest.
fn stated() -> String {
    let manifest = std::fs::read_to_string(workspace::root().join("Cargo.toml"));
    let manifest = manifest.expect("the workspace has a manifest");
    let line = manifest.lines().find(|line| line.starts_with("rust-version"));
    let line = line.expect("the root manifest states `rust-version`");
    line.split('"').nth(1).expect("the version stands in quotes").to_owned()
}

/// Dependencies that need a newer Rust than `ours`.
fn too_new(packages: &[Value], ours: Version) -> Vec<String> {
    packages
        .iter()
        .filter_map(|package| {
            let needed = package["rust_version"].as_str()?;
            let fits = parse(needed).is_some_and(|needed| needed <= ours);
            let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
            (!fits).then(|| format!("{name} {version} needs Rust {needed}"))
        })
        .collect()
}

/// Whether a line speaks of Rust and gives a version that could be a minimum.
fn states_a_version(line: &str) -> bool {
    let lower = line.to_lowercase();
    let about_rust = lower
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| ["rust", "rustc", "cargo", "msrv", "toolchain"].contains(&word));
    let mut numbers = lower.split(|c: char| !c.is_ascii_digit() && c != '.');
    about_rust
        && numbers.any(|number| {
            let minor = number.trim_matches('.').strip_prefix("1.");
            minor.and_then(|rest| rest.split('.').next()).is_some_and(|minor| minor.len() == 2)
        })
}

#[test]
fn every_crate_inherits_the_one_version() {
    let ours = stated();
    let offences: Vec<String> = workspace::members()
        .iter()
        .filter(|package| package["rust_version"] != ours.as_str())
        .map(|package| {
            format!("{} has {}, the root says {ours}", package["name"], package["rust_version"])
        })
        .collect();
    crate::assert_none("crates without `rust-version.workspace = true`", &offences);
}

#[test]
fn no_other_file_states_a_version() {
    let is_the_place = |path: &str| path == "Cargo.toml" || path == "Cargo.lock";
    let pinned = |path: &str| matches!(path, "rust-toolchain" | "rust-toolchain.toml");
    let mut offences: Vec<String> =
        workspace::present().into_iter().filter(|path| pinned(path)).collect();
    for file in workspace::texts(|path| !is_the_place(path) && !workspace::is_of_these_tests(path))
    {
        for (index, line) in file.text.lines().enumerate() {
            if states_a_version(line) {
                offences.push(format!("{}:{}: {}", file.path, index + 1, line.trim()));
            }
        }
    }
    crate::assert_none("only the root manifest states the minimum Rust version", &offences);
}

#[test]
fn no_dependency_needs_a_newer_rust() {
    let ours = parse(&stated()).expect("`rust-version` is a version");
    // The whole lock file, if all of it was ever fetched; else what this machine builds. The
    // test command of the workspace fetches first, so that nothing is left out there.
    let metadata = workspace::metadata(&["--all-features"]).or_else(|missing| {
        eprintln!("only this platform's default dependencies are looked at: {missing}");
        let about = workspace::cargo(&["-vV"])?;
        let host = about.lines().find_map(|line| line.strip_prefix("host: "));
        workspace::metadata(&["--filter-platform", host.unwrap_or_default()])
    });
    let metadata = metadata.expect("what was built can be described");
    let packages = metadata["packages"].as_array().expect("packages are a list");
    crate::assert_none(
        &format!("dependencies that need a newer Rust than {}", stated()),
        &too_new(packages, ours),
    );
}

#[test]
fn versions_are_compared_as_numbers() {
    let package = |needed: &str| serde_json::json!([{"name": "a", "version": "0.1.0", "rust_version": needed}]);
    let check = |needed: &str| too_new(package(needed).as_array().unwrap(), (1, 90, 0)).len();
    assert_eq!([check("1.9"), check("1.90"), check("1.90.0")], [0, 0, 0]);
    assert_eq!([check("1.90.1"), check("1.100"), check("2.0")], [1, 1, 1]);
    assert_eq!(check("no version"), 1, "what cannot be read is not waved through");
}

#[test]
fn a_version_is_recognised_in_prose_and_in_manifests() {
    for line in ["Needs Rust 1.90 or later.", "rust-version = \"1.85.0\"", "msrv = \"1.77\""] {
        assert!(states_a_version(line), "{line}");
    }
    let harmless =
        ["rustix = \"1.12\"", "The Rust book", "a ratio of 1.25", "rust-version.workspace = true"];
    for line in harmless {
        assert!(!states_a_version(line), "{line}");
    }
}
