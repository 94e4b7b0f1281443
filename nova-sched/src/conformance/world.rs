//! Records as hosts, requests and policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use nova_core::domain::{
    Admission, Aggregate, AggregateId, AggregateMetadata, AllocationRatio, CpuPolicy,
    CpuThreadPolicy, Destination, ExtraSpecs, Flavor, FlavorName, GiB, GroupPolicy, GroupView,
    GuestCell, GuestKind, GuestTopology, HostId, HostName, HostReport, HostState, HostTable,
    ImageId, ImageProperties, InstanceId, Invalid, Inventory, Label, Liveness, Measured,
    MemoryPages, MiB, NumaCell, NumaTopology, PageSize, PciNumaPolicy, PciPool, PciPools,
    PciRequest, ProjectId, Purpose, Quantity, RequestSpec, Resident, Resources, ServerGroupId,
    Stock, Units, Vcpus, ZoneName,
};
use serde_json::Value;

use super::{names, record};
use crate::filters::{RequestedHosts, attribute_text, number};
use crate::scheduler::Weighing;
use crate::{Filter, FilterScheduler, Options, Ratio, Rules};

/// What a record says that cannot be said here.
pub(super) type Unreadable = String;

fn said(error: Invalid) -> Unreadable {
    error.to_string()
}

/// The state of a record: its hosts in the order of the record, and numbers for its names.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) table: HostTable,
    names: Vec<String>,
    known: BTreeMap<String, u128>,
}

impl World {
    pub(super) fn new(
        hosts: &[record::Host],
        aggregates: &[record::Aggregate],
        config: &record::Config,
    ) -> Result<Self, Unreadable> {
        let mut world = Self::default();
        for host in hosts {
            let row = world.host(host, aggregates, config)?;
            world.table.put(row);
            world.names.push(host.name.clone());
        }
        Ok(world)
    }

    /// The number that stands for `text`: always the same one in this record.
    fn number(&mut self, text: &str) -> u128 {
        let next = self.known.len() as u128 + 1;
        *self.known.entry(text.to_owned()).or_insert(next)
    }

    pub(super) fn instance(&mut self, uuid: &str) -> InstanceId {
        InstanceId::from_u128(self.number(uuid))
    }

    /// Hosts are numbered by their place, which is the order in which they are visited.
    pub(super) fn host_id(&mut self, name: &str) -> HostId {
        match self.names.iter().position(|known| known == name) {
            Some(at) => HostId::from_u128(at as u128 + 1),
            // One that is not there is one that no other is.
            None => HostId::from_u128((1 << 64) + self.number(name)),
        }
    }

    /// The name of a host.
    pub(super) fn name_of(&self, id: HostId) -> String {
        self.table.get(id).map_or_else(|| id.to_string(), |row| row.name.to_string())
    }

    fn host(
        &mut self,
        host: &record::Host,
        aggregates: &[record::Aggregate],
        config: &record::Config,
    ) -> Result<HostState, Unreadable> {
        let id = HostId::from_u128(self.names.len() as u128 + 1);
        let name = HostName::new(&*host.name).map_err(said)?;
        let zone = ZoneName::new("nova").map_err(said)?;
        let (inventory, used) = stocks(host)?;
        let mut row = HostState::new(id, name, zone, inventory);
        if used != Resources::ZERO {
            row.claim(self.instance("what is used"), used);
        }
        for instance in &host.instances {
            let id = self.instance(&instance.uuid);
            row.claim(id, Resources::ZERO);
            let flavor = FlavorName::new("unknown").map_err(said)?;
            let image = properties(&instance.image_properties)?;
            row.describe(id, Arc::new(Resident { flavor, image }));
        }
        row.measured = Some(Measured {
            free_memory: host.free_ram_mb,
            free_disk: host.free_disk_mb,
            disk_used: host.disk_gb_used.saturating_mul(1024),
            vcpus_used: host.vcpus_used,
            instances: host.num_instances,
        });
        if host.service.disabled {
            row.admission = Admission::Disabled;
        }
        let silent = host.service.seconds_since_last_heartbeat.abs();
        if host.service.forced_down || silent > config.service_down_time_seconds as f64 {
            row.liveness = Liveness::Down;
        }
        row.guest_kinds = host
            .supported_instances
            .iter()
            .map(|[architecture, hypervisor, vm_mode]| GuestKind {
                architecture: architecture.clone(),
                hypervisor: hypervisor.clone(),
                vm_mode: vm_mode.clone(),
            })
            .collect();
        row.hypervisor_version = host.hypervisor_version;
        row.io_ops = host.num_io_ops;
        row.failed_builds = host.failed_builds;
        row.report = Arc::new(report(host)?);
        row.pci = PciPools { pools: host.pci_pools.iter().map(pool).collect::<Result<_, _>>()? };
        row.numa = host.numa_topology.as_ref().map(|topology| Arc::new(host_topology(topology)));
        for (nth, aggregate) in aggregates.iter().enumerate() {
            if aggregate.hosts.contains(&host.name) {
                let metadata = aggregate.metadata.clone();
                row.aggregates.push(Arc::new(Aggregate {
                    id: AggregateId::from_u128(nth as u128 + 1),
                    name: Label::new(&*aggregate.name).map_err(said)?,
                    hosts: vec![id],
                    metadata: AggregateMetadata::new(metadata).map_err(said)?,
                }));
            }
        }
        Ok(row)
    }

