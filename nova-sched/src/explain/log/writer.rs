//! A scheduler that writes its decisions down.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nova_core::clock::Clock;
use nova_core::domain::{
    Aggregate, AggregateId, HostId, HostRow, HostState, HostTable, Invalid, Placement, Refusal,
    RequestSpec, Slot, TableIdentity, TableRevision,
};
use nova_core::port::{NoValidHost, Scheduler};
use nova_core::seed::Seed;

use super::form::{Header, LINE_BYTES_MAX, Line, Question, Said, TABLES_MAX, VERSION};

/// A scheduler that decides as another one does, and writes down every decision; see
/// [the module](super).
///
/// It writes in the thread that asks, all lines of a question with one call of the writer where
/// they are short, and never flushes: a file as it is is best, since what was written before a crash
/// is there then. A writer that may block for long wants a thread of its own behind it.
///
/// Nothing that happens to the log has an influence on an answer. After the first error of the
/// writer nothing is written any more; [`failure`](Self::failure) tells of it, and
/// [`continue_in`](Self::continue_in) goes on elsewhere.
///
/// Of the port's methods `select` and `find` are decisions. What `explain` and the checks are asked
/// is not written down.
pub struct DecisionLog<S, W> {
    scheduler: S,
    clock: Arc<dyn Clock>,
    questions_each: NonZeroU32,
    log: Mutex<Log<W>>,
}

/// The log of a [`DecisionLog`] could not be written.
#[derive(Debug, Clone)]
pub struct LogFailure {
    /// What happened first.
    pub error: Arc<io::Error>,
    /// How many decisions were not written down since.
    pub unlogged: u64,
}

impl<S: Scheduler, W: Write + Send + 'static> DecisionLog<S, W> {
    /// A part of a log has at most so many questions, if nobody says otherwise. At each beginning
    /// all hosts are written down.
    pub const QUESTIONS_EACH: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

    /// Decides as `scheduler`, and writes to `writer`, with times of `clock`.
    pub fn new(scheduler: S, clock: Arc<dyn Clock>, writer: W) -> Self {
        let log = Mutex::new(Log::new(writer));
        Self { scheduler, clock, questions_each: Self::QUESTIONS_EACH, log }
    }

    /// With so many questions in each part of the log.
    #[must_use]
    pub fn with_questions_each(mut self, questions: NonZeroU32) -> Self {
        self.questions_each = questions;
        self
    }

    /// Why the log is not written any more, if it is not.
    pub fn failure(&self) -> Option<LogFailure> {
        self.lock().failure.clone()
    }

    /// Goes on in another file, with a new part, and gives the one so far back, flushed. What failed
    /// before is forgotten.
    ///
    /// # Errors
    /// The writer so far could not be flushed. The log has moved on nevertheless.
    pub fn continue_in(&self, writer: W) -> io::Result<W> {
        let mut log = self.lock();
        let mut before = std::mem::replace(&mut log.writer, writer);
        (log.failure, log.line) = (None, 0);
        drop(log);
        before.flush()?;
        Ok(before)
    }

    /// Ends the log, and gives the writer back, flushed.
    ///
    /// # Errors
    /// What went wrong first, if anything did.
    pub fn finish(self) -> io::Result<W> {
        let mut log = self.log.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(LogFailure { error, .. }) = log.failure {
            return Err(Arc::into_inner(error).unwrap_or_else(|| io::ErrorKind::Other.into()));
        }
        log.writer.flush()?;
        Ok(log.writer)
    }

    fn lock(&self) -> MutexGuard<'_, Log<W>> {
        // A writer that panicked has left a line that is no line; readers notice.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
        placed: Option<&Placement>,
    ) {
        let mut log = self.lock();
        if let Some(failure) = &mut log.failure {
            failure.unlogged += 1;
            return;
        }
        if log.questions >= self.questions_each.get() {
            log.line = 0;
        }
        // Under the lock, so that the times of a log never go back.
        let question = Question {
            table: 0,
            at_ns: self.clock.now(),
            seed,
            request: request.clone(),
            placed: placed.map(|placement| placement.hosts.clone()),
        };
        if let Err(error) = log.ask(hosts, question, &self.scheduler) {
            log.failure = Some(LogFailure { error: Arc::new(error), unlogged: 1 });
        }
    }
}

impl<S: Scheduler, W: Write + Send + 'static> Scheduler for DecisionLog<S, W> {
    fn select(
        &self,
        hosts: &HostTable,
        request: &RequestSpec,
        seed: Seed,
    ) -> Result<Placement, NoValidHost> {
        let answer = self.scheduler.select(hosts, request, seed);
        self.note(hosts, request, seed, answer.as_ref().ok());
        answer
    }

    fn find(&self, hosts: &HostTable, request: &RequestSpec, seed: Seed) -> Option<Placement> {
        let answer = self.scheduler.find(hosts, request, seed);
        self.note(hosts, request, seed, answer.as_ref());
        answer
    }

    fn explain(&self, hosts: &HostTable, request: &RequestSpec) -> Refusal {
        self.scheduler.explain(hosts, request)
    }

    fn check_extra_spec(&self, key: &str, value: &str) -> Result<(), Invalid> {
        self.scheduler.check_extra_spec(key, value)
    }

    fn check_hint(&self, name: &str, words: &[String]) -> Result<(), Invalid> {
        self.scheduler.check_hint(name, words)
    }
}

