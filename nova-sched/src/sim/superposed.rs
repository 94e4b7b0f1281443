//! Several traces as one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use nova_core::domain::Invalid;

use super::trace::{TraceError, TraceRow};

/// Several traces as one, each shifted in time: more load of the same kind for a larger cluster.
///
/// Rows come in the order of arrival, those of one second in the order of the traces. The numbers
/// of the VMs of the trace at `n`, from 0 on, are raised by `n` times 2^40, and those of gangs too.
#[derive(Debug)]
pub struct Superposed<I> {
    traces: Vec<(I, u64)>,
    /// The next row of each trace, by arrival.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    rows: Vec<Option<TraceRow>>,
    /// Traces of which the next row is not known yet.
    unread: Vec<usize>,
}

/// Numbers from here on are those of the next trace.
pub(crate) const NUMBERS: u64 = 1 << 40;

/// The number that a VM has in the trace of which this one is, perhaps, a copy.
pub(crate) const fn original(vm: u64) -> u64 {
    vm % NUMBERS
}

impl<I: Iterator<Item = Result<TraceRow, TraceError>>> Superposed<I> {
    /// These traces, each with the seconds by which it comes later.
    pub fn new(traces: impl IntoIterator<Item = (I, u64)>) -> Self {
        let traces: Vec<(I, u64)> = traces.into_iter().collect();
        let rows = traces.iter().map(|_| None).collect();
        let unread = (0..traces.len()).rev().collect();
        Self { traces, next: BinaryHeap::new(), rows, unread }
    }

    /// Reads the next row of one trace.
    fn read(&mut self, at: usize) -> Result<(), TraceError> {
        let (trace, later_s) = &mut self.traces[at];
        let Some(row) = trace.next() else { return Ok(()) };
        // After a bad row there may be more; after any other error the trace says that there is none.
        self.unread.push(at);
        let mut row = row?;
        let (line, vm) = (row.line, row.vm);
        if vm.max(row.gang.unwrap_or(0)) >= NUMBERS {
            let why = Invalid::new("vm", vm, "below 2^40 in traces that are put together").into();
            return Err(TraceError::BadRow { line, why });
        }
        self.unread.pop();
        row.vm += at as u64 * NUMBERS;
        row.gang = row.gang.map(|gang| gang + at as u64 * NUMBERS);
        row.arrival_s = row.arrival_s.saturating_add(*later_s);
        row.end_s = row.end_s.map(|end| end.saturating_add(*later_s));
        self.next.push(Reverse((row.arrival_s, at)));
        self.rows[at] = Some(row);
        Ok(())
    }
}

impl<I: Iterator<Item = Result<TraceRow, TraceError>>> Iterator for Superposed<I> {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(at) = self.unread.pop() {
            if let Err(error) = self.read(at) {
                return Some(Err(error));
            }
        }
        let Reverse((_, at)) = self.next.pop()?;
        self.unread.push(at);
        self.rows[at].take().map(Ok)
    }
}
