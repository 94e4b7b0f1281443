//! Hosts that are kept for some images.

use std::collections::BTreeSet;

use nova_core::domain::{HostName, HostState, ImageId, RequestSpec};

use crate::{Filter, Reason, Runs, Verdict};

/// Passes the isolated hosts to the isolated images and all others to all other images, so that
/// what is dangerous runs apart.
///
/// Without isolated images, isolated hosts take nothing while they are restricted. A server that
/// starts from a volume has no image, and is not isolated.
#[derive(Debug, Default, Clone)]
pub struct IsolatedHosts {
    /// The hosts.
    pub hosts: BTreeSet<HostName>,
    /// The images.
    pub images: BTreeSet<ImageId>,
    /// Whether isolated hosts take isolated images only.
    pub restrict: bool,
}

impl Filter for IsolatedHosts {
    fn name(&self) -> &str {
        "isolated-hosts"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let isolated = self.hosts.contains(&host.name);
        let belongs = request.image_id.is_some_and(|image| self.images.contains(&image));
        if belongs && !isolated {
            Verdict::Reject(Reason("the image is for isolated hosts"))
        } else {
            let passes = belongs || !isolated || !self.restrict;
            Verdict::pass_if(passes, Reason("isolated for other images"))
        }
    }

    fn runs(&self) -> Runs {
        Runs::OncePerRequest
    }

    fn on_rebuild(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check;

    #[test]
    fn isolated_images_and_isolated_hosts_belong_together() {
        const APART: Result<(), &str> = Err("the image is for isolated hosts");
        const OTHERS: Result<(), &str> = Err("isolated for other images");
        let filter = |host: &str, restrict| IsolatedHosts {
            hosts: [HostName::new(host).unwrap()].into(),
            images: [ImageId::from_u128(5)].into(),
            restrict,
        };
        let image = |id| move |r: &mut RequestSpec| r.image_id = Some(ImageId::from_u128(id));
        check(filter("host-1", true), |_| {}, image(5), Ok(()));
        check(filter("host-1", true), |_| {}, image(6), OTHERS);
        check(filter("host-1", true), |_| {}, |_| {}, OTHERS);
        check(filter("host-1", false), |_| {}, image(6), Ok(()));
        check(filter("host-2", true), |_| {}, image(5), APART);
        check(filter("host-2", false), |_| {}, image(5), APART);
        check(filter("host-2", true), |_| {}, image(6), Ok(()));
    }

    #[test]
    fn without_isolated_images_an_isolated_host_takes_nothing() {
        let hosts = [HostName::new("host-1").unwrap()].into();
        let filter = IsolatedHosts { hosts, restrict: true, ..IsolatedHosts::default() };
        check(filter, |_| {}, |_| {}, Err("isolated for other images"));
    }
}
