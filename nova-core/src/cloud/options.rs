//! Intervals and limits of the orchestration.

use std::time::Duration;

use crate::domain::{Invalid, PciAliases};

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
    /// Operations that one conductor works on at the same time. Those that wait for a host do not
    /// count: a host that hangs keeps no others waiting.
    pub operations_max: usize,
    /// Orders that one conductor has out at one host at the same time; further ones for this host
    /// wait until one of them is answered or lost.
    pub orders_per_host_max: usize,
    /// Writes that one way in takes into its hands at the same time; more are told
    /// [`Busy`](crate::cloud::ApiError::Busy).
    pub writes_max: usize,
    /// Operations of the whole cloud that have begun and not ended, as far as a way in has heard.
    /// What would begin another is told [`Busy`](crate::cloud::ApiError::Busy).
    pub operations_open_max: usize,
    /// Bytes that one image may have when it is registered; what has more is told
    /// [`TooLarge`](crate::port::ImageError::TooLarge) and not kept.
    pub transfer_limit: u64,
    /// Hosts that are tried for one server before it fails (Nova's `max_attempts`).
    pub hosts_tried_max: usize,
    /// How long finished operations and request ids are remembered.
    pub journal_kept: Duration,
    /// The PCI devices that flavors may ask for, by name. The same everywhere in a cloud.
    pub pci_aliases: PciAliases,
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
            orders_per_host_max: 32,
            writes_max: 4096,
            operations_open_max: 65_536,
            transfer_limit: 1 << 40,
            hosts_tried_max: 3,
            journal_kept: Duration::from_secs(24 * 60 * 60),
            pci_aliases: PciAliases::default(),
        }
    }
}

/// The shortest of all intervals and limits: shorter ones would do nothing but wait.
const TIME_MIN: Duration = Duration::from_millis(1);
/// The longest of them: a hundred years, which every clock here can count to.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// The most operations that one conductor works on at the same time.
const OPERATIONS_MAX: usize = 65_536;
/// The most orders that one conductor has out at one host.
const ORDERS_PER_HOST_MAX: usize = 65_536;
/// The most writes that one way in takes into its hands.
const WRITES_MAX: usize = 65_536;
/// The most operations that have begun and not ended.
const OPERATIONS_OPEN_MAX: usize = 1_048_576;
/// The most hosts that are tried for one server.
const HOSTS_TRIED_MAX: usize = 1024;

impl CloudOptions {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`Invalid`] names the first option that is not, with what is allowed.
    pub fn check(&self) -> Result<(), Invalid> {
        for (field, time) in [
            ("options.beat_interval", self.beat_interval),
            ("options.down_after", self.down_after),
            ("options.order_limit", self.order_limit),
            ("options.sweep_interval", self.sweep_interval),
            ("options.takeover_after", self.takeover_after),
            ("options.journal_kept", self.journal_kept),
        ] {
            if !(TIME_MIN..=TIME_MAX).contains(&time) {
                return Err(Invalid::new(field, format!("{time:?}"), "1 millisecond to 100 years"));
            }
        }
        if self.down_after < self.beat_interval.saturating_mul(3) {
            let allowed = "at least three beat intervals";
            return Err(Invalid::new(
                "options.down_after",
                format!("{:?}", self.down_after),
                allowed,
            ));
        }
        for (field, number, most, allowed) in [
            ("options.operations_max", self.operations_max, OPERATIONS_MAX, "1 to 65536"),
            (
                "options.orders_per_host_max",
                self.orders_per_host_max,
                ORDERS_PER_HOST_MAX,
                "1 to 65536",
            ),
            ("options.writes_max", self.writes_max, WRITES_MAX, "1 to 65536"),
            (
                "options.operations_open_max",
                self.operations_open_max,
                OPERATIONS_OPEN_MAX,
                "1 to 1048576",
            ),
            ("options.hosts_tried_max", self.hosts_tried_max, HOSTS_TRIED_MAX, "1 to 1024"),
        ] {
            if !(1..=most).contains(&number) {
                return Err(Invalid::new(field, number, allowed));
            }
        }
        if self.transfer_limit == 0 {
            return Err(Invalid::new("options.transfer_limit", 0, "1 byte or more"));
        }
        Ok(())
    }

    /// Agents beat this often; silence of five beats counts as down.
    #[must_use]
    pub fn with_beat_interval(self, interval: Duration) -> Self {
        Self { beat_interval: interval, down_after: interval.saturating_mul(5), ..self }
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

    /// One way in takes so many writes into its hands at the same time.
    #[must_use]
    pub fn with_writes_max(self, writes: usize) -> Self {
        Self { writes_max: writes, ..self }
    }

    /// So many operations of the whole cloud have begun and not ended at the same time.
    #[must_use]
    pub fn with_operations_open_max(self, operations: usize) -> Self {
        Self { operations_open_max: operations, ..self }
    }

    /// One image has at most so many bytes when it is registered.
    #[must_use]
    pub fn with_transfer_limit(self, bytes: u64) -> Self {
        Self { transfer_limit: bytes, ..self }
    }

    /// Finished operations and request ids are remembered for so long.
    #[must_use]
    pub fn with_journal_kept(self, time: Duration) -> Self {
        Self { journal_kept: time, ..self }
    }

    /// Flavors may ask for these PCI devices.
    #[must_use]
    pub fn with_pci_aliases(self, aliases: PciAliases) -> Self {
        Self { pci_aliases: aliases, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_out_of_range_is_named() {
        let refused = |change: fn(&mut CloudOptions)| {
            let mut options = CloudOptions::default();
            change(&mut options);
            options.check().err().map(|invalid| invalid.field)
        };
        assert_eq!(refused(|_| ()), None);
        assert_eq!(refused(|o| o.beat_interval = Duration::ZERO), Some("options.beat_interval"));
        assert_eq!(refused(|o| o.order_limit = Duration::MAX), Some("options.order_limit"));
        assert_eq!(refused(|o| o.sweep_interval = Duration::ZERO), Some("options.sweep_interval"));
        assert_eq!(refused(|o| o.takeover_after = Duration::MAX), Some("options.takeover_after"));
        assert_eq!(refused(|o| o.down_after = o.beat_interval * 2), Some("options.down_after"));
        assert_eq!(refused(|o| o.operations_max = 0), Some("options.operations_max"));
        // More permits than a semaphore can have would panic.
        assert_eq!(refused(|o| o.operations_max = usize::MAX), Some("options.operations_max"));
        let per_host = Some("options.orders_per_host_max");
        assert_eq!(refused(|o| o.orders_per_host_max = 0), per_host);
        assert_eq!(refused(|o| o.orders_per_host_max = usize::MAX), per_host);
        assert_eq!(refused(|o| o.writes_max = 0), Some("options.writes_max"));
        assert_eq!(refused(|o| o.writes_max = usize::MAX), Some("options.writes_max"));
        assert_eq!(refused(|o| o.operations_open_max = 0), Some("options.operations_open_max"));
        assert_eq!(refused(|o| o.hosts_tried_max = 0), Some("options.hosts_tried_max"));
        assert_eq!(refused(|o| o.transfer_limit = 0), Some("options.transfer_limit"));
        assert_eq!(refused(|o| o.journal_kept = Duration::MAX), Some("options.journal_kept"));
        assert_eq!(
            refused(|o| *o = o.clone().with_beat_interval(Duration::MAX)),
            Some("options.beat_interval")
        );
    }
}