    /// The request of a record; `group` as it is at that moment.
    pub(super) fn request(
        &mut self,
        request: &record::Request,
        group: Option<&record::Group>,
    ) -> Result<RequestSpec, Unreadable> {
        let instances: Vec<InstanceId> = request.instances().map(|i| self.instance(i)).collect();
        let Some(first) = instances.first() else { return Err("no instance".to_owned()) };
        if request.num_instances.is_some_and(|count| count != instances.len()) {
            return Err("num_instances is not the number of instances".to_owned());
        }
        let project = ProjectId::new(&*request.project_id).map_err(said)?;
        let mut spec = RequestSpec::new(*first, project, Arc::new(flavor(&request.flavor)?));
        spec.instances = instances;
        if let Some(image) = &request.image {
            spec.image = properties(&image.properties)?;
            // An image without an id is one that no other is.
            let id = image.id.as_deref().unwrap_or("an image without an id");
            spec.image_id = Some(ImageId::from_u128(self.number(id)));
        }
        for (name, words) in &request.scheduler_hints {
            match name.as_str() {
                "same_host" => {
                    spec.hints.same_host = words.iter().map(|w| self.instance(w)).collect();
                }
                "different_host" => {
                    spec.hints.different_host = words.iter().map(|w| self.instance(w)).collect();
                }
                "_nova_check_type" if *words == ["rebuild"] => spec.purpose = Purpose::Rebuild,
                "_nova_check_type" => spec.purpose = Purpose::Check,
                _ => drop(spec.hints.custom.insert(name.clone(), words.clone())),
            }
        }
        spec.group = group.map(|group| self.group(group)).transpose()?;
        let named = |names: &[String]| {
            let names = names.iter().map(|name| HostName::new(&**name).map_err(said));
            names.collect::<Result<Vec<_>, _>>()
        };
        if let Some(destination) = &request.requested_destination {
            let host = destination.host.as_deref().map(HostName::new).transpose();
            spec.destination = Some(Destination {
                host: host.map_err(said)?,
                node: destination.node.clone(),
                cell: destination.cell_uuid.clone(),
                allow_cross_cell_move: destination.allow_cross_cell_move,
            });
        }
        spec.ignore_hosts = named(&request.ignore_hosts)?;
        spec.force_hosts = named(&request.force_hosts)?;
        spec.force_nodes = request.force_nodes.clone();
        if let Some(topology) = &request.numa_topology {
            spec.numa = Some(Arc::new(guest_topology(topology)?));
        }
        if let Some(requests) = &request.pci_requests {
            spec.pci = requests.iter().map(pci_request).collect::<Result<_, _>>()?;
        }
        Ok(spec)
    }

