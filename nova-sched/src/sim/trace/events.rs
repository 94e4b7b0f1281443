//! Rows made of events: what comes and what goes.

use std::iter::Peekable;

use nova_core::domain::{GiB, MiB, Vcpus};

use super::sort::{Record, SortOptions, Sorted};
use super::{BadRow, Rows, TraceError, TraceRow};

/// Something comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) line: u64,
    /// What tells VMs apart: a number, or two.
    pub(super) of: (u64, u64),
    pub(super) time_s: u64,
    /// What comes; none for something that goes.
    pub(super) comes: Option<Comes>,
}

/// What comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comes {
    /// Its number in the rows.
    pub(super) vm: u64,
    pub(super) vcpus: Vcpus,
    pub(super) memory: MiB,
    pub(super) disk: GiB,
    pub(super) priority: u8,
}

/// What to do with what goes and is not there, and with what comes and is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfits {
    /// Each is a bad row.
    AreBad,
    /// The trace tells more than comings and goings, so these mean nothing.
    MeanNothing,
}

/// Pairs what comes with what goes, and puts the rows in order.
pub(super) fn rows<I>(events: I, misfits: Misfits, sort: &SortOptions) -> Rows
where
    I: Iterator<Item = Result<Event, TraceError>> + Send + 'static,
{
    // While the second sort collects, the first hands out.
    let events = Sorted::new(events, sort.half()).peekable();
    let paired = Paired { events, misfits, there: None };
    Box::new(Sorted::new(paired, sort.half()))
}

impl Record for Event {
    type Key = ((u64, u64), u64);
    const WORDS: usize = 9;

    fn key(&self) -> Self::Key {
        (self.of, self.time_s)
    }

    fn words(&self, words: &mut [u64]) {
        let (vm, vcpus, memory, disk, priority) = self.comes.map_or((0, 0, 0, 0, 0), |comes| {
            let Comes { vm, vcpus, memory, disk, priority } = comes;
            (vm, vcpus.get().into(), memory.get(), disk.get(), u64::from(priority) + 1)
        });
        words.copy_from_slice(&[
            self.line,
            self.of.0,
            self.of.1,
            self.time_s,
            vm,
            vcpus,
            memory,
            disk,
            // 0 is for what goes.
            priority,
        ]);
    }

    fn of_words(words: &[u64]) -> Self {
        let comes = words[8].checked_sub(1).map(|priority| Comes {
            vm: words[4],
            vcpus: Vcpus(words[5] as u32),
            memory: MiB(words[6]),
            disk: GiB(words[7]),
            priority: priority as u8,
        });
        Self { line: words[0], of: (words[1], words[2]), time_s: words[3], comes }
    }
}

/// Rows of events that are sorted by VM and time.
struct Paired<I: Iterator> {
    events: Peekable<I>,
    misfits: Misfits,
    /// What came last and has not gone.
    there: Option<(Event, Comes)>,
}

impl<I: Iterator<Item = Result<Event, TraceError>>> Paired<I> {
    /// What is there as a row.
    fn leave(&mut self, end_s: Option<u64>) -> Option<TraceRow> {
        self.there.take().map(|(event, comes)| TraceRow {
            line: event.line,
            vm: comes.vm,
            arrival_s: event.time_s,
            end_s,
            vcpus: comes.vcpus,
            memory: comes.memory,
            disk: comes.disk,
            priority: comes.priority,
            gang: None,
            cpu_permille: None,
        })
    }
}

impl<I: Iterator<Item = Result<Event, TraceError>>> Iterator for Paired<I> {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // What another VM does says that this one stays.
            let other = match (self.events.peek(), &self.there) {
                (Some(Ok(event)), Some((there, _))) => event.of != there.of,
                (None, Some(_)) => true,
                _ => false,
            };
            if other && let Some(row) = self.leave(None) {
                return Some(Ok(row));
            }
            let event = match self.events.next()? {
                Ok(event) => event,
                Err(error) => return Some(Err(error)),
            };
            let bad = |why| Some(Err(TraceError::BadRow { line: event.line, why }));
            match (event.comes, self.there.is_some(), self.misfits) {
                (Some(comes), false, _) => self.there = Some((event, comes)),
                (None, true, _) => match self.leave(Some(event.time_s)) {
                    Some(row) => return Some(Ok(row)),
                    None => continue,
                },
                (_, _, Misfits::MeanNothing) => {}
                (Some(comes), true, Misfits::AreBad) => {
                    return bad(BadRow::RunsAlready { vm: comes.vm });
                }
                (None, false, Misfits::AreBad) => {
                    return bad(BadRow::IsNotThere { vm: event.of.0 });
                }
            }
        }
    }
}
