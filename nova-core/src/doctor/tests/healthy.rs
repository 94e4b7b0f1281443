//! A cloud in which everything is right.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::doctor::Snapshot;
use crate::domain::*;
use crate::port::{Guest, VolumeFacts};
use crate::store::record::Claim;

pub(super) const HOST: HostId = HostId::from_u128(1);
pub(super) const OTHER: HostId = HostId::from_u128(2);
pub(super) const SERVER: InstanceId = InstanceId::from_u128(10);
pub(super) const NETWORK: NetworkId = NetworkId::from_u128(20);
pub(super) const VOLUME: VolumeId = VolumeId::from_u128(30);
pub(super) const GROUP: ServerGroupId = ServerGroupId::from_u128(40);
pub(super) const OP: OpId = OpId::from_u128(50);
pub(super) const GONE: InstanceId = InstanceId::from_u128(99);

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(super) fn host(id: HostId) -> Host {
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

pub(super) fn server(id: InstanceId, at: HostId) -> Instance {
    Instance {
        root: None,
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

pub(super) fn claim(instance: InstanceId, host: HostId) -> Claim {
    let (amount, classes) = (server(instance, host).flavor.resources(), ClassAmounts::NONE);
    Claim { host, instance, amount, classes, assigned: Assigned::default(), kept: false }
}

/// A host with so many licences, its server, which claims three of them, and its flavor, which asks
/// for so many.
pub(super) fn asks_for(s: &mut Snapshot, licences: u64, asked: &str) {
    let class: ResourceClass = name("CUSTOM_LICENCE");
    s.hosts[0].classes = [(class, Stock::new(licences))].into();
    let specs = |asked| ExtraSpecs::new([("resources:CUSTOM_LICENCE", asked)]).unwrap();
    s.claims[0].classes = ClassAmounts::from_specs(&specs("3")).unwrap();
    s.instances[0].flavor = s.instances[0].flavor.clone().with_extra_specs(specs(asked));
}

pub(super) const DEVICES: &str = "a CPU of its own and a device have one owner";

/// The first host has CPU 2 and two devices; its server and another one there have these of them.
pub(super) fn share(s: &mut Snapshot, pins: [u32; 2], devices: [&str; 2]) {
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

pub(super) fn guest(instance: InstanceId) -> Guest {
    Guest { instance, power: PowerState::Running, boot: 0, volumes: Vec::new() }
}

pub(super) fn port(last: u8) -> (Port, FixedIp, MacClaim) {
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

pub(super) fn operation(state: OpState) -> Operation {
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
pub(super) fn healthy() -> Snapshot {
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
        image: None,
        root_of: None,
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

pub(super) fn image(id: u128, state: ImageState) -> Image {
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
