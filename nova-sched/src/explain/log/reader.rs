//! A log of decisions, question by question.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use nova_core::clock::Timestamp;
use nova_core::domain::{Aggregate, AggregateId, HostId, HostState, HostTable, RequestSpec};
use nova_core::seed::Seed;

use super::form::{BEGINS, LINE_BYTES_MAX, Line, Question, Said, TABLES_MAX, VERSION};

/// A log cannot be read on, or not here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The bytes could not be read. It is the end.
    #[error("cannot read the log")]
    Read(#[source] io::Error),
    /// The first line is none of a log of decisions. It is the end.
    #[error("line {line}: a log of decisions does not begin with {found:?}")]
    NotALog {
        /// The line, counted from 1.
        line: u64,
        /// What is there, cut to a readable length.
        found: String,
    },
    /// A part of the log is of another version. It is the end.
    #[error("line {line}: version {found}; {VERSION} is read")]
    Version {
        /// The line, counted from 1.
        line: u64,
        /// Its version.
        found: u32,
    },
    /// More hosts or aggregates than are held in memory. It is the end.
    #[error("line {line}: more than {max} {what}")]
    TooMany {
        /// The line, counted from 1.
        line: u64,
        /// What there is too much of.
        what: &'static str,
        /// The most that is taken.
        max: u64,
    },
    /// A line cannot be read. Reading may go on: what comes before the next part is left out.
    #[error("line {line}: {why}")]
    BadLine {
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Lines are missing. Reading may go on: what comes before the next part is left out.
    #[error("line {line}: lines are missing before it: it has the number {found}, not {expected}")]
    Missing {
        /// The line, counted from 1.
        line: u64,
        /// The number that it has in its part.
        found: u64,
        /// The number that would follow the one before.
        expected: u64,
    },
    /// The last line has no end: whoever wrote it died meanwhile. What is before it is whole.
    #[error("line {line}: the log ends in the middle of it")]
    Torn {
        /// The line, counted from 1.
        line: u64,
    },
}

impl LogError {
    /// The line that it is about, counted from 1; none when it is about none.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Read(_) => None,
            Self::NotALog { line, .. }
            | Self::Version { line, .. }
            | Self::TooMany { line, .. }
            | Self::BadLine { line, .. }
            | Self::Missing { line, .. }
            | Self::Torn { line } => Some(*line),
        }
    }

    /// Whether nothing more can be read after it, though there may be more.
    pub fn is_the_end(&self) -> bool {
        match self {
            Self::Read(_) | Self::NotALog { .. } | Self::Version { .. } | Self::TooMany { .. } => {
                true
            }
            Self::BadLine { .. } | Self::Missing { .. } | Self::Torn { .. } => false,
        }
    }
}

/// A question of a log, and the table that it was asked about.
#[derive(Debug)]
#[non_exhaustive]
pub struct Asked<'l> {
    /// The line, counted from 1.
    pub line: u64,
    /// When it was asked, by the clock of the cloud.
    pub at: Timestamp,
    /// What the scheduler called itself that was asked.
    pub policy: &'l str,
    /// The hosts as they were. It is the same table as long as the log tells of the same, with its
    /// changes in its own log.
    pub hosts: &'l HostTable,
    /// The hosts that changed, came or left since the question before about this table.
    pub changed: &'l BTreeSet<HostId>,
    /// What was asked for.
    pub request: RequestSpec,
    /// With which chance.
    pub seed: Seed,
    /// A host for each instance; none when not every instance found one.
    pub placed: Option<Vec<HostId>>,
}

/// Reads a log of decisions, a question at a time. It holds the tables, and no more of the log than
/// a line.
#[derive(Debug)]
pub struct LogReader<R> {
    lines: BufReader<R>,
    text: Vec<u8>,
    /// The present line, counted from 1.
    line: u64,
    /// The number that the next line has; none until a part begins.
    next: Option<u64>,
    /// Whether there was a line that is not blank.
    began: bool,
    ended: bool,
    skipped: u64,
    policy: String,
    tables: [Seen; TABLES_MAX],
    aggregates: BTreeMap<AggregateId, Arc<Aggregate>>,
    /// The number of the table that was asked about last.
    last: usize,
    /// Bytes of rows and aggregates.
    held: u64,
}