    fn group(&mut self, group: &record::Group) -> Result<GroupView, Unreadable> {
        let policy = match group.policy.as_str() {
            "affinity" => GroupPolicy::Affinity,
            "anti-affinity" => GroupPolicy::AntiAffinity,
            "soft-affinity" => GroupPolicy::SoftAffinity,
            "soft-anti-affinity" => GroupPolicy::SoftAntiAffinity,
            other => return Err(format!("unknown group policy {other:?}")),
        };
        let max = match group.rules.get("max_server_per_host") {
            None => 1,
            Some(rule) => {
                let text = attribute_text(rule);
                text.trim().parse().map_err(|_| format!("not a number: {text:?}"))?
            }
        };
        let mut view = GroupView::new(ServerGroupId::from_u128(1), policy, max);
        view.hosts = group.hosts.iter().map(|name| self.host_id(name)).collect();
        let members: Vec<InstanceId> = group.members.iter().map(|m| self.instance(m)).collect();
        for row in self.table.rows() {
            let there = members.iter().filter(|member| row.has_instance(**member)).count();
            if there > 0 {
                view.members_by_host.insert(row.id, there as u32);
            }
        }
        Ok(view)
    }

    /// The policy of a record, exactly: nothing is added to its chain but what picks the hosts
    /// that a request names, and `first`.
    pub(super) fn policy(
        &mut self,
        first: Option<Arc<dyn Filter>>,
        filters: &[String],
        weighers: &[record::Weigher],
        config: &record::Config,
    ) -> Result<FilterScheduler, Unreadable> {
        let options = self.options(config)?;
        let mut chain = vec![Arc::new(RequestedHosts) as Arc<dyn Filter>];
        chain.extend(first);
        for name in filters {
            chain.push(names::filter(name, &options)?);
        }
        let mut policy = FilterScheduler::new("vectors");
        policy.rules = Rules::Nova;
        policy.filters = chain;
        for weigher in weighers {
            let known = names::weigher(&weigher.name, &options, weigher.multiplier)?;
            policy.weighers.push(Weighing::new(known, weigher.multiplier, Rules::Nova));
        }
        Ok(policy)
    }

    /// What the filters and weighers of a record have to be told.
    pub(super) fn options(&mut self, config: &record::Config) -> Result<Options, Unreadable> {
        let hosts = config.isolated_hosts.iter().map(|name| HostName::new(&**name).map_err(said));
        let images = config.isolated_images.iter();
        let limit = |limit: i64| u32::try_from(limit.max(0)).unwrap_or(u32::MAX);
        Ok(Options {
            max_io_ops_per_host: limit(config.max_io_ops_per_host),
            max_instances_per_host: limit(config.max_instances_per_host),
            isolated_hosts: hosts.collect::<Result<_, _>>()?,
            isolated_images: images.map(|id| ImageId::from_u128(self.number(id))).collect(),
            restrict_isolated_hosts_to_isolated_images: config
                .restrict_isolated_hosts_to_isolated_images,
            image_properties_default_architecture: config
                .image_properties_default_architecture
                .clone(),
            aggregate_image_properties_isolation_namespace: config
                .aggregate_image_properties_isolation_namespace
                .clone(),
            aggregate_image_properties_isolation_separator: config
                .aggregate_image_properties_isolation_separator
                .clone(),
            image_props_weight_setting: settings(&config.image_props_weight_setting),
            metrics_weight_setting: settings(&config.metrics_weight_setting),
            metrics_required: config.metrics_required,
            metrics_weight_of_unavailable: config.metrics_weight_of_unavailable,
        })
    }
}

/// `name=ratio` each; what is not that is passed over, as Nova does.
fn settings(texts: &[String]) -> Vec<Ratio> {
    let setting = |text: &String| {
        let (name, ratio) = text.split_once('=')?;
        let ratio = number(ratio)?;
        (!name.is_empty()).then(|| Ratio { name: name.to_owned(), ratio })
    };
    texts.iter().filter_map(setting).collect()
}

