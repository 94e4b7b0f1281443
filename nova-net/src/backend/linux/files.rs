//! Files that are whole or not there, and what a host remembers between runs of its agent.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nova_core::store::Revision;

use crate::host::{HostNet, Part};

/// Replaces a file by one with these bytes, whole: a reader sees the old or the new one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// What is known of a host's network beyond what the kernel can tell.
#[derive(Debug, Default, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Memo {
    /// The generation of the plan that was accepted last.
    pub(super) accepted: Revision,
    /// Everything that may be there by our doing. What of it is there, the kernel tells.
    pub(super) parts: Vec<Part>,
    /// Whether the namespace forwarded packets before we did anything; none while nothing is done.
    pub(super) forwarded: Option<bool>,
    /// The same of IPv6.
    #[serde(default)]
    pub(super) forwarded_v6: Option<bool>,
}

/// Where a [`Memo`] is kept. The file is this process's alone, and is read once.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    kept: Option<Memo>,
}

impl Memory {
    pub(super) fn new(folder: &Path) -> Self {
        Self { file: folder.join("network.json"), kept: None }
    }

    /// What was kept; nothing in the beginning.
    pub(super) fn read(&mut self) -> io::Result<Memo> {
        if let Some(memo) = &self.kept {
            return Ok(memo.clone());
        }
        let memo = match std::fs::read(&self.file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memo::default(),
            Err(error) => return Err(error),
        };
        Ok(self.kept.insert(memo).clone())
    }

    pub(super) fn write(&mut self, memo: &Memo) -> io::Result<()> {
        // What is in the file after a failure is read again.
        self.kept = None;
        write_whole(&self.file, &serde_json::to_vec(memo)?)?;
        self.kept = Some(memo.clone());
        Ok(())
    }
}

/// The parts of both, those of `net` where they differ.
pub(super) fn with_all(net: &HostNet, more: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut all: BTreeMap<_, _> =
        net.parts().map(|(id, part)| (id.clone(), part.clone())).collect();
    for part in more {
        all.entry(part.id()).or_insert(part);
    }
    all.into_values().collect()
}
