//! Bytes as they were before they were compressed.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// So much is looked at to recognise a format.
const HEAD_BYTES: usize = 64 << 10;

/// A source whose beginning is known.
pub(super) struct Head {
    /// The first bytes: all there are, or [`HEAD_BYTES`].
    pub(super) bytes: Vec<u8>,
    rest: Box<dyn Read + Send>,
}

impl Head {
    fn new(mut reader: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut bytes = Vec::new();
        (&mut reader).take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(Self { bytes, rest: reader })
    }

    /// Everything, from the beginning on.
    pub(super) fn reader(self) -> Box<dyn Read + Send> {
        Box::new(Cursor::new(self.bytes).chain(self.rest))
    }

    /// The first line that is not blank.
    pub(super) fn line(&self) -> &[u8] {
        let mut lines = self.bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.find(|line| !line.is_empty()).unwrap_or(b"")
    }
}

/// Decompresses gz and zstd, recognised by their first bytes, and leaves the rest as it is.
///
/// One layer only: what is compressed twice stays compressed. What is cut off, or does not fit its
/// checksum, is an error where it is noticed, so a trace is never silently shorter.
pub(super) fn decoded(reader: Box<dyn Read + Send>) -> io::Result<Head> {
    let head = Head::new(reader)?;
    match head.bytes.as_slice() {
        [0x1f, 0x8b, ..] => Head::new(Box::new(MultiGzDecoder::new(BufReader::new(head.reader())))),
        // A frame, or one of those that decoders skip.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Head::new(Box::new(Zstd::new(BufReader::new(head.reader()))))
        }
        _ => Ok(head),
    }
}

/// Frames of zstd after each other. At most the window of a frame is in memory, and a window of
/// more than 128 MiB is refused.
struct Zstd<R> {
    source: R,
    frame: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Self { source, frame: FrameDecoder::new(), in_frame: false }
    }

    /// Moves on to the next frame; false at the end of the source.
    fn advance(&mut self) -> io::Result<bool> {
        while !self.in_frame {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.source) {
                Ok(()) => self.in_frame = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = (&mut self.source).take(length);
                    if io::copy(&mut { skipped }, &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        Ok(true)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.advance()? {
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(damaged)?;
            }
            let read = self.frame.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let told = self.frame.get_checksum_from_data();
            if told.is_some() && told != self.frame.get_calculated_checksum() {
                let message = "a zstd frame does not fit its checksum";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            self.in_frame = false;
        }
        Ok(0)
    }
}

fn damaged(error: FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
