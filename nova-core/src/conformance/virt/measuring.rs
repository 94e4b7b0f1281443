//! The law of hosts that tell what guests use.

use super::{Subject, World, done};
use crate::port::{GuestUse, VirtError};

/// While a guest is not started anew its counters do not go back; one that is shut down uses
/// nothing, and one that is not here is named.
pub async fn what_a_guest_used_only_grows(subject: impl Into<Subject>) {
    let world = World::new(subject, "what_a_guest_used_only_grows").await;
    let Some(measuring) = world.driver().measuring() else { return };
    let guest = world.create(0).await;
    let mut last = done(measuring.use_of(guest).await);
    for _ in 0..3 {
        let now = done(measuring.use_of(guest).await);
        assert!(grew(&last, &now), "{}: {last:?}, then {now:?}", world.driver());
        last = now;
    }
    let macs: Vec<_> = world.spec(0).nics.iter().map(|nic| nic.mac).collect();
    let told: Vec<_> = last.nics.iter().map(|nic| nic.mac).collect();
    assert_eq!(told, macs, "{}", world.driver());
    assert!(last.disks.is_sorted_by(|a, b| a.name < b.name), "{:?}", last.disks);
    done(world.driver().stop(guest).await);
    assert_eq!(done(measuring.use_of(guest).await), GuestUse::default(), "{}", world.driver());
    let missing = measuring.use_of(world.id(1)).await;
    let told = matches!(missing, Err(VirtError::NoSuchGuest { .. }));
    assert!(told, "{}: {missing:?}", world.driver());
    world.clean().await;
}

fn grew(before: &GuestUse, now: &GuestUse) -> bool {
    let disks = before.disks.iter().zip(&now.disks).all(|(before, now)| {
        before.name == now.name
            && before.read_bytes <= now.read_bytes
            && before.reads <= now.reads
            && before.written_bytes <= now.written_bytes
            && before.writes <= now.writes
    });
    let nics = before.nics.iter().zip(&now.nics).all(|(before, now)| {
        before.mac == now.mac
            && before.received_bytes <= now.received_bytes
            && before.received_packets <= now.received_packets
            && before.sent_bytes <= now.sent_bytes
            && before.sent_packets <= now.sent_packets
    });
    let same = before.disks.len() == now.disks.len() && before.nics.len() == now.nics.len();
    before.cpu_time <= now.cpu_time && same && disks && nics
}
