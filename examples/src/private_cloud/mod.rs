//! A private cloud from its first host to its last deletion.
//!
//! [`run`] composes a cloud of simulated hosts in one directory and takes it through its
//! [stages](Stage), through the public API only. How far it is stands in the store, so that a run
//! that was interrupted, or that was to [keep](Ending::Keep) its cloud, is continued by the next
//! run on the same directory.
//!
//! Read on in this order: `plan` is what the cloud is to have, as data; `house` puts the parts
//! together; the other files are the stages.

mod attach;
mod boot;
mod check;
mod deletion;
mod failure;
mod ground;
mod house;
mod plan;
mod power;
mod progress;
mod refusal;
mod show;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use nova_core::cloud::ApiError;
use nova_core::domain::Invalid;
use nova_core::port::{ImageError, VolumeError};
use nova_core::store::StoreError;
use nova_virt::FleetError;

pub use progress::Stage;
pub use show::{Screen, Silent, Terminal};
#[cfg(feature = "libvirt")]
pub(crate) use show::{table, time};
pub use summary::{CensusRow, Check, Died, Found, HostRow, Refused, ServerRow, Summary, Timing};

use house::House;

/// How the story is told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where everything is stored. It is made when it is not there.
    pub data_dir: PathBuf,
    /// Where chance starts.
    pub seed: u64,
    /// How it ends.
    pub ending: Ending,
    /// The longest that a simulated host takes for one thing; how long it takes each time, chance
    /// decides.
    pub slowest: Duration,
}

/// How a run ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With the deletion of everything.
    #[default]
    Delete,
    /// With a cloud that is up; the next run on its directory deletes it.
    Keep,
}

impl Options {
    /// In this directory, with seed 1, to the end.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let slowest = Duration::from_millis(40);
        Self { data_dir: data_dir.into(), seed: 1, ending: Ending::Delete, slowest }
    }

    /// Takes chance from here.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Ends so.
    #[must_use]
    pub fn with_ending(self, ending: Ending) -> Self {
        Self { ending, ..self }
    }

    /// Lets a simulated host take at most so long for one thing.
    #[must_use]
    pub fn with_slowest(self, slowest: Duration) -> Self {
        Self { slowest, ..self }
    }
}

/// Why the story could not be told to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The cloud refused something that it should not have.
    #[error("cannot {doing}")]
    Cloud {
        /// What was to be done.
        doing: String,
        /// Why it was not.
        source: Box<ApiError>,
    },
    /// An operation was accepted and failed.
    #[error("cannot {doing}: {fault}")]
    Operation {
        /// What was to be done.
        doing: String,
        /// Why it was not.
        fault: String,
    },
    /// The store cannot be used.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The simulated hosts cannot be used.
    #[error("cannot use the simulated hosts")]
    Hosts(#[from] FleetError),
    /// A directory cannot be used.
    #[error("cannot use the data directory")]
    Directory(#[from] nova_virt::FileError),
    /// The image store cannot be asked.
    #[error("cannot ask the image store")]
    Images(#[from] ImageError),
    /// The volume driver cannot be asked.
    #[error("cannot ask the volume driver")]
    Volumes(#[from] VolumeError),
    /// A value of the plan is out of range.
    #[error(transparent)]
    Plan(#[from] Invalid),
    /// Something that the plan names is not in the cloud.
    #[error("there is no {what}")]
    Missing {
        /// What.
        what: String,
    },
}

/// Tells the story on `screen` and sums it up.
///
/// # Errors
/// [`Failure`]; what was done until then is stored, and the next run on the directory goes on.
pub async fn run(options: &Options, screen: &mut dyn Screen) -> Result<Summary, Failure> {
    let mut house = House::open(options, screen).await?;
    while let Some(stage) = house.next_stage() {
        if stage == Stage::Deletion && options.ending == Ending::Keep {
            break;
        }
        match stage {
            Stage::Ground => house.lay_the_ground().await?,
            Stage::Boot => house.boot_servers().await?,
            Stage::Attach => house.attach_volumes_and_addresses().await?,
            Stage::Power => house.change_power().await?,
            Stage::Refusal => house.ask_for_too_much().await?,
            Stage::Failure => house.lose_a_host().await?,
            Stage::Review => house.review().await?,
            Stage::Deletion => house.delete_everything().await?,
        }
        house.completed(stage).await?;
    }
    house.close(options.ending).await
}
