//! The ground: what has to be there before a server can be.

use std::io::Cursor;

use nova_core::cloud::{AggregateSpec, GroupSpec, ImageSpec};
use nova_core::domain::{
    AggregateMetadata, FloatingPool, GiB, ImageFormat, ImageId, ImageProperties, InterfaceName,
    KeyPairName, MaxPerHost, NetworkKind, PublicKey, VlanId,
};
use nova_core::port::NetworkSpec;

use super::Failure;
use super::house::{Doing as _, House};
use super::plan::{self, DISK, GROUPS, SHAPES, TENANTS};
use super::show::{memory, table};

impl House<'_> {
    /// Makes everything that servers need: twice the same requests make it once.
    pub(super) async fn lay_the_ground(&mut self) -> Result<(), Failure> {
        self.make_aggregates().await?;
        self.make_networks().await?;
        self.make_what_servers_are_made_of().await?;
        self.make_projects().await
    }

    async fn make_aggregates(&mut self) -> Result<(), Failure> {
        for disk in ["hdd", "ssd"] {
            let metadata = AggregateMetadata::new([(DISK, disk)])?;
            let spec = AggregateSpec::new(disk.parse()?).with_metadata(metadata);
            let request = self.request(format_args!("aggregate-{disk}"))?;
            let aggregate = self.admin.create_aggregate(request, &spec).await;
            let aggregate = aggregate.doing(|| format!("make aggregate {disk}"))?;
            for status in self.hosts().await? {
                let name = &status.host.name;
                let is = |shape: &&plan::Shape| name.as_str().starts_with(shape.name);
                if SHAPES.iter().find(is).is_some_and(|shape| shape.disk == disk) {
                    let request = self.request(format_args!("{name}-to-{disk}"))?;
                    let added = self.admin.add_to_aggregate(request, aggregate, status.host.id);
                    added.await.doing(|| format!("put {name} into {disk}"))?;
                }
            }
        }
        Ok(())
    }

    async fn make_networks(&mut self) -> Result<(), Failure> {
        self.screen.section(
            "Networks",
            "A flat one on the operator's bridge, one with DHCP for everybody, a VLAN for each \
             project, and a pool of floating IPs.",
        );
        let dns = vec!["10.20.0.1".parse().map_err(|_| missing("name server"))?];
        let cidr = |text: &str| text.parse().map_err(|_| missing(text));
        let interface = InterfaceName::new;
        let mut specs = vec![
            NetworkSpec::new(plan::OFFICE.parse()?, NetworkKind::Flat, cidr("10.10.0.0/24")?)
                .with_bridge(interface("br-office")?),
            NetworkSpec::new(plan::CAMPUS.parse()?, NetworkKind::FlatDhcp, cidr("10.20.0.0/24")?)
                .with_parent(interface("eth1")?)
                .with_dns(dns),
        ];
        for (n, tenant) in TENANTS.iter().enumerate() {
            let cidr = cidr(&format!("10.30.{n}.0/26"))?;
            let spec = NetworkSpec::new(tenant.network().parse()?, NetworkKind::Vlan, cidr)
                .with_parent(interface("eth2")?)
                .with_first_vlan(VlanId::new(101)?)
                .with_project(tenant.name.parse()?);
            specs.push(spec);
        }
        for spec in &specs {
            let request = self.request(format_args!("network-{}", spec.name))?;
            let made = self.admin.create_networks(request, spec).await;
            made.doing(|| format!("make network {}", spec.name))?;
        }
        let pool = FloatingPool {
            name: plan::POOL.parse()?,
            range: cidr("198.51.100.0/28")?,
            interface: interface("eth0")?,
        };
        let request = self.request("floating-pool")?;
        let made = self.admin.create_floating_pool(request, &pool).await;
        made.doing(|| "make the pool of floating IPs")?;

        let mut rows = table(&["Network", "Kind", "Range", "Bridge", ">VLAN", "For"]);
        let made = self.networks().await?;
        for network in specs.iter().filter_map(|spec| made.get(spec.name.as_str())) {
            rows.add_row([
                network.name.to_string(),
                network.kind.to_string(),
                network.cidr.to_string(),
                network.bridge.to_string(),
                network.vlan.map_or_else(String::new, |vlan| vlan.to_string()),
                network.project.as_ref().map_or("everybody".to_owned(), ToString::to_string),
            ]);
        }
        let (range, on) = (pool.range.to_string(), pool.interface.to_string());
        let (name, kind) = (pool.name.to_string(), "floating IPs".to_owned());
        rows.add_row([name, kind, range, on, String::new(), "everybody".to_owned()]);
        self.screen.table(&rows);
        Ok(())
    }

    async fn make_what_servers_are_made_of(&mut self) -> Result<(), Failure> {
        self.screen.section(
            "Image and flavors",
            "One image of made-up bytes; flavors with an extra spec run only where the aggregate \
             has what it says.",
        );
        let mut bytes = Vec::with_capacity(plan::IMAGE_BYTES);
        let mut chance = self.seed.child("image bytes").chance();
        while bytes.len() < plan::IMAGE_BYTES {
            bytes.extend(chance.bytes());
        }
        let spec = ImageSpec::new(plan::IMAGE.parse()?, ImageFormat::Raw)
            .with_minimum(plan::IMAGE_MEMORY, GiB(1))
            .with_properties(ImageProperties::new([("hw_architecture", "x86_64")])?);
        let request = self.request("image")?;
        let image = self.admin.register_image(request, &spec, Box::new(Cursor::new(bytes))).await;
        image.doing(|| "register the image")?;

        let mut rows = table(&["Flavor", ">vCPU", ">Memory", ">Root disk", "Extra spec"]);
        for spec in plan::flavors()? {
            let request = self.request(format_args!("flavor-{}", spec.name))?;
            let flavor = self.admin.create_flavor(request, &spec).await;
            let flavor = flavor.doing(|| format!("make flavor {}", spec.name))?;
            let extra: Vec<String> =
                flavor.extra_specs().iter().map(|(key, value)| format!("{key}={value}")).collect();
            rows.add_row([
                flavor.name().to_string(),
                flavor.vcpus().0.to_string(),
                memory(flavor.memory()),
                flavor.root_disk().to_string(),
                extra.join(" "),
            ]);
        }
        self.screen.table(&rows);
        Ok(())
    }

    async fn make_projects(&mut self) -> Result<(), Failure> {
        self.screen.section(
            "Projects",
            "Limits are raised where the default (10 servers, 20 vCPU, 50 GiB) would be in the \
             way; each project keeps a key, some have server groups.",
        );
        let mut rows = table(&["Project", ">Servers", ">vCPU", ">Memory", "Key", "Server groups"]);
        for tenant in &TENANTS {
            let project = self.project(tenant.name)?;
            let request = self.request(format_args!("quota-{}", tenant.name))?;
            let raised = self.admin.set_quota(request, project.id(), tenant.quota()).await;
            raised.doing(|| format!("raise the limits of {}", tenant.name))?;
            let request = self.request("key-pair")?;
            let name: KeyPairName = plan::KEY_PAIR.parse()?;
            let key = PublicKey::new(plan::PUBLIC_KEY)?;
            let kept = project.create_key_pair(request, &name, &key).await;
            kept.doing(|| format!("keep the key of {}", tenant.name))?;
            let mut groups = Vec::new();
            for (_, name, policy, max) in GROUPS.iter().filter(|group| group.0 == tenant.name) {
                let spec = GroupSpec::new(name.parse()?, *policy)
                    .with_max_per_host(MaxPerHost::new(*max)?);
                let request = self.request(format_args!("group-{name}"))?;
                let made = project.create_group(request, &spec).await;
                made.doing(|| format!("make group {}/{name}", tenant.name))?;
                groups.push(format!("{name} ({})", rule(*policy, *max)));
            }
            rows.add_row([
                tenant.name.to_owned(),
                tenant.servers.to_string(),
                tenant.vcpus.to_string(),
                tenant.memory.to_string(),
                plan::KEY_PAIR.to_owned(),
                groups.join(", "),
            ]);
        }
        self.screen.table(&rows);
        Ok(())
    }

    /// The image.
    pub(super) async fn image(&self) -> Result<ImageId, Failure> {
        let project = self.project(TENANTS[0].name)?;
        let images = project.images().await.doing(|| "list images")?;
        let image = images.iter().find(|image| image.name.as_str() == plan::IMAGE);
        image.map(|image| image.id).ok_or_else(|| missing("image"))
    }
}

fn rule(policy: nova_core::domain::GroupPolicy, max: u32) -> String {
    use nova_core::domain::GroupPolicy::{Affinity, AntiAffinity, SoftAffinity, SoftAntiAffinity};
    match policy {
        Affinity => "together".to_owned(),
        AntiAffinity if max == 1 => "apart".to_owned(),
        AntiAffinity => format!("at most {max} on a host"),
        SoftAffinity => "together if possible".to_owned(),
        SoftAntiAffinity => "apart if possible".to_owned(),
        _ => "by another rule".to_owned(),
    }
}

fn missing(what: &str) -> Failure {
    Failure::Missing { what: what.to_owned() }
}
