//! What must be true of the volumes that really exist.

use std::collections::BTreeMap;

use crate::doctor::Snapshot;
use crate::domain::{Volume, VolumeState};

pub(super) fn volumes_have_records(s: &Snapshot) -> Vec<String> {
    let Some(real) = &s.real_volumes else { return Vec::new() };
    let known: BTreeMap<_, _> = s.volumes.iter().map(|volume| (volume.id, volume)).collect();
    let mut wrong = Vec::new();
    for facts in real {
        let id = facts.volume;
        match known.get(&id) {
            None => wrong.push(format!("volume {id} belongs to nobody")),
            Some(record) if free(record) && facts.connected_to.is_some() => {
                wrong.push(format!("volume {id} is free and connected to a host"));
            }
            Some(_) => {}
        }
    }
    // One that could not be made has a record all the same, for its owner to see.
    let made = s.volumes.iter().filter(|volume| volume.state != VolumeState::Error);
    wrong.extend(
        made.filter(|volume| !real.iter().any(|facts| facts.volume == volume.id))
            .map(|volume| format!("volume {} is {} and not there", volume.id, volume.state)),
    );
    wrong
}

fn free(volume: &Volume) -> bool {
    volume.state == VolumeState::Available && volume.attachment.is_none()
}
