//! What a guest may ask about itself, in the forms of EC2 and of OpenStack.
//!
//! [`Metadata`] is all there is to know about one server. [`answer`] is a plain function from that
//! and a path to the answer. Who asks is not decided here, and nothing that a guest says is
//! believed: a backend knows the interface that a question came from, and asks a
//! [`MetadataSource`] for the server that has its MAC. [`Records`] is the source that reads a
//! cloud's store.
//!
//! ```
//! # use nova_net::metadata::{Metadata, answer};
//! # fn of(server: &Metadata) {
//! let said = answer(server, "/latest/meta-data/local-ipv4").expect("a server with an address");
//! assert_eq!(said.body, b"10.0.0.2");
//! # }
//! ```

mod ec2;
mod openstack;
mod records;

use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv6Addr};

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use nova_core::domain::{
    FlavorName, ImageId, InstanceId, KeyPairName, Label, Mac, NetworkId, ProjectId, PublicKey,
    ServerName, UserData, ZoneName,
};
use nova_core::store::StoreError;

pub use records::Records;

/// Where guests ask: the same address in every cloud.
pub const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254));

/// The domain of the names of guests, as their DHCP server tells it.
pub(crate) const DOMAIN: &str = "novalocal";

/// What a guest may know about its server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // a source that leaves something out has to say so
pub struct Metadata {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: ServerName,
    /// Whose it is.
    pub project: ProjectId,
    /// Its size.
    pub flavor: FlavorName,
    /// What it was made from.
    pub image: ImageId,
    /// Where it is.
    pub zone: ZoneName,
    /// The key that may log in.
    pub key: Option<(KeyPairName, PublicKey)>,
    /// The names of its security groups.
    pub security_groups: Vec<Label>,
    /// Its interfaces, in order.
    pub interfaces: Vec<Interface>,
    /// What its user wants to tell it.
    pub user_data: Option<UserData>,
}

/// One of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // as above
pub struct Interface {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The network it is in.
    pub network: NetworkId,
    /// The range of that network.
    pub range: IpNetwork,
    /// Its fixed IP.
    pub address: IpAddr,
    /// Its IPv6 address, where it has one; the range has 64 bits.
    pub address_v6: Option<Ipv6Addr>,
    /// The way out.
    pub gateway: Option<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Whether DHCP tells all this, too, and a router advertisement the range of IPv6.
    pub dhcp: bool,
    /// The floating IP that leads to it.
    pub floating: Option<IpAddr>,
}

impl Metadata {
    /// Its name with the domain.
    fn host_name(&self) -> String {
        format!("{}.{DOMAIN}", self.name)
    }
}

/// What a guest is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The bytes.
    pub body: Vec<u8>,
    /// Their media type.
    pub media_type: &'static str,
}

impl Answer {
    fn text(body: impl Into<String>) -> Self {
        Self { body: body.into().into_bytes(), media_type: "text/plain; charset=utf-8" }
    }

    fn json(body: &serde_json::Value) -> Self {
        Self { body: body.to_string().into_bytes(), media_type: "application/json" }
    }

    fn user_data(data: &UserData) -> Self {
        Self { body: data.bytes().to_vec(), media_type: "application/octet-stream" }
    }
}

/// What `server` is answered that asks for `path`; none when there is nothing under it.
///
/// Below `/openstack` it is OpenStack's form, elsewhere EC2's. A slash at the end and several of
/// them in a row mean nothing.
pub fn answer(server: &Metadata, path: &str) -> Option<Answer> {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    match words.split_first() {
        Some((&"openstack", rest)) => openstack::answer(server, rest),
        _ => ec2::answer(server, &words),
    }
}

/// Knows which server an interface belongs to.
#[async_trait]
pub trait MetadataSource: Display + Debug + Send + Sync + 'static {
    /// What there is to know about the server that has this MAC; none when no server has it.
    ///
    /// # Errors
    /// [`StoreError`] when that could not be read.
    async fn about(&self, mac: Mac) -> Result<Option<Metadata>, StoreError>;
}

const _: fn(Box<dyn MetadataSource>) = |source| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(source);
};

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn server() -> Metadata {
        let name = |text: &str| KeyPairName::new(text).unwrap();
        Metadata {
            id: InstanceId::from_u128(5),
            name: ServerName::new("web").unwrap(),
            project: ProjectId::new("shop").unwrap(),
            flavor: FlavorName::new("small").unwrap(),
            image: ImageId::from_u128(6),
            zone: ZoneName::default(),
            key: Some((
                name("laptop"),
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me".to_owned().try_into().unwrap(),
            )),
            security_groups: vec![Label::new("default").unwrap(), Label::new("web").unwrap()],
            interfaces: vec![Interface {
                mac: "fa:16:3e:00:00:02".parse().unwrap(),
                network: NetworkId::from_u128(7),
                range: "10.0.0.0/24".parse().unwrap(),
                address: "10.0.0.2".parse().unwrap(),
                address_v6: None,
                gateway: Some("10.0.0.1".parse().unwrap()),
                dns: vec!["192.0.2.53".parse().unwrap()],
                dhcp: true,
                floating: Some("203.0.113.9".parse().unwrap()),
            }],
            user_data: Some(UserData::new([0xff, 0, b'x']).unwrap()),
        }
    }

    /// The answer to a path, as text.
    #[track_caller]
    pub(super) fn check(server: &Metadata, path: &str, expected: Option<&str>) {
        let said = answer(server, path).map(|answer| String::from_utf8(answer.body).unwrap());
        assert_eq!(said.as_deref(), expected, "{path}");
    }
}
