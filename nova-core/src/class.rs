//! What a caller should do about an error.

/// The classes into which every port's errors fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Somebody else was faster: read again, decide again.
    Conflict,
    /// It may work later, unchanged.
    Retry,
    /// It will not work unless the request or the world changes.
    Permanent,
    /// The caller or the callee is wrong; please report it.
    Bug,
}