fn stocks(host: &record::Host) -> Result<(Inventory, Resources), Unreadable> {
    fn stock<Q: Quantity>(
        of: fn(u64) -> Result<Q, Unreadable>,
        capacity: Option<&record::Stock>,
        total: u64,
        ratio: f64,
    ) -> Result<(Stock<Q>, Q), Unreadable> {
        let (total, reserved, ratio, used) = match capacity {
            Some(c) => (c.total, c.reserved, c.allocation_ratio, c.used),
            None => (total, 0, ratio, 0),
        };
        // Placement would ask for more; the vectors have room only.
        let units = Units { min: 1, max: Some(u64::MAX), step: 1 };
        let stock = Stock::new(of(total)?)
            .with_ratio(AllocationRatio::new(ratio).map_err(said)?)
            .with_reserved(of(reserved)?)
            .and_then(|stock| stock.with_units(units))
            .map_err(said)?;
        Ok((stock, of(used)?))
    }
    let capacity = host.capacity.as_ref();
    let vcpus = |number: u64| u32::try_from(number).map(Vcpus).map_err(|e| e.to_string());
    let (cpu, ram) = (host.cpu_allocation_ratio, host.ram_allocation_ratio);
    let (total_vcpus, total_memory) = (host.vcpus_total.into(), host.total_usable_ram_mb);
    let (total_disk, disk) = (host.total_usable_disk_gb, host.disk_allocation_ratio);
    let vcpus = stock(vcpus, capacity.map(|c| &c.vcpu), total_vcpus, cpu)?;
    let memory = stock(|n| Ok(MiB(n)), capacity.map(|c| &c.memory_mb), total_memory, ram)?;
    let disk = stock(|n| Ok(GiB(n)), capacity.map(|c| &c.disk_gb), total_disk, disk)?;
    let inventory = Inventory { vcpus: vcpus.0, memory: memory.0, disk: disk.0 };
    Ok((inventory, Resources { vcpus: vcpus.1, memory: memory.1, disk: disk.1 }))
}

fn report(host: &record::Host) -> Result<HostReport, Unreadable> {
    let mut stats = host.stats.clone();
    let counted = [
        ("num_instances", host.num_instances.to_string()),
        ("io_workload", host.num_io_ops.to_string()),
        ("failed_builds", host.failed_builds.to_string()),
    ];
    stats.extend(counted.map(|(name, value)| (name.to_owned(), value)));
    let address = host.host_ip.as_ref().map(|text| text.parse());
    Ok(HostReport {
        node: host.node.clone(),
        cell: Some(host.cell_uuid.clone()),
        address: address.transpose().map_err(|error| format!("host_ip: {error}"))?,
        hypervisor: host.hypervisor_type.clone(),
        cpu_info: host.cpu_info.as_ref().map(|info| spaced(info.get())),
        stats,
        metrics: host.metrics.iter().map(|m| (m.name.clone(), m.value)).collect(),
        ..HostReport::default()
    })
}

/// `json` with the spaces that Python writes: one behind each comma and each colon.
fn spaced(json: &str) -> String {
    let (mut text, mut quoted, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        if quoted {
            text.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if !c.is_whitespace() {
            text.push(c);
            quoted = c == '"';
            if c == ',' || c == ':' {
                text.push(' ');
            }
        }
    }
    text
}

fn properties(values: &BTreeMap<String, Value>) -> Result<ImageProperties, Unreadable> {
    let texts = values.iter().map(|(name, value)| (name.clone(), attribute_text(value)));
    ImageProperties::new(texts).map_err(said)
}

fn flavor(flavor: &record::Flavor) -> Result<Flavor, Unreadable> {
    let specs = flavor.extra_specs.iter().map(|(key, value)| (key.clone(), value.clone()));
    let name = FlavorName::new(&*flavor.name).map_err(said)?;
    let flavor = Flavor::new(name, Vcpus(flavor.vcpus), MiB(flavor.memory_mb))
        .and_then(|made| made.with_root_disk(GiB(flavor.root_gb)))
        .and_then(|made| made.with_ephemeral_disk(GiB(flavor.ephemeral_gb)))
        .and_then(|made| made.with_swap(MiB(flavor.swap_mb)))
        .and_then(|made| Ok(made.with_extra_specs(ExtraSpecs::new(specs)?)));
    flavor.map_err(said)
}

fn pool(pool: &indexmap::IndexMap<String, Value>) -> Result<PciPool, Unreadable> {
    let mut made = PciPool::default();
    for (key, value) in pool {
        let number = || {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| format!("pool.{key}: {value}"))
        };
        match key.as_str() {
            "vendor_id" => made.vendor_id = attribute_text(value),
            "product_id" => made.product_id = attribute_text(value),
            "count" => made.count = number()?,
            "numa_node" if value.is_null() => {}
            "numa_node" => made.numa_node = Some(number()?),
            "dev_type" => made.dev_type = Some(attribute_text(value)),
            "tags" => {
                let tags = value.as_object().ok_or_else(|| format!("pool.tags: {value}"))?;
                let tag = |(key, value): (&String, &Value)| (key.clone(), attribute_text(value));
                made.tags.extend(tags.iter().map(tag));
            }
            _ => return Err(format!("unknown pool.{key}")),
        }
    }
    Ok(made)
}

