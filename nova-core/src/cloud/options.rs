//! Intervals and limits of the orchestration.

use std::time::Duration;

/// How patient the parts of a cloud are. The defaults suit one machine or one rack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CloudOptions {
    /// How often an agent shows that it lives.
    pub beat_interval: Duration,
    /// A host whose agent was silent for so long counts as down. At least three beats.
    pub down_after: Duration,
    /// How long an agent may take for one order before the answer counts as lost.
    pub order_limit: Duration,
    /// How often an agent compares its host with the records, and how often a conductor looks
    /// for operations that nobody works on.
    pub sweep_interval: Duration,
    /// An operation that made no progress for so long is taken over.
    pub takeover_after: Duration,
    /// Operations that one conductor works on at the same time.
    pub operations_max: usize,
    /// Hosts that are tried for one server before it fails (Nova's `max_attempts`).
    pub hosts_tried_max: usize,
    /// How long finished operations and request ids are remembered.
    pub journal_kept: Duration,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_secs(1),
            down_after: Duration::from_secs(5),
            order_limit: Duration::from_secs(60),
            sweep_interval: Duration::from_secs(5),
            takeover_after: Duration::from_secs(90),
            operations_max: 64,
            hosts_tried_max: 3,
            journal_kept: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl CloudOptions {
    /// Agents beat this often; silence of five beats counts as down.
    #[must_use]
    pub fn with_beat_interval(self, interval: Duration) -> Self {
        Self { beat_interval: interval, down_after: interval * 5, ..self }
    }

    /// Agents and conductors sweep this often.
    #[must_use]
    pub fn with_sweep_interval(self, interval: Duration) -> Self {
        Self { sweep_interval: interval, ..self }
    }

    /// An agent may take so long for one order.
    #[must_use]
    pub fn with_order_limit(self, limit: Duration) -> Self {
        Self { order_limit: limit, ..self }
    }

    /// Operations without progress are taken over after so long.
    #[must_use]
    pub fn with_takeover_after(self, time: Duration) -> Self {
        Self { takeover_after: time, ..self }
    }

    /// Finished operations and request ids are remembered for so long.
    #[must_use]
    pub fn with_journal_kept(self, time: Duration) -> Self {
        Self { journal_kept: time, ..self }
    }
}
