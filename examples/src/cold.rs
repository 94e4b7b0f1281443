//! Examining a cloud that nobody runs: its files, as a process that died has left them.
//!
//! Nothing is started and nothing is put right, so that what is found is what was there. A live
//! cloud is examined with `Admin::doctor` instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nova_core::doctor::{Checkup, Snapshot};
use nova_core::domain::{HostName, Resources};
use nova_core::port::{VirtDriver as _, VolumeDriver as _, VolumeError};
use nova_core::store::{RedbStore, Store, StoreError};
use nova_virt::{FileError, FileVolumes, SimHost};

/// Where simulated hosts lie in a data directory.
pub const HOSTS: &str = "hosts";
/// Where volumes lie in a data directory.
pub const VOLUMES: &str = "volumes";

/// A data directory with everything in it, open.
#[derive(Debug)]
#[non_exhaustive]
pub struct Cold {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What was in it and beside it.
    pub snapshot: Snapshot,
    /// What there is to say of it.
    pub checkup: Checkup,
}

/// Why a data directory cannot be examined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColdError {
    /// There is no store in it.
    #[error("{} holds no store", at.display())]
    NoStore {
        /// The directory.
        at: PathBuf,
    },
    /// The store cannot be read.
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    /// The volumes cannot be opened.
    #[error("cannot open the volumes")]
    Files(#[from] FileError),
    /// The volumes cannot be listed.
    #[error("cannot list the volumes")]
    Volumes(#[from] VolumeError),
}

/// Examines a data directory: the records, the guests of each simulated host that has a file
/// there, and the volumes.
///
/// # Errors
/// [`ColdError`]: there is nothing to be examined, or it cannot be read.
pub async fn examine(directory: &Path) -> Result<Cold, ColdError> {
    if !directory.join(RedbStore::FILE_NAME).exists() {
        return Err(ColdError::NoStore { at: directory.to_owned() });
    }
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(directory)?);
    let mut snapshot = Snapshot::read(&*store).await?;
    let mut unasked = BTreeMap::new();
    for host in snapshot.hosts.clone() {
        match guests(directory, &host.name).await {
            Ok(guests) => drop(snapshot.guests.insert(host.id, guests)),
            Err(reason) => drop(unasked.insert(host.id, reason)),
        }
    }
    if directory.join(VOLUMES).exists() {
        let volumes = FileVolumes::at(directory.join(VOLUMES))?.list().await?;
        snapshot = snapshot.with_volumes(volumes);
    }
    let checkup = Checkup::of(&snapshot, &unasked);
    Ok(Cold { store, snapshot, checkup })
}

/// The guests of one simulated host, or why nobody can say.
async fn guests(directory: &Path, name: &HostName) -> Result<Vec<nova_core::port::Guest>, String> {
    let path = directory.join(HOSTS).join(format!("{name}.json"));
    if !path.exists() {
        return Err("it has no file here".to_owned());
    }
    // What it has does not matter to somebody who only looks.
    let host = SimHost::open(path, name.clone(), Resources::ZERO);
    let host = host.map_err(|error| crate::one_line(&error))?;
    host.guests().await.map_err(|error| crate::one_line(&error))
}