fn pci_request(request: &record::PciRequest) -> Result<PciRequest, Unreadable> {
    let spec = |spec: &BTreeMap<String, Value>| {
        spec.iter().map(|(key, value)| (key.clone(), attribute_text(value))).collect()
    };
    Ok(PciRequest {
        count: request.count,
        spec: request.spec.iter().map(spec).collect(),
        numa_policy: match request.numa_policy.as_deref() {
            None | Some("legacy") => PciNumaPolicy::Legacy,
            Some("required") => PciNumaPolicy::Required,
            Some("socket") => PciNumaPolicy::Socket,
            Some("preferred") => PciNumaPolicy::Preferred,
            Some(other) => return Err(format!("unknown numa_policy {other:?}")),
        },
    })
}

fn host_topology(topology: &record::Topology) -> NumaTopology {
    let pages = |pages: &record::Pages| MemoryPages {
        size_kb: pages.size_kb,
        total: pages.total,
        used: pages.used,
        reserved: pages.reserved,
    };
    let cell = |cell: &record::Cell| NumaCell {
        id: cell.id,
        shared_cpus: cell.shared_cpus.iter().copied().collect(),
        dedicated_cpus: cell.dedicated_cpus.iter().copied().collect(),
        pinned_cpus: cell.pinned_cpus.iter().copied().collect(),
        shared_cpu_usage: cell.shared_cpu_usage,
        memory: cell.memory_mb,
        memory_used: cell.memory_used_mb,
        thread_siblings: cell.thread_siblings.iter().map(|s| s.iter().copied().collect()).collect(),
        socket: cell.socket,
        pages: cell.mempages.iter().map(pages).collect(),
    };
    NumaTopology { cells: topology.cells.iter().map(cell).collect() }
}

fn guest_topology(topology: &record::Topology) -> Result<GuestTopology, Unreadable> {
    let cell = |cell: &record::Cell| {
        Ok(GuestCell {
            id: cell.id,
            memory: cell.memory_mb,
            shared_vcpus: cell.shared_vcpus.iter().copied().collect(),
            dedicated_vcpus: cell.dedicated_vcpus.iter().copied().collect(),
            cpu_policy: match cell.cpu_policy.as_deref() {
                None => None,
                Some("shared") => Some(CpuPolicy::Shared),
                Some("dedicated") => Some(CpuPolicy::Dedicated),
                Some("mixed") => Some(CpuPolicy::Mixed),
                Some(other) => return Err(format!("unknown cpu_policy {other:?}")),
            },
            cpu_thread_policy: match cell.cpu_thread_policy.as_deref() {
                None => None,
                Some("prefer") => Some(CpuThreadPolicy::Prefer),
                Some("require") => Some(CpuThreadPolicy::Require),
                Some("isolate") => Some(CpuThreadPolicy::Isolate),
                Some(other) => return Err(format!("unknown cpu_thread_policy {other:?}")),
            },
            page_size: match cell.page_size.as_ref().map(attribute_text).as_deref() {
                None => None,
                Some("small") => Some(PageSize::Small),
                Some("large") => Some(PageSize::Large),
                Some("any") => Some(PageSize::Any),
                Some(size) => {
                    let size = size.parse().map_err(|_| format!("page_size {size:?}"))?;
                    Some(PageSize::Kib(size))
                }
            },
        })
    };
    let cells = topology.cells.iter().map(cell).collect::<Result<_, Unreadable>>()?;
    Ok(GuestTopology { cells })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_python_writes_it() {
        let json = "{\"a\" :[1,2],\"b:c\\\",\":\"x, y\"}";
        assert_eq!(spaced(json), "{\"a\": [1, 2], \"b:c\\\",\": \"x, y\"}");
    }

    #[test]
    fn settings_that_are_none_are_passed_over() {
        let texts = ["a=1", "b", "=2", "c=x", "d = 1.5", "e=1=2"].map(str::to_owned);
        let names: Vec<_> = settings(&texts).into_iter().map(|s| (s.name, s.ratio)).collect();
        assert_eq!(names, [("a".to_owned(), 1.0), ("d ".to_owned(), 1.5)]);
    }
}
