//! Hosts as a cluster is written down.

use serde_json::Value;

/// What a host is made of.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) rack: Option<String>,
    pub(crate) zone: String,
    pub(crate) cpus: u64,
    pub(crate) holds: [f64; 3],
    pub(crate) watts: Option<Vec<f64>>,
}

/// A number of an object; 0 where there is none.
pub(crate) fn whole(value: &Value, what: &str) -> u64 {
    value[what].as_u64().unwrap_or(0)
}

/// The hosts of a cluster as it is written down.
pub(crate) fn machines(cluster: &Value) -> Vec<Machine> {
    let mut machines = Vec::new();
    for group in cluster["hosts"].as_array().into_iter().flatten() {
        let name = group["name"].as_str().unwrap_or_default();
        let count = whole(group, "count");
        let racks = whole(group, "racks").min(count);
        let times = |amount: u64, ratio: &str| amount as f64 * group[ratio].as_f64().unwrap();
        let memory = whole(group, "memory_mib") - whole(group, "reserved_memory_mib");
        for number in 0..count {
            machines.push(Machine {
                name: format!("{name}-{:07}", number + 1),
                rack: (racks > 0).then(|| format!("{name}-rack-{}", number * racks / count + 1)),
                zone: group["zone"].as_str().unwrap_or_default().to_owned(),
                cpus: whole(group, "vcpus"),
                holds: [
                    times(whole(group, "vcpus"), "vcpu_ratio"),
                    times(memory, "memory_ratio"),
                    whole(group, "disk_gib") as f64,
                ],
                watts: serde_json::from_value(group["power_watts"].clone()).unwrap(),
            });
        }
    }
    machines
}
