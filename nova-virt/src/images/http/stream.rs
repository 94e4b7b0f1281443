//! Bytes on their way: into bodies and out of them, a piece at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::HeaderValue;
use nova_core::port::ImageBytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::SHA256;
use super::pace::Pace;
use crate::digest::{CHUNK_BYTES, Measure};

/// A body that arrives, measured.
///
/// Its length is what its head declares, or it ends with an error: hyper sees to that. It ends with
/// an error as well when it is not what its head or its trailer declares.
pub(super) struct Arriving {
    body: Incoming,
    piece: Bytes,
    declared: Option<HeaderValue>,
    measure: Option<Measure>,
    pace: Arc<Pace>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, head: &HeaderMap, pace: Arc<Pace>) -> Self {
        let (declared, measure) = (head.get(SHA256).cloned(), Some(Measure::default()));
        Self { body, piece: Bytes::new(), declared, measure, pace }
    }

    /// What was declared is what came.
    fn end(&mut self) -> io::Result<()> {
        let Some(measure) = self.measure.take() else { return Ok(()) };
        let found = measure.finish().sha256;
        match &self.declared {
            Some(declared) if declared.as_bytes() != found.as_bytes() => {
                let text = format!("the bytes hash to {found}, declared is {declared:?}");
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Arriving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
                return Poll::Ready(self.end());
            };
            match frame.map_err(broken)?.into_data() {
                Ok(piece) => {
                    self.pace.moved(piece.len());
                    self.piece = piece;
                }
                Err(frame) => {
                    if let Ok(mut trailers) = frame.into_trailers()
                        && let Some(declared) = trailers.remove(SHA256)
                    {
                        self.declared = Some(declared);
                    }
                }
            }
        }
        let count = self.piece.len().min(into.remaining());
        let piece = self.piece.split_to(count);
        if let Some(measure) = &mut self.measure {
            measure.update(&piece);
        }
        into.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

/// What hyper says of a connection.
pub(super) fn broken(error: hyper::Error) -> io::Error {
    let kind = if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        io::ErrorKind::ConnectionAborted
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error)
}

/// A body that leaves.
pub(super) enum Leaving {
    /// Something short, or nothing.
    Short(Bytes),
    /// Bytes of an image.
    Long {
        bytes: ImageBytes,
        /// How many are still to come, where that was said before.
        left: Option<u64>,
        /// What they hash to, told behind them when it was not before.
        measure: Option<Measure>,
        pace: Arc<Pace>,
    },
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (bytes, left, measure, pace) = match &mut *self {
            Self::Short(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Short(bytes) => {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
            Self::Long { bytes, left, measure, pace } => (bytes, left, measure, pace),
        };
        let most = left.map_or(CHUNK_BYTES, |left| {
            usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES))
        });
        if most == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; most];
        let mut into = ReadBuf::new(&mut chunk);
        ready!(Pin::new(bytes).poll_read(context, &mut into))?;
        let count = into.filled().len();
        chunk.truncate(count);
        pace.moved(count);
        if count > 0 {
            if let Some(left) = left {
                *left -= count as u64;
            }
            if let Some(measure) = measure {
                measure.update(&chunk);
            }
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))));
        }
        // Fewer than were declared: the one at the other end must not take them for all.
        if left.is_some() {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let Some(measure) = measure.take() else { return Poll::Ready(None) };
        let mut trailers = HeaderMap::new();
        let sum = HeaderValue::from_str(&measure.finish().sha256);
        trailers.insert(SHA256, sum.map_err(io::Error::other)?);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Short(bytes) => bytes.is_empty(),
            Self::Long { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Short(bytes) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            Self::Long { left: Some(left), .. } => hyper::body::SizeHint::with_exact(*left),
            Self::Long { .. } => hyper::body::SizeHint::default(),
        }
    }
}
