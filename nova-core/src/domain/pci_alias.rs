//! Names for kinds of PCI devices, by which flavors ask for them.

use std::collections::BTreeMap;

use crate::domain::{Flavor, ImageProperties, Invalid, PciNumaPolicy, PciRequest};

/// Names for kinds of PCI devices. A flavor asks for devices by these names:
/// `pci_passthrough:alias = gpu:1, nic:2`.
///
/// ```
/// use nova_core::domain::{PciAlias, PciAliases};
///
/// let gpu = PciAlias::new([("vendor_id", "10de"), ("product_id", "1db4")]);
/// let aliases = PciAliases::default().with("gpu", gpu)?;
/// # Ok::<(), nova_core::domain::Invalid>(())
/// ```
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PciAliases(BTreeMap<String, PciAlias>);

/// A kind of PCI devices.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PciAlias {
    /// The kinds that would do; see [`PciRequest::spec`].
    pub spec: Vec<BTreeMap<String, String>>,
    /// How near they have to be to the guest's cells, where neither flavor nor image says it.
    pub numa_policy: PciNumaPolicy,
}

impl PciAlias {
    /// Devices of which all of this holds, however near.
    pub fn new<K: Into<String>, V: Into<String>>(spec: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::default().or(spec)
    }

    /// Those too of which all of this holds.
    #[must_use]
    pub fn or<K: Into<String>, V: Into<String>>(
        mut self,
        spec: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let pair = |(key, value): (K, V)| (key.into(), value.into());
        self.spec.push(spec.into_iter().map(pair).collect());
        self
    }

    /// As near as `numa_policy` wants.
    #[must_use]
    pub fn with_numa_policy(self, numa_policy: PciNumaPolicy) -> Self {
        Self { numa_policy, ..self }
    }
}

impl PciAliases {
    /// The most devices that one flavor may want under one name.
    pub const DEVICES_MAX: u32 = 256;

    /// Adds a name; one that is there already means something else from now on.
    ///
    /// # Errors
    /// [`Invalid`] for a name that is empty, longer than 255, or has a colon or comma or space at
    /// its ends; for a kind without a `vendor_id` and a `product_id` of four hexadecimal digits;
    /// for kinds with different values of `dev_type`, or one that guests cannot ask for by name.
    pub fn with(mut self, name: impl Into<String>, alias: PciAlias) -> Result<Self, Invalid> {
        let name = name.into();
        let plain = !name.contains([':', ',']) && name.trim() == name;
        if name.is_empty() || name.len() > 255 || !plain {
            let allowed = "1 to 255 bytes without colon and comma";
            return Err(Invalid::new("pci alias", name, allowed));
        }
        if alias.spec.is_empty() {
            return Err(Invalid::new("pci alias", name, "at least one kind of devices"));
        }
        for spec in &alias.spec {
            for key in ["vendor_id", "product_id"] {
                let value = spec.get(key).map_or("", String::as_str);
                if value.len() != 4 || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
                    let allowed = "four hexadecimal digits as vendor_id and as product_id";
                    return Err(Invalid::new("pci alias", value, allowed));
                }
            }
            let kind = spec.get("dev_type");
            let known = |kind: &String| ["type-PCI", "type-PF", "type-VF"].contains(&kind.as_str());
            if kind != alias.spec[0].get("dev_type") || !kind.is_none_or(known) {
                let allowed = "type-PCI, type-PF or type-VF, the same in all kinds";
                let kind = kind.map_or("", String::as_str);
                return Err(Invalid::new("pci alias dev_type", kind, allowed));
            }
        }
        self.0.insert(name, alias);
        Ok(self)
    }
}

const ALIAS: &str = PciRequest::ALIAS_KEY;
const POLICY: &str = "hw:pci_numa_affinity_policy";
const IMAGE_POLICY: &str = "hw_pci_numa_affinity_policy";

impl PciRequest {
    /// The extra spec by which a flavor asks for devices.
    pub const ALIAS_KEY: &str = "pci_passthrough:alias";

    /// The devices that a guest of `flavor` that starts from `image` wants.
    ///
    /// # Errors
    /// [`Invalid`] for a value that is malformed, a name that `aliases` do not know, and an image
    /// that wants devices otherwise near than the flavor.
    pub fn from_specs(
        flavor: &Flavor,
        image: &ImageProperties,
        aliases: &PciAliases,
    ) -> Result<Vec<Self>, Invalid> {
        let own = flavor.extra_specs().get(POLICY).map(|text| policy(POLICY, text));
        let images = image.get(IMAGE_POLICY).map(|text| policy(IMAGE_POLICY, text));
        let (own, images) = (own.transpose()?, images.transpose()?);
        if own.is_some() && images.is_some() && own != images {
            let allowed = "the flavor's hw:pci_numa_affinity_policy";
            return Err(Invalid::new(IMAGE_POLICY, "another", allowed));
        }
        let Some(text) = flavor.extra_specs().get(ALIAS) else { return Ok(Vec::new()) };
        let request = |(name, count)| {
            let unknown = || Invalid::new(ALIAS, name, "a name among the cloud's PCI aliases");
            let alias = aliases.0.get(name).ok_or_else(unknown)?;
            let numa_policy = own.or(images).unwrap_or(alias.numa_policy);
            Ok(Self { count, spec: alias.spec.clone(), numa_policy })
        };
        counts(text)?.into_iter().map(request).collect()
    }

    /// Whether `value` is well-formed for the extra spec `key`; none when no devices follow from
    /// it. Which names there are is another question.
    pub fn check_extra_spec(key: &str, value: &str) -> Option<Result<(), Invalid>> {
        match key {
            ALIAS => Some(counts(value).map(drop)),
            POLICY => Some(policy(POLICY, value).map(drop)),
            _ => None,
        }
    }
}

