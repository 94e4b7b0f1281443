//! Measuring bytes as they pass.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;

use nova_core::domain::ImageContent;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// How many bytes are read at a time.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// Counts and hashes.
#[derive(Default)]
pub(crate) struct Measure {
    size_bytes: u64,
    sha256: Sha256,
}

impl Measure {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.size_bytes = self.size_bytes.saturating_add(bytes.len() as u64);
        self.sha256.update(bytes);
    }

    /// What all of them were.
    pub(crate) fn finish(self) -> ImageContent {
        let mut sha256 = String::with_capacity(64);
        for byte in self.sha256.finalize() {
            // Writing into a string cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        ImageContent { size_bytes: self.size_bytes, sha256 }
    }
}

/// Reads a stream to its end, but not far beyond `expected_bytes`: what is longer is wrong
/// whatever follows.
pub(crate) async fn measure(
    bytes: &mut (dyn AsyncRead + Send + Unpin),
    expected_bytes: u64,
) -> io::Result<ImageContent> {
    let mut measure = Measure::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = bytes.read(&mut chunk).await?;
        measure.update(&chunk[..read]);
        if read == 0 || measure.size_bytes > expected_bytes {
            return Ok(measure.finish());
        }
    }
}

/// Copies a stream into a file, but not far beyond `expected_bytes`, and says what it was. `each` is
/// told how many bytes have arrived.
pub(crate) async fn copy(
    bytes: &mut (dyn AsyncRead + Send + Unpin),
    file: &mut tokio::fs::File,
    expected_bytes: u64,
    mut each: impl FnMut(u64),
) -> io::Result<ImageContent> {
    let mut measure = Measure::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = bytes.read(&mut chunk).await?;
        measure.update(&chunk[..read]);
        if read == 0 || measure.size_bytes > expected_bytes {
            file.flush().await?;
            return Ok(measure.finish());
        }
        file.write_all(&chunk[..read]).await?;
        each(measure.size_bytes);
    }
}

/// What a file holds.
pub(crate) fn of_file(path: &Path) -> io::Result<ImageContent> {
    let mut file = std::fs::File::open(path)?;
    let mut measure = Measure::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(measure.finish()),
            read => measure.update(&chunk[..read]),
        }
    }
}
