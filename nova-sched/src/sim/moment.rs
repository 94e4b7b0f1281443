//! Points in virtual time.

use std::fmt;

/// A point in virtual time: milliseconds since the trace's zero.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// The trace's zero.
    pub const ZERO: Self = Self(0);
    /// After everything else.
    pub const NEVER: Self = Self(u64::MAX);

    /// So many whole seconds after zero.
    pub const fn of_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// So many milliseconds after zero.
    pub const fn of_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since zero.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since zero, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// So many milliseconds later; [`NEVER`](Self::NEVER) where that is past it.
    #[must_use]
    pub const fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` until this; 0 when that is later.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Moment {
    /// In seconds, with as many decimals as there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1000, self.0 % 1000);
        if millis == 0 { write!(f, "{seconds} s") } else { write!(f, "{seconds}.{millis:03} s") }
    }
}
