//! Identities: 128 random bits behind one type per kind of thing.
//!
//! An id is never reused and says nothing about what it names. Names, which people choose and
//! which may repeat over time, are in [`name`](crate::domain::name).

use crate::domain::Invalid;
use crate::seed::Chance;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $field:literal;)+) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// Draws a new id.
            pub fn draw(chance: &mut Chance) -> Self {
                Self(uuid::Builder::from_random_bytes(chance.bytes()).into_uuid())
            }

            /// The id with these bits; for tests, replays and simulations that number things.
            pub const fn from_u128(bits: u128) -> Self {
                Self(uuid::Uuid::from_u128(bits))
            }

            /// The bits of this id.
            pub const fn as_u128(self) -> u128 {
                self.0.as_u128()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl std::str::FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                uuid::Uuid::try_parse(text)
                    .map(Self)
                    .map_err(|_| Invalid::new($field, text, "a UUID"))
            }
        }
    )+};
}

ids! {
    /// A compute host.
    HostId, "host id";
    /// A server (VM or container) of a project.
    InstanceId, "instance id";
    /// An image.
    ImageId, "image id";
    /// A network.
    NetworkId, "network id";
    /// A volume.
    VolumeId, "volume id";
    /// A snapshot of a volume.
    SnapshotId, "snapshot id";
    /// A server group.
    ServerGroupId, "server group id";
    /// A security group.
    SecurityGroupId, "security group id";
    /// A host aggregate.
    AggregateId, "aggregate id";
    /// A journalled operation.
    OpId, "operation id";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn an_id_survives_its_text_form() {
        let id = InstanceId::draw(&mut Seed::new(1).chance());
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).ok(), Some(format!("\"{id}\"")));
    }

    #[test]
    fn text_that_is_no_uuid_names_the_field() {
        assert_eq!("x\ny".parse::<HostId>().map_err(|e| e.field), Err("host id"));
    }
}
