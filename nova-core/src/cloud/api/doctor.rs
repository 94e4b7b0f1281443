//! Examining a cloud while it works.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::cloud::api::Admin;
use crate::cloud::error::ApiError;
use crate::cloud::order::{Listing, Question};
use crate::doctor::{Checkup, Finding, Snapshot, examine};
use crate::domain::{HostId, Liveness};
use crate::port::{MessageBusExt as _, Topic};

/// A host that does not say within this time what runs on it is not waited for.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Hosts that are asked at the same time.
const ASKED_MAX: usize = 64;

/// How often the outside is looked at before what seems wrong with it is believed. Hosts, volumes
/// and images cannot be seen at the same moment as the records; what is in between is over at the
/// next look, what is wrong stays.
const LOOKS_MAX: u32 = 4;

impl Admin {
    /// Examines the whole cloud: all records at one moment, the guests of every host that
    /// answers, the volumes and the images' bytes. Nothing is changed.
    ///
    /// A finding within the records counts at once. One that concerns hosts, volumes or bytes counts
    /// when it is seen again and again, since those go on while they are being looked at. Hosts
    /// that do not answer soon are listed as such.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn doctor(&self) -> Result<Checkup, ApiError> {
        let mut suspects: Option<BTreeSet<Finding>> = None;
        let mut look = 0;
        loop {
            look += 1;
            let records = Snapshot::read(&*self.door.ports.store).await?;
            let mut snapshot = records.clone();
            let unasked = self.look_at_hosts(&mut snapshot).await?;
            // After the hosts: a volume that is plugged in was connected before, and is still
            // unless it has been pulled out since.
            let volumes = self.door.ports.volumes.list().await;
            let volumes = volumes.map(|volumes| snapshot.real_volumes = Some(volumes));
            let images = self.door.ports.images.list().await;
            let images = images.map(|images| snapshot.real_images = Some(images));
            let mut checkup = Checkup::of(&snapshot, &unasked);
            checkup.volumes_unasked = volumes.err().map(|error| error.to_string());
            checkup.images_unasked = images.err().map(|error| error.to_string());
            let inside = examine(&records, checkup.strictness);
            let seen = suspects.as_ref();
            checkup.findings.retain(|finding| {
                inside.contains(finding) || seen.is_none_or(|seen| seen.contains(finding))
            });
            if look == LOOKS_MAX || checkup.findings.iter().all(|f| inside.contains(f)) {
                return Ok(checkup);
            }
            suspects = Some(checkup.findings.into_iter().collect());
        }
    }

    /// Adds what the hosts say, and tells why some of them said nothing.
    async fn look_at_hosts(
        &self,
        snapshot: &mut Snapshot,
    ) -> Result<BTreeMap<HostId, String>, ApiError> {
        let mut unasked = BTreeMap::new();
        let mut live = Vec::new();
        for status in self.hosts().await? {
            match status.liveness {
                Liveness::Up => live.push(status.host.id),
                _ => drop(unasked.insert(status.host.id, "it is down".to_owned())),
            }
        }
        for some in live.chunks(ASKED_MAX) {
            let mut asking = JoinSet::new();
            for host in some.iter().copied() {
                let bus = Arc::clone(&self.door.ports.bus);
                let limit = ANSWER_LIMIT.min(self.door.options.order_limit);
                asking.spawn(async move {
                    let topic = Topic::agent(host);
                    let answer = bus.ask::<_, Listing>(&topic, &Question::Inventory, limit).await;
                    (host, answer.map_err(|error| error.to_string()).and_then(|listing| listing))
                });
            }
            // Nothing cancels them; a host whose question panicked counts as not asked.
            while let Some(answered) = asking.join_next().await {
                match answered {
                    Ok((host, Ok(guests))) => drop(snapshot.guests.insert(host, guests)),
                    Ok((host, Err(reason))) => drop(unasked.insert(host, reason)),
                    Err(_) => {}
                }
            }
        }
        Ok(unasked)
    }
}
