//! Each invariant notices what it is there for, and nothing else does.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::clock::Timestamp;
use crate::domain::*;
use crate::port::{Guest, VolumeFacts};
use crate::store::record::{Claim, LateImage, Lingering, OpenOperation, ProjectQuota};

const HOST: HostId = HostId::from_u128(1);
const OTHER: HostId = HostId::from_u128(2);
const SERVER: InstanceId = InstanceId::from_u128(10);
const NETWORK: NetworkId = NetworkId::from_u128(20);
const VOLUME: VolumeId = VolumeId::from_u128(30);
const GROUP: ServerGroupId = ServerGroupId::from_u128(40);
const OP: OpId = OpId::from_u128(50);
const GONE: InstanceId = InstanceId::from_u128(99);

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn host(id: HostId) -> Host {
    Host {
        id,
        name: name(&format!("host-{}", id.as_u128())),
        zone: name("nova"),
        admission: Admission::Enabled,
        disabled_reason: None,
        forced_down: None,
        inventory: Inventory {
            vcpus: Stock::new(Vcpus(4)),
            memory: Stock::new(MiB(8192)),
            disk: Stock::new(GiB(100)),
        },
        guest_kinds: Vec::new(),
        hypervisor_version: 1,
        traits: Default::default(),
        classes: Default::default(),
        numa: None,
        pci: Vec::new(),
    }
}

fn server(id: InstanceId, at: HostId) -> Instance {
    Instance {
        id,
        project: name("shop"),
        name: name("web"),
        flavor: Flavor::new(name("small"), Vcpus(2), MiB(1024)).unwrap(),
        image: ImageId::from_u128(7),
        key_pair: None,
        zone: None,
        group: Some(GROUP),
        hints: SchedulerHints::default(),
        networks: Vec::new(),
        security_groups: BTreeSet::new(),
        user_data: None,
        state: VmState::Active,
        task: None,
        operation: None,
        generation: 1,
        migration: None,
        shelf: None,
        rescue: None,
        lent: None,
        power: Some(PowerState::Running),
        host: Some(at),
        boots: 0,
        fault: None,
        created_at: Timestamp::default(),
        launched_at: None,
    }
}

fn claim(instance: InstanceId, host: HostId) -> Claim {
    let (amount, classes) = (server(instance, host).flavor.resources(), ClassAmounts::NONE);
    Claim { host, instance, amount, classes, assigned: Assigned::default(), kept: false }
}

/// A host with so many licences, its server, which claims three of them, and its flavor, which asks
/// for so many.
fn asks_for(s: &mut Snapshot, licences: u64, asked: &str) {
    let class: ResourceClass = name("CUSTOM_LICENCE");
    s.hosts[0].classes = [(class, Stock::new(licences))].into();
    let specs = |asked| ExtraSpecs::new([("resources:CUSTOM_LICENCE", asked)]).unwrap();
    s.claims[0].classes = ClassAmounts::from_specs(&specs("3")).unwrap();
    s.instances[0].flavor = s.instances[0].flavor.clone().with_extra_specs(specs(asked));
}

const DEVICES: &str = "a CPU of its own and a device have one owner";

/// The first host has CPU 2 and two devices; its server and another one there have these of them.
fn share(s: &mut Snapshot, pins: [u32; 2], devices: [&str; 2]) {
    let second = InstanceId::from_u128(11);
    s.instances.push(Instance { group: None, ..server(second, HOST) });
    s.claims.push(claim(second, HOST));
    s.guests.entry(HOST).or_default().push(guest(second));
    let cell = NumaCell { dedicated_cpus: BTreeSet::from([1, 2]), ..NumaCell::default() };
    s.hosts[0].numa = Some(NumaTopology { cells: vec![cell] });
    s.hosts[0].pci =
        ["0000:01:00.0", "0000:01:00.1"].map(|at| PciDevice::new(name(at), "8086", "1572")).into();
    for (claim, (cpu, address)) in s.claims.iter_mut().zip(pins.into_iter().zip(devices)) {
        let pins = [(0, cpu)].into();
        let fit = NumaFit { cells: vec![CellFit { host_cell: 0, page_size_kb: None, pins }] };
        let guest = GuestTopology { cells: vec![GuestCell::default()] };
        claim.assigned.cells = Some(AssignedCells { guest, fit });
        claim.assigned.devices = vec![name(address)];
    }
}

