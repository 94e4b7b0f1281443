//! Sorting by arrival outside of memory.
//!
//! Rows are collected until the bound is reached, sorted, and written to a temporary file as a
//! run; runs are merged while rows are read. Never more than [`RUNS_MAX`] runs of a kind are open:
//! as many are merged into a longer one. The sort is stable, so rows of one second keep the order
//! of the file. Temporary files have no name where the system allows it, and are gone with the
//! process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

use nova_core::domain::{GiB, MiB, Vcpus};

use super::{TraceError, TraceRow};

/// Runs of one length that are kept before they are merged into a longer one.
pub const RUNS_MAX: usize = 16;

/// The buffer of each run that is read.
const BUFFER_BYTES: usize = 32 << 10;

/// How much memory a sort may use, and where its temporary files go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SortOptions {
    /// Bytes of rows that are in memory at once, those that sorting needs for itself with them;
    /// the buffers of runs, some MiB, come on top. A bound so low that not even two rows fit is
    /// raised to two.
    pub memory_bytes: usize,
    /// Where temporary files go; none is where the system puts them.
    pub folder: Option<PathBuf>,
}

impl Default for SortOptions {
    /// 128 MiB in the folder of the system.
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, folder: None }
    }
}

impl SortOptions {
    /// With so much memory.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// With temporary files in this folder.
    #[must_use]
    pub fn with_folder(mut self, folder: PathBuf) -> Self {
        self.folder = Some(folder);
        self
    }

    /// A temporary file that is gone with the process.
    pub(super) fn file(&self) -> io::Result<File> {
        match &self.folder {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        }
    }

    /// For one of two sorts that run at the same time.
    pub(super) fn half(&self) -> Self {
        self.clone().with_memory_bytes(self.memory_bytes / 2)
    }
}

/// The rows in the order of arrival, those of one second in the order in which they are here.
///
/// Everything is read before the first row comes out. Bad rows come out as they are met, so before
/// all others.
pub fn by_arrival<I>(rows: I, options: SortOptions) -> impl Iterator<Item = I::Item> + Send
where
    I: Iterator<Item = Result<TraceRow, TraceError>> + Send,
{
    Sorted::new(rows, options)
}

/// What can be sorted: of one size as bytes, with a key.
pub(super) trait Record: Copy + Send {
    type Key: Ord + Copy + Send;
    const WORDS: usize;
    fn key(&self) -> Self::Key;
    fn words(&self, words: &mut [u64]);
    fn of_words(words: &[u64]) -> Self;
}

impl Record for TraceRow {
    type Key = u64;
    const WORDS: usize = 9;

    fn key(&self) -> u64 {
        self.arrival_s
    }

    fn words(&self, words: &mut [u64]) {
        // Flags say which of the optional values are told, since these have no value to spare.
        let flags = u64::from(self.end_s.is_some()) | u64::from(self.gang.is_some()) << 1;
        let permille = self.cpu_permille.map_or(u64::from(u16::MAX), u64::from);
        words.copy_from_slice(&[
            self.line,
            self.vm,
            self.arrival_s,
            self.end_s.unwrap_or(0),
            self.memory.get(),
            self.disk.get(),
            self.gang.unwrap_or(0),
            u64::from(self.vcpus.get()) << 32 | permille,
            flags << 8 | u64::from(self.priority),
        ]);
    }

    fn of_words(words: &[u64]) -> Self {
        let (flags, permille) = (words[8] >> 8, words[7] as u16);
        Self {
            line: words[0],
            vm: words[1],
            arrival_s: words[2],
            end_s: (flags & 1 != 0).then_some(words[3]),
            vcpus: Vcpus((words[7] >> 32) as u32),
            memory: MiB(words[4]),
            disk: GiB(words[5]),
            priority: words[8] as u8,
            gang: (flags & 2 != 0).then_some(words[6]),
            cpu_permille: (permille != u16::MAX).then_some(permille),
        }
    }
}

/// Records in the order of their keys.
pub(super) struct Sorted<I, T: Record> {
    input: I,
    stage: Stage<T>,
}

enum Stage<T: Record> {
    Collecting(Sorter<T>),
    Memory(std::vec::IntoIter<T>),
    Merging(Merge<T>),
    Ended,
}

impl<I, T: Record> Sorted<I, T> {
    pub(super) fn new(input: I, options: SortOptions) -> Self {
        Self { input, stage: Stage::Collecting(Sorter::new(options)) }
    }
}

