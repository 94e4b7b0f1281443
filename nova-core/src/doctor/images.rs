//! What must be true of images.

use std::collections::BTreeSet;

use crate::doctor::Snapshot;
use crate::domain::{ImageId, ImageState, Instance, TaskState};

pub(super) fn images_have_takers(s: &Snapshot) -> Vec<String> {
    let takes = |server: &Instance| {
        matches!(server.task, Some(TaskState::Snapshotting | TaskState::Deleting))
    };
    let saving = s.images.iter().filter(|image| image.state == ImageState::Saving);
    saving
        .filter(|image| {
            let server = s.instances.iter().find(|server| Some(server.id) == image.server);
            !server.is_some_and(takes)
        })
        .map(|image| format!("image {} is being taken by nobody", image.id))
        .collect()
}

pub(super) fn images_have_bytes(s: &Snapshot) -> Vec<String> {
    let deleting = s.images.iter().filter(|image| image.state == ImageState::Deleting);
    let mut wrong: Vec<String> =
        deleting.map(|image| format!("image {} is half deleted", image.id)).collect();
    let Some(real) = &s.real_images else { return wrong };
    let real: BTreeSet<ImageId> = real.iter().copied().collect();
    let known: BTreeSet<ImageId> = s.images.iter().map(|image| image.id).collect();
    wrong.extend(known.difference(&real).map(|id| format!("image {id} has no bytes")));
    wrong.extend(real.difference(&known).map(|id| format!("the bytes of {id} are no image's")));
    wrong
}
