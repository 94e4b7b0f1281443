//! Each invariant notices what it is there for, and nothing else does.

use std::collections::{BTreeMap, BTreeSet};

mod healthy;

use self::healthy::*;
use super::*;
use crate::clock::Timestamp;
use crate::domain::*;
use crate::port::{Guest, VolumeFacts};
use crate::store::record::{LateImage, Lingering, OpenOperation, ProjectQuota};

/// What is broken, and the invariant that has to notice it.
type Case = (&'static str, fn(&mut Snapshot));

const CASES: &[Case] = &[
    ("a rescued server has its rescue image", |s| s.instances[0].state = VmState::Rescued),
    ("a rescued server has its rescue image", |s| {
        s.instances[0].state = VmState::Rescued;
        s.instances[0].rescue = Some(ImageId::from_u128(8));
    }),
    ("a shelved server is its image, and nowhere", |s| {
        (s.instances[0].host, s.claims) = (None, Vec::new());
        s.instances[0].state = VmState::ShelvedOffloaded;
        s.guests.clear();
    }),
    ("a shelved server is its image, and nowhere", |s| s.images[0].state = ImageState::Shelved),
    ("a shelved server is its image, and nowhere", |s| {
        s.instances[0].shelf = Some(s.images[0].id);
    }),
    ("an image that is being taken has somebody who takes it", |s| {
        s.images[0].state = ImageState::Saving;
    }),
    ("an image has its bytes, and bytes have an image", |s| {
        s.images[0].state = ImageState::Deleting;
    }),
    ("an image has its bytes, and bytes have an image", |s| s.real_images = Some(vec![])),
    ("an image has its bytes, and bytes have an image", |s| s.images.clear()),
    ("an image has its bytes, and bytes have an image", |s| {
        let image = s.images[0].id;
        s.late_images.push(LateImage { host: HostId::from_u128(99), image, instance: SERVER });
    }),
    ("an address has one owner, and its owner has it", |s| {
        s.fixed_ips[0].state = AddressState::Owned(GONE);
    }),
    ("an address has one owner, and its owner has it", |s| s.fixed_ips.clear()),
    ("an address has one owner, and its owner has it", |s| s.fixed_ips.push(port(3).1)),
    ("a MAC has one owner, and its owner has it", |s| s.macs.clear()),
    ("a MAC has one owner, and its owner has it", |s| s.macs.push(port(3).2)),
    ("a VLAN has one network, and its network has it", |s| s.networks[0].vlan = None),
    ("a VLAN has one network, and its network has it", |s| {
        let twin = Network { id: NetworkId::from_u128(21), ..s.networks[0].clone() };
        s.networks.push(twin);
    }),
    ("security groups are there, and interfaces in them", |s| {
        s.instances[0].security_groups.insert(SecurityGroupId::from_u128(9));
    }),
    ("a floating IP leads to a server that is there", |s| s.pools.clear()),
    ("a floating IP leads to a server that is there", |s| {
        if let AddressState::Owned(owner) = &mut s.floating_ips[0].state
            && let Some(binding) = &mut owner.binding
        {
            binding.fixed = name("10.0.0.9");
        }
    }),
    ("claims fit their host", |s| s.hosts[0].inventory.vcpus = Stock::new(Vcpus(1))),
    ("claims fit their host", |s| s.hosts.retain(|host| host.id != HOST)),
    ("claims fit their host", |s| asks_for(s, 2, "3")),
    ("a server has one claim, on the host it names", |s| asks_for(s, 3, "2")),
    (DEVICES, |s| share(s, [2, 2], ["0000:01:00.0", "0000:01:00.1"])),
    (DEVICES, |s| share(s, [1, 2], ["0000:01:00.0", "0000:01:00.0"])),
    (DEVICES, |s| share(s, [1, 3], ["0000:01:00.0", "0000:01:00.1"])),
    (DEVICES, |s| share(s, [1, 2], ["0000:01:00.0", "0000:02:00.0"])),
    ("claims fit their host", |s| {
        // One came after the host had come to offer less.
        s.claims.iter_mut().for_each(|claim| claim.kept = true);
        let second = InstanceId::from_u128(11);
        s.instances.push(Instance { group: None, ..server(second, HOST) });
        s.claims.push(claim(second, HOST));
        s.guests.entry(HOST).or_default().push(guest(second));
        s.hosts[0].inventory.vcpus = Stock::new(Vcpus(1));
    }),
    ("a server has one claim, on the host it names", |s| s.claims.clear()),
    ("a server has one claim, on the host it names", |s| s.claims.push(claim(SERVER, OTHER))),
    ("a server has one claim, on the host it names", |s| s.claims.push(claim(GONE, OTHER))),
    ("usage is within the quota", |s| {
        let quota = Quota { instances: Limit::AtMost(0), ..Quota::default() };
        s.quotas.push(ProjectQuota { project: name("shop"), quota, had: None });
    }),
    ("usage is within the quota", |s| {
        // It had less when the limit was lowered.
        let quota = Quota { instances: Limit::AtMost(0), ..Quota::default() };
        let had = Some((0, Resources::ZERO));
        s.quotas.push(ProjectQuota { project: name("shop"), quota, had });
    }),
    ("group rules hold over claims", |s| {
        let second = InstanceId::from_u128(11);
        s.instances.push(server(second, HOST));
        s.claims.push(claim(second, HOST));
        s.guests.entry(HOST).or_default().push(guest(second));
    }),
    ("group rules hold over claims", |s| s.groups.clear()),
    ("no guest runs twice", |s| {
        s.open.push(OpenOperation { operation: OP });
        s.operations = vec![operation(OpState::Running)];
        s.guests.insert(OTHER, vec![guest(SERVER)]);
        s.claims.push(claim(SERVER, OTHER));
        s.lingering.push(Lingering { instance: SERVER, hosts: BTreeSet::from([OTHER]) });
    }),
    ("a guest has a record, and a record its guest", |s| {
        s.guests.insert(OTHER, vec![Guest { power: PowerState::Shutdown, ..guest(SERVER) }]);
    }),
    ("a guest in memory has a claim where it is", |s| {
        s.open.push(OpenOperation { operation: OP });
        s.operations = vec![operation(OpState::Running)];
        s.guests.insert(OTHER, vec![Guest { power: PowerState::Paused, ..guest(SERVER) }]);
    }),
    ("a server has one claim, on the host it names", |s| {
        s.lingering.push(Lingering { instance: SERVER, hosts: BTreeSet::from([HOST]) });
    }),
    ("a volume is where its record says", |s| {
        s.real_volumes.iter_mut().flatten().for_each(|facts| facts.shared_with = Some(OTHER));
    }),
    ("a volume is where its record says", |s| s.volumes[0].state = VolumeState::Available),
    ("a volume is where its record says", |s| s.volumes[0].attachment = None),
    ("a volume is where its record says", |s| {
        s.volumes[0].attachment = Some(Attachment { instance: SERVER, host: OTHER });
    }),
    ("a volume is where its record says", |s| {
        s.real_volumes.iter_mut().flatten().for_each(|facts| facts.connected_to = Some(OTHER));
    }),
    ("a volume that is there has a record, and a record its volume", |s| {
        let stray = VolumeFacts {
            volume: VolumeId::from_u128(404),
            connected_to: None,
            ..s.real_volumes.as_ref().unwrap()[0].clone()
        };
        s.real_volumes.as_mut().unwrap().push(stray);
    }),
    ("a volume that is there has a record, and a record its volume", |s| {
        s.guests.values_mut().flatten().for_each(|guest| guest.volumes.clear());
        s.real_volumes = Some(Vec::new());
    }),
    ("a volume that is there has a record, and a record its volume", |s| {
        s.guests.values_mut().flatten().for_each(|guest| guest.volumes.clear());
        (s.volumes[0].state, s.volumes[0].attachment) = (VolumeState::Available, None);
    }),
    ("an operation that is open is not final", |s| {
        s.operations = vec![operation(OpState::Running)]
    }),
    ("what is being done has somebody who does it", |s| s.instances[0].operation = Some(OP)),
    ("what is being done has somebody who does it", |s| {
        s.volumes[0].state = VolumeState::Detaching;
    }),
    ("nothing is left half done", |s| {
        s.open.push(OpenOperation { operation: OP });
        s.operations = vec![operation(OpState::Running)];
    }),
    ("a guest has a record, and a record its guest", |s| {
        s.guests.insert(OTHER, vec![Guest { power: PowerState::Shutdown, ..guest(GONE) }]);
    }),
    ("a guest has a record, and a record its guest", |s| {
        s.guests.insert(HOST, Vec::new());
    }),
    ("a guest has a record, and a record its guest", |s| s.instances[0].state = VmState::Stopped),
    ("a server that never began holds no address", |s| {
        s.instances[0].launched_at = None;
        s.instances[0].state = VmState::Error;
        s.instances[0].host = None;
        s.claims.clear();
        s.guests.insert(HOST, Vec::new());
        s.floating_ips.clear();
        s.volumes.clear();
        s.real_volumes = None;
    }),
    ("nothing is left half done", |s| {
        if let AddressState::Owned(owner) = &mut s.floating_ips[0].state {
            owner.operation = Some(OP);
        }
    }),
    ("a floating IP leads to a server that is there", |s| {
        if let AddressState::Owned(owner) = &mut s.floating_ips[0].state
            && let Some(binding) = &mut owner.binding
        {
            binding.host = OTHER;
        }
    }),
    ("a floating IP leads to a server that is there", |s| {
        if let AddressState::Owned(owner) = &mut s.floating_ips[0].state {
            owner.server = Some(GONE);
        }
    }),
    ("no operation waits for a person", |s| {
        let (message, at) = ("stuck".to_owned(), Timestamp::default());
        let fault = Fault { message, at, refusal: None, check: None };
        s.operations = vec![operation(OpState::NeedsOperator(fault))];
    }),
];

/// Breaks the healthy cloud, and tells which invariants notice.
fn noticed(at: usize, break_it: fn(&mut Snapshot)) -> BTreeSet<&'static str> {
    let mut snapshot = healthy();
    break_it(&mut snapshot);
    // Work that is under way hides what only holds at rest, where the case is about something else.
    let about_rest = CASES[at].0 == "nothing is left half done";
    let strictness = match snapshot.open.is_empty() || about_rest {
        true => Strictness::Idle,
        false => Strictness::Busy,
    };
    examine(&snapshot, strictness).into_iter().map(|finding| finding.invariant).collect()
}