impl<I, T> Iterator for Sorted<I, T>
where
    I: Iterator<Item = Result<T, TraceError>>,
    T: Record,
{
    type Item = Result<T, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match &mut self.stage {
                Stage::Collecting(sorter) => match self.input.next() {
                    Some(Ok(record)) => {
                        if let Err(error) = sorter.push(record) {
                            self.stage = Stage::Ended;
                            return Some(Err(TraceError::Sort(error)));
                        }
                    }
                    Some(Err(bad @ TraceError::BadRow { .. })) => return Some(Err(bad)),
                    Some(Err(error)) => {
                        self.stage = Stage::Ended;
                        return Some(Err(error));
                    }
                    None => match sorter.finish() {
                        Ok(stage) => self.stage = stage,
                        Err(error) => {
                            self.stage = Stage::Ended;
                            return Some(Err(TraceError::Sort(error)));
                        }
                    },
                },
                Stage::Memory(records) => return records.next().map(Ok),
                Stage::Merging(merge) => match merge.next() {
                    Ok(record) => return record.map(Ok),
                    Err(error) => {
                        self.stage = Stage::Ended;
                        return Some(Err(TraceError::Sort(error)));
                    }
                },
                Stage::Ended => return None,
            }
        }
    }
}

struct Sorter<T> {
    options: SortOptions,
    records: Vec<T>,
    records_max: usize,
    /// In the order of the input, the longer ones first.
    runs: Vec<Run>,
}

struct Run {
    file: File,
    records: u64,
    /// How often its records were merged.
    level: u32,
}

impl<T: Record> Sorter<T> {
    fn new(options: SortOptions) -> Self {
        // A stable sort needs up to half as much again.
        let records_max = (options.memory_bytes / (size_of::<T>() * 3 / 2)).max(2);
        Self { options, records: Vec::new(), records_max, runs: Vec::new() }
    }

    fn push(&mut self, record: T) -> io::Result<()> {
        if self.records.len() == self.records_max {
            self.spill()?;
        }
        let count = self.records.len();
        if count == self.records.capacity() {
            // By itself it would grow to twice as much, and so past the bound.
            self.records.reserve_exact(count.max(1024).min(self.records_max - count));
        }
        self.records.push(record);
        Ok(())
    }

    /// Makes a run of what is in memory, and longer runs of many short ones.
    fn spill(&mut self) -> io::Result<()> {
        self.records.sort_by_key(T::key);
        let file = self.options.file()?;
        let records = std::mem::take(&mut self.records);
        let mut next = records.iter().copied();
        let run = write(file, || Ok(next.next()), 0)?;
        self.records = records;
        self.records.clear();
        self.runs.push(run);
        while let Some(level) = self.runs.last().map(|run| run.level)
            && self.runs.iter().filter(|run| run.level == level).count() == RUNS_MAX
        {
            let short = self.runs.split_off(self.runs.len() - RUNS_MAX);
            let mut merge = Merge::<T>::new(short)?;
            self.runs.push(write(self.options.file()?, || merge.next(), level + 1)?);
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<Stage<T>> {
        if self.runs.is_empty() {
            self.records.sort_by_key(T::key);
            return Ok(Stage::Memory(std::mem::take(&mut self.records).into_iter()));
        }
        self.spill()?;
        self.records = Vec::new();
        Ok(Stage::Merging(Merge::new(std::mem::take(&mut self.runs))?))
    }
}

/// Writes records as a run.
fn write<T: Record>(
    file: File,
    mut next: impl FnMut() -> io::Result<Option<T>>,
    level: u32,
) -> io::Result<Run> {
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut words = vec![0; T::WORDS];
    let mut records = 0;
    while let Some(record) = next()? {
        record.words(&mut words);
        for word in &words {
            writer.write_all(&word.to_le_bytes())?;
        }
        records += 1;
    }
    let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(Run { file, records, level })
}

/// Several runs as one.
struct Merge<T: Record> {
    runs: Vec<Source<T>>,
    /// The key of the next record of each run; of equal ones the earlier run comes first.
    heads: BinaryHeap<Reverse<(T::Key, usize)>>,
}

struct Source<T> {
    reader: BufReader<File>,
    left: u64,
    head: Option<T>,
}

impl<T: Record> Merge<T> {
    fn new(runs: Vec<Run>) -> io::Result<Self> {
        let mut merge = Self { runs: Vec::new(), heads: BinaryHeap::new() };
        for (number, run) in runs.into_iter().enumerate() {
            let reader = BufReader::with_capacity(BUFFER_BYTES, run.file);
            let mut source: Source<T> = Source { reader, left: run.records, head: None };
            source.advance()?;
            merge.heads.extend(source.head.map(|head| Reverse((head.key(), number))));
            merge.runs.push(source);
        }
        Ok(merge)
    }

    fn next(&mut self) -> io::Result<Option<T>> {
        let Some(Reverse((_, number))) = self.heads.pop() else { return Ok(None) };
        let source = &mut self.runs[number];
        let record = source.head.take();
        source.advance()?;
        self.heads.extend(source.head.map(|head| Reverse((head.key(), number))));
        Ok(record)
    }
}

impl<T: Record> Source<T> {
    fn advance(&mut self) -> io::Result<()> {
        self.head = None;
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let mut words = [0; WORDS_MAX];
        for word in &mut words[..T::WORDS] {
            let mut bytes = [0; 8];
            self.reader.read_exact(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        self.head = Some(T::of_words(&words[..T::WORDS]));
        Ok(())
    }
}

/// No record has more.
const WORDS_MAX: usize = 16;