/// A table as it is by now.
#[derive(Debug, Default)]
struct Seen {
    table: Option<HostTable>,
    changed: BTreeSet<HostId>,
    /// How many bytes the row of each host has, as it is written.
    bytes: BTreeMap<HostId, u64>,
}

/// What a line comes to.
enum Step {
    Goes,
    Asked(Box<Question>),
}

impl Seen {
    fn put(&mut self, row: HostState) {
        if let Some(table) = &mut self.table {
            table.put(row);
        }
    }

    fn remove(&mut self, host: HostId) {
        if let Some(table) = &mut self.table {
            table.remove(host);
        }
    }
}

impl<R: Read> LogReader<R> {
    /// Hosts of one table.
    pub const HOSTS_MAX: usize = 1_000_000;
    /// Bytes of all rows that are held, as they are written, and of all aggregates of a part.
    pub const HELD_BYTES_MAX: u64 = 4 << 30;

    /// Reads from here. Nothing is read yet.
    pub fn new(reader: R) -> Self {
        Self {
            lines: BufReader::with_capacity(256 << 10, reader),
            text: Vec::new(),
            line: 0,
            next: None,
            began: false,
            ended: false,
            skipped: 0,
            policy: String::new(),
            tables: Default::default(),
            aggregates: BTreeMap::new(),
            last: 0,
            held: 0,
        }
    }

    /// How many lines were left out so far, because one before them could not be read or was
    /// missing.
    pub fn skipped_lines(&self) -> u64 {
        self.skipped
    }

