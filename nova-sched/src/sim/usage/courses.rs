//! Courses of use: how much of their CPU VMs were seen to use, over time.

use std::path::Path;

use nova_core::domain::Invalid;
use nova_core::seed::Seed;

use crate::sim::range::within;
use crate::sim::superposed;
use crate::sim::trace::{TraceError, TraceRow, is_opendc, planetlab};

/// How much of their CPU VMs used, as samples that are equally far apart. They are held in memory,
/// two bytes a sample.
///
/// ```
/// use nova_sched::sim::Courses;
///
/// let mut courses = Courses::new(300)?;
/// courses.add(1, vec![100, 250, 900])?;
/// assert_eq!(courses.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Courses {
    step_ms: u64,
    /// By the number of their VM, rising.
    courses: Vec<(u64, Box<[u16]>)>,
    samples: usize,
}

/// Which VM follows which course.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Follow {
    /// The one of its own number, from when it came; of a copy of a trace that of the original. Who
    /// has none uses what the trace tells.
    #[default]
    Own,
    /// One that is drawn for it, from a sample on that is drawn too, as is usual where the series
    /// are of other VMs than the trace. Draws follow from the seed and the VM's number: the same
    /// under every policy.
    Drawn,
}

/// What one VM follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Always so many thousandths.
    Constant(u16),
    /// The course at a place, from a sample on.
    Along {
        /// Its place among the courses.
        at: usize,
        /// The sample with which it begins.
        from: usize,
    },
}

impl Courses {
    /// The most samples of all courses together: half a gigabyte.
    pub const SAMPLES_MAX: usize = 1 << 28;

    /// No courses yet, of samples that are so many seconds apart; 1 to a day.
    ///
    /// # Errors
    /// [`Invalid`] for a step out of range.
    pub fn new(step_s: u64) -> Result<Self, Invalid> {
        within("courses.step_s", step_s, 1..=86_400, "1 to 86400")?;
        Ok(Self { step_ms: step_s * 1000, courses: Vec::new(), samples: 0 })
    }

    /// Adds the course of a VM: thousandths of its CPU. After the last sample it begins again.
    ///
    /// # Errors
    /// [`Invalid`] for no samples, one above 1000, a VM that has a course already, or more than
    /// [`SAMPLES_MAX`](Self::SAMPLES_MAX) in all.
    pub fn add(&mut self, vm: u64, permille: Vec<u16>) -> Result<(), Invalid> {
        let wrong = |value: &dyn std::fmt::Display, allowed| {
            Err(Invalid::new("course", value.to_string(), allowed))
        };
        if permille.is_empty() || permille.len() > Self::SAMPLES_MAX - self.samples {
            return wrong(&format!("{} samples", permille.len()), "1 to 2^28 samples in all");
        }
        if let Some(sample) = permille.iter().find(|sample| **sample > TraceRow::PERMILLE_MAX) {
            return wrong(sample, "0 to 1000 thousandths");
        }
        let Err(place) = self.place(vm) else {
            return wrong(&format!("a second one of vm {vm}"), "one for each VM");
        };
        self.samples += permille.len();
        self.courses.insert(place, (vm, permille.into_boxed_slice()));
        Ok(())
    }

