//! What must be true, one function each.

use std::collections::{BTreeMap, BTreeSet};

use crate::doctor::Snapshot;
use crate::doctor::devices::devices_have_one_owner;
use crate::doctor::images::{
    images_have_bytes, images_have_takers, rescued_servers_have_images, shelved_servers_are_images,
};
use crate::doctor::quotas::usage_within_quota;
use crate::doctor::security::security_groups_are_there;
use crate::doctor::volumes::{volumes_have_records, volumes_match};
use crate::domain::{
    AddressState, ClassAmounts, GroupPolicy, HostId, InstanceId, OpId, OpState, PowerState,
    Resources, TaskState, VmState, VolumeState,
};

/// Whether an invariant holds always, or only when no work is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// Operations may be in the middle of something.
    Busy,
    /// Every operation has ended, every host was swept since.
    Idle,
}

/// Something that must be true.
#[derive(Debug, Clone, Copy)]
pub struct Invariant {
    /// Its name.
    pub name: &'static str,
    /// When it has to hold.
    pub strictness: Strictness,
    /// Tells what is wrong, if anything is.
    pub check: fn(&Snapshot) -> Vec<String>,
}

macro_rules! invariants {
    ($($strictness:ident $name:literal $check:ident;)+) => {
        /// All of them.
        pub const INVARIANTS: &[Invariant] = &[$(Invariant {
            name: $name,
            strictness: Strictness::$strictness,
            check: $check,
        }),+];
    };
}

invariants! {
    Busy "an address has one owner, and its owner has it" addresses_have_one_owner;
    Busy "a MAC has one owner, and its owner has it" macs_have_one_owner;
    Busy "a VLAN has one network, and its network has it" vlans_have_one_owner;
    Busy "a floating IP leads to a server that is there" floating_ips_lead_somewhere;
    Busy "claims fit their host" claims_fit;
    Busy "a CPU of its own and a device have one owner" devices_have_one_owner;
    Busy "a server has one claim, on the host it names" claims_match_servers;
    Busy "usage is within the quota" usage_within_quota;
    Busy "group rules hold over claims" group_rules_hold;
    Busy "security groups are there, and interfaces in them" security_groups_are_there;
    Busy "no guest runs twice" guests_run_once;
    Busy "a guest in memory has a claim where it is" guests_have_claims;
    Busy "a volume is where its record says" volumes_match;
    Busy "an operation that is open is not final" open_operations_are_open;
    Busy "what is being done has somebody who does it" tasks_have_operations;
    Busy "an image that is being taken has somebody who takes it" images_have_takers;
    Busy "a shelved server is its image, and nowhere" shelved_servers_are_images;
    Busy "a rescued server has its rescue image" rescued_servers_have_images;
    Idle "nothing is left half done" nothing_half_done;
    Idle "an image has its bytes, and bytes have an image" images_have_bytes;
    Idle "a volume that is there has a record, and a record its volume" volumes_have_records;
    Idle "a guest has a record, and a record its guest" guests_match_records;
    Idle "a server that never began holds no address" nothing_held_nowhere;
    Idle "no operation waits for a person" nobody_needed;
}

fn addresses_have_one_owner(s: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut alive: BTreeSet<InstanceId> = s.instances.iter().map(|i| i.id).collect();
    alive.extend(s.lingering.iter().map(|lingering| lingering.instance));
    let networks: BTreeSet<_> = s.networks.iter().map(|n| n.id).collect();
    let ports: BTreeSet<_> = s.ports.iter().map(|p| (p.network, p.address, p.instance)).collect();
    wrong.extend(repeated(s.ports.iter().map(|p| (p.network, p.address)), |(n, a)| {
        format!("{a} of network {n} is in two ports")
    }));
    for ip in &s.fixed_ips {
        if !networks.contains(&ip.network) {
            wrong.push(format!("{} belongs to network {}, which is gone", ip.address, ip.network));
        }
        let AddressState::Owned(owner) = ip.state else { continue };
        if !alive.contains(&owner) {
            wrong.push(format!("{} belongs to server {owner}, which is gone", ip.address));
        }
        if !ports.contains(&(ip.network, ip.address, owner)) {
            wrong.push(format!("{} belongs to server {owner}, which has no such port", ip.address));
        }
    }
    let owned: BTreeMap<_, _> = s
        .fixed_ips
        .iter()
        .filter_map(|ip| match ip.state {
            AddressState::Owned(owner) => Some(((ip.network, ip.address), owner)),
            _ => None,
        })
        .collect();
    for port in &s.ports {
        if owned.get(&(port.network, port.address)) != Some(&port.instance) {
            let (instance, address) = (port.instance, port.address);
            wrong.push(format!("server {instance} uses {address}, which it does not own"));
        }
    }
    wrong
}

