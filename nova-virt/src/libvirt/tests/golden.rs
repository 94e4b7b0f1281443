//! Whole definitions, as files: what changes in them is seen in review.
//!
//! `NOVA_GOLDEN=write cargo test -p nova-virt --features libvirt-native golden` writes them anew.

use std::path::{Path, PathBuf};

use super::compare::missing;
use super::daemons::{by_every_way, is_here};
use super::samples::{self, Sample};
use crate::domain::Hypervisor;
use crate::libvirt::daemon::Which;
use crate::libvirt::definition::definition;
use crate::libvirt::xml::Element;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/libvirt/golden")
}

fn file(sample: &Sample) -> PathBuf {
    folder().join(format!("{}.xml", sample.name))
}

fn tree(sample: &Sample) -> Element {
    definition(&sample.domain, &sample.extras).unwrap()
}

#[test]
fn a_guest_is_defined_as_it_was_before() {
    let rewrite = std::env::var_os("NOVA_GOLDEN").is_some_and(|what| what == "write");
    for sample in samples::all() {
        let now = tree(&sample).write().unwrap() + "\n";
        if rewrite {
            std::fs::write(file(&sample), &now).unwrap();
        }
        let before = std::fs::read_to_string(file(&sample)).unwrap_or_default();
        assert!(now == before, "{} is another now:\n{now}", sample.name);
    }
}

#[test]
fn a_definition_is_read_back_as_it_was_told() {
    for sample in samples::all() {
        let written = std::fs::read_to_string(file(&sample)).unwrap();
        assert_eq!(Element::read(&written), Some(tree(&sample)), "{}", sample.name);
    }
}

#[test]
fn no_file_is_left_of_a_guest_that_is_not_told_of() {
    let mut told: Vec<_> = samples::all().iter().map(file).collect();
    let files = std::fs::read_dir(folder()).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    told.sort();
    files.sort();
    assert_eq!(files, told);
}

/// Nothing is told to be unconfined, whatever the host has.
#[test]
fn no_guest_is_let_out_of_confinement() {
    for sample in samples::all() {
        let labels: Vec<Element> = tree(&sample).all("seclabel").cloned().collect();
        assert!(labels.iter().all(|label| label.get("type") == Some("dynamic")), "{labels:?}");
        assert!(labels.len() < 2, "{labels:?}");
    }
}

/// Every daemon finds the definition valid, and gives back all that it says.
#[tokio::test]
async fn a_daemon_keeps_what_it_was_told() {
    if !is_here("a_daemon_keeps_what_it_was_told") {
        return;
    }
    for sample in samples::all() {
        let uri = match sample.domain.hypervisor() {
            Hypervisor::Lxc => "lxc:///system",
            Hypervisor::Test => "test:///default",
            _ => "qemu:///system",
        };
        for daemon in by_every_way(uri) {
            let told = tree(&sample);
            let defined = daemon.define(&told.write().unwrap()).await;
            defined.unwrap_or_else(|error| panic!("{}: {error}", sample.name));
            let domain = sample.domain.instance().as_u128().to_be_bytes();
            let kept = daemon.description(domain, Which::Kept).await.unwrap();
            daemon.undefine(domain).await.unwrap();
            let kept_tree = Element::read(&kept).unwrap();
            assert_eq!(missing(&told, &kept_tree), None, "{}: {kept}", sample.name);
        }
    }
}
