//! Real daemons, asked by every way to them: in a world of its own that `.ci/lab` makes.

use std::sync::Arc;

use crate::domain::Hypervisor;
use crate::libvirt::Libvirtd;
use crate::libvirt::daemon::{Daemon, LibvirtError};

/// Whether this is such a world; says which test is skipped otherwise.
pub(in crate::libvirt) fn is_here(test: &str) -> bool {
    let here = std::env::var_os("NOVA_VIRT_LAB").is_some();
    if !here {
        eprintln!("skipped {test}: not in a world of its own (.ci/lab)");
    }
    here
}

fn ways(uri: &str) -> Vec<Libvirtd> {
    vec![
        #[cfg(feature = "libvirt-native")]
        Libvirtd::native(uri),
        #[cfg(feature = "libvirt")]
        Libvirtd::library(uri),
    ]
}

pub(in crate::libvirt) fn by_every_way(uri: &str) -> Vec<Arc<dyn Daemon>> {
    ways(uri).into_iter().map(|way| way.daemon).collect()
}

#[tokio::test]
async fn every_way_says_the_same_of_a_host() {
    if !is_here("every_way_says_the_same_of_a_host") {
        return;
    }
    for uri in ["qemu:///system", "lxc:///system"] {
        let mut answers = Vec::new();
        for daemon in by_every_way(uri) {
            let machines = match daemon.machine_capabilities("kvm").await {
                Ok(document) => document,
                Err(LibvirtError::Refused { code, message }) => format!("{code}: {message}"),
                Err(error) => panic!("{error}"),
            };
            let said = (daemon.version().await.unwrap(), daemon.capabilities().await.unwrap());
            answers.push((said, machines));
        }
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");
    }
}

#[tokio::test]
async fn a_host_says_what_it_executes_guests_with() {
    if !is_here("a_host_says_what_it_executes_guests_with") {
        return;
    }
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let hardware = flags.split_whitespace().any(|flag| ["vmx", "svm"].contains(&flag));
    let kvm = hardware && std::path::Path::new("/dev/kvm").exists();
    let machines = if kvm { Hypervisor::Kvm } else { Hypervisor::Qemu };
    for (uri, expected) in [
        ("qemu:///system", machines),
        ("lxc:///system", Hypervisor::Lxc),
        ("test:///default", Hypervisor::Test),
    ] {
        for way in ways(uri) {
            assert_eq!(Hypervisor::best_of(&way).await.unwrap(), expected, "{way}");
        }
    }
}