fn macs_have_one_owner(s: &Snapshot) -> Vec<String> {
    let claimed: BTreeMap<_, _> = s.macs.iter().map(|m| (m.mac, m.instance)).collect();
    let used: BTreeMap<_, _> = s.ports.iter().map(|p| (p.mac, p.instance)).collect();
    let mut wrong: Vec<String> =
        repeated(s.ports.iter().map(|p| p.mac), |mac| format!("{mac} is in two ports"));
    for (mac, owner) in &claimed {
        if used.get(mac) != Some(owner) {
            wrong.push(format!("{mac} is claimed by {owner}, which does not use it"));
        }
    }
    for (mac, owner) in &used {
        if claimed.get(mac) != Some(owner) {
            wrong.push(format!("{mac} is used by {owner}, which has not claimed it"));
        }
    }
    wrong
}

fn vlans_have_one_owner(s: &Snapshot) -> Vec<String> {
    let mut wrong: Vec<String> = repeated(s.networks.iter().filter_map(|n| n.vlan), |vlan| {
        format!("two networks have VLAN {vlan}")
    });
    wrong.extend(repeated(s.networks.iter().filter_map(|n| n.vni), |vni| {
        format!("two networks have VXLAN segment {vni}")
    }));
    let networks: BTreeMap<_, _> = s.networks.iter().map(|n| (n.id, n.vlan)).collect();
    for claim in &s.vlans {
        let AddressState::Owned(network) = claim.state else { continue };
        if networks.get(&network) != Some(&Some(claim.vlan)) {
            let vlan = claim.vlan;
            wrong.push(format!("VLAN {vlan} belongs to network {network}, which has it not"));
        }
    }
    wrong
}

