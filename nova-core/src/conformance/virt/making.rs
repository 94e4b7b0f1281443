//! What the guests of the suite are made of.

use std::sync::Arc;

use super::valid;
use crate::domain::{
    GiB, Image, ImageContent, ImageFormat, ImageId, ImageProperties, ImageState, InstanceId,
    InterfaceName, Label, Mac, MiB, ProjectId, ServerName, Vcpus,
};
use crate::memory::MemoryImages;
use crate::port::{GuestSpec, ImageStore, Nic};
use crate::seed::Chance;

pub(super) fn small_guest(instance: InstanceId, image: Image) -> GuestSpec {
    GuestSpec {
        root: None,
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

/// An interface that leads nowhere.
pub(super) fn nic(number: u8) -> Nic {
    Nic {
        mac: valid(Mac::new([0xfa, 0x16, 0x3e, 0xc0, 0, number])),
        bridge: valid(InterfaceName::new("br100")),
        address: [10, 0, 0, number].into(),
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
