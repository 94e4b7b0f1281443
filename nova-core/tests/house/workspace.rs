//! The workspace as it lies on disk: its files, their text, and cargo's description of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A text file of the workspace.
pub(crate) struct File {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Where the workspace begins.
pub(crate) fn root() -> PathBuf {
    // Asked when the test runs: two checkouts that share a target directory also share this
    // binary, and what was compiled in would be the path of the other one.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
    let manifest = manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&manifest).parent();
    root.expect("a crate lies in a directory of the workspace").to_owned()
}

/// What belongs to the project: the files under version control.
pub(crate) fn tracked() -> Vec<String> {
    git(&["ls-files", "-z", "--cached"]).unwrap_or_else(walk)
}

/// What may come to belong to it: also the new files that are not ignored.
pub(crate) fn present() -> Vec<String> {
    git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).unwrap_or_else(walk)
}

/// Every text file for which `wanted` holds, in sorted order.
pub(crate) fn texts(wanted: impl Fn(&str) -> bool) -> Vec<File> {
    let root = root();
    present()
        .into_iter()
        .filter(|path| wanted(path))
        .filter_map(|path| {
            let bytes = std::fs::read(root.join(&path)).ok()?;
            Some(File { text: String::from_utf8(bytes).ok()?, path })
        })
        .collect()
}

/// Every Rust file.
pub(crate) fn rust_files() -> Vec<File> {
    let files = texts(|path| path.ends_with(".rs"));
    assert!(!files.is_empty(), "no rust file was found below {}", root().display());
    files
}

/// Every Rust file that may be searched for words: these tests spell out what they look for.
pub(crate) fn rust_files_but_these_tests() -> Vec<File> {
    rust_files().into_iter().filter(|file| !is_of_these_tests(&file.path)).collect()
}

pub(crate) fn is_of_these_tests(path: &str) -> bool {
    path.starts_with("nova-core/tests/house/")
}

/// `cargo metadata`, from the lock file as it is and without the network.
pub(crate) fn metadata(arguments: &[&str]) -> Result<Value, String> {
    let fixed = ["metadata", "--format-version", "1", "--offline", "--locked"];
    let output = cargo(&fixed.iter().chain(arguments).copied().collect::<Vec<_>>())?;
    serde_json::from_str(&output).map_err(|error| error.to_string())
}

/// The packages of the workspace itself.
pub(crate) fn members() -> Vec<Value> {
    let mut metadata = metadata(&["--no-deps"]).expect("cargo describes its own workspace");
    serde_json::from_value(metadata["packages"].take()).expect("packages are a list")
}

/// Runs cargo in the workspace and returns what it printed, or what it complained about.
pub(crate) fn cargo(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|error| error.to_string())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// `None` where there is no git or no repository, as in a source archive.
fn git(arguments: &[&str]) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root())
        // A git hook sets these for its own repository; ours is the one that holds this file.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let root = root();
    let mut paths: Vec<String> = String::from_utf8(output.stdout)
        .ok()?
        .split('\0')
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(str::to_owned)
        .collect();
    paths.sort();
    // An archive unpacked inside somebody else's repository: git answers, but not about us.
    paths.iter().any(|path| path == "Cargo.toml").then_some(paths)
}

fn walk() -> Vec<String> {
    let root = root();
    let mut paths = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the workspace can be read") {
            let entry = entry.expect("the workspace can be read");
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_built = folder == root && name.starts_with("target");
            if name.starts_with('.') || is_built {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                paths.push(relative(&path, &root));
            }
        }
    }
    paths.sort();
    paths
}

fn relative(path: &Path, root: &Path) -> String {
    let inside = path.strip_prefix(root).expect("the walk stays inside the workspace");
    let parts: Vec<&OsStr> = inside.iter().collect();
    parts.join(OsStr::new("/")).to_string_lossy().into_owned()
}

#[test]
fn without_version_control_the_same_rust_files_are_found() {
    let rust = |paths: Vec<String>| -> Vec<String> {
        paths.into_iter().filter(|path| path.ends_with(".rs")).collect()
    };
    // A file that git ignores may be there too; a file that git knows must be.
    let walked = rust(walk());
    let missing: Vec<String> =
        rust(present()).into_iter().filter(|path| !walked.contains(path)).collect();
    crate::assert_none("the walk misses what git lists", &missing);
}