fn floating_ips_lead_somewhere(s: &Snapshot) -> Vec<String> {
    let servers: BTreeMap<_, _> = s.instances.iter().map(|i| (i.id, i)).collect();
    let ports: BTreeSet<_> = s.ports.iter().map(|p| (p.instance, p.address)).collect();
    let pools: BTreeSet<_> = s.pools.iter().map(|p| &p.name).collect();
    let mut wrong = Vec::new();
    for floating in &s.floating_ips {
        let address = floating.address;
        if !pools.contains(&floating.pool) {
            wrong.push(format!("{address} belongs to pool {}, which is gone", floating.pool));
        }
        let AddressState::Owned(owner) = &floating.state else { continue };
        if let Some(server) = owner.server
            && !servers.contains_key(&server)
            && !s.lingering.iter().any(|guest| guest.instance == server)
        {
            wrong.push(format!("{address} came with {server}, which is gone"));
        }
        let Some(to) = &owner.binding else { continue };
        match servers.get(&to.instance) {
            None => wrong.push(format!("{address} leads to {}, which is gone", to.instance)),
            Some(_) if !ports.contains(&(to.instance, to.fixed)) => {
                wrong.push(format!(
                    "{address} leads to {}, which {} has not",
                    to.fixed, to.instance
                ));
            }
            // While it moves, its floating IPs follow one by one; a shelved server is on no host.
            Some(server)
                if server.operation.is_none()
                    && server.host.is_some_and(|host| host != to.host) =>
            {
                wrong
                    .push(format!("{address} is answered by {}, where its server is not", to.host));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// A host may come to offer less than is claimed of it: an operator lowers a ratio or raises a
/// reserve. What was there then stays and is right; one claim that came later makes it wrong.
fn claims_fit(s: &Snapshot) -> Vec<String> {
    let mut used: BTreeMap<HostId, (Resources, ClassAmounts, bool)> = BTreeMap::new();
    for claim in &s.claims {
        let nothing = || (Resources::ZERO, ClassAmounts::default(), true);
        let (sum, classes, kept) = used.entry(claim.host).or_insert_with(nothing);
        (*sum, *kept) = (sum.saturating_add(claim.amount), *kept && claim.kept);
        classes.add(&claim.classes);
    }
    let mut wrong = Vec::new();
    for (id, (used, classes, kept)) in used {
        let Some(host) = s.hosts.iter().find(|host| host.id == id) else {
            wrong.push(format!("host {id} has claims and is not registered"));
            continue;
        };
        if let Some(resource) = host.inventory.exceeded(&used).filter(|_| !kept) {
            wrong.push(format!("host {} is over its capacity of {resource}", host.name));
        }
        if let Some(class) = classes.exceeds(&host.classes).filter(|_| !kept) {
            wrong.push(format!("host {} is over its capacity of {class}", host.name));
        }
    }
    wrong
}

fn claims_match_servers(s: &Snapshot) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    let servers: BTreeMap<_, _> = s.instances.iter().map(|i| (i.id, i)).collect();
    for claim in &s.claims {
        let (host, instance) = (claim.host, claim.instance);
        // The host could not be asked whether the guest is gone, and may still have it.
        let given_up = servers.get(&instance).is_none_or(|s| s.flavor_on(host).is_none());
        if given_up && lingers(s, host, instance) {
            continue;
        }
        match servers.get(&instance) {
            None => wrong.push(format!("{instance} claims on host {host} and is gone")),
            // A server that moves has a claim at either end, of the flavor that it has there.
            Some(server) => match server.flavor_on(host) {
                None => wrong.push(format!("{instance} claims on host {host} and is not there")),
                Some(flavor)
                    if flavor.resources() != claim.amount
                        || flavor.classes() != Ok(&claim.classes) =>
                {
                    wrong.push(format!("{instance} claims on host {host} other than its flavor"));
                }
                Some(_) => {}
            },
        }
    }
    let claimed: BTreeSet<_> = s.claims.iter().map(|c| (c.host, c.instance)).collect();
    for server in &s.instances {
        if server.hosts().iter().any(|host| !claimed.contains(&(*host, server.id))) {
            wrong.push(format!("server {} is on a host without claim", server.id));
        }
        if server.hosts().iter().any(|host| lingers(s, *host, server.id)) {
            wrong.push(format!("server {} is on a host that it has given up", server.id));
        }
        let at_an_end = server
            .migration
            .as_ref()
            .is_none_or(|moving| server.host.is_some_and(|host| moving.names(host)));
        if !at_an_end {
            wrong.push(format!("server {} is at neither end of its move", server.id));
        }
        if server.state == VmState::Resized && server.migration.is_none() {
            wrong.push(format!("server {} is resized and came from nowhere", server.id));
        }
    }
    wrong
}

/// Whether a guest is written down as one that may linger on a host.
fn lingers(s: &Snapshot, host: HostId, instance: InstanceId) -> bool {
    s.lingering.iter().any(|row| row.instance == instance && row.hosts.contains(&host))
}

fn group_rules_hold(s: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    for group in &s.groups {
        let members = s.instances.iter().filter(|server| server.group == Some(group.id));
        let mut hosts: BTreeMap<HostId, u32> = BTreeMap::new();
        members.filter_map(|server| server.host).for_each(|host| {
            *hosts.entry(host).or_default() += 1;
        });
        let broken = match group.policy {
            GroupPolicy::Affinity => hosts.len() > 1,
            GroupPolicy::AntiAffinity => {
                hosts.values().any(|count| *count > group.max_per_host.get())
            }
            GroupPolicy::SoftAffinity | GroupPolicy::SoftAntiAffinity => false,
        };
        if broken {
            wrong.push(format!("group {} lies on {hosts:?}", group.name));
        }
    }
    let groups: BTreeSet<_> = s.groups.iter().map(|group| group.id).collect();
    for server in &s.instances {
        if server.group.is_some_and(|group| !groups.contains(&group)) {
            wrong.push(format!("server {} is in a group that is gone", server.id));
        }
    }
    wrong
}

fn guests_run_once(s: &Snapshot) -> Vec<String> {
    let mut running: BTreeMap<InstanceId, Vec<HostId>> = BTreeMap::new();
    for (host, guests) in &s.guests {
        for guest in guests.iter().filter(|guest| guest.power == PowerState::Running) {
            running.entry(guest.instance).or_default().push(*host);
        }
    }
    running.retain(|_, hosts| hosts.len() > 1);
    running.iter().map(|(id, hosts)| format!("guest {id} runs on {hosts:?}")).collect()
}

/// A guest that is frozen is held to it as well: the copy that a move leaves on a host that cannot
/// be asked lingers there with its claim. A host that was declared down has none to give, and the
/// claims of servers where they are belong to another invariant.
fn guests_have_claims(s: &Snapshot) -> Vec<String> {
    let claims = s.claims.iter().map(|claim| (claim.host, claim.instance));
    let servers = s.instances.iter();
    let homes = servers.flat_map(|i| i.hosts().into_iter().map(|host| (host, i.id)));
    let claimed: BTreeSet<_> = claims.chain(homes).collect();
    let up = s.hosts.iter().filter(|host| host.forced_down.is_none());
    let up: BTreeSet<HostId> = up.map(|host| host.id).collect();
    let mut wrong = Vec::new();
    for (host, guests) in s.guests.iter().filter(|(host, _)| up.contains(host)) {
        for guest in guests.iter().filter(|guest| guest.power != PowerState::Shutdown) {
            if !claimed.contains(&(*host, guest.instance)) {
                let (id, power) = (guest.instance, guest.power);
                wrong.push(format!("guest {id} is {power} on host {host} without claim"));
            }
        }
    }
    wrong
}

/// Hosts between which a server is live-migrated now, or was when its deletion began.
pub(super) fn live_ends(s: &Snapshot, id: InstanceId) -> [Option<HostId>; 2] {
    let server = s.instances.iter().find(|server| server.id == id);
    let live = server
        .filter(|server| matches!(server.task, Some(TaskState::Migrating | TaskState::Deleting)));
    let moving = live.and_then(|server| server.migration.as_ref());
    moving.map_or([None, None], |moving| [Some(moving.from), moving.to])
}

fn open_operations_are_open(s: &Snapshot) -> Vec<String> {
    let open: BTreeSet<OpId> = s.open.iter().map(|open| open.operation).collect();
    let state: BTreeMap<OpId, bool> =
        s.operations.iter().map(|op| (op.id, op.state.is_final())).collect();
    let mut wrong = Vec::new();
    for (id, ended) in &state {
        if *ended == open.contains(id) {
            wrong.push(format!("operation {id} is {}", if *ended { "open" } else { "forgotten" }));
        }
    }
    wrong.extend(
        open.iter()
            .filter(|id| !state.contains_key(id))
            .map(|id| format!("operation {id} is open and has no record")),
    );
    wrong
}

fn tasks_have_operations(s: &Snapshot) -> Vec<String> {
    let open: BTreeSet<OpId> = s.open.iter().map(|open| open.operation).collect();
    let mut wrong = Vec::new();
    for server in &s.instances {
        let at_work = server.operation.is_some_and(|op| open.contains(&op));
        if server.task.is_some() && !at_work {
            wrong.push(format!("server {} is {:?} by nobody", server.id, server.task));
        }
        if server.task.is_none() && server.operation.is_some() {
            wrong.push(format!("server {} has an operation and no task", server.id));
        }
    }
    let deleting: BTreeSet<InstanceId> = s
        .instances
        .iter()
        .filter(|server| server.task == Some(TaskState::Deleting))
        .filter(|server| server.operation.is_some_and(|op| open.contains(&op)))
        .map(|server| server.id)
        .collect();
    for volume in &s.volumes {
        let passing = matches!(
            volume.state,
            VolumeState::Creating
                | VolumeState::Attaching
                | VolumeState::Detaching
                | VolumeState::Deleting
        );
        let at_work = volume.operation.is_some_and(|op| open.contains(&op));
        // A deletion that takes a server over frees its volumes, whatever was being done to them.
        let deleted = deleting.iter().any(|server| volume.belongs_to(*server));
        if passing && !at_work && !deleted {
            wrong.push(format!("volume {} is {} by nobody", volume.id, volume.state));
        }
    }
    wrong
}

fn nothing_half_done(s: &Snapshot) -> Vec<String> {
    let open = s.open.iter().map(|open| format!("operation {} has not ended", open.operation));
    let tasks = s.instances.iter().filter(|server| server.task.is_some());
    let tasks = tasks.map(|server| format!("server {} is {:?}", server.id, server.task));
    let led = s.floating_ips.iter().filter_map(|floating| match &floating.state {
        AddressState::Owned(owner) => Some((floating.address, owner.operation?)),
        _ => None,
    });
    let led = led.map(|(address, op)| format!("{address} waits for operation {op}"));
    open.chain(tasks).chain(led).collect()
}

fn guests_match_records(s: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    let servers: BTreeMap<_, _> = s.instances.iter().map(|i| (i.id, i)).collect();
    for (host, guests) in &s.guests {
        for guest in guests {
            let id = guest.instance;
            match servers.get(&id) {
                // The end that a moved server may go back to keeps its guest, shut down.
                Some(server)
                    if server.host != Some(*host)
                        && server.migration.as_ref().is_some_and(|m| m.names(*host)) =>
                {
                    if guest.power != PowerState::Shutdown {
                        wrong.push(format!("guest {id} is {} where it was left", guest.power));
                    }
                }
                Some(server) if server.host == Some(*host) => {
                    let expected = match server.state {
                        VmState::Active => Some(PowerState::Running),
                        VmState::Paused => Some(PowerState::Paused),
                        VmState::Suspended => Some(PowerState::Suspended),
                        VmState::Stopped => Some(PowerState::Shutdown),
                        _ => None,
                    };
                    if expected.is_some_and(|expected| expected != guest.power) {
                        let (state, power) = (server.state, guest.power);
                        wrong.push(format!("server {id} is {state} and its guest {power}"));
                    }
                }
                _ => wrong.push(format!("guest {id} on host {host} belongs to nobody")),
            }
        }
    }
    for server in &s.instances {
        let settled = matches!(
            server.state,
            VmState::Active
                | VmState::Paused
                | VmState::Suspended
                | VmState::Stopped
                | VmState::Rescued
        );
        let guests = server.host.and_then(|host| s.guests.get(&host));
        if let (true, Some(guests)) = (settled, guests)
            && !guests.iter().any(|guest| guest.instance == server.id)
        {
            wrong.push(format!("server {} is {} and has no guest", server.id, server.state));
        }
    }
    wrong
}

fn nothing_held_nowhere(s: &Snapshot) -> Vec<String> {
    let nowhere = |server: &&crate::domain::Instance| {
        server.host.is_none() && server.state == VmState::Error && server.launched_at.is_none()
    };
    let nowhere: BTreeSet<_> = s.instances.iter().filter(nowhere).map(|i| i.id).collect();
    let held = s.ports.iter().filter(|port| nowhere.contains(&port.instance));
    held.map(|port| format!("{} belongs to server {}", port.address, port.instance)).collect()
}

fn nobody_needed(s: &Snapshot) -> Vec<String> {
    let stuck = s.operations.iter().filter(|op| matches!(op.state, OpState::NeedsOperator(_)));
    stuck.map(|op| format!("{} {} waits for a person", op.kind.word(), op.id)).collect()
}

pub(super) fn repeated<T: Ord + Clone>(
    items: impl Iterator<Item = T>,
    say: impl Fn(&T) -> String,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    items.filter(|item| !seen.insert(item.clone())).map(|item| say(&item)).collect()
}
