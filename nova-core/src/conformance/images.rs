//! The laws of an [`ImageStore`].
//!
//! A subject is a store without images.

use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::clock::{ClockExt as _, SystemClock};
use crate::domain::ImageId;
use crate::port::{ImageBytes, ImageError, ImageStore, ImageStoreExt as _};
use crate::seed::Seed;

/// One test for each law of an image store; the expression makes a store without images.
///
/// ```
/// nova_core::image_laws!(async { nova_core::memory::MemoryImages::new() });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! image_laws {
    ($make:expr) => {
        $crate::laws!(
            images,
            $make,
            [
                what_was_put_is_what_opens,
                put_measures,
                an_image_is_written_once,
                a_failed_put_leaves_nothing,
                ensure_is_repeatable,
                remove_is_repeatable,
                list_is_sorted,
            ]
        );
    };
}

const A: ImageId = ImageId::from_u128(0xA);
const B: ImageId = ImageId::from_u128(0xB);

/// Nothing, one byte, and more than any buffer come back as they went in, as often as asked.
pub async fn what_was_put_is_what_opens(store: impl ImageStore) {
    let mut chance = Seed::new(1).child("image bytes").chance();
    let large: Vec<u8> = (0..20_000).flat_map(|_| chance.bytes()).collect();
    for (number, bytes) in [vec![], vec![7], large].into_iter().enumerate() {
        let image = ImageId::from_u128(number as u128);
        done(store.put(image, stream(&bytes)).await);
        for _ in 0..2 {
            assert!(
                read(&store, image).await == bytes,
                "{store}: image {number} came back changed"
            );
        }
    }
    let missing = store.open(A).await.map(|_| ());
    assert!(matches!(missing, Err(ImageError::NoSuchImage { image: A })), "{missing:?}");
}

/// Size and checksum, told by `put` and by `content`, are those of the bytes.
pub async fn put_measures(store: impl ImageStore) {
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(done(store.content(A).await), None);
    for (image, bytes, sha256) in [(A, "", EMPTY), (B, "abc", ABC)] {
        let put = done(store.put(image, stream(bytes.as_bytes())).await);
        assert_eq!((put.size_bytes, put.sha256.as_str()), (bytes.len() as u64, sha256));
        assert_eq!(done(store.content(image).await), Some(put));
    }
}

/// An id that is taken stays with its first bytes; of two writers at once one wins.
pub async fn an_image_is_written_once(store: impl ImageStore) {
    let first = done(store.put(A, stream(b"first")).await);
    let again = store.put(A, stream(b"again")).await;
    assert!(matches!(again, Err(ImageError::Exists { image: A })), "{again:?}");
    assert_eq!(done(store.content(A).await), Some(first));
    assert_eq!(read(&store, A).await, b"first");

    let (one, two) = tokio::join!(store.put(B, stream(b"one")), store.put(B, stream(b"two")));
    let winner: &[u8] = match (&one, &two) {
        (Ok(_), Err(ImageError::Exists { image: B })) => b"one",
        (Err(ImageError::Exists { image: B }), Ok(_)) => b"two",
        other => panic!("{store}: not exactly one writer won: {other:?}"),
    };
    assert_eq!(read(&store, B).await, winner);
}

/// After a stream that breaks off, and after a caller that gave up, the id is free.
pub async fn a_failed_put_leaves_nothing(store: impl ImageStore) {
    let ends_in = |end| Box::new(Cursor::new(vec![1; 100_000]).chain(end)) as ImageBytes;
    let broken = store.put(A, ends_in(End::Broken)).await;
    assert!(matches!(broken, Err(ImageError::Io { image: A, .. })), "{store}: {broken:?}");
    is_empty(&store).await;

    let clock = SystemClock::new();
    tokio::select! {
        biased;
        result = store.put(A, ends_in(End::Endless)) => panic!("{store}: {result:?} before the end"),
        // However long this is, the stream is longer; a slow store is only given up earlier.
        () = clock.sleep(std::time::Duration::from_millis(50)) => {}
    }
    is_empty(&store).await;

    done(store.put(A, stream(b"whole")).await);
    assert_eq!(read(&store, A).await, b"whole");
}

/// Bytes are kept once, and what is kept is told again.
pub async fn ensure_is_repeatable(store: impl ImageStore) {
    let first = done(store.ensure(A, stream(b"first")).await);
    assert_eq!(done(store.ensure(A, stream(b"again")).await), first);
    assert_eq!(read(&store, A).await, b"first");
}

/// Removing twice, or what never was, is success; the id is free afterwards.
pub async fn remove_is_repeatable(store: impl ImageStore) {
    done(store.remove(A).await);
    done(store.put(A, stream(b"a")).await);
    done(store.put(B, stream(b"b")).await);
    for _ in 0..2 {
        done(store.remove(A).await);
        assert_eq!(done(store.content(A).await), None);
        assert!(matches!(store.open(A).await, Err(ImageError::NoSuchImage { image: A })));
        assert_eq!(done(store.list().await), [B]);
    }
    done(store.put(A, stream(b"new")).await);
    assert_eq!(read(&store, A).await, b"new");
}

/// The list holds every image once, the lowest id first.
pub async fn list_is_sorted(store: impl ImageStore) {
    assert_eq!(done(store.list().await), []);
    for number in [3, 1, 2, u128::MAX] {
        done(store.put(ImageId::from_u128(number), stream(b"x")).await);
    }
    let expected = [1, 2, 3, u128::MAX].map(ImageId::from_u128);
    assert_eq!(done(store.list().await), expected);
}

/// How a stream that does not end well goes on.
#[derive(Debug, Clone, Copy)]
enum End {
    Broken,
    Endless,
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match *self {
            Self::Broken => Poll::Ready(Err(std::io::Error::other("the stream broke off"))),
            Self::Endless => Poll::Pending,
        }
    }
}

async fn is_empty(store: &impl ImageStore) {
    assert_eq!(done(store.content(A).await), None);
    assert_eq!(done(store.list().await), []);
    assert!(matches!(store.open(A).await, Err(ImageError::NoSuchImage { image: A })));
}

fn stream(bytes: &[u8]) -> ImageBytes {
    Box::new(Cursor::new(bytes.to_vec()))
}

async fn read(store: &impl ImageStore, image: ImageId) -> Vec<u8> {
    let mut bytes = Vec::new();
    match done(store.open(image).await).read_to_end(&mut bytes).await {
        Ok(_) => bytes,
        Err(error) => panic!("{store}: image {image} does not read: {error}"),
    }
}

#[track_caller]
fn done<T>(result: Result<T, ImageError>) -> T {
    result.unwrap_or_else(|error| panic!("unexpected: {error:?}"))
}
