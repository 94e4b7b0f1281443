//! Everything goes, and what had it is as before.

use std::sync::Arc;

use nova_core::cloud::Project;
use nova_core::domain::VolumeState;

use super::Failure;
use super::house::{Doing as _, House, pending};
use super::plan::TENANTS;
use super::show::{count, table};

impl House<'_> {
    /// Deletes servers, addresses, volumes, and then what they were made of. What an interrupted
    /// run has deleted already is not there any more and is not asked for.
    pub(super) async fn delete_everything(&mut self) -> Result<(), Failure> {
        self.screen.section(
            "Deletion",
            "Servers first, also those on the dead host; then what they held; then the ground.",
        );
        self.delete_servers().await?;
        self.bring_hosts_back().await?;
        self.delete_what_projects_have().await?;
        self.show_pools().await?;
        self.delete_the_ground().await
    }

    async fn delete_servers(&mut self) -> Result<(), Failure> {
        let servers = self.servers().await?;
        let mut asked = Vec::new();
        for (path, server) in &servers {
            let project = self.project(server.instance.project.as_str())?;
            let request = self.request(format_args!("delete-{}", server.instance.name))?;
            let accepted = project.delete_server(request, server.instance.id).await;
            asked.push(pending(format!("delete {path}"), &project, accepted)?);
        }
        let ended = self.wait_for("servers", asked).await?;
        self.screen.say(&format!("{} deleted.", count(ended.len(), "server")));
        Ok(())
    }

    /// Gives hosts their power back, and their agents, which remove the guests that nobody owns
    /// any more before anything new may come.
    async fn bring_hosts_back(&mut self) -> Result<(), Failure> {
        let dead: Vec<_> = self
            .machines
            .values()
            .filter(|machine| !machine.driver.is_powered())
            .map(|machine| (machine.spec.clone(), Arc::clone(&machine.driver)))
            .collect();
        for (spec, driver) in dead {
            let (name, orphans) = (spec.name.clone(), driver.guest_count());
            driver.restore_power()?;
            let added = self.cloud.add_host(spec, Arc::clone(&driver)).await;
            added.doing(|| format!("start the agent of {name} again"))?;
            self.screen.say(&format!(
                "{name} has power again; its agent found {} without owner and left {}.",
                count(orphans, "guest"),
                driver.guest_count()
            ));
        }
        for status in self.hosts().await?.iter().filter(|s| s.host.forced_down.is_some()) {
            let name = &status.host.name;
            let request = self.request(format_args!("up-again-{name}"))?;
            let cleared = self.admin.clear_forced_down(request, status.host.id).await;
            cleared.doing(|| format!("declare {name} up"))?;
        }
        Ok(())
    }

    async fn delete_what_projects_have(&mut self) -> Result<(), Failure> {
        let mut asked = Vec::new();
        let (mut addresses, mut others) = (0, 0);
        for project in self.projects()? {
            for volume in project.volumes().await.doing(|| "list volumes")? {
                let doing = format!("delete volume {}", volume.name);
                if let (VolumeState::Deleting, Some(operation)) = (volume.state, volume.operation) {
                    let project = project.clone();
                    asked.push(super::house::Pending { doing, project, operation });
                    continue;
                }
                let request = self.request(format_args!("delete-volume-{}", volume.name))?;
                let accepted = project.delete_volume(request, volume.id).await;
                asked.push(pending(doing, &project, accepted)?);
            }
            for floating in project.floating_ips().await.doing(|| "list floating IPs")? {
                let address = floating.address;
                let request = self.request(format_args!("release-{address}"))?;
                let released = project.release_floating_ip(request, address).await;
                released.doing(|| format!("give {address} back"))?;
                addresses += 1;
            }
            others += self.delete_groups_and_keys(&project).await?;
        }
        let ended = self.wait_for("volumes", asked).await?;
        self.screen.say(&format!(
            "{} deleted, {} given back, {others} server groups, keys and limits gone.",
            count(ended.len(), "volume"),
            count(addresses, "floating IP"),
        ));
        Ok(())
    }

    async fn delete_groups_and_keys(&self, project: &Project) -> Result<usize, Failure> {
        let mut deleted = 0;
        for group in project.groups().await.doing(|| "list server groups")? {
            let request = self.request(format_args!("delete-group-{}", group.name))?;
            let gone = project.delete_group(request, group.id).await;
            gone.doing(|| format!("delete group {}", group.name))?;
            deleted += 1;
        }
        for pair in project.key_pairs().await.doing(|| "list key pairs")? {
            let request = self.request(format_args!("delete-key-{}", pair.name))?;
            let gone = project.delete_key_pair(request, &pair.name).await;
            gone.doing(|| format!("forget key {}", pair.name))?;
            deleted += 1;
        }
        let request = self.request(format_args!("default-quota-{}", project.id()))?;
        let cleared = self.admin.clear_quota(request, project.id()).await;
        cleared.doing(|| format!("put back the limits of {}", project.id()))?;
        Ok(deleted + 1)
    }

    /// How full networks and pools are, while they are still there.
    async fn show_pools(&mut self) -> Result<(), Failure> {
        self.screen.section(
            "Pools",
            "Nobody has an address any more. Those that rest are not handed out before their \
             time has passed: somebody may still be talking to them.",
        );
        let mut rows = table(&["Addresses of", ">Owned", ">Resting", ">Kept for itself"]);
        let mut owned = 0;
        let mut networks = self.admin.network_use().await.doing(|| "look at networks")?;
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        for network in networks {
            owned += network.owned;
            let numbers = [network.owned, network.resting, network.reserved];
            let [a, b, c] = numbers.map(|number| number.to_string());
            rows.add_row([network.name.to_string(), a, b, c]);
        }
        for pool in self.admin.floating_pool_use().await.doing(|| "look at pools")? {
            owned += pool.owned;
            let name = format!("{} (floating IPs)", pool.pool.name);
            rows.add_row([name, pool.owned.to_string(), pool.resting.to_string(), "0".to_owned()]);
        }
        self.screen.table(&rows);
        self.check("no address is owned by anybody", owned == 0);
        Ok(())
    }

    async fn delete_the_ground(&mut self) -> Result<(), Failure> {
        for (name, network) in self.networks().await? {
            let request = self.request(format_args!("delete-network-{name}"))?;
            let deleted = self.admin.delete_network(request, network.id).await;
            deleted.doing(|| format!("delete network {name}"))?;
        }
        for pool in self.admin.floating_pool_use().await.doing(|| "look at pools")? {
            let name = pool.pool.name;
            let request = self.request(format_args!("delete-pool-{name}"))?;
            let deleted = self.admin.delete_floating_pool(request, &name).await;
            deleted.doing(|| format!("delete pool {name}"))?;
        }
        let anybody = self.project(TENANTS[0].name)?;
        for flavor in anybody.flavors().await.doing(|| "list flavors")? {
            let request = self.request(format_args!("delete-flavor-{}", flavor.name()))?;
            let deleted = self.admin.delete_flavor(request, flavor.name()).await;
            deleted.doing(|| format!("delete flavor {}", flavor.name()))?;
        }
        for image in anybody.images().await.doing(|| "list images")? {
            let request = self.request(format_args!("delete-image-{}", image.name))?;
            let deleted = self.admin.delete_image(request, image.id).await;
            deleted.doing(|| format!("delete image {}", image.name))?;
        }
        for aggregate in self.admin.aggregates().await.doing(|| "list aggregates")? {
            let request = self.request(format_args!("delete-aggregate-{}", aggregate.name))?;
            let deleted = self.admin.delete_aggregate(request, aggregate.id).await;
            deleted.doing(|| format!("delete aggregate {}", aggregate.name))?;
        }
        Ok(())
    }
}
