//! What the scheduler is asked for a server.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cloud::view::View;
use crate::domain::{
    Flavor, GuestTopology, HostId, ImageProperties, Instance, Invalid, PciAliases, PciRequest,
    RequestSpec,
};
use crate::store::record::keys;

/// The question that a server's record asks the scheduler.
///
/// # Errors
/// Those of [`devices`]. They are found when the server is asked for; later only where names of
/// PCI devices mean something else by now.
pub(crate) fn question(
    view: &View,
    instance: &Instance,
    tried: &BTreeSet<HostId>,
    aliases: &PciAliases,
) -> Result<RequestSpec, Invalid> {
    let flavor = Arc::new(instance.flavor.clone());
    let mut request = RequestSpec::new(instance.id, instance.project.clone(), flavor);
    let image = view.images.get(&keys::image(instance.source()));
    request.image = image.map(|image| image.value.properties.clone()).unwrap_or_default();
    let whole = image.filter(|image| image.value.is_whole());
    request.image_sha256 = whole.map(|image| image.value.content.sha256.clone());
    request.image_id = Some(instance.source());
    let (numa, pci) = devices(&instance.flavor, &request.image, aliases)?;
    (request.numa, request.pci) = (numa.map(Arc::new), pci);
    request.zone.clone_from(&instance.zone);
    request.hints = instance.hints.clone();
    request.group = instance.group.and_then(|group| view.group(group, instance.id));
    request.tried.clone_from(tried);
    // A host that may still have a guest of it has its claim, too.
    let lingers = view.lingering.get(&keys::lingering(instance.id));
    request.tried.extend(lingers.iter().flat_map(|row| row.value.hosts.iter()));
    Ok(request)
}

/// The NUMA cells and the PCI devices that a server of this flavor and image wants.
///
/// # Errors
/// [`Invalid`] for what is malformed, contradicts itself or names no device.
pub(crate) fn devices(
    flavor: &Flavor,
    image: &ImageProperties,
    aliases: &PciAliases,
) -> Result<(Option<GuestTopology>, Vec<PciRequest>), Invalid> {
    let cells = GuestTopology::from_specs(flavor, image)?;
    Ok((cells, PciRequest::from_specs(flavor, image, aliases)?))
}
