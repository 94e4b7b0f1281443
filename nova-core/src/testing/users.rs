//! What users do all day: something that makes sense, mostly.

use std::time::Duration;

use crate::clock::{Clock as _, ClockExt as _, Timestamp};
use crate::cloud::{
    Accepted, Admin, BootSource, GroupSpec, Project, Server, ServerSpec, VolumeSpec,
};
use crate::domain::{
    Action, FlavorName, GiB, GroupPolicy, ImageId, Label, OpId, Peer, PortRange, ProjectId, Reboot,
    SchedulerHints, SecurityGroup, SecurityGroupId, SecurityRule, Traffic, VmState, Volume,
    VolumeSize, VolumeState,
};
use crate::seed::Chance;
use crate::testing::client::Client;

/// A user, with what it needs to know of the cloud.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) client: Client,
    pub(crate) project: ProjectId,
    pub(crate) image: ImageId,
    /// Whether it asks at the same moments as others.
    pub(crate) rush: bool,
    /// Whether its servers come in pairs, and belong to groups.
    pub(crate) pairs: bool,
}

/// Everything a user can see.
struct Sight {
    servers: Vec<Server>,
    volumes: Vec<Volume>,
    floating: Vec<std::net::IpAddr>,
    groups: Vec<crate::domain::ServerGroupId>,
    security_groups: Vec<SecurityGroup>,
    /// Images of its own.
    images: Vec<ImageId>,
}

/// The moments at which everybody asks who is in a rush: full seconds.
const RUSH: u64 = 1_000_000_000;

fn pick<'a, T>(chance: &mut Chance, from: &'a [T]) -> Option<&'a T> {
    from.get(chance.index(from.len()))
}

impl User {
    /// Asks for so many things.
    pub(crate) async fn work(mut self, operations: usize) {
        for _ in 0..operations {
            let think = Duration::from_millis(self.client.chance.below(1500));
            self.client.world.clock.sleep(think).await;
            if self.rush {
                let now = self.client.world.clock.now();
                let second = Timestamp((now.0 / RUSH + 1) * RUSH);
                self.client.world.clock.sleep_until(second).await;
            }
            if let Some(operation) = self.act().await
                && self.client.chance.happens(0.6)
            {
                self.client.wait(operation, Duration::from_secs(20)).await;
            }
        }
    }

    async fn look(&mut self) -> Option<Sight> {
        let project = self.client.handle().await.project(self.project.clone());
        let mine = |image: &crate::domain::Image| image.owner.as_ref() == Some(project.id());
        Some(Sight {
            images: project.images().await.ok()?.iter().filter(|i| mine(i)).map(|i| i.id).collect(),
            servers: project.servers().await.ok()?,
            volumes: project.volumes().await.ok()?,
            floating: project.floating_ips().await.ok()?.iter().map(|f| f.address).collect(),
            groups: project.groups().await.ok()?.iter().map(|group| group.id).collect(),
            security_groups: project.security_groups().await.ok()?,
        })
    }

    /// Does one thing, and tells which operation came of it.
    async fn act(&mut self) -> Option<OpId> {
        let sight = self.look().await?;
        let few = sight.servers.len() < 2;
        let drawn = self.client.chance.below(100);
        match drawn {
            _ if (few || self.pairs) && drawn < 50 => self.create(&sight).await,
            0..20 => self.create(&sight).await,
            20..30 => self.delete(&sight).await,
            30..48 => self.power(&sight).await,
            48..57 => self.change(&sight).await,
            57..60 => self.put_away(&sight).await,
            60..66 => self.create_volume(&sight).await,
            66..76 => self.attach(&sight).await,
            76..82 => self.detach(&sight).await,
            82..85 => self.delete_volume(&sight).await,
            85..93 => self.floating(&sight).await,
            93..96 => self.security(&sight).await,
            _ => self.group(&sight).await,
        }
    }

