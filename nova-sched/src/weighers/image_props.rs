//! Servers of similar images.

use std::collections::BTreeMap;

use nova_core::domain::{HostState, RequestSpec};

use crate::Weigher;

/// How often the properties of the request's image, each with its value, are found among the
/// images of the servers that are there ([`HostState::residents`]), each times a ratio. Positive
/// multipliers bring servers of similar images together.
#[derive(Debug, Default, Clone)]
pub struct ImageProps {
    /// The ratios of properties; others do not count. When there are none, every property counts
    /// once.
    pub ratios: BTreeMap<String, f64>,
    /// Whether it weighs at all. Nova does not when the policy's multiplier is 0, whatever the
    /// aggregates of a host say.
    pub off: bool,
}

impl Weigher for ImageProps {
    fn name(&self) -> &str {
        "image-props"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        if self.off {
            return 0.0;
        }
        let ratio = |name| match self.ratios.is_empty() {
            true => 1.0,
            false => self.ratios.get(name).copied().unwrap_or(0.0),
        };
        let found = |(name, value)| {
            let there = host.residents().filter(|there| there.image.get(name) == Some(value));
            there.count() as f64 * ratio(name)
        };
        request.image.iter().map(found).sum()
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        !self.off && request.image.iter().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::{FlavorName, ImageProperties, InstanceId, Resident};

    use super::*;
    use crate::weighers::check;

    fn properties(of: &[(&str, &str)]) -> ImageProperties {
        ImageProperties::new(of.iter().copied()).unwrap()
    }

    fn residents(host: &mut HostState) {
        let images =
            [&[("os_distro", "debian"), ("os_type", "linux")][..], &[("os_type", "linux")]];
        for (id, image) in (0..).zip(images) {
            let resident =
                Resident { flavor: FlavorName::new("f").unwrap(), image: properties(image) };
            host.describe(InstanceId::from_u128(id), Arc::new(resident));
        }
    }

    #[test]
    fn what_images_have_in_common_counts() {
        let linux = |r: &mut RequestSpec| {
            r.image = properties(&[("os_distro", "debian"), ("os_type", "linux"), ("x", "y")]);
        };
        check(ImageProps::default(), residents, |_| {}, 0.0);
        check(ImageProps::default(), residents, linux, 3.0);
        let ratios = [("os_type".to_owned(), 0.5)].into();
        check(ImageProps { ratios, off: false }, residents, linux, 1.0);
        check(ImageProps { off: true, ..ImageProps::default() }, residents, linux, 0.0);
    }
}
