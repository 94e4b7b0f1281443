//! Bytes that come from outside: no more of them than are allowed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf, Take};

use crate::domain::{ImageContent, ImageId};
use crate::port::{ImageBytes, ImageError, ImageStore, ImageStoreExt as _};

/// Keeps the bytes of an image, if there are at most `limit` of them.
///
/// # Errors
/// [`ImageError::TooLarge`], with nothing kept; those of the store.
pub(super) async fn receive(
    store: &dyn ImageStore,
    image: ImageId,
    bytes: ImageBytes,
    limit: u64,
) -> Result<ImageContent, ImageError> {
    let exceeded = Arc::new(AtomicBool::new(false));
    // One byte more shows that there are more.
    let bytes = bytes.take(limit.saturating_add(1));
    let measured = Measured { bytes, left: limit, exceeded: Arc::clone(&exceeded) };
    let kept = store.ensure(image, Box::new(measured)).await;
    match kept {
        Err(_) if exceeded.load(Ordering::Relaxed) => Err(ImageError::TooLarge { image, limit }),
        kept => kept,
    }
}

/// A stream that fails with the first byte that is too many.
struct Measured {
    bytes: Take<ImageBytes>,
    left: u64,
    exceeded: Arc<AtomicBool>,
}

impl AsyncRead for Measured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.bytes).poll_read(context, into);
        let more = into.filled().len().saturating_sub(before) as u64;
        match self.left.checked_sub(more) {
            Some(left) => {
                self.left = left;
                read
            }
            None => {
                self.exceeded.store(true, Ordering::Relaxed);
                into.set_filled(before);
                Poll::Ready(Err(std::io::ErrorKind::FileTooLarge.into()))
            }
        }
    }
}
