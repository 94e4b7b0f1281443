//! The one error for a value that is out of range.

/// A value that is not allowed, with the field it was meant for and what is allowed there.
///
/// Every constructor of the domain returns it, so that one message shape tells a person what to
/// change, and one type tells a program which field was wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{field}: {value:?} is not allowed; allowed: {allowed}")]
pub struct Invalid {
    /// The field, as it is called in the type that was to be built (`flavor.vcpus`).
    pub field: &'static str,
    /// The value that came in, cut to [`VALUE_CHARS_MAX`](Self::VALUE_CHARS_MAX) characters.
    pub value: String,
    /// The range, alphabet or form that would have been accepted.
    pub allowed: &'static str,
}

impl Invalid {
    /// Longer values are cut, so that a hostile value cannot fill a log.
    pub const VALUE_CHARS_MAX: usize = 80;

    /// Names `field`, the offending `value` and what is `allowed`.
    pub fn new(field: &'static str, value: impl ToString, allowed: &'static str) -> Self {
        let value = value.to_string();
        let cut = value.char_indices().nth(Self::VALUE_CHARS_MAX).map_or(value.len(), |(at, _)| at);
        Self { field, value: value[..cut].to_owned(), allowed }
    }
}