    /// Asks as this project.
    pub(crate) async fn ask<T: crate::testing::client::Answer, F>(
        &mut self,
        call: impl Fn(Project, crate::domain::RequestId) -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, crate::cloud::ApiError>>,
    {
        let id = self.project.clone();
        self.client.ask(|admin: Admin, request| call(admin.project(id.clone()), request)).await
    }

    async fn create(&mut self, sight: &Sight) -> Option<OpId> {
        let chance = &mut self.client.chance;
        let flavor = if chance.happens(0.8) { "small" } else { "large" };
        let volumes = sight.volumes.iter().filter(|v| v.state == VolumeState::Available);
        let bootable: Vec<_> = volumes.filter(|v| v.image.is_some()).map(|v| v.id).collect();
        let boot: BootSource = match pick(chance, &bootable) {
            // Of a pair on one volume, the second would be refused.
            Some(volume) if chance.happens(0.5) && !self.pairs => (*volume).into(),
            _ => self.image.into(),
        };
        let mut spec = ServerSpec::new("server".parse().ok()?, flavor.parse().ok()?, boot);
        if self.pairs && sight.groups.is_empty() {
            return self.group(sight).await;
        }
        if self.pairs || chance.happens(0.5) {
            spec.group = pick(chance, &sight.groups).copied();
        }
        if chance.happens(0.1)
            && let Some(other) = pick(chance, &sight.servers)
        {
            let other = [other.instance.id].into();
            let mut hints = SchedulerHints::default();
            match chance.happens(0.5) {
                true => hints.same_host = other,
                false => hints.different_host = other,
            }
            spec = spec.with_hints(hints);
        }
        if chance.happens(0.2) {
            spec = spec.with_floating_ip("public".parse().ok()?);
        }
        let impatient = chance.happens(0.12);
        if self.pairs {
            self.ask(|project, request| {
                let spec = spec.clone();
                async move { project.create_server(request, &spec).await }
            })
            .await?;
        }
        let made = self
            .ask(|project, request| {
                let spec = spec.clone();
                async move { project.create_server(request, &spec).await }
            })
            .await?;
        if impatient {
            let wait = Duration::from_millis(self.client.chance.below(400));
            self.client.world.clock.sleep(wait).await;
            let gone = self
                .ask(async |project, request| project.delete_server(request, made.id).await)
                .await;
            return gone.map(|gone: Accepted<_>| gone.operation);
        }
        Some(made.operation)
    }

    async fn delete(&mut self, sight: &Sight) -> Option<OpId> {
        let server = pick(&mut self.client.chance, &sight.servers)?.instance.id;
        let gone =
            self.ask(async |project, request| project.delete_server(request, server).await).await;
        gone.map(|gone| gone.operation)
    }

    async fn power(&mut self, sight: &Sight) -> Option<OpId> {
        let chance = &mut self.client.chance;
        let server = &pick(chance, &sight.servers)?.instance;
        let all = [
            Action::Start,
            Action::Stop,
            Action::Reboot(Reboot::Soft),
            Action::Reboot(Reboot::Hard),
            Action::Pause,
            Action::Unpause,
            Action::Suspend,
            Action::Resume,
        ];
        let sensible: Vec<Action> =
            all.into_iter().filter(|a| a.is_allowed(server.state, server.task)).collect();
        let action = match chance.happens(0.1) {
            true => *pick(chance, &all)?,
            false => *pick(chance, &sensible)?,
        };
        let id = server.id;
        let accepted = self
            .ask(async |project, request| match action {
                Action::Start => project.start(request, id).await,
                Action::Stop => project.stop(request, id).await,
                Action::Pause => project.pause(request, id).await,
                Action::Unpause => project.unpause(request, id).await,
                Action::Suspend => project.suspend(request, id).await,
                Action::Resume => project.resume(request, id).await,
                Action::Reboot(how) => project.reboot(request, id, how).await,
                _ => project.delete_server(request, id).await,
            })
            .await;
        accepted.map(|accepted| accepted.operation)
    }

    /// Resizes a server and confirms or reverts it, rebuilds it, or takes an image of it.
    async fn change(&mut self, sight: &Sight) -> Option<OpId> {
        let chance = &mut self.client.chance;
        let server = &pick(chance, &sight.servers)?.instance;
        let (id, image) = (server.id, self.image);
        let large = server.flavor.name().as_str() == "large";
        let drawn = chance.below(3);
        if server.state == VmState::Resized {
            let keep = chance.happens(0.5);
            let call = async |project: Project, request| match keep {
                true => project.confirm_resize(request, id).await,
                false => project.revert_resize(request, id).await,
            };
            return self.ask(call).await.map(|accepted| accepted.operation);
        }
        match drawn {
            0 => {
                let flavor: FlavorName = if large { "small" } else { "large" }.parse().ok()?;
                let call = |project: Project, request| {
                    let flavor = flavor.clone();
                    async move { project.resize_server(request, id, &flavor).await }
                };
                self.ask(call).await.map(|accepted| accepted.operation)
            }
            1 => {
                let call = async |project: Project, request| {
                    project.rebuild_server(request, id, image).await
                };
                self.ask(call).await.map(|accepted| accepted.operation)
            }
            _ => {
                if sight.images.len() > 1 {
                    let old = *pick(&mut self.client.chance, &sight.images)?;
                    self.ask(async |project, request| project.delete_image(request, old).await)
                        .await;
                }
                let name = Label::new("image").ok()?;
                let call = |project: Project, request| {
                    let name = name.clone();
                    async move { project.snapshot_server(request, id, &name).await }
                };
                self.ask(call).await.map(|accepted| accepted.operation)
            }
        }
    }

    /// Shelves a server or rescues it, and takes back what was done so.
    async fn put_away(&mut self, sight: &Sight) -> Option<OpId> {
        let chance = &mut self.client.chance;
        let away = |server: &&Server| {
            matches!(server.instance.state, VmState::ShelvedOffloaded | VmState::Rescued)
        };
        let away: Vec<&Server> = sight.servers.iter().filter(away).collect();
        let server = match pick(chance, &away) {
            Some(server) if chance.happens(0.7) => &server.instance,
            _ => &pick(chance, &sight.servers)?.instance,
        };
        let (id, state, shelve) = (server.id, server.state, chance.happens(0.5));
        let call = async |project: Project, request| match state {
            VmState::ShelvedOffloaded => project.unshelve_server(request, id).await,
            VmState::Rescued => project.unrescue_server(request, id).await,
            _ if shelve => project.shelve_server(request, id).await,
            _ => project.rescue_server(request, id, None).await,
        };
        self.ask(call).await.map(|accepted| accepted.operation)
    }

    async fn create_volume(&mut self, sight: &Sight) -> Option<OpId> {
        let size = VolumeSize::new(GiB(1 + self.client.chance.below(3))).ok()?;
        let mut spec = VolumeSpec::new(Label::new("volume").ok()?, size);
        if self.client.chance.happens(0.5) {
            let own = pick(&mut self.client.chance, &sight.images).copied();
            spec = spec.with_image(own.unwrap_or(self.image));
        }
        let made = self
            .ask(|project, request| {
                let spec = spec.clone();
                async move { project.create_volume(request, &spec).await }
            })
            .await;
        made.map(|made| made.operation)
    }

    /// Volumes in one of these states.
    fn volume(&mut self, sight: &Sight, states: &[VolumeState]) -> Option<crate::domain::VolumeId> {
        let fitting: Vec<_> =
            sight.volumes.iter().filter(|v| states.contains(&v.state)).map(|v| v.id).collect();
        pick(&mut self.client.chance, &fitting).copied()
    }

    async fn attach(&mut self, sight: &Sight) -> Option<OpId> {
        let Some(volume) = self.volume(sight, &[VolumeState::Available]) else {
            return self.create_volume(sight).await;
        };
        let server = pick(&mut self.client.chance, &sight.servers)?.instance.id;
        let call =
            async |project: Project, request| project.attach_volume(request, server, volume).await;
        self.ask(call).await.map(|accepted| accepted.operation)
    }

    async fn detach(&mut self, sight: &Sight) -> Option<OpId> {
        let volume = self.volume(sight, &[VolumeState::InUse])?;
        let call = async |project: Project, request| project.detach_volume(request, volume).await;
        self.ask(call).await.map(|accepted| accepted.operation)
    }

    async fn delete_volume(&mut self, sight: &Sight) -> Option<OpId> {
        let volume = self.volume(sight, &[VolumeState::Available, VolumeState::Error])?;
        let call = async |project: Project, request| project.delete_volume(request, volume).await;
        self.ask(call).await.map(|accepted| accepted.operation)
    }

    async fn floating(&mut self, sight: &Sight) -> Option<OpId> {
        let chance = &mut self.client.chance;
        let address = pick(chance, &sight.floating).copied();
        let server = pick(chance, &sight.servers).map(|server| server.instance.id);
        match (chance.below(10), address, server) {
            (0..5, Some(address), Some(server)) => {
                let call = async |project: Project, request| {
                    project.associate_floating_ip(request, address, server).await
                };
                self.ask(call).await.map(|accepted| accepted.operation)
            }
            (5..7, Some(address), _) => {
                let call = async |project: Project, request| {
                    project.disassociate_floating_ip(request, address).await
                };
                self.ask(call).await.map(|accepted| accepted.operation)
            }
            (7, Some(address), _) => {
                let call = async |project: Project, request| {
                    project.release_floating_ip(request, address).await
                };
                self.ask(call).await;
                None
            }
            _ => {
                let pool = "public".parse().ok()?;
                self.ask(|project, request| {
                    let pool = std::clone::Clone::clone(&pool);
                    async move { project.allocate_floating_ip(request, &pool).await }
                })
                .await;
                None
            }
        }
    }

    async fn group(&mut self, sight: &Sight) -> Option<OpId> {
        if sight.groups.len() > 2 {
            let group = *pick(&mut self.client.chance, &sight.groups)?;
            let call = async |project: Project, request| project.delete_group(request, group).await;
            self.ask(call).await;
            return None;
        }
        let policies = [
            GroupPolicy::Affinity,
            GroupPolicy::AntiAffinity,
            GroupPolicy::AntiAffinity,
            GroupPolicy::SoftAntiAffinity,
        ];
        let policy = *pick(&mut self.client.chance, &policies)?;
        let spec = GroupSpec::new(Label::new("group").ok()?, policy);
        self.ask(|project, request| {
            let spec = spec.clone();
            async move { project.create_group(request, &spec).await }
        })
        .await;
        None
    }

    /// Puts a server into security groups, changes the rules of one, or makes one.
    async fn security(&mut self, sight: &Sight) -> Option<OpId> {
        let chance = &mut self.client.chance;
        let group = pick(chance, &sight.security_groups)?;
        let other = pick(chance, &sight.security_groups)?;
        let (id, few) = (group.id, sight.security_groups.len() < 3);
        let server = pick(chance, &sight.servers).map(|server| server.instance.id);
        match (chance.below(10), server) {
            (0..4, Some(server)) => {
                let groups = [id, other.id].into();
                let call = |project: Project, request| {
                    let groups = std::clone::Clone::clone(&groups);
                    async move { project.set_security_groups(request, server, &groups).await }
                };
                self.ask(call).await.map(|accepted| accepted.operation)
            }
            (4..8, _) => {
                let known = pick(chance, &Vec::from_iter(&group.rules)).map(|rule| (*rule).clone());
                let from = Peer::Group(other.id);
                let new = SecurityRule::new(Traffic::Tcp(PortRange::one(80)), from).ok()?;
                let (rule, add) = match known.filter(|_| chance.happens(0.5)) {
                    Some(rule) => (rule, false),
                    None => (new, true),
                };
                self.security_rule(id, &rule, add).await
            }
            _ if few => {
                let name = Label::new("group").ok()?;
                let call = |project: Project, request| {
                    let name = name.clone();
                    async move { project.create_security_group(request, &name).await }
                };
                self.ask(call).await;
                None
            }
            _ => {
                let call = async |project: Project, request| {
                    project.delete_security_group(request, id).await
                };
                self.ask(call).await;
                None
            }
        }
    }

    async fn security_rule(
        &mut self,
        id: SecurityGroupId,
        rule: &SecurityRule,
        add: bool,
    ) -> Option<OpId> {
        let call = |project: Project, request| {
            let rule = rule.clone();
            async move {
                match add {
                    true => project.add_security_rule(request, id, &rule).await,
                    false => project.remove_security_rule(request, id, &rule).await,
                }
            }
        };
        self.ask(call).await.map(|accepted| accepted.operation)
    }

    /// Gives everything back. True when there is nothing left.
    pub(crate) async fn clean(&mut self) -> bool {
        let Some(sight) = self.look().await else { return false };
        let Sight { servers, volumes, floating, groups, security_groups, images } = &sight;
        for server in servers.iter().map(|server| server.instance.id) {
            self.ask(async |project, request| project.delete_server(request, server).await).await;
        }
        if !servers.is_empty() {
            return false;
        }
        for address in floating.iter().copied() {
            self.ask(async |project, request| project.release_floating_ip(request, address).await)
                .await;
        }
        for volume in volumes.iter().map(|volume| volume.id) {
            self.ask(async |project, request| project.delete_volume(request, volume).await).await;
        }
        for group in groups.iter().copied() {
            self.ask(async |project, request| project.delete_group(request, group).await).await;
        }
        for image in images.iter().copied() {
            self.ask(async |project, request| project.delete_image(request, image).await).await;
        }
        // The default group stays, as it was. Rules of groups that name each other go first.
        for group in security_groups {
            let wanted = match group.is_default() {
                true => SecurityGroup::default_of(&self.project).rules,
                false => std::collections::BTreeSet::new(),
            };
            let id = group.id;
            for rule in wanted.symmetric_difference(&group.rules).cloned().collect::<Vec<_>>() {
                self.security_rule(id, &rule, wanted.contains(&rule)).await;
            }
        }
        let own = security_groups.iter().filter(|group| !group.is_default());
        let security: Vec<_> = own.map(|group| group.id).collect();
        for id in security.iter().copied() {
            self.ask(async |project, request| project.delete_security_group(request, id).await)
                .await;
        }
        let left = [volumes.len(), floating.len(), groups.len(), security.len(), images.len()];
        left.iter().all(|left| *left == 0)
    }
}
