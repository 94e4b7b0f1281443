//! Proof that bytes come from whoever shares a secret, and were not changed: HMAC with SHA-256,
//! RFC 2104. It hides nothing.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Bytes of a secret, and of a proof.
pub(super) const BYTES: usize = 32;

/// The block of the hash, in bytes.
const BLOCK: usize = 64;

/// A secret, and whatever is proved with it.
#[derive(Clone, Copy)]
pub(super) struct Secret([u8; BYTES]);

/// It is not shown.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The secret in a file, which is made when it is not there, for its owner alone.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => {
                let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is no secret");
                return bytes.try_into().map(Self).map_err(|_| wrong());
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let secret = drawn()?;
        // Whole or not at all.
        let half = crate::files::beside(path, ".tmp");
        crate::files::remove(&half)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        file.write_all(&secret)?;
        file.sync_all()?;
        std::fs::rename(&half, path)?;
        crate::files::sync_directory_of(path)?;
        Ok(Self(secret))
    }

    /// One that follows from this one and these words.
    pub(super) fn child(&self, words: &[&[u8]]) -> Self {
        Self(self.prove(words))
    }

    /// The proof of these bytes.
    pub(super) fn prove(&self, parts: &[&[u8]]) -> [u8; BYTES] {
        let mut seal = self.seal();
        parts.iter().for_each(|part| seal.update(part));
        seal.finish()
    }

    /// Begins a proof.
    pub(super) fn seal(&self) -> Seal {
        let pad = |byte: u8| {
            let mut block = [byte; BLOCK];
            block.iter_mut().zip(self.0).for_each(|(pad, secret)| *pad ^= secret);
            Sha256::new_with_prefix(block)
        };
        Seal { inner: pad(0x36), outer: pad(0x5c) }
    }

    /// As text.
    pub(super) fn to_hex(self) -> String {
        to_hex(&self.0)
    }

    /// What was written as text.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        from_hex(text)?.try_into().ok().map(Self)
    }
}

/// Bytes as text.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that were written as text.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect()
}

/// Bytes that nobody can guess: not of a seed, which is for what may be repeated.
pub(super) fn drawn() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A proof that is being made.
pub(super) struct Seal {
    inner: Sha256,
    outer: Sha256,
}

impl Seal {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    pub(super) fn finish(mut self) -> [u8; BYTES] {
        self.outer.update(self.inner.finalize());
        self.outer.finalize().into()
    }
}

/// Whether two proofs are the same, in a time that does not tell where they differ.
pub(super) fn same(one: &[u8; BYTES], other: &[u8; BYTES]) -> bool {
    one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second vector of RFC 4231, whose key is shorter than ours and padded with zeros, as a
    /// key is.
    #[test]
    fn a_proof_is_what_the_standard_says() {
        let mut key = [0; BYTES];
        key[..4].copy_from_slice(b"Jefe");
        let proof = Secret(key).prove(&[b"what do ya want ", b"for nothing?"]);
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(Secret(proof).to_hex(), expected);
    }

    #[test]
    fn a_secret_is_written_and_read_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let secret = Secret::at(&path).unwrap();
        assert_eq!(Secret::at(&path).unwrap().to_hex(), secret.to_hex());
        assert_eq!(Secret::from_hex(&secret.to_hex()).unwrap().to_hex(), secret.to_hex());
        for wrong in ["", "00", &"é".repeat(32), &"g".repeat(64)] {
            assert!(Secret::from_hex(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{secret:?}").contains(&secret.to_hex()[..8]));
    }
}
