//! What the cloud of the example is to have, as data.

use nova_core::cloud::{FlavorSpec, HostSpec};
use nova_core::domain::{
    AllocationRatio, GiB, GroupPolicy, HostName, Invalid, Limit, MiB, Quota, Resources, Vcpus,
};

/// The zones; hosts of each shape take turns.
pub(super) const ZONES: [&str; 2] = ["north", "south"];

/// The key of the aggregates' metadata, and of the extra spec that asks for it.
pub(super) const DISK: &str = "disk";

/// Hosts that are alike, in an aggregate together with others that have the same disks.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) count: u32,
    pub(super) total: Resources,
    pub(super) disk: &'static str,
}

const fn size(vcpus: u32, memory: u64, disk: u64) -> Resources {
    Resources { vcpus: Vcpus(vcpus), memory: GiB(memory).to_mib(), disk: GiB(disk) }
}

pub(super) const SHAPES: [Shape; 3] = [
    Shape { name: "small", count: 6, total: size(16, 64, 500), disk: "hdd" },
    Shape { name: "medium", count: 4, total: size(24, 96, 1000), disk: "ssd" },
    Shape { name: "large", count: 2, total: size(32, 128, 2000), disk: "ssd" },
];

/// A host as the operator introduces it: something stays with the host itself, and processors
/// are promised twice.
pub(super) fn host(name: HostName, number: usize) -> Result<HostSpec, Invalid> {
    Ok(HostSpec::new(name)
        .with_zone(ZONES[number % ZONES.len()].parse()?)
        .with_reserved(size(1, 2, 20))
        .with_cpu_ratio(AllocationRatio::new(2.0)?))
}

/// The one that runs on solid-state disks only.
pub(super) const DATABASE: &str = "database";
/// The one that no host can take.
pub(super) const WHALE: &str = "whale";
/// The one that the refusal of the whale leads to.
pub(super) const FITTING: &str = "fitting-whale";

pub(super) fn flavors() -> Result<Vec<FlavorSpec>, Invalid> {
    let flavor = |name: &str, total: Resources| -> Result<FlavorSpec, Invalid> {
        let spec = FlavorSpec::new(name.parse()?, total.vcpus, total.memory);
        Ok(spec.with_root_disk(total.disk))
    };
    let on_ssd = |spec: FlavorSpec| {
        spec.with_extra_spec(format!("aggregate_instance_extra_specs:{DISK}"), "ssd")
    };
    Ok(vec![
        flavor("tiny", size(1, 1, 5))?,
        flavor("web", size(1, 2, 10))?,
        flavor("work", size(2, 4, 20))?,
        on_ssd(flavor(DATABASE, size(4, 16, 80))?),
        on_ssd(flavor(WHALE, size(16, 160, 200))?),
    ])
}

/// A project with what it may have.
pub(super) struct Tenant {
    pub(super) name: &'static str,
    pub(super) servers: u64,
    pub(super) vcpus: u64,
    pub(super) memory: GiB,
}

pub(super) const TENANTS: [Tenant; 3] = [
    Tenant { name: "lab", servers: 16, vcpus: 64, memory: GiB(384) },
    Tenant { name: "media", servers: 12, vcpus: 24, memory: GiB(50) },
    Tenant { name: "shop", servers: 16, vcpus: 32, memory: GiB(80) },
];

impl Tenant {
    /// The default limits, raised where they would be in the way.
    pub(super) fn quota(&self) -> Quota {
        Quota {
            instances: Limit::AtMost(self.servers),
            vcpus: Limit::AtMost(self.vcpus),
            memory: Limit::AtMost(self.memory.to_mib().0),
            ..Quota::default()
        }
    }

    /// The name of its own network.
    pub(super) fn network(&self) -> String {
        format!("{}-net", self.name)
    }
}

/// The key that every project keeps under [`KEY_PAIR`].
pub(super) const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1hbnlIYW5kc01ha2VMaWdodFdvcmsu ops@example";
pub(super) const KEY_PAIR: &str = "ops";

/// Server groups: project, name, rule, members on one host.
pub(super) const GROUPS: [(&str, &str, GroupPolicy, u32); 4] = [
    ("shop", "web", GroupPolicy::AntiAffinity, 1),
    ("lab", "grid", GroupPolicy::SoftAntiAffinity, 1),
    ("media", "edge", GroupPolicy::AntiAffinity, 2),
    ("media", "encode", GroupPolicy::Affinity, 1),
];

/// The network of everybody's own machines, on a bridge that the operator made.
pub(super) const OFFICE: &str = "office";
/// The network that serves every project, with DHCP.
pub(super) const CAMPUS: &str = "campus";
/// The pool of floating IPs.
pub(super) const POOL: &str = "public";