#[test]
fn a_healthy_cloud_has_no_findings() {
    assert_eq!(examine(&healthy(), Strictness::Idle), []);
    let checkup = Checkup::of(&healthy(), &BTreeMap::new());
    assert!(checkup.is_healthy() && checkup.strictness == Strictness::Idle);
    assert_eq!((checkup.servers, checkup.guests, checkup.asked.len()), (1, 1, 2));
}

#[test]
fn what_breaks_one_invariant_is_noticed_by_that_one_alone() {
    for (at, (invariant, break_it)) in CASES.iter().enumerate() {
        assert_eq!(noticed(at, *break_it), BTreeSet::from([*invariant]), "case {at}");
    }
}

#[test]
fn every_invariant_has_a_case() {
    let all: BTreeSet<&str> = INVARIANTS.iter().map(|invariant| invariant.name).collect();
    assert_eq!(CASES.iter().map(|(invariant, _)| *invariant).collect::<BTreeSet<_>>(), all);
}

#[test]
fn a_host_that_was_not_asked_is_listed_with_the_reason() {
    let mut snapshot = healthy();
    snapshot.guests.remove(&OTHER);
    let checkup = Checkup::of(&snapshot, &BTreeMap::from([(OTHER, "it is down".to_owned())]));
    assert_eq!(checkup.unasked, BTreeMap::from([(name("host-2"), "it is down".to_owned())]));
    assert!(checkup.is_healthy());
}

