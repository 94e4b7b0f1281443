//! Traits: what a host can do beyond amounts, and which of it a flavor or an image asks for.

use std::borrow::Borrow;

use crate::domain::{Flavor, ImageProperties, Invalid, TraitName};

/// What a flavor or an image says of one trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraitWish {
    /// The host must have it.
    Required,
    /// The host must not have it.
    Forbidden,
}

impl TraitWish {
    /// What `value` says; none when it says neither.
    pub fn of(value: &str) -> Option<Self> {
        match value {
            "required" => Some(Self::Required),
            "forbidden" => Some(Self::Forbidden),
            _ => None,
        }
    }
}

/// Sets of traits can be asked with text that was not checked.
impl Borrow<str> for TraitName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl TraitName {
    /// What the keys of extra specs and image properties begin with that name a trait, as in
    /// `trait:HW_CPU_X86_AVX2 = required`.
    pub const SCOPE: &str = "trait:";

    /// Whether `value` is well-formed for the extra spec `key`; none when it names no trait.
    pub fn check_extra_spec(key: &str, value: &str) -> Option<Result<(), Invalid>> {
        let name = key.strip_prefix(Self::SCOPE)?;
        let allowed = "'required' or 'forbidden'";
        let wish = || match TraitWish::of(value) {
            Some(_) => Ok(()),
            None => Err(Invalid::new("extra spec trait:", format!("{key}={value}"), allowed)),
        };
        Some(Self::new(name).and_then(|_| wish()))
    }

    /// Checks what a flavor and an image say of traits together. An image may only require.
    ///
    /// # Errors
    /// [`Invalid`] for a key that is no trait, a value that is neither `required` nor, in a flavor,
    /// `forbidden`, and a trait that the image requires and the flavor forbids.
    pub fn check_wishes(flavor: &Flavor, image: &ImageProperties) -> Result<(), Invalid> {
        let specs = flavor.extra_specs();
        specs
            .iter()
            .filter_map(|(key, value)| Self::check_extra_spec(key, value))
            .collect::<Result<(), _>>()?;
        for (key, value) in image.iter() {
            let Some(name) = key.strip_prefix(Self::SCOPE) else { continue };
            Self::new(name)?;
            if value != "required" {
                let text = format!("{key}={value}");
                return Err(Invalid::new("image property trait:", text, "'required'"));
            }
            if specs.get(key) == Some("forbidden") {
                let allowed = "a trait that the flavor does not forbid";
                return Err(Invalid::new("image property trait:", key, allowed));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Admission, ExtraSpecs, FlavorName, Host, HostId, HostReport, Inventory, MiB, Resources,
        Vcpus, ZoneName,
    };

    /// The field that is found wrong in a flavor and an image with at most one key each.
    fn check(spec: &[(&str, &str)], property: &[(&str, &str)], expected: Result<(), &str>) {
        let flavor = Flavor::new(FlavorName::new("f").unwrap(), Vcpus(1), MiB(1)).unwrap();
        let specs = ExtraSpecs::new(spec.iter().copied()).unwrap();
        let image = ImageProperties::new(property.iter().copied()).unwrap();
        let said = TraitName::check_wishes(&flavor.with_extra_specs(specs), &image);
        assert_eq!(said.map_err(|invalid| invalid.field), expected, "{spec:?} {property:?}");
    }

    #[test]
    fn a_trait_is_required_or_forbidden_and_nothing_else() {
        const SPEC: Result<(), &str> = Err("extra spec trait:");
        const PROPERTY: Result<(), &str> = Err("image property trait:");
        check(&[("trait:CUSTOM_GOLD", "required")], &[], Ok(()));
        check(&[("trait:CUSTOM_GOLD", "forbidden")], &[("trait:HW_NIC_SRIOV", "required")], Ok(()));
        check(&[("trait:CUSTOM_GOLD", "preferred")], &[], SPEC);
        check(&[("trait:CUSTOM_GOLD", "Required")], &[], SPEC);
        check(&[("trait:gold", "required")], &[], Err("trait"));
        check(&[("trait:", "required")], &[], Err("trait"));
        check(&[], &[("trait:CUSTOM_GOLD", "forbidden")], PROPERTY);
        check(&[], &[("trait:gold", "required")], Err("trait"));
    }

    #[test]
    fn an_image_cannot_require_what_the_flavor_forbids() {
        let image = [("trait:CUSTOM_GOLD", "required")];
        check(&[("trait:CUSTOM_GOLD", "required")], &image, Ok(()));
        check(&[("trait:CUSTOM_GOLD", "forbidden")], &image, Err("image property trait:"));
    }

    #[test]
    fn what_was_stored_before_there_were_traits_is_read() {
        let report: HostReport = serde_json::from_str(r#"{"hypervisor":"QEMU"}"#).unwrap();
        assert!(report.traits.is_empty());
        let host = Host {
            id: HostId::from_u128(1),
            name: "node".parse().unwrap(),
            zone: ZoneName::default(),
            admission: Admission::Enabled,
            disabled_reason: None,
            forced_down: None,
            inventory: Inventory::new(Resources::ZERO),
            guest_kinds: Vec::new(),
            hypervisor_version: 0,
            traits: Default::default(),
            classes: Default::default(),
            numa: None,
            pci: Vec::new(),
        };
        let text = serde_json::to_string(&host).unwrap();
        assert!(!text.contains("traits"), "{text}");
        assert_eq!(serde_json::from_str::<Host>(&text).unwrap(), host);
        let bad = serde_json::from_str::<HostReport>(r#"{"traits":["gold"]}"#);
        assert!(bad.is_err());
    }
}
