//! What must be true of images.

use std::collections::BTreeSet;

use crate::doctor::Snapshot;
use crate::domain::{HostId, Image, ImageId, ImageState, Instance, TaskState, VmState};

pub(super) fn images_have_takers(s: &Snapshot) -> Vec<String> {
    let takes = |server: &Instance| {
        let taking = [TaskState::Snapshotting, TaskState::Shelving, TaskState::Deleting];
        server.task.is_some_and(|task| taking.contains(&task))
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

pub(super) fn shelved_servers_are_images(s: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    for server in &s.instances {
        let shelved = server.state == VmState::ShelvedOffloaded;
        let coming = matches!(server.task, Some(TaskState::Unshelving | TaskState::Deleting));
        let image = s.images.iter().find(|image| Some(image.id) == server.shelf);
        if shelved != server.shelf.is_some() {
            wrong.push(format!(
                "server {} is {} with shelf {:?}",
                server.id, server.state, server.shelf
            ));
        }
        if shelved && !coming && (server.host.is_some() || server.migration.is_some()) {
            wrong.push(format!("server {} is shelved and on a host", server.id));
        }
        let its =
            |image: &Image| image.state == ImageState::Shelved && image.server == Some(server.id);
        if shelved && server.task != Some(TaskState::Deleting) && !image.is_some_and(its) {
            wrong.push(format!("server {} is shelved and its disk is nowhere", server.id));
        }
    }
    let shelves: BTreeSet<ImageId> = s.instances.iter().filter_map(|i| i.shelf).collect();
    let shelved = s.images.iter().filter(|image| image.state == ImageState::Shelved);
    wrong.extend(
        shelved
            .filter(|image| !shelves.contains(&image.id))
            .map(|image| format!("image {} is the disk of nobody", image.id)),
    );
    wrong
}

pub(super) fn rescued_servers_have_images(s: &Snapshot) -> Vec<String> {
    let images: BTreeSet<ImageId> = s.images.iter().map(|image| image.id).collect();
    // One that is in error may have been rescued, and one whose host was lost in the middle of it.
    let right = |server: &Instance| match server.rescue {
        Some(image) => images.contains(&image),
        None => server.state != VmState::Rescued,
    };
    let wrong = s.instances.iter().filter(|server| !right(server));
    wrong
        .map(|server| format!("server {} is {} from {:?}", server.id, server.state, server.rescue))
        .collect()
}

pub(super) fn images_have_bytes(s: &Snapshot) -> Vec<String> {
    let deleting = s.images.iter().filter(|image| image.state == ImageState::Deleting);
    let mut wrong: Vec<String> =
        deleting.map(|image| format!("image {} is half deleted", image.id)).collect();
    let Some(real) = &s.real_images else { return wrong };
    let real: BTreeSet<ImageId> = real.iter().copied().collect();
    // What was discarded loses its bytes before its record.
    let lasting = s.images.iter().filter(|image| image.state != ImageState::Discarded);
    let lasting: BTreeSet<ImageId> = lasting.map(|image| image.id).collect();
    let mut known: BTreeSet<ImageId> = s.images.iter().map(|image| image.id).collect();
    // What a host may have stored too late goes with its next sweep.
    known.extend(s.late_images.iter().map(|late| late.image));
    let hosts: BTreeSet<HostId> = s.hosts.iter().map(|host| host.id).collect();
    let nowhere = s.late_images.iter().filter(|late| !hosts.contains(&late.host));
    wrong.extend(nowhere.map(|late| format!("image {} may be stored by no host", late.image)));
    wrong.extend(lasting.difference(&real).map(|id| format!("image {id} has no bytes")));
    wrong.extend(real.difference(&known).map(|id| format!("the bytes of {id} are no image's")));
    wrong
}
