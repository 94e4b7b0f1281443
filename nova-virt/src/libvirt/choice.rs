//! Which hypervisor a host executes guests with best, by asking it.

use std::collections::BTreeSet;

use super::Libvirtd;
use super::daemon::LibvirtError;
use super::xml::Element;
use crate::domain::Hypervisor;

impl Hypervisor {
    /// What executes guests best on the host of `libvirtd`: KVM where it can, QEMU otherwise, or
    /// containers where the daemon is one for containers.
    ///
    /// KVM can when the daemon starts its machines with the host's own processor, and an x86
    /// processor has what that takes. Without that there may be a KVM that executes most of a guest
    /// by stepping through it, which is slower than translating it. Who knows better says
    /// [`Hypervisor::Kvm`] instead of asking.
    ///
    /// ```no_run
    /// use nova_virt::domain::{DomainOptions, Hypervisor};
    /// use nova_virt::libvirt::Libvirtd;
    ///
    /// # async fn show(libvirtd: Libvirtd) -> Result<(), Box<dyn std::error::Error>> {
    /// let hypervisor = Hypervisor::best_of(&libvirtd).await?;
    /// let options = DomainOptions::new(hypervisor, "/var/lib/cloud")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LibvirtError`] when the daemon cannot be asked, or starts nothing that is known here.
    pub async fn best_of(libvirtd: &Libvirtd) -> Result<Self, LibvirtError> {
        let host = read(&libvirtd.daemon.capabilities().await?)?;
        let mut kvm = None;
        if offered(&host).contains(&Self::Kvm) {
            kvm = match libvirtd.daemon.machine_capabilities(Self::Kvm.name()).await {
                Ok(machines) => Some(read(&machines)?),
                Err(LibvirtError::Refused { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        // Of the machine that this is, as guests' files are.
        let processor = tokio::fs::read_to_string("/proc/cpuinfo").await.unwrap_or_default();
        choose(&host, kvm.as_ref(), &processor).ok_or(LibvirtError::NoGuests)
    }
}

fn read(document: &str) -> Result<Element, LibvirtError> {
    Element::read(document).ok_or(LibvirtError::Message { reason: "a document does not read" })
}

/// The choice: from what the daemon says of the host and of machines of KVM, and what the kernel
/// says of the processors.
fn choose(host: &Element, kvm: Option<&Element>, processor: &str) -> Option<Hypervisor> {
    let offered = offered(host);
    // In the order of how fast a guest is.
    let mut rest = offered.iter().copied();
    let first = rest.next()?;
    let doubtful = first == Hypervisor::Kvm
        && !(kvm.is_some_and(has_the_hosts_processor) && has_guests_in_hardware(host, processor));
    // What is doubtful is better than nothing.
    Some(if doubtful { rest.next().unwrap_or(first) } else { first })
}

/// What the daemon starts guests of the host's own architecture with.
fn offered(host: &Element) -> BTreeSet<Hypervisor> {
    let native = architecture(host);
    let arches = host.all("guest").flat_map(|guest| guest.all("arch"));
    let arches = arches.filter(|arch| native.is_none() || arch.get("name") == native);
    let known = [Hypervisor::Kvm, Hypervisor::Qemu, Hypervisor::Lxc, Hypervisor::Test];
    let kinds = arches.flat_map(|arch| arch.all("domain")).filter_map(|domain| domain.get("type"));
    kinds.filter_map(|kind| known.into_iter().find(|known| known.name() == kind)).collect()
}

fn architecture(host: &Element) -> Option<&str> {
    host.at(&["host", "cpu", "arch"]).map(Element::text_of)
}

fn has_the_hosts_processor(machines: &Element) -> bool {
    let modes = machines.at(&["cpu"]);
    machines.at(&["domain"]).is_some_and(|kind| kind.text_of() == Hypervisor::Kvm.name())
        && modes.into_iter().flat_map(|cpu| cpu.all("mode")).any(|mode| {
            mode.get("name") == Some("host-passthrough") && mode.get("supported") == Some("yes")
        })
}

/// Whether the processor executes guests itself. Others than x86 have no flag for it, and their
/// kernels no other way.
fn has_guests_in_hardware(host: &Element, processor: &str) -> bool {
    const FLAGS: [&str; 2] = ["vmx", "svm"];
    let x86 = matches!(architecture(host), Some("x86_64" | "i686"));
    let cpu = host.at(&["host", "cpu"]);
    let mut told = cpu.into_iter().flat_map(|cpu| cpu.all("feature")).filter_map(|f| f.get("name"));
    let mut seen = processor.lines().filter(|line| line.starts_with("flags"));
    !x86 || told.any(|name| FLAGS.contains(&name))
        || seen.any(|line| line.split_whitespace().any(|flag| FLAGS.contains(&flag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of this architecture with these features that starts guests of these kinds.
    fn host(arch: &str, features: &[&str], kinds: &[(&str, &str)]) -> Element {
        let feature = |name: &&str| Element::new("feature").attr("name", name);
        let cpu = Element::new("cpu").with(Element::leaf("arch", arch));
        let cpu = cpu.with_all(features.iter().map(feature));
        let guest = |(arch, kind): &(&str, &str)| {
            let domain = Element::new("domain").attr("type", kind);
            Element::new("guest").with(Element::new("arch").attr("name", arch).with(domain))
        };
        let host = Element::new("capabilities").with(Element::new("host").with(cpu));
        host.with_all(kinds.iter().map(guest))
    }

    fn machines(passthrough: &str) -> Element {
        let mode = Element::new("mode").attr("name", "host-passthrough");
        Element::new("domainCapabilities")
            .with(Element::leaf("domain", "kvm"))
            .with(Element::new("cpu").with(mode.attr("supported", passthrough)))
    }

    const BOTH: &[(&str, &str)] = &[("i686", "kvm"), ("x86_64", "qemu"), ("x86_64", "kvm")];

    #[test]
    fn kvm_is_chosen_where_the_processor_executes_guests() {
        let yes = machines("yes");
        let plain = "processor\t: 0\nflags\t\t: fpu sse2 hypervisor\n";
        let check = |features: &[&str], kvm: Option<&Element>, processor: &str| {
            choose(&host("x86_64", features, BOTH), kvm, processor)
        };
        assert_eq!(check(&["vmx"], Some(&yes), plain), Some(Hypervisor::Kvm));
        // Some models include it, and then it is not named.
        let flags = "processor\t: 0\nflags\t\t: fpu svm sse2\n";
        assert_eq!(check(&[], Some(&yes), flags), Some(Hypervisor::Kvm));
        // A kernel under a hypervisor that has a KVM all the same.
        assert_eq!(check(&["hypervisor"], Some(&yes), plain), Some(Hypervisor::Qemu));
        assert_eq!(check(&["vmx"], Some(&machines("no")), plain), Some(Hypervisor::Qemu));
        assert_eq!(check(&["vmx"], None, plain), Some(Hypervisor::Qemu));
        // The word has to be a flag.
        assert_eq!(check(&[], Some(&yes), "bugs: vmx\nflags: vmxnot\n"), Some(Hypervisor::Qemu));
    }

    #[test]
    fn other_processors_need_no_flag_and_other_architectures_do_not_count() {
        let yes = machines("yes");
        let arm = host("aarch64", &[], &[("aarch64", "qemu"), ("aarch64", "kvm")]);
        assert_eq!(choose(&arm, Some(&yes), ""), Some(Hypervisor::Kvm));
        let foreign = host("aarch64", &[], &[("x86_64", "kvm"), ("aarch64", "qemu")]);
        assert_eq!(choose(&foreign, Some(&yes), ""), Some(Hypervisor::Qemu));
    }

    #[test]
    fn what_there_is_is_chosen() {
        let only = |kind| choose(&host("x86_64", &[], &[("x86_64", kind)]), None, "");
        assert_eq!(only("lxc"), Some(Hypervisor::Lxc));
        assert_eq!(only("test"), Some(Hypervisor::Test));
        assert_eq!(only("kvm"), Some(Hypervisor::Kvm), "a QEMU that cannot translate");
        assert_eq!(only("xen"), None);
    }
}
