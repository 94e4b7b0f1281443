//! Images over HTTP: what the other side may do, and what comes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::{Clock, SystemClock};
use nova_core::domain::{ImageContent, ImageId};
use nova_core::memory::{MemoryImages, VirtualClock};
use nova_core::port::{ImageError, ImageStore};
use nova_virt::images::http::{HttpImages, ImageService};
use nova_virt::{DirImageStore, ImageCache};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{self, settle};

/// Somewhere to speak to; whoever is asked ends with the runtime.
async fn serve(
    service: impl FnOnce(ImageService) -> ImageService,
    images: Arc<dyn ImageStore>,
) -> SocketAddr {
    serve_at(service, images, Arc::new(SystemClock::new())).await
}

async fn serve_at(
    service: impl FnOnce(ImageService) -> ImageService,
    images: Arc<dyn ImageStore>,
    clock: Arc<dyn Clock>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(service(ImageService::over(images, clock)).serve(listener));
    address
}

fn at(address: SocketAddr) -> HttpImages {
    HttpImages::at(&format!("http://{address}"), Arc::new(SystemClock::new())).unwrap()
}

mod over_memory {
    use super::*;

    nova_core::image_laws!(async {
        at(serve(|service| service, Arc::new(MemoryImages::new())).await)
    });
}

mod over_a_directory {
    use super::*;

    nova_core::image_laws!(async {
        let directory = tempfile::tempdir().unwrap();
        let images = Arc::new(DirImageStore::at(directory.path()).unwrap());
        // It goes with the runtime of the law.
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(directory)
        });
        at(serve(|service| service, images).await)
    });
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

const A: ImageId = ImageId::from_u128(0xA);

fn stream(bytes: &[u8]) -> nova_core::port::ImageBytes {
    Box::new(std::io::Cursor::new(bytes.to_vec()))
}

/// Says something and reads what is answered, to the end.
async fn say(address: SocketAddr, text: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    // Who is refused early need not take all of it.
    let _ = connection.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server that says one thing to whoever asks for anything.
async fn always(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = [0; 1000];
            let _ = connection.read(&mut head).await;
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    address
}

async fn read(images: &dyn ImageStore) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    images.open(A).await.unwrap().read_to_end(&mut bytes).await.map(|_| bytes)
}

