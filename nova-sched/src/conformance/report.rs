//! What was asked, and how much of it was answered alike.

use std::collections::BTreeMap;

/// How many were asked and answered alike.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Asked.
    pub asked: usize,
    /// Answered alike.
    pub passed: usize,
}

/// What was asked of filters, weighers and the whole, and how much of it was answered alike.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Single decisions: who passes, every weight, the order.
    pub decisions: Tally,
    /// Sequences of placements.
    pub sequences: Tally,
    /// The requests in them.
    pub requests: Tally,
    /// Each filter alone, under Nova's name.
    pub filters: BTreeMap<String, Tally>,
    /// The raw weights of each weigher, under Nova's name.
    pub weighers: BTreeMap<String, Tally>,
    /// What was answered otherwise: record, what was asked, both answers.
    pub failures: Vec<String>,
}

impl Tally {
    /// Counts one that was asked.
    pub(super) fn count(&mut self, passed: bool) {
        self.asked += 1;
        self.passed += usize::from(passed);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.passed, self.asked)
    }
}

impl Report {
    /// Whether everything was answered alike.
    pub fn is_alike(&self) -> bool {
        let each = self.filters.values().chain(self.weighers.values());
        let all = each.chain([&self.decisions, &self.sequences, &self.requests]);
        self.failures.is_empty() && all.into_iter().all(|tally| tally.passed == tally.asked)
    }

    /// Counts an answer to `id`, and keeps what was different about it.
    pub(super) fn note<T: PartialEq + std::fmt::Debug>(
        &mut self,
        id: &str,
        what: &str,
        said: &T,
        expected: &T,
    ) -> bool {
        let alike = said == expected;
        if !alike {
            self.failures.push(format!("{id}: {what}: {said:?} instead of {expected:?}"));
        }
        alike
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:<40}{}", "decisions", self.decisions)?;
        writeln!(f, "{:<40}{}", "sequences", self.sequences)?;
        writeln!(f, "{:<40}{}", "requests of sequences", self.requests)?;
        for (name, tally) in self.filters.iter().chain(&self.weighers) {
            writeln!(f, "{name:<40}{tally}")?;
        }
        Ok(())
    }
}
