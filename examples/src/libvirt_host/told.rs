//! What guests find on their config drives: what the metadata service would tell them.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::port::GuestSpec;
use nova_net::metadata::{MetadataSource, Records, answer};
use nova_virt::libvirt::GuestFiles;

/// What guests look for.
const FILES: [&str; 4] = ["meta_data.json", "network_data.json", "user_data", "vendor_data.json"];

/// Joins networks, which know the answers, and hosts, which make the drives: neither knows the
/// other.
#[derive(Debug)]
pub(super) struct Told(pub(super) Arc<Records>);

#[async_trait]
impl GuestFiles for Told {
    async fn files(
        &self,
        guest: &GuestSpec,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, Box<dyn Error + Send + Sync>> {
        let Some(nic) = guest.nics.first() else { return Ok(None) };
        let Some(server) = self.0.about(nic.mac).await? else { return Ok(None) };
        let file = |name: &&str| {
            let path = format!("openstack/latest/{name}");
            let said = answer(&server, &format!("/{path}"))?;
            Some((path, said.body))
        };
        Ok(Some(FILES.iter().filter_map(file).collect()))
    }
}
