//! What a project may have: quotas, and the server groups that it makes.

use crate::domain::{GroupPolicy, Invalid, Label, ProjectId, Resources, ServerGroupId};

/// A limit on something countable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// No limit.
    Unlimited,
    /// At most so many.
    AtMost(u64),
}

impl Limit {
    /// Whether `wanted` more may join `used`.
    pub fn admits(self, used: u64, wanted: u64) -> bool {
        match self {
            Self::Unlimited => true,
            Self::AtMost(limit) => used.saturating_add(wanted) <= limit,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlimited => f.pad("unlimited"),
            Self::AtMost(limit) => std::fmt::Display::fmt(limit, f),
        }
    }
}

/// Something that a quota limits.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Quantum {
    /// Servers.
    Instances,
    /// Virtual CPUs of all servers.
    Vcpus,
    /// Memory of all servers, in mebibytes.
    Memory,
    /// Floating IPs held.
    FloatingIps,
    /// Volumes.
    Volumes,
    /// Sizes of all volumes, in gibibytes.
    VolumeStorage,
    /// Key pairs.
    KeyPairs,
    /// Server groups.
    ServerGroups,
    /// Security groups.
    SecurityGroups,
    /// Rules of one security group.
    SecurityGroupRules,
}

impl std::fmt::Display for Quantum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Instances => "instances",
            Self::Vcpus => "vcpus",
            Self::Memory => "memory (MiB)",
            Self::FloatingIps => "floating IPs",
            Self::Volumes => "volumes",
            Self::VolumeStorage => "volume storage (GiB)",
            Self::KeyPairs => "key pairs",
            Self::ServerGroups => "server groups",
            Self::SecurityGroups => "security groups",
            Self::SecurityGroupRules => "rules of a security group",
        })
    }
}

/// The limits of a project. The defaults are Nova's.
///
/// Only limits are stored. Usage is counted from the records whenever it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quota {
    /// Servers.
    pub instances: Limit,
    /// Virtual CPUs of all servers.
    pub vcpus: Limit,
    /// Memory of all servers, in mebibytes.
    pub memory: Limit,
    /// Floating IPs.
    pub floating_ips: Limit,
    /// Volumes.
    pub volumes: Limit,
    /// Sizes of all volumes, in gibibytes.
    pub volume_storage: Limit,
    /// Key pairs.
    pub key_pairs: Limit,
    /// Server groups.
    pub server_groups: Limit,
    /// Security groups, the default one among them.
    #[serde(default = "security_groups")]
    pub security_groups: Limit,
    /// Rules of each security group.
    #[serde(default = "security_group_rules")]
    pub security_group_rules: Limit,
}

const fn security_groups() -> Limit {
    Limit::AtMost(10)
}

const fn security_group_rules() -> Limit {
    Limit::AtMost(20)
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            instances: Limit::AtMost(10),
            vcpus: Limit::AtMost(20),
            memory: Limit::AtMost(51_200),
            floating_ips: Limit::AtMost(10),
            volumes: Limit::AtMost(10),
            volume_storage: Limit::AtMost(1000),
            key_pairs: Limit::AtMost(100),
            server_groups: Limit::AtMost(10),
            security_groups: security_groups(),
            security_group_rules: security_group_rules(),
        }
    }
}

impl Quota {
    /// No limit on anything.
    pub const UNLIMITED: Self = Self {
        instances: Limit::Unlimited,
        vcpus: Limit::Unlimited,
        memory: Limit::Unlimited,
        floating_ips: Limit::Unlimited,
        volumes: Limit::Unlimited,
        volume_storage: Limit::Unlimited,
        key_pairs: Limit::Unlimited,
        server_groups: Limit::Unlimited,
        security_groups: Limit::Unlimited,
        security_group_rules: Limit::Unlimited,
    };

