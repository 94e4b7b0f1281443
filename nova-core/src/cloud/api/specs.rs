//! What users say when they ask for something.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    AggregateMetadata, ExtraSpecs, FlavorName, GiB, GroupPolicy, ImageFormat, ImageId,
    ImageProperties, KeyPairName, Label, MaxPerHost, MiB, NetworkId, PoolName, ProjectId,
    SchedulerHints, SecurityGroupId, ServerGroupId, ServerName, UserData, Vcpus, VolumeId,
    VolumeSize, ZoneName,
};

/// A server to be created.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ServerSpec {
    /// Its name.
    pub name: ServerName,
    /// Its size.
    pub flavor: FlavorName,
    /// What it boots from.
    pub boot: BootSource,
    /// A key that may log in.
    pub key_pair: Option<KeyPairName>,
    /// The zone it must be in.
    pub zone: Option<ZoneName>,
    /// The server group it joins.
    pub group: Option<ServerGroupId>,
    /// Wishes about its host.
    pub hints: SchedulerHints,
    /// One interface in each of these; empty means what the network manager gives by itself.
    pub networks: Vec<NetworkId>,
    /// The security groups that it is in; empty means the project's default group.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// What it is told when it first boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserData>,
    /// A pool from which it is given a floating IP, which is given back with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floating_pool: Option<PoolName>,
}

/// What a server boots from: where its root disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BootSource {
    /// A disk of its host's, made of this image and removed with the server.
    Image(ImageId),
    /// This volume, which is there before the server and stays when the server is deleted. Its
    /// host has no root disk for it.
    Volume(VolumeId),
}

impl From<ImageId> for BootSource {
    fn from(image: ImageId) -> Self {
        Self::Image(image)
    }
}

impl From<VolumeId> for BootSource {
    fn from(volume: VolumeId) -> Self {
        Self::Volume(volume)
    }
}

impl ServerSpec {
    /// The most interfaces of one server.
    pub const NETWORKS_MAX: usize = 16;

    /// The most security groups of one server.
    pub const SECURITY_GROUPS_MAX: usize = 16;

    /// A server without wishes, which boots from an image or from a volume that was
    /// [made of one](VolumeSpec::with_image).
    pub fn new(name: ServerName, flavor: FlavorName, boot: impl Into<BootSource>) -> Self {
        Self {
            name,
            flavor,
            boot: boot.into(),
            key_pair: None,
            zone: None,
            group: None,
            hints: SchedulerHints::default(),
            networks: Vec::new(),
            security_groups: BTreeSet::new(),
            user_data: None,
            floating_pool: None,
        }
    }

    /// Lets this key log in.
    #[must_use]
    pub fn with_key_pair(self, name: KeyPairName) -> Self {
        Self { key_pair: Some(name), ..self }
    }

    /// Must be in this zone.
    #[must_use]
    pub fn with_zone(self, zone: ZoneName) -> Self {
        Self { zone: Some(zone), ..self }
    }

    /// Joins this server group.
    #[must_use]
    pub fn with_group(self, group: ServerGroupId) -> Self {
        Self { group: Some(group), ..self }
    }

    /// Has these wishes.
    #[must_use]
    pub fn with_hints(self, hints: SchedulerHints) -> Self {
        Self { hints, ..self }
    }

    /// Gets an interface in this network, after those it has already.
    #[must_use]
    pub fn with_network(mut self, network: NetworkId) -> Self {
        self.networks.push(network);
        self
    }

    /// Is in this security group, beside those that it is in already. A server for which none is
    /// named is in its project's default group.
    #[must_use]
    pub fn with_security_group(mut self, group: SecurityGroupId) -> Self {
        self.security_groups.insert(group);
        self
    }

    /// Is told this when it first boots.
    #[must_use]
    pub fn with_user_data(self, user_data: UserData) -> Self {
        Self { user_data: Some(user_data), ..self }
    }

    /// Is reached from outside from the beginning: by a floating IP of this pool, which is
    /// allocated with it, counts as its project's, and is given back with it unless it has been
    /// led to another server by then.
    #[must_use]
    pub fn with_floating_ip(self, pool: PoolName) -> Self {
        Self { floating_pool: Some(pool), ..self }
    }
}

/// A flavor to be made. The numbers are checked when it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct FlavorSpec {
    /// Its name.
    pub name: FlavorName,
    /// Virtual CPUs.
    pub vcpus: Vcpus,
    /// Memory.
    pub memory: MiB,
    /// Root disk; zero means the size of the image.
    pub root_disk: GiB,
    /// A second, empty disk.
    pub ephemeral_disk: GiB,
    /// A swap disk.
    pub swap: MiB,
    /// Keys and values that filters read.
    pub extra_specs: BTreeMap<String, String>,
    /// What happens to keys that no filter reads.
    pub unknown_keys: UnknownKeys,
}

