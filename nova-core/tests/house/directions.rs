//! Who may see whom: the core sees no sibling, siblings are blind to each other.

use serde_json::{Value, json};

use crate::sources::code_lines;
use crate::workspace;

/// What each package may depend on in this workspace, be it for building, running or testing.
/// The dependency of a package on itself is always allowed: that is how it turns on its own
/// features for its tests.
const MAY_SEE: [(&str, &[&str]); 6] = [
    ("nova-core", &[]),
    ("nova-sched", &["nova-core"]),
    ("nova-net", &["nova-core"]),
    ("nova-virt", &["nova-core"]),
    ("nova-examples", &["nova-core", "nova-sched", "nova-net", "nova-virt"]),
    ("nova-benches", &["nova-core", "nova-sched", "nova-net", "nova-virt", "nova-examples"]),
];

/// `None` for a package that the plan does not know.
fn may_see(package: &str) -> Option<&'static [&'static str]> {
    MAY_SEE.iter().find(|(name, _)| *name == package).map(|(_, seen)| *seen)
}

fn is_ours(package: &str) -> bool {
    may_see(package).is_some()
}

fn offences_of(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().expect("a package has a name");
    let Some(seen) = may_see(name) else {
        return vec![format!("{name} is not in the plan: say in directions.rs whom it may see")];
    };
    let dependencies = package["dependencies"].as_array().expect("dependencies are a list");
    dependencies
        .iter()
        .filter_map(|dependency| {
            let on = dependency["name"].as_str().expect("a dependency has a name");
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            // By path, too: a package that the plan does not know is no way around it.
            let inside = is_ours(on) || !dependency["path"].is_null();
            let allowed = on == name || seen.contains(&on);
            (inside && !allowed).then(|| format!("{name} depends on {on} ({kind})"))
        })
        .collect()
}

/// Uses of a sibling in the code of a crate that must not know it. The manifest check already
/// keeps them from compiling; this one also sees what a `cfg` hides from the compiler.
fn uses(path: &str, text: &str) -> Vec<String> {
    let folder = path.split('/').next().unwrap_or(path);
    if !["nova-core", "nova-sched", "nova-net", "nova-virt"].contains(&folder) {
        return Vec::new();
    }
    let seen = may_see(folder).unwrap_or_default();
    let hidden: Vec<String> = MAY_SEE
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != folder && !seen.contains(name))
        .map(|name| name.replace('-', "_"))
        .collect();
    code_lines(text)
        .filter(|(_, code)| {
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.any(|word| hidden.iter().any(|name| name == word))
        })
        .map(|(number, code)| format!("{path}:{number}: {}", code.trim()))
        .collect()
}

#[test]
fn the_core_sees_no_sibling_and_siblings_are_blind() {
    let offences: Vec<String> = workspace::members().iter().flat_map(offences_of).collect();
    crate::assert_none("dependencies that the plan forbids", &offences);
}

#[test]
fn no_source_names_a_crate_it_must_not_see() {
    let files = workspace::rust_files_but_these_tests();
    let offences: Vec<String> =
        files.iter().flat_map(|file| uses(&file.path, &file.text)).collect();
    crate::assert_none("uses that the plan forbids", &offences);
}

#[test]
fn a_dev_dependency_between_siblings_is_an_offence() {
    let net = json!({"name": "nova-net", "dependencies": [
        {"name": "nova-core", "kind": null, "path": "/x"},
        {"name": "nova-net", "kind": "dev", "path": "/x"},
        {"name": "serde", "kind": null},
        {"name": "nova-virt", "kind": "dev", "path": "/x"},
    ]});
    assert_eq!(offences_of(&net), ["nova-net depends on nova-virt (dev)"]);
}

#[test]
fn the_core_must_not_depend_on_anything_here() {
    let core = json!({"name": "nova-core", "dependencies": [
        {"name": "nova-core", "kind": "dev", "path": "/x"},
        {"name": "helper", "kind": "build", "path": "/x"},
    ]});
    assert_eq!(offences_of(&core), ["nova-core depends on helper (build)"]);
}

#[test]
fn a_use_of_a_sibling_is_an_offence_and_a_remark_about_it_is_not() {
    let text = "//! Unlike nova_net, this …\nuse nova_core::Clock;\nuse nova_net::Pool;\n";
    assert_eq!(uses("nova-sched/src/a.rs", text), ["nova-sched/src/a.rs:3: use nova_net::Pool;"]);
    assert_eq!(uses("examples/a.rs", text), Vec::<String>::new());
    assert_eq!(uses("nova-net/src/a.rs", text), Vec::<String>::new());
}
