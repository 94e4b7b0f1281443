//! What the scheduler is asked for a server.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cloud::view::View;
use crate::domain::{
    Flavor, GuestTopology, HostId, Image, ImageProperties, Instance, Invalid, PciAliases,
    PciRequest, RequestSpec,
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
    let image = image_of(view, instance);
    request.image = image.map(|image| image.properties.clone()).unwrap_or_default();
    // A host that has the image has nothing of a volume that was made of it.
    let whole = image.filter(|image| image.is_whole() && instance.root.is_none());
    request.image_sha256 = whole.map(|image| image.content.sha256.clone());
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

/// What is known of the image that a server is made of now, or that its root volume was made of.
pub(crate) fn image_of<'v>(view: &'v View, instance: &Instance) -> Option<&'v Image> {
    match instance.root {
        Some(volume) => view.volumes.get(&keys::volume(volume))?.value.image.as_deref(),
        None => Some(&view.images.get(&keys::image(instance.source()))?.value),
    }
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
