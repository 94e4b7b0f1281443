//! Hosts that have the image.

use nova_core::domain::{HostState, RequestSpec};

use crate::Weigher;

/// 1 where the host told that it has the image of the request
/// ([`HostReport::images`](nova_core::domain::HostReport::images)), 0 elsewhere. Positive
/// multipliers prefer hosts that need not fetch it. Nova has no such weigher, and no policy that is
/// built in weighs by it.
#[derive(Debug, Default, Clone, Copy)]
pub struct ImageCached;

impl Weigher for ImageCached {
    fn name(&self) -> &str {
        "image-cached"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        match &request.image_sha256 {
            Some(image) if host.report.images.contains(image) => 1.0,
            _ => 0.0,
        }
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        request.image_sha256.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::HostReport;

    use super::*;
    use crate::weighers::check;

    fn has(images: &[&str]) -> impl Fn(&mut HostState) {
        let images = Arc::new(images.iter().map(|image| (*image).to_owned()).collect());
        let report = Arc::new(HostReport { images, ..HostReport::default() });
        move |host| host.report = Arc::clone(&report)
    }

    #[test]
    fn a_host_that_has_the_image_counts() {
        let wants = |r: &mut RequestSpec| r.image_sha256 = Some("b0".to_owned());
        check(ImageCached, has(&["a0", "b0"]), wants, 1.0);
        check(ImageCached, has(&["a0", "c0"]), wants, 0.0);
        check(ImageCached, |_| {}, wants, 0.0);
        check(ImageCached, has(&["a0", "b0"]), |_| {}, 0.0);
    }
}