impl<S: fmt::Display, W> fmt::Display for DecisionLog<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scheduler.fmt(f)
    }
}

impl<S: fmt::Debug, W> fmt::Debug for DecisionLog<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionLog").field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}

/// What is written out at once, at most but for one line.
const CHUNK_BYTES: usize = 256 << 10;

/// What a reader of the log knows by now.
struct Log<W> {
    writer: W,
    buffer: Vec<u8>,
    /// The number of the next line; 0 where a part begins.
    line: u64,
    questions: u32,
    /// By number.
    tables: Vec<Told>,
    aggregates: BTreeMap<AggregateId, Arc<Aggregate>>,
    /// How many questions there were in all.
    asked: u64,
    failure: Option<LogFailure>,
}

/// A table that a reader knows.
struct Told {
    identity: TableIdentity,
    /// Up to where it was told; none when nothing is known in this part of the log.
    revision: Option<TableRevision>,
    by_slot: Vec<Option<HostId>>,
    hosts: usize,
    /// Which question was the last about it.
    asked: u64,
}

impl<W: Write> Log<W> {
    fn new(writer: W) -> Self {
        Self {
            writer,
            buffer: Vec::new(),
            line: 0,
            questions: 0,
            tables: Vec::new(),
            aggregates: BTreeMap::new(),
            asked: 0,
            failure: None,
        }
    }

    fn ask(
        &mut self,
        hosts: &HostTable,
        mut question: Question,
        policy: &dyn fmt::Display,
    ) -> io::Result<()> {
        self.buffer.clear();
        if self.line == 0 {
            // The file may end in the middle of a line that another process was writing.
            self.buffer.push(b'\n');
            let policy = policy.to_string();
            self.say(Said::Log(Header { decisions: VERSION, policy }))?;
            self.questions = 0;
            self.aggregates.clear();
            self.tables.iter_mut().for_each(|table| table.revision = None);
        }
        self.questions += 1;
        self.asked += 1;
        let table = self.table_of(hosts);
        self.tell(hosts, table)?;
        question.table = table as u8;
        self.say(Said::Asked(Box::new(question)))?;
        self.writer.write_all(&self.buffer)
    }

    /// The number of a table, a new one where it has none yet.
    fn table_of(&mut self, hosts: &HostTable) -> usize {
        let known = self.tables.iter().position(|told| told.identity == *hosts.identity());
        if let Some(known) = known {
            return known;
        }
        let told = Told {
            identity: hosts.identity().clone(),
            revision: None,
            by_slot: Vec::new(),
            hosts: 0,
            asked: 0,
        };
        if self.tables.len() < TABLES_MAX {
            self.tables.push(told);
            return self.tables.len() - 1;
        }
        // The one that costs least to be told again; of those, the one that was asked about least
        // lately.
        let cost = |at: &usize| (self.tables[*at].hosts, self.tables[*at].asked);
        let least = (0..TABLES_MAX).min_by_key(cost).unwrap_or(0);
        self.tables[least] = told;
        least
    }

    /// Tells what changed in a table since it was asked about last.
    fn tell(&mut self, hosts: &HostTable, number: usize) -> io::Result<()> {
        let table = number as u8;
        let told = &mut self.tables[number];
        told.by_slot.resize(hosts.slots_end().max(told.by_slot.len()), None);
        let changed = told.revision.and_then(|revision| hosts.changed_since(revision));
        let begins = changed.is_none();
        let mut slots: Vec<Slot> = match changed {
            Some(changed) => changed.collect(),
            None => (0..told.by_slot.len()).map(|slot| Slot(slot as u32)).collect(),
        };
        slots.sort_unstable();
        slots.dedup();
        let mut gone = Vec::new();
        for slot in &slots {
            let now = hosts.at(*slot).map(|row| row.id);
            let before = std::mem::replace(&mut told.by_slot[slot.index()], now);
            // It may have come back into another slot.
            gone.extend(before.filter(|id| Some(*id) != now && hosts.slot(*id).is_none()));
        }
        (told.revision, told.hosts, told.asked) = (Some(hosts.revision()), hosts.len(), self.asked);
        if begins {
            self.say(Said::Table(table))?;
        }
        for host in gone {
            self.say(Said::Gone(table, host))?;
        }
        for row in slots.into_iter().filter_map(|slot| hosts.at(slot)) {
            self.tell_host(table, row)?;
        }
        Ok(())
    }

    fn tell_host(&mut self, table: u8, row: &HostState) -> io::Result<()> {
        for aggregate in &row.aggregates {
            let known = self.aggregates.get(&aggregate.id);
            if known.is_none_or(|known| !Arc::ptr_eq(known, aggregate) && known != aggregate) {
                self.aggregates.insert(aggregate.id, Arc::clone(aggregate));
                self.say(Said::Aggregate(Arc::clone(aggregate)))?;
            }
        }
        self.say(Said::Host(table, Box::new(HostRow::of(row))))
    }

    fn say(&mut self, said: Said) -> io::Result<()> {
        if self.buffer.len() >= CHUNK_BYTES {
            self.writer.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        let begin = self.buffer.len();
        serde_json::to_writer(&mut self.buffer, &Line(self.line, said))?;
        let bytes = self.buffer.len() - begin;
        if bytes > LINE_BYTES_MAX {
            let message = format!("a line of {bytes} bytes; at most {LINE_BYTES_MAX} are read");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.buffer.push(b'\n');
        self.line += 1;
        Ok(())
    }
}
