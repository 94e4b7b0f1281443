//! Many simulated hosts alike.

use std::path::PathBuf;
use std::sync::Arc;

use nova_core::clock::Clock;
use nova_core::domain::{HostName, Invalid, Resources};
use nova_core::seed::Seed;

use super::{SimHost, SimOptions};
use crate::files::{self, FileError};

/// Hosts of one shape, named after it and numbered from 1: `small-1`, `small-2`.
///
/// ```
/// use nova_core::domain::{GiB, Resources, Vcpus};
/// use nova_virt::Fleet;
///
/// # fn main() -> Result<(), nova_virt::FleetError> {
/// let shape = Resources { vcpus: Vcpus(8), memory: GiB(32).to_mib(), disk: GiB(500) };
/// let hosts = Fleet::new("small", 4, shape).build()?;
/// assert_eq!(hosts[3].name().as_str(), "small-4");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Fleet {
    prefix: String,
    count: u32,
    total: Resources,
    options: SimOptions,
    clock: Option<Arc<dyn Clock>>,
    seed: Seed,
    directory: Option<PathBuf>,
}

impl Fleet {
    /// The most hosts of one fleet.
    pub const COUNT_MAX: u32 = 100_000;

    /// `count` hosts that have `total` each.
    pub fn new(prefix: impl Into<String>, count: u32, total: Resources) -> Self {
        Self {
            prefix: prefix.into(),
            count,
            total,
            options: SimOptions::default(),
            clock: None,
            seed: Seed::new(0),
            directory: None,
        }
    }

    /// Sets how all of them behave.
    #[must_use]
    pub fn with_options(mut self, options: SimOptions) -> Self {
        self.options = options;
        self
    }

    /// Gives all of them this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Gives each of them a child of `seed`.
    #[must_use]
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps each of them in a file of this directory, `<name>.json`, which is made when it is not there.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Makes or opens the hosts, in the order of their numbers.
    ///
    /// # Errors
    /// [`FleetError::Invalid`] for more than [`COUNT_MAX`](Self::COUNT_MAX) hosts or a prefix that
    /// makes no host name; [`FleetError::File`] as [`SimHost::open`].
    pub fn build(self) -> Result<Vec<SimHost>, FleetError> {
        if self.count > Self::COUNT_MAX {
            return Err(Invalid::new("fleet.count", self.count, "at most 100000").into());
        }
        let directory = self.directory.as_deref().map(files::directory).transpose()?;
        (1..=self.count).map(|number| self.host(number, directory.as_ref())).collect()
    }

    fn host(&self, number: u32, directory: Option<&PathBuf>) -> Result<SimHost, FleetError> {
        let name = HostName::new(format!("{}-{number}", self.prefix))?;
        let host = match directory {
            Some(directory) => {
                SimHost::open(directory.join(format!("{name}.json")), name, self.total)?
            }
            None => SimHost::new(name, self.total),
        };
        let host = host.with_options(self.options.clone()).with_seed(self.seed);
        Ok(match &self.clock {
            Some(clock) => host.with_clock(Arc::clone(clock)),
            None => host,
        })
    }
}

/// Why a fleet could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// A value is out of range.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A host's file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_named_and_numbered_and_has_a_limit() {
        let names = |prefix: &str, count| {
            let hosts = Fleet::new(prefix, count, Resources::ZERO).build();
            hosts.map(|hosts| hosts.iter().map(|h| h.name().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(names("big", 2).ok(), Some(vec!["big-1".to_owned(), "big-2".to_owned()]));
        assert!(matches!(names("b g", 1), Err(FleetError::Invalid(e)) if e.field == "host name"));
        assert!(
            matches!(names("x", 100_001), Err(FleetError::Invalid(e)) if e.field == "fleet.count")
        );
    }
}
