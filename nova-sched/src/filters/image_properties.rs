//! What an image says of the host it runs on.

use nova_core::domain::{GuestKind, HostState, RequestSpec};

use super::version;
use crate::{Filter, Reads, Reason, Rules, Runs, Verdict};

/// Passes hosts that run a kind of guest with the image's `hw_architecture`, `img_hv_type` and
/// `hw_vm_mode`, as far as it has them, on a hypervisor whose version meets
/// `img_hv_requested_version`.
///
/// Upper and lower case are the same, and so are the names that mean the same (`amd64` and
/// `x86_64`). The version is looked at only together with one of the other three, and not on hosts
/// that report none, as in Nova.
///
/// Each property is compared with its own part of a guest kind; under [Nova's rules](Rules::Nova)
/// with any part.
#[derive(Debug, Default, Clone)]
pub struct ImageProperties {
    /// The architecture of images that say none.
    pub default_architecture: Option<String>,
    /// Whose rules hold.
    pub rules: Rules,
}

impl Filter for ImageProperties {
    fn name(&self) -> &str {
        "image-properties"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let wanted = self.wanted(request);
        if wanted.is_nothing() {
            return Verdict::Pass;
        }
        if host.guest_kinds.is_empty() {
            return Verdict::Reject(Reason("says of no kind of guest that it runs it"));
        }
        if let Some(required) = request.image.get("img_hv_requested_version")
            && let Some(version) = host.hypervisor_version.filter(|version| *version > 0)
        {
            match version::meets(version, required) {
                Some(true) => {}
                Some(false) => {
                    return Verdict::Reject(Reason("another hypervisor version"));
                }
                None => return Verdict::Error(Reason("the image's version is malformed")),
            }
        }
        let passes = host.guest_kinds.iter().any(|kind| match self.rules {
            Rules::Strict => wanted.is_met_by(kind),
            Rules::Nova => wanted.is_met_anywhere_in(kind),
        });
        Verdict::pass_if(passes, Reason("does not run this kind of guest"))
    }

    fn reads(&self) -> Reads {
        Reads::Class
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn on_rebuild(&self) -> bool {
        true
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        !self.wanted(request).is_nothing()
    }
}

impl ImageProperties {
    fn wanted<'a>(&'a self, request: &'a RequestSpec) -> Wanted<'a> {
        let get = |key| request.image.get(key).filter(|value| !value.is_empty());
        Wanted {
            architecture: get("hw_architecture").or(self.default_architecture.as_deref()),
            hypervisor: get("img_hv_type"),
            vm_mode: get("hw_vm_mode"),
        }
    }
}

struct Wanted<'a> {
    architecture: Option<&'a str>,
    hypervisor: Option<&'a str>,
    vm_mode: Option<&'a str>,
}

impl Wanted<'_> {
    fn is_nothing(&self) -> bool {
        self.architecture.is_none() && self.hypervisor.is_none() && self.vm_mode.is_none()
    }

    fn is_met_by(&self, kind: &GuestKind) -> bool {
        let met = |wanted: Option<&str>, has: &str| wanted.is_none_or(|wanted| same(wanted, has));
        met(self.architecture, &kind.architecture)
            && met(self.hypervisor, &kind.hypervisor)
            && met(self.vm_mode, &kind.vm_mode)
    }

    fn is_met_anywhere_in(&self, kind: &GuestKind) -> bool {
        let parts = [&kind.architecture, &kind.hypervisor, &kind.vm_mode];
        let mut wanted = [self.architecture, self.hypervisor, self.vm_mode].into_iter().flatten();
        wanted.all(|wanted| parts.iter().any(|part| same(wanted, part)))
    }
}

/// Names that mean the same thing, each with the one that is compared.
const ALIASES: [(&str, &str); 7] = [
    ("amd64", "x86_64"),
    ("arm64", "aarch64"),
    ("i386", "i686"),
    ("x86_32", "i686"),
    ("hv", "hvm"),
    ("pv", "xen"),
    ("xapi", "xen"),
];

fn same(a: &str, b: &str) -> bool {
    let canonical = |name: &str| {
        ALIASES.iter().find(|(alias, _)| name.eq_ignore_ascii_case(alias)).map(|(_, name)| *name)
    };
    canonical(a).unwrap_or(a).eq_ignore_ascii_case(canonical(b).unwrap_or(b))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::filters::check as check_filter;

    /// Image properties against a host that runs x86_64 under kvm 6.2.0.
    fn check(properties: &[(&str, &str)], expected: Result<(), &str>) {
        let properties = nova_core::domain::ImageProperties::new(properties.iter().copied());
        check_filter(
            ImageProperties::default(),
            |host| host.hypervisor_version = Some(6_002_000),
            |request| request.image = properties.unwrap(),
            expected,
        );
    }

    #[test]
    fn an_image_that_says_nothing_runs_anywhere() {
        check(&[], Ok(()));
        check(&[("os_distro", "plan9")], Ok(()));
    }

    #[test]
    fn every_property_that_is_there_must_fit_the_same_kind_of_guest() {
        const OTHER: Result<(), &str> = Err("does not run this kind of guest");
        check(&[("hw_architecture", "x86_64")], Ok(()));
        check(&[("hw_architecture", "AMD64"), ("hw_vm_mode", "hvm")], Ok(()));
        check(&[("hw_architecture", "aarch64")], OTHER);
        check(&[("hw_architecture", "x86_64"), ("img_hv_type", "lxc")], OTHER);
        check(&[("hw_architecture", "kvm")], OTHER);
    }

    #[test]
    fn nova_lets_any_part_of_a_guest_kind_be_the_wanted_one() {
        let image = |r: &mut RequestSpec| {
            let kvm = [("hw_architecture", "kvm")];
            r.image = nova_core::domain::ImageProperties::new(kvm).unwrap();
        };
        let nova = ImageProperties { rules: Rules::Nova, ..ImageProperties::default() };
        check_filter(nova, |_| {}, image, Ok(()));
    }

    #[test]
    fn images_that_say_no_architecture_are_of_the_default_one() {
        let of = |architecture: &str| ImageProperties {
            default_architecture: Some(architecture.to_owned()),
            ..ImageProperties::default()
        };
        check_filter(of("x86_64"), |_| {}, |_| {}, Ok(()));
        check_filter(of("aarch64"), |_| {}, |_| {}, Err("does not run this kind of guest"));
    }

    #[test]
    fn the_version_must_meet_every_requirement() {
        let version = |text| [("img_hv_type", "kvm"), ("img_hv_requested_version", text)];
        check(&version(">=6.0, <7"), Ok(()));
        check(&version(">=7"), Err("another hypervisor version"));
        check(&version("about 7"), Err("the image's version is malformed"));
        check(&[("img_hv_requested_version", ">=7")], Ok(()));
    }

    #[test]
    fn a_host_that_says_nothing_of_its_guests_takes_no_image_that_asks() {
        let asks = [("hw_architecture", "x86_64")];
        check_filter(
            ImageProperties::default(),
            |host| host.guest_kinds = Arc::from([]),
            |request| request.image = nova_core::domain::ImageProperties::new(asks).unwrap(),
            Err("says of no kind of guest that it runs it"),
        );
    }
}