#[test]
fn a_guest_that_may_linger_on_a_host_keeps_its_addresses_and_its_claim() {
    let mut snapshot = healthy();
    snapshot.instances.clear();
    snapshot.volumes.clear();
    snapshot.floating_ips.clear();
    let broken = examine(&snapshot, Strictness::Busy);
    assert!(broken.iter().any(|finding| finding.detail.contains("claims on host")), "{broken:?}");
    snapshot.lingering = vec![Lingering { instance: SERVER, hosts: BTreeSet::from([HOST]) }];
    assert_eq!(examine(&snapshot, Strictness::Busy), []);
    snapshot.lingering[0].hosts = BTreeSet::from([OTHER]);
    assert_ne!(examine(&snapshot, Strictness::Busy), []);
}

#[test]
fn a_frozen_copy_that_a_move_left_on_a_silent_host_has_a_claim_there_or_the_host_is_lost() {
    let mut snapshot = healthy();
    snapshot.guests.insert(OTHER, vec![Guest { power: PowerState::Paused, ..guest(SERVER) }]);
    snapshot.claims.push(claim(SERVER, OTHER));
    assert_ne!(examine(&snapshot, Strictness::Busy), [], "the server is not there");
    snapshot.lingering = vec![Lingering { instance: SERVER, hosts: BTreeSet::from([OTHER]) }];
    assert_eq!(examine(&snapshot, Strictness::Busy), []);
    snapshot.claims.pop();
    assert_ne!(examine(&snapshot, Strictness::Busy), [], "somebody else may get its place");
    let lost = snapshot.hosts.iter_mut().find(|host| host.id == OTHER).unwrap();
    lost.forced_down = Some(ForcedDown { reason: "burnt".to_owned() });
    assert_eq!(examine(&snapshot, Strictness::Busy), []);
}

#[test]
fn a_deletion_answers_for_the_volumes_of_the_server_that_it_took_over() {
    let mut snapshot = healthy();
    snapshot.volumes[0].state = VolumeState::Detaching;
    snapshot.volumes[0].operation = Some(OpId::from_u128(51));
    snapshot.instances[0].operation = Some(OP);
    snapshot.instances[0].task = Some(TaskState::Deleting);
    snapshot.open.push(OpenOperation { operation: OP });
    snapshot.operations = vec![operation(OpState::Running)];
    assert_eq!(examine(&snapshot, Strictness::Busy), []);
}