/// What happens to an extra spec that no part of the scheduler reads.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownKeys {
    /// It is refused: most likely it is a typing mistake.
    #[default]
    Refuse,
    /// It is kept for somebody else to read.
    Keep,
}

impl FlavorSpec {
    /// A flavor without local disk.
    pub fn new(name: FlavorName, vcpus: Vcpus, memory: MiB) -> Self {
        Self {
            name,
            vcpus,
            memory,
            root_disk: GiB::ZERO,
            ephemeral_disk: GiB::ZERO,
            swap: MiB::ZERO,
            extra_specs: BTreeMap::new(),
            unknown_keys: UnknownKeys::Refuse,
        }
    }

    /// With a root disk.
    #[must_use]
    pub fn with_root_disk(self, size: GiB) -> Self {
        Self { root_disk: size, ..self }
    }

    /// With an empty second disk.
    #[must_use]
    pub fn with_ephemeral_disk(self, size: GiB) -> Self {
        Self { ephemeral_disk: size, ..self }
    }

    /// With a swap disk.
    #[must_use]
    pub fn with_swap(self, size: MiB) -> Self {
        Self { swap: size, ..self }
    }

    /// With one more extra spec.
    #[must_use]
    pub fn with_extra_spec(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra_specs.insert(key.into(), value.into());
        self
    }

    /// Treats keys that no filter reads in this way.
    #[must_use]
    pub fn with_unknown_keys(self, unknown_keys: UnknownKeys) -> Self {
        Self { unknown_keys, ..self }
    }

    /// The flavor, checked.
    pub(crate) fn flavor(&self) -> Result<crate::domain::Flavor, crate::domain::Invalid> {
        Ok(crate::domain::Flavor::new(self.name.clone(), self.vcpus, self.memory)?
            .with_root_disk(self.root_disk)?
            .with_ephemeral_disk(self.ephemeral_disk)?
            .with_swap(self.swap)?
            .with_extra_specs(ExtraSpecs::new(self.extra_specs.clone())?))
    }
}

/// An image to be registered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ImageSpec {
    /// Its name.
    pub name: Label,
    /// The format of its bytes.
    pub format: ImageFormat,
    /// The project that may use it; everybody when absent.
    pub owner: Option<ProjectId>,
    /// The least memory of a flavor that may boot it.
    pub min_memory: MiB,
    /// The least root disk of a flavor that may boot it.
    pub min_disk: GiB,
    /// Properties that filters read.
    pub properties: ImageProperties,
}

impl ImageSpec {
    /// An image for everybody, without demands.
    pub fn new(name: Label, format: ImageFormat) -> Self {
        Self {
            name,
            format,
            owner: None,
            min_memory: MiB::ZERO,
            min_disk: GiB::ZERO,
            properties: ImageProperties::default(),
        }
    }

    /// For one project alone.
    #[must_use]
    pub fn with_owner(self, owner: ProjectId) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Boots only on flavors with at least this much.
    #[must_use]
    pub fn with_minimum(self, memory: MiB, disk: GiB) -> Self {
        Self { min_memory: memory, min_disk: disk, ..self }
    }

    /// With these properties.
    #[must_use]
    pub fn with_properties(self, properties: ImageProperties) -> Self {
        Self { properties, ..self }
    }
}

/// An aggregate to be made, without hosts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct AggregateSpec {
    /// Its name, unique in the cloud.
    pub name: Label,
    /// Keys and values that filters read.
    pub metadata: AggregateMetadata,
}

impl AggregateSpec {
    /// An aggregate without metadata.
    pub fn new(name: Label) -> Self {
        Self { name, metadata: AggregateMetadata::default() }
    }

    /// With these keys and values.
    #[must_use]
    pub fn with_metadata(self, metadata: AggregateMetadata) -> Self {
        Self { metadata, ..self }
    }
}

/// A server group to be made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct GroupSpec {
    /// Its name.
    pub name: Label,
    /// The rule.
    pub policy: GroupPolicy,
    /// How many members one host may have under anti-affinity.
    pub max_per_host: MaxPerHost,
}

impl GroupSpec {
    /// A group with at most one member on a host, where its rule counts.
    pub fn new(name: Label, policy: GroupPolicy) -> Self {
        Self { name, policy, max_per_host: MaxPerHost::ONE }
    }

    /// With up to so many members on a host.
    #[must_use]
    pub fn with_max_per_host(self, max: MaxPerHost) -> Self {
        Self { max_per_host: max, ..self }
    }
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct VolumeSpec {
    /// Its name.
    pub name: Label,
    /// Its size.
    pub size: VolumeSize,
    /// The image that it is made of; empty when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageId>,
}

impl VolumeSpec {
    /// An empty volume of this size.
    pub fn new(name: Label, size: VolumeSize) -> Self {
        Self { name, size, image: None }
    }

    /// With the disk that is in this image, so that a server can boot from it.
    #[must_use]
    pub fn with_image(self, image: ImageId) -> Self {
        Self { image: Some(image), ..self }
    }
}