fn guest(instance: InstanceId) -> Guest {
    Guest { instance, power: PowerState::Running, boot: 0, volumes: Vec::new() }
}

fn port(last: u8) -> (Port, FixedIp, MacClaim) {
    let (address, mac) =
        (name(&format!("10.0.0.{last}")), name(&format!("fa:16:3e:00:00:{last:02}")));
    let (address_v6, security_groups, index) = (None, BTreeSet::new(), last);
    let (instance, network) = (SERVER, NETWORK);
    (
        Port { instance, index, network, mac, address, address_v6, security_groups },
        FixedIp { network: NETWORK, address, state: AddressState::Owned(SERVER) },
        MacClaim { mac, instance: SERVER },
    )
}

fn operation(state: OpState) -> Operation {
    Operation {
        id: OP,
        project: Some(name("shop")),
        kind: OpKind::Power { instance: SERVER, action: Action::Stop },
        steps_version: 1,
        state,
        step: 0,
        attempts: 0,
        generation: 2,
        after: None,
        tried: BTreeSet::new(),
        settle: Vec::new(),
        unheard: BTreeSet::new(),
        led: None,
        journal: Vec::new(),
        accepted_at: Timestamp::default(),
        ended_at: None,
    }
}

/// One of everything, all as it should be.
fn healthy() -> Snapshot {
    let mut s = Snapshot { hosts: vec![host(HOST), host(OTHER)], ..Snapshot::default() };
    s.instances = vec![server(SERVER, HOST)];
    s.claims = vec![claim(SERVER, HOST)];
    s.images = vec![image(7, ImageState::Active)];
    s.real_images = Some(vec![ImageId::from_u128(7)]);
    let vlan = VlanId::new(100).unwrap();
    s.networks = vec![Network {
        id: NETWORK,
        name: name("net"),
        kind: NetworkKind::Vlan,
        cidr: "10.0.0.0/24".parse().unwrap(),
        cidr_v6: None,
        gateway: None,
        dhcp_server: None,
        first_guest: name("10.0.0.2"),
        dns: Vec::new(),
        bridge: InterfaceName::new("br100").unwrap(),
        parent: None,
        vni: None,
        vlan: Some(vlan),
        vpn: None,
        project: None,
    }];
    s.vlans = vec![VlanClaim { vlan, state: AddressState::Owned(NETWORK) }];
    let (port, ip, mac) = port(2);
    s.floating_ips = vec![FloatingIp {
        address: name("198.51.100.1"),
        pool: name("public"),
        state: AddressState::Owned(FloatingOwner {
            project: name("shop"),
            operation: None,
            server: None,
            binding: Some(FloatingBinding { instance: SERVER, fixed: port.address, host: HOST }),
        }),
    }];
    (s.ports, s.fixed_ips, s.macs) = (vec![port], vec![ip], vec![mac]);
    s.pools = vec![FloatingPool {
        name: name("public"),
        range: "198.51.100.0/28".parse().unwrap(),
        interface: InterfaceName::new("eth0").unwrap(),
    }];
    let size = VolumeSize::new(GiB(1)).unwrap();
    s.volumes = vec![Volume {
        id: VOLUME,
        project: name("shop"),
        name: name("data"),
        size,
        state: VolumeState::InUse,
        attachment: Some(Attachment { instance: SERVER, host: HOST }),
        operation: None,
    }];
    s.real_volumes = Some(vec![VolumeFacts {
        volume: VOLUME,
        size,
        connected_to: Some(HOST),
        shared_with: None,
    }]);
    s.groups = vec![ServerGroup {
        id: GROUP,
        project: name("shop"),
        name: name("apart"),
        policy: GroupPolicy::AntiAffinity,
        max_per_host: MaxPerHost::ONE,
    }];
    s.operations = vec![operation(OpState::Done)];
    let plugged = Guest { volumes: vec![VOLUME], ..guest(SERVER) };
    s.guests = BTreeMap::from([(HOST, vec![plugged]), (OTHER, Vec::new())]);
    s
}

fn image(id: u128, state: ImageState) -> Image {
    Image {
        id: ImageId::from_u128(id),
        name: name("tiny"),
        owner: None,
        format: ImageFormat::Raw,
        content: ImageContent::none(),
        min_memory: MiB::ZERO,
        min_disk: GiB::ZERO,
        properties: ImageProperties::default(),
        state,
        server: Some(SERVER),
    }
}

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
