//! What a server is told by its user when it first boots.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::Invalid;

/// Bytes that a guest may ask for: mostly a script, or what cloud-init reads. They are stored as
/// base64, and are no secret: whoever is inside the guest can read them.
///
/// ```
/// # use nova_core::domain::UserData;
/// let script = UserData::new("#!/bin/sh\necho hello\n")?;
/// assert_eq!(script.bytes(), b"#!/bin/sh\necho hello\n");
/// # Ok::<(), nova_core::domain::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserData(Arc<[u8]>);

impl UserData {
    /// The most bytes: what fits into Nova's 65 535 characters of base64.
    pub const BYTES_MAX: usize = 49_149;

    /// Checks the length.
    ///
    /// # Errors
    /// [`Invalid`] for more than [`BYTES_MAX`](Self::BYTES_MAX) bytes.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, Invalid> {
        let bytes = bytes.as_ref();
        if bytes.len() <= Self::BYTES_MAX {
            Ok(Self(bytes.into()))
        } else {
            let length = format!("{} bytes", bytes.len());
            Err(Invalid::new("user data", length, "at most 49149 bytes"))
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for UserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserData({} bytes)", self.0.len())
    }
}

impl TryFrom<String> for UserData {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let bytes = STANDARD.decode(&text);
        Self::new(bytes.map_err(|_| Invalid::new("user data", "a text", "base64"))?)
    }
}

impl From<UserData> for String {
    fn from(data: UserData) -> String {
        STANDARD.encode(data.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_are_stored_as_base64_within_their_limit() {
        let data = UserData::new([0, 255, 10]).unwrap();
        let text = serde_json::to_string(&data).unwrap();
        assert_eq!(text, "\"AP8K\"");
        assert_eq!(serde_json::from_str::<UserData>(&text).unwrap(), data);
        assert!(serde_json::from_str::<UserData>("\"not base64!\"").is_err());
        let longest = UserData::new(vec![7; UserData::BYTES_MAX]).unwrap();
        assert!(String::from(longest).len() <= 65_535);
        assert!(UserData::new(vec![7; UserData::BYTES_MAX + 1]).is_err());
    }
}
