//! What the guests of the suite are made of.

use std::sync::Arc;

use super::valid;
use crate::domain::{
    GiB, Image, ImageContent, ImageFormat, ImageId, ImageProperties, ImageState, InstanceId, Label,
    MiB, ProjectId, ServerName, Vcpus,
};
use crate::memory::MemoryImages;
use crate::port::{GuestSpec, ImageStore};
use crate::seed::Chance;

pub(super) fn small_guest(instance: InstanceId, image: Image) -> GuestSpec {
    GuestSpec {
        instance,
        project: valid(ProjectId::new("conformance")),
        name: valid(ServerName::new("guest")),
        vcpus: Vcpus(1),
        memory: MiB(64),
        root_disk: GiB(1),
        ephemeral_disk: GiB::ZERO,
        swap: MiB::ZERO,
        image,
        nics: Vec::new(),
        public_key: None,
        assigned: Default::default(),
    }
}

pub(super) async fn tiny_image(chance: &mut Chance) -> (Arc<dyn ImageStore>, Image) {
    let images = MemoryImages::new();
    let id = ImageId::draw(chance);
    let bytes = std::io::Cursor::new(vec![0; 4096]);
    let content: ImageContent = match images.put(id, Box::new(bytes)).await {
        Ok(content) => content,
        Err(error) => panic!("no image for the suite: {error:?}"),
    };
    let image = Image {
        id,
        name: valid(Label::new("tiny")),
        owner: None,
        format: ImageFormat::Raw,
        content,
        min_memory: MiB::ZERO,
        min_disk: GiB::ZERO,
        properties: ImageProperties::default(),
        state: ImageState::Active,
        server: None,
    };
    (Arc::new(images), image)
}