    /// The series of a file or folder, be they PlanetLab's or OpenDC's.
    ///
    /// # Errors
    /// [`TraceError`] when they cannot be read, one of them is damaged or empty, or they are
    /// OpenDC's and the feature `parquet` is not built in.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        if !is_opendc(path) {
            return Self::of_planetlab(path);
        }
        #[cfg(not(feature = "parquet"))]
        return Err(TraceError::NotBuilt { format: crate::sim::trace::Format::OpenDc });
        #[cfg(feature = "parquet")]
        Self::of_opendc(path)
    }

    /// The series of OpenDC's folder, each that of the VM of its task's row.
    ///
    /// # Errors
    /// [`TraceError`] when they cannot be read, or a fragment is damaged.
    #[cfg(feature = "parquet")]
    pub fn of_opendc(folder: &Path) -> Result<Self, TraceError> {
        use crate::sim::trace::opendc;
        use crate::sim::trace::sort::SortOptions;

        let mut courses = Self::new(planetlab::SAMPLE_S)?;
        for series in opendc::series(folder, &SortOptions::default())? {
            let planetlab::Series { name, percents } = series?;
            let vm = name.parse().map_err(|_| Invalid::new("series", &name, "a number"))?;
            let permille = percents.into_iter().map(|percent| u16::from(percent) * 10);
            courses.add(vm, permille.collect())?;
        }
        Ok(courses)
    }

    /// The series of PlanetLab, a folder, an archive or one file; the first is that of VM 1, and so
    /// on, as in the rows of such a trace.
    ///
    /// # Errors
    /// [`TraceError`] when it cannot be read, or one of the series is damaged or empty.
    pub fn of_planetlab(path: &Path) -> Result<Self, TraceError> {
        let mut courses = Self::new(planetlab::SAMPLE_S)?;
        for (number, series) in planetlab::series(path)?.enumerate() {
            let percents = series?.percents;
            let permille = percents.into_iter().map(|percent| u16::from(percent) * 10);
            courses.add(number as u64 + 1, permille.collect())?;
        }
        Ok(courses)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.courses.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.courses.is_empty()
    }

    fn place(&self, vm: u64) -> Result<usize, usize> {
        // They mostly come in order.
        if self.courses.last().is_none_or(|(last, _)| *last < vm) {
            return Err(self.courses.len());
        }
        self.courses.binary_search_by_key(&vm, |(vm, _)| *vm)
    }

    /// What a VM follows; none where nothing is known of it.
    pub(crate) fn followed(&self, vm: u64, follow: Follow, seed: &Seed) -> Option<Course> {
        match follow {
            Follow::Own => {
                let at = self.place(superposed::original(vm)).ok()?;
                Some(Course::Along { at, from: 0 })
            }
            Follow::Drawn => {
                let mut chance = seed.child_of("course", vm.into()).chance();
                let at = chance.index(self.courses.len());
                let from = chance.index(self.courses.get(at)?.1.len());
                Some(Course::Along { at, from })
            }
        }
    }

    /// The thousandths of a course after so many milliseconds.
    pub(crate) fn at(&self, at: usize, from: usize, age_ms: u64) -> u16 {
        let Some((_, samples)) = self.courses.get(at) else { return 0 };
        let steps = age_ms / self.step_ms % samples.len() as u64;
        samples[(from + steps as usize) % samples.len()]
    }

    /// The number of the VM of which the course at this place is.
    pub(crate) fn vm_of(&self, at: usize) -> Option<u64> {
        self.courses.get(at).map(|(vm, _)| *vm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_begins_again_after_its_last_sample() {
        let mut courses = Courses::new(10).unwrap();
        courses.add(7, vec![1, 2, 3]).unwrap();
        courses.add(3, vec![9]).unwrap();
        let course = courses.followed(7, Follow::Own, &Seed::new(0)).unwrap();
        assert_eq!(course, Course::Along { at: 1, from: 0 });
        let seen = [0, 9_999, 10_000, 29_999, 30_000, u64::MAX].map(|age| courses.at(1, 0, age));
        assert_eq!(seen[..5], [1, 1, 2, 3, 1]);
        assert_eq!(courses.at(1, 2, 10_000), 1);
        assert_eq!(courses.followed(8, Follow::Own, &Seed::new(0)), None);
        let copy = superposed::NUMBERS * 5 + 3;
        assert_eq!(
            courses.followed(copy, Follow::Own, &Seed::new(0)),
            Some(Course::Along { at: 0, from: 0 })
        );
    }

    #[test]
    fn what_is_no_course_is_refused() {
        let mut courses = Courses::new(1).unwrap();
        courses.add(1, vec![1000]).unwrap();
        for (vm, permille) in [(2, vec![]), (2, vec![0, 1001]), (1, vec![5])] {
            assert!(courses.add(vm, permille).is_err());
        }
        assert_eq!((courses.len(), courses.samples), (1, 1));
        assert!(Courses::new(0).is_err() && Courses::new(86_401).is_err());
    }

    #[test]
    fn what_is_drawn_follows_from_seed_and_number() {
        let mut courses = Courses::new(1).unwrap();
        (0..50).for_each(|vm| courses.add(vm, vec![0; 50]).unwrap());
        let drawn = |seed, vm| courses.followed(vm, Follow::Drawn, &Seed::new(seed)).unwrap();
        assert_eq!(drawn(1, 4), drawn(1, 4));
        let differ =
            |seed, later| (0..20).filter(|vm| drawn(1, *vm) != drawn(seed, vm + later)).count();
        assert!(differ(1, 1) > 15 && differ(2, 0) > 15);
        assert_eq!(Courses::new(1).unwrap().followed(1, Follow::Drawn, &Seed::new(1)), None);
    }
}
