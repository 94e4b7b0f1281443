//! What must be true of the volumes that really exist.

use std::collections::BTreeMap;

use crate::doctor::Snapshot;
use crate::doctor::invariants::{live_ends, repeated};
use crate::domain::{PowerState, Volume, VolumeState};

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

pub(super) fn volumes_match(s: &Snapshot) -> Vec<String> {
    let servers: BTreeMap<_, _> = s.instances.iter().map(|i| (i.id, i.hosts())).collect();
    let mut wrong = Vec::new();
    for volume in &s.volumes {
        let id = volume.id;
        let attached = matches!(
            volume.state,
            VolumeState::InUse | VolumeState::Attaching | VolumeState::Detaching
        );
        match volume.attachment {
            // The root disk of a server for which a host is still to be chosen.
            None if volume.state == VolumeState::Attaching && volume.root_of.is_some() => {}
            None if attached => wrong.push(format!("volume {id} is {} nowhere", volume.state)),
            Some(_) if !attached => {
                wrong.push(format!("volume {id} is {} and attached", volume.state));
            }
            Some(to) => match servers.get(&to.instance) {
                None => {
                    wrong
                        .push(format!("volume {id} is attached to {}, which is gone", to.instance));
                }
                // A server that was shelved is nowhere, and its volumes know where it was last.
                Some(hosts) if !hosts.is_empty() && !hosts.contains(&to.host) => {
                    wrong.push(format!(
                        "volume {id} is attached to {} on {}, where it is not",
                        to.instance, to.host
                    ))
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    for server in s.instances.iter().filter(|server| server.host.is_some()) {
        let Some(root) = server.root else { continue };
        if !s.volumes.iter().any(|v| v.id == root && v.root_of == Some(server.id)) {
            wrong.push(format!("server {} boots from volume {root}, which is not its", server.id));
        }
    }
    for volume in &s.volumes {
        let Some(id) = volume.root_of else { continue };
        if !s.instances.iter().any(|server| server.id == id && server.root == Some(volume.id)) {
            wrong.push(format!("volume {} is the root disk of {id}, which has another", volume.id));
        }
    }
    let Some(real) = &s.real_volumes else { return wrong };
    let plugged: Vec<_> = s
        .guests
        .iter()
        .flat_map(|(host, guests)| {
            // A guest that is shut down uses nothing; before it runs again its agent takes out
            // what it must not have.
            let awake = guests.iter().filter(|guest| guest.power != PowerState::Shutdown);
            awake.flat_map(move |g| g.volumes.iter().map(move |v| (*v, *host)))
        })
        .collect();
    let ends: BTreeMap<_, _> = s
        .volumes
        .iter()
        .filter_map(|volume| Some((volume.id, live_ends(s, volume.attachment?.instance))))
        .collect();
    // What goes to another host while it runs is in both guests, of which one is frozen.
    let alone =
        |(volume, host): &&(_, _)| ends.get(volume).is_none_or(|ends| !ends.contains(&Some(*host)));
    wrong.extend(repeated(plugged.iter().filter(alone).map(|(volume, _)| *volume), |volume| {
        format!("volume {volume} is in two guests")
    }));
    for facts in real.iter().filter(|facts| facts.shared_with.is_some()) {
        let ends = ends.get(&facts.volume).copied().unwrap_or_default();
        if !facts.hosts().all(|host| ends.contains(&Some(host))) {
            wrong.push(format!("volume {} is connected to two hosts", facts.volume));
        }
    }
    for (volume, host) in plugged {
        let connected = real.iter().find(|facts| facts.volume == volume);
        if !connected.is_some_and(|facts| facts.hosts().any(|to| to == host)) {
            wrong.push(format!("volume {volume} is in a guest on {host} without connection"));
        }
    }
    wrong
}