/// Names and how many are wanted of each: `gpu:1, nic:2`.
fn counts(text: &str) -> Result<Vec<(&str, u32)>, Invalid> {
    let count = |word: &str| {
        let digits = |count: &&str| count.bytes().all(|b| b.is_ascii_digit());
        let count = Some(word.trim()).filter(digits)?.parse().ok()?;
        (1..=PciAliases::DEVICES_MAX).contains(&count).then_some(count)
    };
    let words = text.split(',').map(|word| {
        let (name, number) = word.split_once(':')?;
        Some((name.trim(), count(number)?))
    });
    let malformed = || Invalid::new(ALIAS, text, "NAME:COUNT,NAME:COUNT, counts 1 to 256");
    words.collect::<Option<_>>().ok_or_else(malformed)
}

fn policy(field: &'static str, text: &str) -> Result<PciNumaPolicy, Invalid> {
    match text {
        "required" => Ok(PciNumaPolicy::Required),
        "socket" => Ok(PciNumaPolicy::Socket),
        "preferred" => Ok(PciNumaPolicy::Preferred),
        "legacy" => Ok(PciNumaPolicy::Legacy),
        _ => Err(Invalid::new(field, text, "required, socket, preferred or legacy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ExtraSpecs, FlavorName, MiB, Vcpus};

    fn gpu() -> PciAlias {
        PciAlias::new([("vendor_id", "10de"), ("product_id", "1DB4")])
    }

    /// What a flavor with these extra specs and an image with this policy want, where the names
    /// `gpu` and `nic` are known: counts and policies, or the field that is wrong.
    fn check(
        specs: &[(&str, &str)],
        image: Option<&str>,
        expected: Result<&[(u32, PciNumaPolicy)], &str>,
    ) {
        let nic = PciAlias::new([("vendor_id", "8086"), ("product_id", "154d")]);
        let nic = nic.with_numa_policy(PciNumaPolicy::Required);
        let aliases = PciAliases::default().with("gpu", gpu()).unwrap().with("nic", nic).unwrap();
        let flavor = Flavor::new(FlavorName::new("f").unwrap(), Vcpus(1), MiB(1)).unwrap();
        let flavor = flavor.with_extra_specs(ExtraSpecs::new(specs.iter().copied()).unwrap());
        let image = ImageProperties::new(image.map(|image| (IMAGE_POLICY, image))).unwrap();
        let found = PciRequest::from_specs(&flavor, &image, &aliases).map_err(|e| e.field);
        let found = found
            .map(|found| found.iter().map(|one| (one.count, one.numa_policy)).collect::<Vec<_>>());
        assert_eq!(found.as_deref().map_err(|field| *field), expected, "{specs:?} {image:?}");
    }

    #[test]
    fn a_flavor_asks_for_devices_by_name() {
        use PciNumaPolicy::{Legacy, Preferred, Required};
        check(&[], None, Ok(&[]));
        check(&[(ALIAS, "gpu:1")], None, Ok(&[(1, Legacy)]));
        check(&[(ALIAS, "gpu:2, nic:1")], None, Ok(&[(2, Legacy), (1, Required)]));
        check(&[(ALIAS, "nic:1"), (POLICY, "preferred")], None, Ok(&[(1, Preferred)]));
        check(&[(ALIAS, "nic:1")], Some("preferred"), Ok(&[(1, Preferred)]));
        check(&[(POLICY, "preferred")], None, Ok(&[]));
    }

    #[test]
    fn what_is_malformed_or_unknown_is_told_by_name() {
        for bad in ["", "gpu", "gpu:", "gpu:0", "gpu:-1", "gpu:257", "gpu:1,", "gpu:1:2", "tpu:1"] {
            check(&[(ALIAS, bad)], None, Err(ALIAS));
        }
        check(&[(POLICY, "near")], None, Err(POLICY));
        let key = |key, value| PciRequest::check_extra_spec(key, value).map(|good| good.is_ok());
        assert_eq!(key(ALIAS, "whatever:1"), Some(true));
        assert_eq!(key(ALIAS, "whatever"), Some(false));
        assert_eq!(key(POLICY, "near"), Some(false));
        assert_eq!(key("pci_passthrough:aliases", "whatever:1"), None);
        check(&[(POLICY, "legacy")], Some("required"), Err(IMAGE_POLICY));
        check(&[], Some("near"), Err(IMAGE_POLICY));
    }

    #[test]
    fn a_name_stands_for_devices_that_can_be_asked_for() {
        let add = |name: &str, alias| PciAliases::default().with(name, alias).map(drop);
        let field = |name, alias| add(name, alias).map_err(|e| e.field);
        let pair = |vendor: &'static str, kind: &'static str| {
            [("vendor_id", vendor), ("product_id", "1234"), ("dev_type", kind)]
        };
        assert_eq!(field("gpu", gpu()), Ok(()));
        for bad in ["", "a:b", "a,b", " a"] {
            assert_eq!(field(bad, gpu()), Err("pci alias"), "{bad}");
        }
        assert_eq!(field("x", PciAlias::default()), Err("pci alias"));
        assert_eq!(field("x", PciAlias::new([("vendor_id", "10de")])), Err("pci alias"));
        assert_eq!(field("x", PciAlias::new(pair("10dg", "type-VF"))), Err("pci alias"));
        assert_eq!(field("x", PciAlias::new(pair("10de", "vdpa"))), Err("pci alias dev_type"));
        let both = PciAlias::new(pair("10de", "type-VF"));
        assert_eq!(field("x", both.clone().or(pair("8086", "type-VF"))), Ok(()));
        assert_eq!(field("x", both.or(pair("8086", "type-PF"))), Err("pci alias dev_type"));
    }
}