/// A server to be booted.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) project: &'static str,
    pub(super) name: String,
    pub(super) flavor: &'static str,
    pub(super) networks: Vec<String>,
    pub(super) zone: Option<&'static str>,
    pub(super) group: Option<&'static str>,
    /// Not on the host of this server.
    pub(super) apart_from: Option<&'static str>,
    /// On the host of this server.
    pub(super) beside: Option<&'static str>,
}

impl Want {
    /// What it is called in tables and messages.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.project, self.name)
    }

    /// What it wishes, in a few words.
    pub(super) fn wish(&self) -> String {
        match (self.group, self.apart_from, self.beside, self.zone) {
            (Some(group), ..) => format!("group {group}"),
            (_, Some(other), ..) => format!("not with {other}"),
            (_, _, Some(other), _) => format!("with {other}"),
            (.., Some(zone)) => format!("zone {zone}"),
            _ if self.flavor == DATABASE => "ssd".to_owned(),
            _ => String::new(),
        }
    }

    /// The server that it names, which has to have its host first.
    pub(super) fn needs(&self) -> Option<String> {
        let other = self.apart_from.or(self.beside)?;
        Some(format!("{}/{other}", self.project))
    }
}

/// The forty servers, in the order in which they are asked for.
pub(super) fn servers() -> Vec<Want> {
    let one = |project: &'static str, name: String, flavor: &'static str| Want {
        project,
        name,
        flavor,
        networks: vec![format!("{project}-net")],
        zone: None,
        group: None,
        apart_from: None,
        beside: None,
    };
    let many = |project, kind: &'static str, count: u32, flavor| {
        (1..=count).map(move |n| one(project, format!("{kind}-{n}"), flavor))
    };
    let campus = || CAMPUS.to_owned();
    let mut all: Vec<Want> = Vec::new();
    all.extend(many("shop", "web", 6, "web").map(|w| Want { group: Some("web"), ..w }));
    all.extend(many("shop", "app", 6, "work").enumerate().map(|(n, mut app)| {
        app.networks.push(campus());
        Want { zone: Some(ZONES[n % ZONES.len()]), ..app }
    }));
    all.extend(many("shop", "db", 2, DATABASE));
    all.extend(many("shop", "cache", 2, "tiny"));
    all.extend(many("lab", "node", 8, "work").map(|node| Want {
        networks: vec![campus()],
        group: Some("grid"),
        ..node
    }));
    all.extend(many("lab", "jump", 1, "tiny"));
    let office = || vec![OFFICE.to_owned()];
    all.extend(many("lab", "desk", 3, "web").map(|desk| Want { networks: office(), ..desk }));
    all.extend(many("media", "encode", 4, "work").map(|w| Want { group: Some("encode"), ..w }));
    all.extend(many("media", "edge", 4, "web").map(|w| Want { group: Some("edge"), ..w }));
    all.extend(many("media", "store", 4, "web"));
    for want in &mut all {
        match (want.project, want.name.as_str()) {
            ("shop", "db-2") => want.apart_from = Some("db-1"),
            ("shop", "cache-1") => want.beside = Some("db-1"),
            ("shop", "cache-2") => want.beside = Some("db-2"),
            _ => {}
        }
    }
    all
}

/// Volumes: project, name, size, and the server that gets it.
pub(super) const VOLUMES: [(&str, &str, GiB, &str); 6] = [
    ("shop", "orders", GiB(40), "db-1"),
    ("shop", "orders-copy", GiB(40), "db-2"),
    ("media", "films-1", GiB(100), "store-1"),
    ("media", "films-2", GiB(100), "store-2"),
    ("media", "films-3", GiB(100), "store-3"),
    ("media", "films-4", GiB(100), "store-4"),
];

/// Servers that get a floating IP, by project.
pub(super) const PUBLISHED: [(&str, &str); 6] = [
    ("shop", "web-1"),
    ("shop", "web-2"),
    ("shop", "web-3"),
    ("lab", "jump-1"),
    ("media", "edge-1"),
    ("media", "edge-2"),
];

/// The server whose host dies, and the one that gets its floating IP.
pub(super) const VICTIM: (&str, &str) = ("shop", "web-1");
pub(super) const SURVIVOR: (&str, &str) = ("shop", "web-4");

/// The memory that an image of [`IMAGE_BYTES`] needs at least.
pub(super) const IMAGE_MEMORY: MiB = MiB(512);
/// The size of the image.
pub(super) const IMAGE_BYTES: usize = 1 << 20;
pub(super) const IMAGE: &str = "example-os";
