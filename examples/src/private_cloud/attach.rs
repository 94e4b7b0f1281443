//! Volumes and floating IPs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nova_core::cloud::{Server, VolumeSpec};
use nova_core::domain::{VolumeSize, VolumeState};

use super::Failure;
use super::house::{Doing as _, House, pending, took};
use super::plan::{self, PUBLISHED, VOLUMES};
use super::show::{table, time};

impl House<'_> {
    /// Makes volumes and gives them to servers; takes floating IPs and leads them to servers.
    pub(super) async fn attach_volumes_and_addresses(&mut self) -> Result<(), Failure> {
        let servers = self.servers().await?;
        self.attach_volumes(&servers).await?;
        self.lead_addresses(&servers).await
    }

    async fn attach_volumes(&mut self, servers: &BTreeMap<String, Server>) -> Result<(), Failure> {
        self.screen.section("Volumes", "Sparse files, made and plugged into running servers.");
        let mut made = Vec::new();
        let mut ids = Vec::new();
        for (project, name, size, _) in VOLUMES {
            let project = self.project(project)?;
            let spec = VolumeSpec::new(name.parse()?, VolumeSize::new(size)?);
            let request = self.request(format_args!("volume-{name}"))?;
            let accepted = project.create_volume(request, &spec).await;
            let doing = format!("make volume {name}");
            ids.push(accepted.as_ref().ok().map(|accepted| accepted.id));
            made.push(pending(doing, &project, accepted)?);
        }
        self.wait_for("volumes", made).await?;
        let mut plugged = Vec::new();
        for ((project, name, _, server), id) in VOLUMES.into_iter().zip(ids) {
            let server = instance(servers, project, server)?;
            let Some(id) = id else { continue };
            let project = self.project(project)?;
            let request = self.request(format_args!("attach-{name}"))?;
            let accepted = project.attach_volume(request, server.instance.id, id).await;
            plugged.push(pending(format!("attach volume {name}"), &project, accepted)?);
        }
        let plugged = self.wait_for("volumes", plugged).await?;

        let mut rows = table(&["Volume", ">Size", "State", "Server", "Host", ">Took"]);
        for ((project, name, size, to), (_, operation)) in VOLUMES.into_iter().zip(&plugged) {
            let volumes = self.project(project)?.volumes().await.doing(|| "list volumes")?;
            let volume = volumes.iter().find(|volume| volume.name.as_str() == name);
            let server = instance(servers, project, to)?;
            rows.add_row([
                format!("{project}/{name}"),
                size.to_string(),
                volume.map_or(VolumeState::Error, |volume| volume.state).to_string(),
                format!("{project}/{to}"),
                server.host.as_ref().map_or_else(String::new, ToString::to_string),
                time(took(operation)),
            ]);
        }
        self.screen.table(&rows);
        Ok(())
    }

    async fn lead_addresses(&mut self, servers: &BTreeMap<String, Server>) -> Result<(), Failure> {
        self.screen.section("Floating IPs", "Taken from the pool and led to servers.");
        let mut led: Vec<(IpAddr, String)> = Vec::new();
        let mut asked = Vec::new();
        for (project, name) in PUBLISHED {
            let server = instance(servers, project, name)?;
            let project = self.project(project)?;
            let request = self.request(format_args!("floating-ip-for-{name}"))?;
            let address = project.allocate_floating_ip(request, &plan::POOL.parse()?).await;
            let address = address.doing(|| format!("take a floating IP for {name}"))?;
            let request = self.request(format_args!("lead-to-{name}"))?;
            let accepted =
                project.associate_floating_ip(request, address, server.instance.id).await;
            led.push((address, format!("{}/{name}", project.id())));
            asked.push(pending(format!("lead {address} to {name}"), &project, accepted)?);
        }
        let ended = self.wait_for("floating IPs", asked).await?;
        let mut rows = table(&["Floating IP", "Server", "Stands for", "Host", ">Took"]);
        for ((address, path), (_, operation)) in led.iter().zip(&ended) {
            let server = servers.get(path);
            let port = server.and_then(|server| server.ports.first());
            let host = server.and_then(|server| server.host.as_ref());
            rows.add_row([
                address.to_string(),
                path.clone(),
                port.map_or_else(String::new, |port| port.address.to_string()),
                host.map_or_else(String::new, ToString::to_string),
                time(took(operation)),
            ]);
        }
        self.screen.table(&rows);
        Ok(())
    }
}

fn instance<'a>(
    servers: &'a BTreeMap<String, Server>,
    project: &str,
    name: &str,
) -> Result<&'a Server, Failure> {
    let path = format!("{project}/{name}");
    servers.get(&path).ok_or_else(|| Failure::Missing { what: format!("server {path}") })
}
