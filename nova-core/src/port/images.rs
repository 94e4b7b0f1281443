//! The bytes of images. What is known of an image besides is a record,
//! [`Image`](crate::domain::Image).

use std::fmt::{Debug, Display};

use async_trait::async_trait;
use tokio::io::AsyncRead;

use crate::class::Class;
use crate::domain::{ImageContent, ImageId};

/// A stream of an image's bytes.
pub type ImageBytes = Box<dyn AsyncRead + Send + Unpin>;

/// Keeps the bytes of images and measures them.
///
/// Laws: `what_was_put_is_what_opens`; `put_measures`: size and SHA-256 are those of the bytes;
/// `an_image_is_written_once`; `a_failed_put_leaves_nothing`; `remove_is_repeatable`;
/// `list_is_sorted`.
#[async_trait]
pub trait ImageStore: Display + Debug + Send + Sync + 'static {
    /// Takes all bytes and says how many there were and what they hash to.
    ///
    /// # Errors
    /// [`ImageError::Exists`]; [`ImageError::Io`] when reading or keeping failed: nothing is kept.
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError>;

    /// Size and checksum; none when there is no such image.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError>;

    /// The bytes from the first on.
    ///
    /// # Errors
    /// [`ImageError::NoSuchImage`], [`ImageError::Io`].
    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError>;

    /// Forgets the bytes; an image that is not there is success.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    async fn remove(&self, image: ImageId) -> Result<(), ImageError>;

    /// Every image there is, sorted.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    async fn list(&self) -> Result<Vec<ImageId>, ImageError>;
}

/// What every image store can do besides.
#[async_trait]
pub trait ImageStoreExt: ImageStore {
    /// Keeps the bytes, unless the image is there already, and says what it holds: a put that may
    /// be repeated under an id that only one writer uses.
    ///
    /// # Errors
    /// [`ImageError::Io`]; [`ImageError::NoSuchImage`] when it was removed at the same time.
    async fn ensure(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        match self.put(image, bytes).await {
            Err(ImageError::Exists { image }) => {
                self.content(image).await?.ok_or(ImageError::NoSuchImage { image })
            }
            put => put,
        }
    }
}

#[async_trait]
impl<I: ImageStore + ?Sized> ImageStoreExt for I {}

/// What went wrong with an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There is no such image.
    #[error("no image {image}")]
    NoSuchImage {
        /// The image.
        image: ImageId,
    },
    /// The id is taken.
    #[error("image {image} exists already")]
    Exists {
        /// The image.
        image: ImageId,
    },
    /// Images are only read there, not written or removed.
    #[error("image {image}: images are only read there")]
    ReadOnly {
        /// The image.
        image: ImageId,
    },
    /// The bytes are not those that were registered.
    #[error("image {image}: {found} instead of {expected}")]
    Mismatch {
        /// The image.
        image: ImageId,
        /// Size or checksum as registered.
        expected: String,
        /// Size or checksum as found.
        found: String,
    },
    /// There are more bytes than are taken.
    #[error("image {image}: more than {limit} bytes")]
    TooLarge {
        /// The image.
        image: ImageId,
        /// The most bytes that are taken.
        limit: u64,
    },
    /// The bytes are those that were registered, and must not be opened.
    #[error("image {image} is refused")]
    Refused {
        /// The image.
        image: ImageId,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Reading or writing failed.
    #[error("image {image}: cannot {operation}")]
    Io {
        /// The image.
        image: ImageId,
        /// What was to be done.
        operation: &'static str,
        /// Why it was not.
        source: std::io::Error,
    },
    /// The store as a whole cannot be read.
    #[error("cannot list images")]
    List {
        /// Why not.
        source: std::io::Error,
    },
}

impl ImageError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::List { .. } => Class::Retry,
            Self::NoSuchImage { .. }
            | Self::Exists { .. }
            | Self::ReadOnly { .. }
            | Self::Mismatch { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. } => Class::Permanent,
        }
    }
}

#[async_trait]
impl<I: ImageStore + ?Sized> ImageStore for std::sync::Arc<I> {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        (**self).put(image, bytes).await
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        (**self).content(image).await
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        (**self).open(image).await
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        (**self).remove(image).await
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        (**self).list().await
    }
}

const _: fn(Box<dyn ImageStore>) = |port| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(port);
};
