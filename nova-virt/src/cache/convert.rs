//! Making an image that a hypervisor starts from out of one that it does not, under limits.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, ClockExt as _};
use nova_core::domain::{ImageContent, ImageFormat, ImageId};
use nova_core::port::ImageError;

use super::fails;
use super::fetch::Part;
use crate::inspect::{Disk, Format, Refusal, inspect};
use crate::tools::{self, Leash};
use crate::{digest, files};

/// What converting an image may take. It needs `qemu-img`, and `setpriv`, `nice`, `ionice` and
/// `prlimit`.
///
/// It is done once on a host, however many guests ask; behind everything else that wants the host's
/// processors and disks; and by a process that ends with whoever wants the image.
///
/// ```
/// use std::time::Duration;
/// use nova_virt::cache::Conversion;
///
/// let quick = Conversion::default().with_time(Duration::from_secs(300));
/// # let _ = quick;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    memory: u64,
    processor_time: Duration,
    time: Duration,
    size_max: u64,
}

impl Default for Conversion {
    /// A gibibyte of memory, ten minutes of processor time, an hour, and disks of up to a tebibyte.
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            processor_time: Duration::from_secs(600),
            time: Duration::from_secs(3600),
            size_max: 1 << 40,
        }
    }
}

impl Conversion {
    /// Lets it address so many bytes of memory.
    #[must_use]
    pub fn with_memory(self, bytes: u64) -> Self {
        Self { memory: bytes, ..self }
    }

    /// Lets it take so much processor time, in whole seconds and at least one.
    #[must_use]
    pub fn with_processor_time(self, processor_time: Duration) -> Self {
        Self { processor_time, ..self }
    }

    /// Lets it take so much time, by the clock of the cache.
    #[must_use]
    pub fn with_time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Takes no image whose disk has more bytes, whatever guests may have.
    #[must_use]
    pub fn with_size_max(self, bytes: u64) -> Self {
        Self { size_max: bytes, ..self }
    }

    pub(super) fn size_max(&self, of_guest: Option<u64>) -> u64 {
        of_guest.map_or(self.size_max, |size| size.min(self.size_max))
    }
}

/// Why an image was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// Nothing is converted there.
    #[error("images of the format {format} are not converted here: raw and qcow2 need not be")]
    Unwanted {
        /// Its format.
        format: Format,
    },
    /// It took too long.
    #[error("its conversion took longer than {allowed:?}")]
    Time {
        /// How long it may take.
        allowed: Duration,
    },
    /// It was too much work.
    #[error("its conversion took more than {allowed:?} of processor time")]
    ProcessorTime {
        /// How much it may take.
        allowed: Duration,
    },
    /// It needed too much memory.
    #[error("its conversion needs more than {allowed} bytes of memory")]
    Memory {
        /// How much it may address.
        allowed: u64,
    },
    /// More was written than its disk can hold.
    #[error("its conversion wrote more than {allowed} bytes")]
    Space {
        /// How much it may write.
        allowed: u64,
    },
    /// The program that converts refused it.
    #[error("its conversion failed: {said}")]
    Failed {
        /// What it said last.
        said: String,
    },
    /// What was made is not what was to be made.
    #[error("what was made of it must not be used")]
    Made(#[source] Refusal),
}

/// What was made of an image.
pub(super) struct Made {
    pub(super) content: ImageContent,
    pub(super) part: Arc<Part>,
}