    /// The next question; none at the end, and after an error that is the end.
    ///
    /// # Errors
    /// [`LogError`] says at which line, and whether the next call goes on.
    pub fn next_question(&mut self) -> Option<Result<Asked<'_>, LogError>> {
        self.tables[self.last].changed.clear();
        let question = loop {
            match self.advance() {
                Ok(false) => return None,
                Ok(true) => {}
                Err(error) => return Some(Err(error)),
            }
            match self.read_line() {
                Ok(Step::Goes) => {}
                Ok(Step::Asked(question)) => break question,
                Err(error) => {
                    self.next = None;
                    return Some(Err(error));
                }
            }
        };
        self.last = usize::from(question.table);
        let Seen { table: Some(hosts), changed, .. } = &self.tables[self.last] else {
            self.next = None;
            return Some(Err(bad(self.line, "a question about a table that was not told of")));
        };
        let Question { at_ns, seed, request, placed, .. } = *question;
        let (line, policy, at) = (self.line, self.policy.as_str(), at_ns);
        Some(Ok(Asked { line, at, policy, hosts, changed, request, seed, placed }))
    }

    /// Moves on to the next line that is not blank; false at the end.
    fn advance(&mut self) -> Result<bool, LogError> {
        while !self.ended {
            self.text.clear();
            let mut limited = (&mut self.lines).take(LINE_BYTES_MAX as u64 + 1);
            let read = limited.read_until(b'\n', &mut self.text).map_err(|error| {
                self.ended = true;
                LogError::Read(error)
            })?;
            if read == 0 {
                self.ended = true;
                break;
            }
            self.line += 1;
            if self.text.pop_if(|last| *last == b'\n').is_none() && read > LINE_BYTES_MAX {
                self.ended = true;
                let message = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                let error = io::Error::new(io::ErrorKind::InvalidData, message);
                return Err(LogError::Read(error));
            } else if self.text.len() == read {
                // No end of line: there is nothing behind it.
                self.ended = true;
            }
            if !self.text.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_line(&mut self) -> Result<Step, LogError> {
        let line = self.line;
        // A part begins, whatever was before it.
        let begins = self.text.starts_with(BEGINS);
        let first = !std::mem::replace(&mut self.began, true);
        if !begins && self.next.is_none() && !first {
            self.skipped += 1;
            return Ok(Step::Goes);
        }
        let Line(number, said) = match serde_json::from_slice(&self.text) {
            Ok(said) => said,
            Err(_) if self.ended && (!first || begins || BEGINS.starts_with(&self.text)) => {
                return Err(LogError::Torn { line });
            }
            Err(_) if first => {
                self.ended = true;
                let found = String::from_utf8_lossy(&self.text).chars().take(80).collect();
                return Err(LogError::NotALog { line, found });
            }
            Err(error) => return Err(bad(line, error)),
        };
        if let Said::Log(header) = said {
            if header.decisions != VERSION {
                self.ended = true;
                return Err(LogError::Version { line, found: header.decisions });
            }
            self.policy = header.policy;
            self.next = Some(1);
            self.tables = Default::default();
            self.aggregates.clear();
            self.held = 0;
            return Ok(Step::Goes);
        }
        match self.next {
            // It was cut somewhere in the middle.
            None => {
                self.skipped += 1;
                return Ok(Step::Goes);
            }
            Some(expected) if expected != number => {
                return Err(LogError::Missing { line, found: number, expected });
            }
            Some(expected) => self.next = Some(expected.saturating_add(1)),
        }
        self.take(said)
    }

    fn take(&mut self, said: Said) -> Result<Step, LogError> {
        let line = self.line;
        match said {
            Said::Log(_) => {}
            Said::Aggregate(aggregate) => {
                self.aggregates.insert(aggregate.id, aggregate);
                self.held += self.text.len() as u64;
            }
            Said::Table(table) => {
                let seen = self.tables.get_mut(usize::from(table));
                let seen = seen.ok_or_else(|| bad(line, "tables have the numbers 0 to 7"))?;
                self.held -= seen.bytes.values().sum::<u64>();
                *seen = Seen { table: Some(HostTable::default()), ..Seen::default() };
            }
            Said::Host(table, row) => {
                let aggregates = &self.aggregates;
                let row = row.into_state(|id| aggregates.get(&id).cloned());
                let row = row.map_err(|invalid| bad(line, invalid))?;
                let bytes = self.text.len() as u64;
                let seen = self.table(table)?;
                let before = seen.bytes.insert(row.id, bytes).unwrap_or(0);
                seen.changed.insert(row.id);
                seen.put(row);
                self.held = self.held + bytes - before;
            }
            Said::Gone(table, host) => {
                let seen = self.table(table)?;
                let before = seen.bytes.remove(&host).unwrap_or(0);
                seen.remove(host);
                seen.changed.insert(host);
                self.held -= before;
            }
            Said::Asked(question) => {
                let asked = question.request.instances.len();
                let placed = question.placed.as_ref().map_or(asked, Vec::len);
                if asked == 0 || asked != placed {
                    return Err(bad(line, format!("{placed} hosts for {asked} instances")));
                }
                self.table(question.table)?;
                return Ok(Step::Asked(question));
            }
        }
        let told = self.tables.iter().map(|seen| seen.bytes.len().max(seen.changed.len())).max();
        if told > Some(Self::HOSTS_MAX) {
            self.ended = true;
            let (what, max) = ("hosts in a table", Self::HOSTS_MAX as u64);
            return Err(LogError::TooMany { line, what, max });
        }
        if self.held > Self::HELD_BYTES_MAX {
            self.ended = true;
            let (what, max) = ("bytes of hosts and aggregates", Self::HELD_BYTES_MAX);
            return Err(LogError::TooMany { line, what, max });
        }
        Ok(Step::Goes)
    }

    fn table(&mut self, number: u8) -> Result<&mut Seen, LogError> {
        match self.tables.get_mut(usize::from(number)) {
            Some(seen) if seen.table.is_some() => Ok(seen),
            _ => Err(bad(self.line, format!("there is no table {number} here"))),
        }
    }
}

fn bad(line: u64, why: impl ToString) -> LogError {
    // A parser may repeat what it read.
    LogError::BadLine { line, why: why.to_string().chars().take(160).collect() }
}