    /// The limit of one thing.
    pub const fn limit(&self, quantum: Quantum) -> Limit {
        match quantum {
            Quantum::Instances => self.instances,
            Quantum::Vcpus => self.vcpus,
            Quantum::Memory => self.memory,
            Quantum::FloatingIps => self.floating_ips,
            Quantum::Volumes => self.volumes,
            Quantum::VolumeStorage => self.volume_storage,
            Quantum::KeyPairs => self.key_pairs,
            Quantum::ServerGroups => self.server_groups,
            Quantum::SecurityGroups => self.security_groups,
            Quantum::SecurityGroupRules => self.security_group_rules,
        }
    }

    /// Whether servers of `wanted` in all, `count` of them, may join what is `used`.
    ///
    /// # Errors
    /// [`OverQuota`] for the first thing of which there would be too much.
    pub fn admits_servers(
        &self,
        used: (u64, Resources),
        count: u64,
        wanted: Resources,
    ) -> Result<(), OverQuota> {
        let (instances, used) = used;
        self.admits(Quantum::Instances, instances, count)?;
        self.admits(Quantum::Vcpus, used.vcpus.0.into(), wanted.vcpus.0.into())?;
        self.admits(Quantum::Memory, used.memory.0, wanted.memory.0)
    }

    /// Whether `wanted` more of `quantum` may join `used`.
    ///
    /// # Errors
    /// [`OverQuota`] when not.
    pub fn admits(&self, quantum: Quantum, used: u64, wanted: u64) -> Result<(), OverQuota> {
        let limit = self.limit(quantum);
        if limit.admits(used, wanted) {
            Ok(())
        } else {
            Err(OverQuota { quantum, used, wanted, limit })
        }
    }
}

/// More was asked for than a quota allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("over quota: {wanted} more {quantum} beside {used}, limit {limit}")]
pub struct OverQuota {
    /// Of what.
    pub quantum: Quantum,
    /// How much there is.
    pub used: u64,
    /// How much more was asked for.
    pub wanted: u64,
    /// The limit.
    pub limit: Limit,
}

/// A server group as it is stored. Its members are the servers that name it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServerGroup {
    /// The id.
    pub id: ServerGroupId,
    /// Who owns it.
    pub project: ProjectId,
    /// Its name.
    pub name: Label,
    /// The rule.
    pub policy: GroupPolicy,
    /// How many members one host may have under anti-affinity.
    pub max_per_host: MaxPerHost,
}

/// How many members of a server group one host may have: at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct MaxPerHost(u32);

impl MaxPerHost {
    /// Strict anti-affinity.
    pub const ONE: Self = Self(1);

    /// Checks `count`.
    ///
    /// # Errors
    /// [`Invalid`] for zero.
    pub fn new(count: u32) -> Result<Self, Invalid> {
        if count > 0 {
            Ok(Self(count))
        } else {
            Err(Invalid::new("group.max_per_host", count, "at least 1"))
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for MaxPerHost {
    type Error = Invalid;

    fn try_from(count: u32) -> Result<Self, Invalid> {
        Self::new(count)
    }
}

impl From<MaxPerHost> for u32 {
    fn from(max: MaxPerHost) -> u32 {
        max.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{GiB, MiB, Vcpus};

    #[test]
    fn a_limit_admits_exactly_its_number() {
        assert!(Limit::AtMost(10).admits(9, 1));
        assert!(!Limit::AtMost(10).admits(10, 1));
        assert!(!Limit::AtMost(10).admits(u64::MAX, 1));
        assert!(Limit::Unlimited.admits(u64::MAX, u64::MAX));
    }

    #[test]
    fn the_first_thing_over_quota_is_named() {
        let wanted = Resources { vcpus: Vcpus(21), memory: MiB(1), disk: GiB(0) };
        let over = Quota::default().admits_servers((0, Resources::ZERO), 1, wanted);
        assert_eq!(over.map_err(|o| o.quantum), Err(Quantum::Vcpus));
    }
}