#[test]
fn hostile_requests_are_refused_and_leave_nothing() {
    run(async {
        let images = Arc::new(MemoryImages::new());
        let address = serve(|service| service, images.clone()).await;
        let huge = "x".repeat(100_000);
        let many = "X-A: b\r\n".repeat(100);
        let other = "0".repeat(64);
        for (request, status) in [
            ("GET /no-id HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
            ("GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
            ("GET /..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
            (format!("GET /{A}/ HTTP/1.1\r\nHost: a\r\n\r\n"), "404"),
            (format!("GET /{{{A}}} HTTP/1.1\r\nHost: a\r\n\r\n"), "40"),
            (format!("PUT /{}.json HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", A), "404"),
            (format!("POST /{A} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), "405"),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
            (format!("GET /{A} HTTP/1.1\r\nHost: a\r\nX-Huge: {huge}\r\n\r\n"), "431"),
            (format!("GET /{A} HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
            (format!("GET /{huge} HTTP/1.1\r\nHost: a\r\n\r\n"), ""),
            (format!("PUT /{A} HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nabc"), "400"),
            (
                format!(
                    "PUT /{A} HTTP/1.1\r\nHost: a\r\nX-Image-Sha256: {other}\r\nContent-Length: 3\r\n\r\nabc"
                ),
                "503",
            ),
            (
                format!(
                    "PUT /{A} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Image-Sha256: {other}\r\n\r\n"
                ),
                "503",
            ),
            ("\0\x01\x02 nonsense\r\n\r\n".to_owned(), "400"),
        ] {
            let answer = say(address, &request).await;
            let line = answer.lines().next().unwrap_or_default();
            let cut = &request[..request.len().min(60)];
            let refused = line.is_empty() || !line.starts_with("HTTP/1.1 2");
            assert!(refused && line.contains(status), "{cut:?}: {line:?}");
        }
        assert_eq!(images.list().await.unwrap(), []);
    });
}

#[test]
fn an_upload_that_ends_before_its_declared_length_is_not_kept() {
    run(async {
        let images = Arc::new(MemoryImages::new());
        let address = serve(|service| service, images.clone()).await;
        for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let text = format!("PUT /{A} HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n3\r\nabc\r\n");
            connection.write_all(text.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = connection.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
            assert_eq!(images.list().await.unwrap(), []);
        }
        at(address).put(A, stream(b"whole")).await.unwrap();
        assert_eq!(read(&*images).await.unwrap(), b"whole");
    });
}

#[test]
fn a_client_that_stands_still_loses_its_place() {
    run(async {
        let clock = Arc::new(VirtualClock::new());
        let images: Arc<dyn ImageStore> = Arc::new(MemoryImages::new());
        let one = |service: ImageService| service.with_connections_max(1);
        let address = serve_at(one, images, clock.clone()).await;
        for begun in ["", "GET / HT", &format!("PUT /{A} HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")]
        {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(begun.as_bytes()).await.unwrap();
            let ends = async {
                let mut answer = Vec::new();
                let _ = connection.read_to_end(&mut answer).await;
            };
            // Time passes as soon as somebody waits for it.
            let passes = async {
                loop {
                    settle().await;
                    clock.advance(Duration::from_secs(60));
                }
            };
            tokio::select! { biased; () = ends => {} () = passes => {} }
        }
        assert!(say(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.ends_with("[]"));
    });
}

#[test]
fn a_server_that_stands_still_is_given_up() {
    run(async {
        let clock = Arc::new(VirtualClock::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let images = HttpImages::at(&url, clock.clone()).unwrap();
        let passes = async {
            loop {
                settle().await;
                clock.advance(Duration::from_secs(60));
            }
        };
        let asked = tokio::select! {
            biased;
            asked = images.content(A) => asked,
            () = passes => unreachable!("time passes for ever"),
        };
        let Err(ImageError::Io { source, .. }) = asked else { panic!("{asked:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_download_that_is_cut_off_or_is_other_than_declared_ends_with_an_error() {
    run(async {
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (length, bytes, good) in [(3, "abc", true), (3, "abd", false), (9, "abc", false)] {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Image-Sha256: {sum}\r\n\r\n{bytes}"
            );
            let read = read(&at(always(answer).await)).await;
            assert_eq!(read.is_ok(), good, "{length} {bytes}: {read:?}");
        }
    });
}

#[test]
fn a_host_keeps_no_half_of_an_image() {
    run(async {
        let (store, image) = world::images().await;
        let folder = tempfile::tempdir().unwrap();
        let cache = ImageCache::at(folder.path(), Arc::new(SystemClock::new())).unwrap();
        let cut = at(always("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc".into()).await);
        let base = cache.base(&image, None, &cut).await;
        assert!(matches!(base, Err(ImageError::Io { .. })), "{base:?}");
        assert_eq!(cache.images().await.unwrap().len(), 0);

        let service = at(serve(|service| service, Arc::new(store)).await);
        let base = cache.base(&image, None, &service).await.unwrap();
        assert_eq!(std::fs::read(base.path()).unwrap(), vec![5; 100_000]);
    });
}

#[test]
fn a_plain_web_server_is_read_and_measured_and_not_written() {
    run(async {
        let plain = at(always("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc".into()).await);
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        let content = Some(ImageContent { size_bytes: 3, sha256 });
        // The answer to HEAD brings bytes along that nobody may take for anything.
        assert_eq!(plain.content(A).await.unwrap(), content);
        assert_eq!(read(&plain).await.unwrap(), b"abc");
        assert!(matches!(plain.list().await, Err(ImageError::List { .. })));

        let images: Arc<dyn ImageStore> = Arc::new(MemoryImages::new());
        let address = serve(ImageService::read_only, images).await;
        let put = at(address).put(A, stream(b"abc")).await;
        assert!(matches!(put, Err(ImageError::ReadOnly { image: A })), "{put:?}");
        let removed = at(address).remove(A).await;
        assert!(matches!(removed, Err(ImageError::ReadOnly { image: A })), "{removed:?}");
    });
}

#[test]
fn an_upload_declares_its_checksum_behind_its_bytes() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let images = at(listener.local_addr().unwrap());
        let hears = async {
            // The first asks whether it is there.
            let (mut first, _) = listener.accept().await.unwrap();
            first.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap();
            drop(first);
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut heard = String::new();
            while !heard.contains("\r\n0\r\n") || !heard.ends_with("\r\n\r\n") {
                let mut piece = [0; 1000];
                let count = connection.read(&mut piece).await.unwrap();
                assert!(count > 0, "{heard:?}");
                heard += std::str::from_utf8(&piece[..count]).unwrap();
            }
            connection.write_all(b"HTTP/1.1 409 Conflict\r\n\r\n").await.unwrap();
            heard
        };
        let (put, heard) = tokio::join!(images.put(A, stream(b"abc")), hears);
        assert!(matches!(put, Err(ImageError::Exists { image: A })), "{put:?}");
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(heard.ends_with(&format!("0\r\nx-image-sha256: {sum}\r\n\r\n")), "{heard}");
    });
}

#[test]
fn a_server_that_is_not_there_may_be_asked_again() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let images = at(listener.local_addr().unwrap());
        drop(listener);
        let asked = images.open(A).await.map(|_| ());
        assert_eq!(asked.unwrap_err().class(), nova_core::class::Class::Retry);
    });
}

#[test]
fn what_is_no_plain_url_is_refused() {
    for url in [
        "",
        "10.0.0.1",
        "https://a/",
        "ftp://a/",
        "http://",
        "http://me@a/",
        "http://a/?b",
        "http://a b/",
    ] {
        let clock = Arc::new(VirtualClock::new());
        assert!(HttpImages::at(url, clock).is_err(), "{url:?}");
    }
}
