//! The course of use, as PlanetLab's series have it.

use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::fragments::{Fragment, Fragments};
use super::{Looked, Used, tables};
use crate::sim::trace::planetlab::{SAMPLE_S, SAMPLES_MAX, Series};
use crate::sim::trace::sort::{SortOptions, Sorted};
use crate::sim::trace::{MemoryUnit, TraceError};

/// The series of a trace's folder, in the order of their tasks' numbers.
///
/// A series has the name of its task's number, the `vm` of its row, and begins when that comes.
/// Each sample is the mean over [`SAMPLE_S`] seconds, weighted by time, in whole percent of the
/// task's capacity; the last may be over less. What has no fragments or no capacity has no series.
/// Fragments are sorted outside of memory.
///
/// After a [`TraceError::BadRow`], whose line is the row of the table of fragments, the next call
/// goes on; after any other error there is nothing more.
///
/// # Errors
/// [`TraceError::Read`] when a table is missing or cannot be read, [`TraceError::NoColumn`] when a
/// column is missing, [`TraceError::TooMany`] for more than [`TASKS_MAX`](super::TASKS_MAX) tasks.
pub fn series(
    folder: &Path,
    sort: &SortOptions,
) -> Result<Box<dyn Iterator<Item = Result<Series, TraceError>> + Send>, TraceError> {
    let (tasks, fragments) = tables(folder)?;
    let Some(fragments) = fragments else {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "there are no fragments");
        return Err(TraceError::Read(missing));
    };
    // The memory of tasks does not matter: one unit is as good as the other.
    let Looked { used, .. } = Looked::at(&tasks, MemoryUnit::KiB, true)?;
    let used = Arc::new(used);
    let known = Arc::clone(&used);
    let fragments = Fragments::new(&fragments)?
        .filter(move |one| one.as_ref().map_or(true, |one| known.contains_key(&one.vm)));
    let sorted = Sorted::new(fragments, sort.clone());
    Ok(Box::new(ByTask { fragments: sorted, used, present: None, ended: false }))
}

/// Makes a series of the fragments of a task.
struct ByTask<I> {
    fragments: I,
    used: Arc<FxHashMap<u64, Used>>,
    present: Option<Course>,
    ended: bool,
}

impl<I: Iterator<Item = Result<Fragment, TraceError>>> Iterator for ByTask<I> {
    type Item = Result<Series, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.fragments.next() {
                Some(Ok(fragment)) => {
                    let other = self.present.take_if(|present| present.vm != fragment.vm);
                    let used = self.used.get(&fragment.vm).copied().unwrap_or_default();
                    let present =
                        self.present.get_or_insert_with(|| Course::new(fragment.vm, used));
                    if let Err(error) = present.add(fragment) {
                        self.ended = true;
                        self.present = None;
                        return Some(Err(error));
                    }
                    if let Some(series) = other.and_then(Course::series) {
                        return Some(Ok(series));
                    }
                }
                Some(Err(error)) => {
                    self.ended = !matches!(error, TraceError::BadRow { .. });
                    return Some(Err(error));
                }
                None => self.ended = true,
            }
        }
        self.present.take().and_then(Course::series).map(Ok)
    }
}

/// The use of one task so far.
struct Course {
    vm: u64,
    capacity_mhz: f64,
    percents: Vec<u8>,
    /// Of the sample that is being filled.
    mhz_ms: f64,
    ms: u64,
}

impl Course {
    const SAMPLE_MS: u64 = SAMPLE_S * 1000;

    fn new(vm: u64, used: Used) -> Self {
        let capacity_mhz = used.capacity_mhz;
        Self { vm, capacity_mhz, percents: Vec::new(), mhz_ms: 0.0, ms: 0 }
    }

    fn add(&mut self, fragment: Fragment) -> Result<(), TraceError> {
        let mut left = fragment.ms;
        while left > 0 {
            if self.percents.len() == SAMPLES_MAX {
                return Err(TraceError::TooMany { what: "samples of a VM", max: SAMPLES_MAX });
            }
            let ms = left.min(Self::SAMPLE_MS - self.ms);
            self.mhz_ms += fragment.mhz.min(self.capacity_mhz) * ms as f64;
            self.ms += ms;
            left -= ms;
            if self.ms == Self::SAMPLE_MS {
                self.sample();
            }
        }
        Ok(())
    }

    fn sample(&mut self) {
        let percent = 100.0 * self.mhz_ms / (self.capacity_mhz * self.ms as f64);
        self.percents.push(percent.round().min(100.0) as u8);
        (self.mhz_ms, self.ms) = (0.0, 0);
    }

    /// None when no time has passed in its fragments.
    fn series(mut self) -> Option<Series> {
        if self.ms > 0 {
            self.sample();
        }
        let Self { vm, percents, .. } = self;
        (!percents.is_empty()).then(|| Series { name: vm.to_string(), percents })
    }
}