/// Converts an image that was found to be `disk` into one that hypervisors start from, of at most
/// `room` bytes. Both files go when nobody has them any more.
pub(super) async fn convert(
    id: ImageId,
    disk: Disk,
    from: Arc<Part>,
    into: Arc<Part>,
    room: Option<u64>,
    limits: &Conversion,
    clock: &dyn Clock,
) -> Result<Made, ImageError> {
    let allowed = file_max(disk.virtual_size);
    let space = room.map_or(allowed, |room| room.min(allowed));
    let tool = command(&from, &into, disk.format, space, limits);
    let failed = fails(id, "convert it");
    let leash = Leash::default();
    let collar = leash.collar();
    let parts = (from, into);
    // The files are held until the program has ended, which may be after nobody waits any more:
    // it could make its file again.
    let work = files::off_thread(move || Ok((collar.run(tool).map_err(failed)?, parts)), failed);
    let mut work = std::pin::pin!(work);
    let ended = match clock.within(limits.time, &mut work).await {
        Some(ended) => ended,
        None => {
            leash.let_go();
            // It is as good as over, and what it leaves goes with it.
            let _ = work.await;
            let overrun = ConversionError::Time { allowed: limits.time };
            return Err(failed(io::Error::new(io::ErrorKind::TimedOut, overrun)));
        }
    };
    let ((status, said), (_from, into)) = ended?;
    if !status.success() {
        let overran = overrun(status, &said, space, limits);
        return Err(match overran {
            Some(ConversionError::Space { .. }) if space < allowed => {
                failed(io::ErrorKind::StorageFull.into())
            }
            Some(overrun) => ImageError::Refused { image: id, source: Box::new(overrun) },
            None => unsuccessful(id, status, &said),
        });
    }
    let look = move || {
        let mut file = std::fs::File::open(&into.0).map_err(failed)?;
        let made = inspect(&mut file, Format::Qcow2, Some(disk.virtual_size));
        made.map_err(|refusal| {
            let source = Box::new(ConversionError::Made(refusal));
            ImageError::Refused { image: id, source }
        })?;
        let content = digest::of_file(&into.0).map_err(failed)?;
        Ok(Made { content, part: into })
    };
    files::off_thread(look, failed).await
}

/// What images are converted into.
pub(super) const INTO: ImageFormat = ImageFormat::Qcow2;

/// The word of the program for a format that is converted.
const fn word(format: Format) -> &'static str {
    match format {
        Format::Vhd => "vpc",
        other => other.name(),
    }
}

/// The largest file for a disk of this size: all of it, and the tables that say where it is.
const fn file_max(virtual_size: u64) -> u64 {
    virtual_size.saturating_add(virtual_size / 1024).saturating_add(4 << 20)
}

fn command(from: &Part, into: &Part, format: Format, space: u64, limits: &Conversion) -> Command {
    let seconds = limits.processor_time.as_secs().max(1);
    let limits = [
        format!("--as={}", limits.memory),
        // First it is told, then killed: so it is known what it died of.
        format!("--cpu={seconds}:{}", seconds.saturating_add(1)),
        format!("--fsize={space}"),
        "--core=0".to_owned(),
        "--nofile=64".to_owned(),
    ];
    let mut tool = tools::last("qemu-img", &limits);
    // Both formats are said: nothing is guessed, and nothing else is opened.
    tool.args(["convert", "-q", "-f", word(format), "-O", "qcow2"]).arg(&from.0).arg(&into.0);
    tool
}

/// Signals by which a process dies.
mod signal {
    pub(super) const KILL: i32 = 9;
    pub(super) const CPU: i32 = 24;
    pub(super) const FILE_SIZE: i32 = 25;
}

/// Which limit it has overrun, if it was that.
fn overrun(
    status: ExitStatus,
    said: &str,
    space: u64,
    limits: &Conversion,
) -> Option<ConversionError> {
    let no_memory = [
        "Cannot allocate memory",
        "failed to allocate",
        "could not allocate",
        "qemu_thread_create",
    ];
    match status.signal() {
        Some(signal::CPU) => {
            Some(ConversionError::ProcessorTime { allowed: limits.processor_time })
        }
        Some(signal::FILE_SIZE) => Some(ConversionError::Space { allowed: space }),
        _ if said.contains("File too large") => Some(ConversionError::Space { allowed: space }),
        _ if no_memory.iter().any(|words| said.contains(words)) => {
            Some(ConversionError::Memory { allowed: limits.memory })
        }
        _ => None,
    }
}

/// It failed by itself: for want of what the host has too little of, or because of the image.
fn unsuccessful(id: ImageId, status: ExitStatus, said: &str) -> ImageError {
    let ended = status.to_string();
    let last = said.lines().last().unwrap_or(&ended);
    let said: String = last.chars().filter(|c| !c.is_control()).take(500).collect();
    let error = |kind| fails(id, "convert it")(io::Error::new(kind, said.clone()));
    match () {
        // By somebody else: the host may have had no memory left.
        () if status.signal() == Some(signal::KILL) => error(io::ErrorKind::Interrupted),
        () if last.contains("No space left on device") => error(io::ErrorKind::StorageFull),
        () if last.contains("failed to execute") => error(io::ErrorKind::NotFound),
        () => ImageError::Refused { image: id, source: Box::new(ConversionError::Failed { said }) },
    }
}
