//! Hosts that are kept for some kinds of images.

use nova_core::domain::{HostState, RequestSpec};

use super::aggregates;
use crate::{Filter, Reads, Reason, Rules, Runs, Verdict};

/// Passes hosts whose aggregates do not contradict the image: a metadata key that is the name of an
/// image property must, where the image has that property, name its value, among others joined by
/// commas. Nova calls it `AggregateImagePropertiesIsolation`.
///
/// A property that says nothing (`False`, `0` where a number is meant, empty) contradicts nothing.
#[derive(Debug, Default, Clone)]
pub struct AggregateImageProperties {
    /// Only metadata keys that begin with this and the separator count; all when there is none.
    /// The whole key, with its beginning, is the name of the property.
    pub namespace: Option<String>,
    /// What comes between the namespace and the rest.
    pub separator: String,
    /// Whose rules hold.
    pub rules: Rules,
}

impl Filter for AggregateImageProperties {
    fn name(&self) -> &str {
        "aggregate-image-properties"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let mut metadata = host.aggregates.iter().flat_map(|aggregate| aggregate.metadata.iter());
        let contradicted = metadata.any(|(key, _)| {
            let Some(wanted) = self.property(request, key) else { return false };
            let mut named = aggregates::values(host, key).flat_map(aggregates::pieces);
            !named.any(|piece| piece == wanted)
        });
        Verdict::pass_if(!contradicted, Reason("kept for other images"))
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
        request.image.iter().next().is_some()
    }
}

impl AggregateImageProperties {
    /// What the image says under `key`, where that counts.
    fn property<'a>(&self, request: &'a RequestSpec, key: &str) -> Option<&'a str> {
        let ours = self.namespace.as_ref().is_none_or(|namespace| {
            key.strip_prefix(namespace.as_str())
                .is_some_and(|rest| rest.starts_with(self.separator.as_str()))
        });
        // Nova knows of some properties only; an aggregate with any other key keeps nobody away.
        let known = self.rules == Rules::Strict || KNOWN.contains(&key);
        let value = request.image.get(key).filter(|_| ours && known)?;
        let nothing = value.is_empty()
            || value == "False" && BOOLEANS.contains(&key)
            || value == "0" && NUMBERS.contains(&key);
        (!nothing).then_some(value)
    }
}

/// The properties that Nova knows, as far as they are told apart here.
const KNOWN: [&str; 15] = [
    "hw_architecture",
    "img_hv_type",
    "hw_vm_mode",
    "img_hv_requested_version",
    "os_distro",
    "os_type",
    "hw_machine_type",
    "hw_vif_model",
    "hw_disk_bus",
    "hw_firmware_type",
    "hw_qemu_guest_agent",
    "hw_cpu_cores",
    "hw_video_ram",
    "hw_cpu_policy",
    "hw_cpu_thread_policy",
];
/// Those that are `True` or `False`.
const BOOLEANS: [&str; 1] = ["hw_qemu_guest_agent"];
/// Those that are numbers.
const NUMBERS: [&str; 2] = ["hw_cpu_cores", "hw_video_ram"];

#[cfg(test)]
mod tests {
    use nova_core::domain::ImageProperties;

    use super::*;
    use crate::filters::check as check_filter;
    use crate::testkit::join_aggregate;

    const OTHERS: Result<(), &str> = Err("kept for other images");

    fn check(
        filter: AggregateImageProperties,
        metadata: (&str, &str),
        property: (&str, &str),
        expected: Result<(), &str>,
    ) {
        check_filter(
            filter,
            |host| join_aggregate(host, &[metadata]),
            |request| request.image = ImageProperties::new([property]).unwrap(),
            expected,
        );
    }

    #[test]
    fn an_aggregate_names_the_values_that_may_come() {
        let plain = AggregateImageProperties::default;
        check(plain(), ("os_distro", "debian, rhel"), ("os_distro", "rhel"), Ok(()));
        check(plain(), ("os_distro", "debian"), ("os_distro", "rhel"), OTHERS);
        check(plain(), ("os_distro", "debian"), ("os_type", "linux"), Ok(()));
        check(plain(), ("hw_cpu_cores", "2"), ("hw_cpu_cores", "0"), Ok(()));
        check(plain(), ("hw_qemu_guest_agent", "True"), ("hw_qemu_guest_agent", "False"), Ok(()));
    }

    #[test]
    fn other_namespaces_do_not_count() {
        let of = |namespace: &str| AggregateImageProperties {
            namespace: Some(namespace.to_owned()),
            separator: "_".to_owned(),
            ..AggregateImageProperties::default()
        };
        check(of("os"), ("os_distro", "debian"), ("os_distro", "rhel"), OTHERS);
        check(of("hw"), ("os_distro", "debian"), ("os_distro", "rhel"), Ok(()));
    }

    #[test]
    fn nova_looks_at_properties_that_it_knows() {
        let nova = AggregateImageProperties { rules: Rules::Nova, ..Default::default() };
        check(nova, ("colour", "red"), ("colour", "blue"), Ok(()));
        check(Default::default(), ("colour", "red"), ("colour", "blue"), OTHERS);
    }
}
