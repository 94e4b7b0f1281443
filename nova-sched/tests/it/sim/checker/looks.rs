//! What can be read off a cloud at one moment, by looking at every host.

use serde_json::{Value, json};

use super::cloud::{Amounts, Cloud, Host, Life};
use super::uses::Uses;

/// What is measured at every moment, under the names by which sums are asked for.
pub(crate) const MEASURED: [&str; 11] = [
    "vcpus",
    "memory",
    "disk",
    "vms",
    "waiting",
    "hosts",
    "vcpus_of_hosts",
    "hosts_up",
    "needed",
    "milliwatts",
    "moving",
];

/// All of [`MEASURED`], now.
pub(crate) fn measured(cloud: &Cloud, switches_off: bool) -> [u64; 11] {
    let used = all(cloud.hosts.iter().map(Host::used));
    let lives = || cloud.guests.values().map(|guest| guest.life);
    let in_use = || cloud.hosts.iter().filter(|host| !host.claims.is_empty());
    let moving = lives().filter(|life| matches!(life, Life::Moves { .. })).count();
    let on = lives().filter(|life| matches!(life, Life::On(_))).count();
    let promised = in_use().map(|host| (host.machine.holds[0] * 1000.0).round() as u64);
    [
        used[0],
        used[1],
        used[2],
        (on + moving) as u64,
        lives().filter(|life| *life == Life::Waits).count() as u64,
        in_use().count() as u64,
        promised.sum(),
        cloud.hosts.iter().filter(|host| host.up).count() as u64,
        needed(cloud, used),
        cloud.hosts.iter().map(|host| milliwatts(host, switches_off)).sum(),
        moving as u64,
    ]
}

fn all(amounts: impl Iterator<Item = Amounts>) -> Amounts {
    amounts.fold([0; 3], |sum, more| [0, 1, 2].map(|at| sum[at] + more[at]))
}

/// So many of the largest hosts would do, for the resource of which most are needed.
fn needed(cloud: &Cloud, used: Amounts) -> u64 {
    let of = |kind: usize| {
        let mut holds: Vec<f64> = cloud.hosts.iter().map(|host| host.machine.holds[kind]).collect();
        holds.sort_by(|a, b| b.total_cmp(a));
        let enough = |n: &usize| holds[..*n].iter().sum::<f64>() >= used[kind] as f64;
        (0..=holds.len()).find(enough).unwrap_or(holds.len())
    };
    (0..3).map(of).max().unwrap_or(0) as u64
}

fn milliwatts(host: &Host, switches_off: bool) -> u64 {
    let Some(watts) = &host.machine.watts else { return 0 };
    if !host.up || switches_off && host.claims.is_empty() {
        return 0;
    }
    let busy = host.wanted.map_or(host.used()[0] as f64, |wanted| wanted as f64 / 1000.0);
    let share = (busy / host.machine.cpus as f64).min(1.0);
    let at = share * (watts.len() - 1) as f64;
    let left = (at.floor() as usize).min(watts.len() - 2);
    let between = watts[left] + (watts[left + 1] - watts[left]) * (at - left as f64);
    (between * 1000.0).round() as u64
}

/// What one sample of the report should be.
pub(crate) fn sample(cloud: &Cloud, uses: &Uses, at_ms: u64, switches_off: bool) -> Value {
    let [vcpus, memory, disk, vms, waiting, hosts, _, up, needed, milliwatts, moving] =
        measured(cloud, switches_off);
    let has_power = cloud.hosts.iter().any(|host| host.machine.watts.is_some());
    let stranded = stranded(cloud);
    let (holds, spare) = n_plus_one(cloud);
    let (wanted, overloaded) = uses.sample(cloud);
    json!({
        "cpus_wanted": wanted,
        "hosts_overloaded": overloaded,
        "at_s": at_ms / 1000,
        "vms": vms,
        "waiting": waiting,
        "hosts_up": up,
        "hosts_in_use": hosts,
        "hosts_needed": needed,
        "vcpus": vcpus,
        "memory_mib": memory,
        "disk_gib": disk,
        "moving": moving,
        "watts": has_power.then(|| milliwatts as f64 / 1000.0),
        "fragmentation": fragmentation(cloud),
        "stranded": { "vcpus": stranded[0], "memory": stranded[1], "disk": stranded[2] },
        "n_plus_one": { "holds": holds, "spare_vcpus": spare },
    })
}

fn free(host: &Host) -> [f64; 3] {
    let used = host.used();
    [0, 1, 2].map(|at| host.machine.holds[at] - used[at] as f64)
}

fn fits(free: [f64; 3], takes: Amounts) -> bool {
    (0..3).all(|at| free[at] >= takes[at] as f64)
}

fn open(cloud: &Cloud) -> Vec<[f64; 3]> {
    cloud.hosts.iter().filter(|host| host.takes_vms()).map(free).collect()
}

fn fragmentation(cloud: &Cloud) -> f64 {
    let hosts = open(cloud);
    let vcpus: f64 = hosts.iter().map(|free| free[0]).sum();
    let came: u64 = cloud.shapes.iter().map(|(_, came, _)| came).sum();
    if vcpus <= 0.0 || came == 0 {
        return 0.0;
    }
    let lost = cloud.shapes.iter().map(|(takes, came, _)| {
        let of = hosts.iter().filter(|free| !fits(**free, *takes)).map(|free| free[0]).sum::<f64>();
        of / vcpus * *came as f64 / came_of(cloud)
    });
    lost.sum()
}

fn came_of(cloud: &Cloud) -> f64 {
    cloud.shapes.iter().map(|(_, came, _)| *came as f64).sum()
}

fn stranded(cloud: &Cloud) -> [f64; 3] {
    let hosts = open(cloud);
    if cloud.shapes.is_empty() {
        return [0.0; 3];
    }
    let useless = |free: &&[f64; 3]| cloud.shapes.iter().all(|(takes, _, _)| !fits(**free, *takes));
    [0, 1, 2].map(|at| {
        let all: f64 = hosts.iter().map(|free| free[at]).sum();
        let lost: f64 = hosts.iter().filter(useless).map(|free| free[at]).sum();
        if all > 0.0 { lost / all } else { 0.0 }
    })
}

fn n_plus_one(cloud: &Cloud) -> (bool, f64) {
    let hosts: Vec<&Host> = cloud.hosts.iter().filter(|host| host.takes_vms()).collect();
    let mut fullest: Option<usize> = None;
    for at in 0..hosts.len() {
        let more = |than: usize| {
            let (this, that) = (hosts[at].used(), hosts[than].used());
            (this[0], this[1]) > (that[0], that[1])
        };
        if fullest.is_none_or(more) {
            fullest = Some(at);
        }
    }
    let Some(fullest) = fullest else { return (false, 0.0) };
    let mut left: Vec<[f64; 3]> = hosts.iter().map(|host| free(host)).collect();
    let others = (0..hosts.len()).filter(|at| *at != fullest);
    let spare: f64 = others.clone().map(|at| left[at][0]).sum();
    let mut guests: Vec<Amounts> = hosts[fullest].claims.values().copied().collect();
    guests.sort();
    let holds = guests.iter().rev().all(|takes| {
        let rooms = others.clone().filter(|at| fits(left[*at], *takes));
        let best = rooms.min_by(|a, b| left[*a][0].total_cmp(&left[*b][0]));
        let Some(best) = best else { return false };
        left[best] = [0, 1, 2].map(|kind| left[best][kind] - takes[kind] as f64);
        true
    });
    (holds, spare - hosts[fullest].used()[0] as f64)
}
