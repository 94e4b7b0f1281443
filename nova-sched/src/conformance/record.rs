//! The records of a file, as they are written: one JSON object per line.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A single decision.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) hosts: Vec<Host>,
    #[serde(default)]
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) request: Request,
    #[serde(default)]
    pub(super) filters: Vec<String>,
    #[serde(default)]
    pub(super) weighers: Vec<Weigher>,
    #[serde(default)]
    pub(super) config: Config,
    pub(super) expect: Expectation,
}

/// Many requests to one changing state.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sequence {
    pub(super) id: String,
    pub(super) hosts: Vec<Host>,
    #[serde(default)]
    pub(super) aggregates: Vec<Aggregate>,
    #[serde(default)]
    pub(super) groups: Vec<Group>,
    #[serde(default)]
    pub(super) filters: Vec<String>,
    #[serde(default)]
    pub(super) weighers: Vec<Weigher>,
    #[serde(default)]
    pub(super) config: Config,
    pub(super) requests: Vec<Request>,
    pub(super) expect: Chosen,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    pub(super) chosen: Vec<Value>,
    pub(super) hosts_with_capacity: Vec<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    #[serde(default)]
    pub(super) passed_by_filter: BTreeMap<String, Value>,
    pub(super) passed: Option<Vec<String>>,
    #[serde(default)]
    pub(super) error: Option<Value>,
    #[serde(default)]
    pub(super) raw_weights: BTreeMap<String, BTreeMap<String, Value>>,
    #[serde(default)]
    pub(super) weights: Option<BTreeMap<String, f64>>,
    #[serde(default)]
    pub(super) order: Option<Vec<Vec<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weigher {
    pub(super) name: String,
    pub(super) multiplier: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aggregate {
    pub(super) name: String,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
}

/// A server group: of a case without a name, of a sequence with one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    #[serde(default)]
    pub(super) name: String,
    pub(super) policy: String,
    #[serde(default)]
    pub(super) members: Vec<String>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    #[serde(default)]
    pub(super) rules: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) node: Option<String>,
    pub(super) cell_uuid: String,
    pub(super) total_usable_ram_mb: u64,
    pub(super) free_ram_mb: i64,
    pub(super) vcpus_total: u32,
    pub(super) vcpus_used: i64,
    pub(super) total_usable_disk_gb: u64,
    pub(super) disk_gb_used: i64,
    pub(super) free_disk_mb: i64,
    pub(super) cpu_allocation_ratio: f64,
    pub(super) ram_allocation_ratio: f64,
    pub(super) disk_allocation_ratio: f64,
    pub(super) num_instances: i64,
    pub(super) num_io_ops: u32,
    pub(super) failed_builds: u32,
    pub(super) host_ip: Option<String>,
    pub(super) hypervisor_type: String,
    pub(super) hypervisor_version: Option<u64>,
    pub(super) cpu_info: Option<Box<RawValue>>,
    pub(super) supported_instances: Vec<[String; 3]>,
    pub(super) stats: BTreeMap<String, String>,
    pub(super) metrics: Vec<Metric>,
    pub(super) instances: Vec<Instance>,
    pub(super) service: Service,
    pub(super) numa_topology: Option<Topology>,
    pub(super) pci_pools: Vec<IndexMap<String, Value>>,
    pub(super) capacity: Option<Capacity>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            name: String::new(),
            node: None,
            cell_uuid: "11111111-1111-4111-8111-111111111111".to_owned(),
            total_usable_ram_mb: 0,
            free_ram_mb: 0,
            vcpus_total: 0,
            vcpus_used: 0,
            total_usable_disk_gb: 0,
            disk_gb_used: 0,
            free_disk_mb: 0,
            cpu_allocation_ratio: 1.0,
            ram_allocation_ratio: 1.0,
            disk_allocation_ratio: 1.0,
            num_instances: 0,
            num_io_ops: 0,
            failed_builds: 0,
            host_ip: None,
            hypervisor_type: "QEMU".to_owned(),
            hypervisor_version: Some(0),
            cpu_info: None,
            supported_instances: Vec::new(),
            stats: BTreeMap::new(),
            metrics: Vec::new(),
            instances: Vec::new(),
            service: Service::default(),
            numa_topology: None,
            pci_pools: Vec::new(),
            capacity: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) value: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instance {
    pub(super) uuid: String,
    #[serde(default)]
    pub(super) image_properties: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Service {
    pub(super) disabled: bool,
    pub(super) forced_down: bool,
    pub(super) seconds_since_last_heartbeat: f64,
}

impl Default for Service {
    fn default() -> Self {
        Self { disabled: false, forced_down: false, seconds_since_last_heartbeat: 5.0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Capacity {
    pub(super) vcpu: Stock,
    pub(super) memory_mb: Stock,
    pub(super) disk_gb: Stock,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stock {
    pub(super) total: u64,
    pub(super) reserved: u64,
    pub(super) allocation_ratio: f64,
    pub(super) used: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topology {
    pub(super) cells: Vec<Cell>,
}

/// A NUMA cell: of a host with CPUs, of a guest with vCPUs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cell {
    pub(super) id: u32,
    pub(super) memory_mb: u64,
    pub(super) shared_cpus: Vec<u32>,
    pub(super) dedicated_cpus: Vec<u32>,
    pub(super) memory_used_mb: u64,
    pub(super) shared_cpu_usage: u32,
    pub(super) pinned_cpus: Vec<u32>,
    pub(super) thread_siblings: Vec<Vec<u32>>,
    pub(super) socket: Option<u32>,
    pub(super) mempages: Vec<Pages>,
    pub(super) shared_vcpus: Vec<u32>,
    pub(super) dedicated_vcpus: Vec<u32>,
    pub(super) cpu_policy: Option<String>,
    pub(super) cpu_thread_policy: Option<String>,
    pub(super) page_size: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pages {
    pub(super) size_kb: u64,
    pub(super) total: u64,
    pub(super) used: u64,
    pub(super) reserved: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PciRequest {
    pub(super) count: u32,
    pub(super) spec: Vec<BTreeMap<String, Value>>,
    #[serde(default)]
    pub(super) numa_policy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default)]
    pub(super) instance_uuid: Option<String>,
    #[serde(default)]
    pub(super) instance_uuids: Vec<String>,
    #[serde(default)]
    pub(super) num_instances: Option<usize>,
    pub(super) project_id: String,
    pub(super) flavor: Flavor,
    #[serde(default)]
    pub(super) image: Option<Image>,
    #[serde(default)]
    pub(super) scheduler_hints: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) instance_group: Option<Group>,
    #[serde(default)]
    pub(super) group: Option<String>,
    #[serde(default)]
    pub(super) requested_destination: Option<Destination>,
    #[serde(default)]
    pub(super) ignore_hosts: Vec<String>,
    #[serde(default)]
    pub(super) force_hosts: Vec<String>,
    #[serde(default)]
    pub(super) force_nodes: Vec<String>,
    #[serde(default)]
    pub(super) numa_topology: Option<Topology>,
    #[serde(default)]
    pub(super) pci_requests: Option<Vec<PciRequest>>,
}

impl Request {
    /// The instances it is for.
    pub(super) fn instances(&self) -> impl Iterator<Item = &str> {
        self.instance_uuid.iter().chain(&self.instance_uuids).map(String::as_str)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flavor {
    pub(super) name: String,
    pub(super) vcpus: u32,
    pub(super) memory_mb: u64,
    pub(super) root_gb: u64,
    #[serde(default)]
    pub(super) ephemeral_gb: u64,
    #[serde(default)]
    pub(super) swap_mb: u64,
    #[serde(default)]
    pub(super) extra_specs: IndexMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Destination {
    pub(super) host: Option<String>,
    pub(super) node: Option<String>,
    pub(super) cell_uuid: Option<String>,
    pub(super) allow_cross_cell_move: bool,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    pub(super) max_io_ops_per_host: i64,
    pub(super) max_instances_per_host: i64,
    pub(super) isolated_hosts: Vec<String>,
    pub(super) isolated_images: Vec<String>,
    pub(super) restrict_isolated_hosts_to_isolated_images: bool,
    pub(super) image_properties_default_architecture: Option<String>,
    pub(super) aggregate_image_properties_isolation_namespace: Option<String>,
    pub(super) aggregate_image_properties_isolation_separator: String,
    pub(super) image_props_weight_setting: Vec<String>,
    pub(super) metrics_weight_setting: Vec<String>,
    pub(super) metrics_required: bool,
    pub(super) metrics_weight_of_unavailable: f64,
    pub(super) service_down_time_seconds: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_io_ops_per_host: 8,
            max_instances_per_host: 50,
            isolated_hosts: Vec::new(),
            isolated_images: Vec::new(),
            restrict_isolated_hosts_to_isolated_images: true,
            image_properties_default_architecture: None,
            aggregate_image_properties_isolation_namespace: None,
            aggregate_image_properties_isolation_separator: ".".to_owned(),
            image_props_weight_setting: Vec::new(),
            metrics_weight_setting: Vec::new(),
            metrics_required: true,
            metrics_weight_of_unavailable: -10_000.0,
            service_down_time_seconds: 60,
        }
    }
}
