//! The service.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nova_core::clock::{Clock, ClockExt as _};
use nova_core::domain::{ImageContent, ImageId};
use nova_core::port::{ImageError, ImageStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::pace::Pace;
use super::stream::{Arriving, Leaving};
use super::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEADERS_MAX, PATIENCE, SHA256};

/// How long to wait before connections are accepted again, when one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves the images of a store over HTTP, to whoever reaches it: see the [module](super).
///
/// ```
/// # use std::sync::Arc;
/// # use nova_core::{clock::SystemClock, memory::MemoryImages};
/// # use nova_virt::images::http::{HttpImages, ImageService};
/// # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// let (images, clock) = (Arc::new(MemoryImages::new()), Arc::new(SystemClock::new()));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let url = format!("http://{}/", listener.local_addr()?);
/// tokio::spawn(ImageService::over(images, clock.clone()).serve(listener));
/// let elsewhere = HttpImages::at(&url, clock)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ImageService {
    images: Arc<dyn ImageStore>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    connections_max: usize,
    writing: Writing,
}

/// Whether images are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Allowed,
    Refused,
}

impl ImageService {
    /// A service of the images in a store, read and written.
    pub fn over(images: Arc<dyn ImageStore>, clock: Arc<dyn Clock>) -> Self {
        let (patience, connections_max) = (PATIENCE, CONNECTIONS_MAX);
        Self { images, clock, patience, connections_max, writing: Writing::Allowed }
    }

    /// Refuses to take or remove images.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { writing: Writing::Refused, ..self }
    }

    /// Gives a connection up over which too little went for so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Speaks with so many at once, at least one; others wait.
    #[must_use]
    pub fn with_connections_max(self, connections: usize) -> Self {
        Self { connections_max: connections.max(1), ..self }
    }

    /// Serves whoever connects, and never ends. When it is dropped, every connection breaks off.
    pub async fn serve(self, listener: TcpListener) {
        let mut talks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = talks.join_next() => {}
                accepted = listener.accept(), if talks.len() < self.connections_max => {
                    match accepted {
                        Ok((stream, _)) => drop(talks.spawn(talk(self.clone(), stream))),
                        // Too many files are open, or somebody has gone already.
                        Err(_) => self.clock.sleep(ACCEPT_AGAIN).await,
                    }
                }
            }
        }
    }
}

impl std::fmt::Display for ImageService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "service of {}", self.images)
    }
}

async fn talk(service: ImageService, stream: TcpStream) {
    let pace = Pace::new(&service.clock, service.patience);
    let answer = service_fn(|request: Request<Incoming>| {
        let (service, pace) = (service.clone(), Arc::clone(&pace));
        async move {
            pace.restart();
            Ok::<_, Infallible>(service.answer(request, pace).await)
        }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    // Whoever breaks off has no answer to miss; a put that was under way is given up with it.
    tokio::select! {
        biased;
        _ = connection => {}
        () = Arc::clone(&pace).stalled() => {}
    }
}

impl ImageService {
    async fn answer(&self, request: Request<Incoming>, pace: Arc<Pace>) -> Response<Leaving> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if path == "/" {
            return match head.method {
                Method::GET => self.list().await,
                _ => said(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
            };
        }
        // One spelling each: what is no id names nothing.
        let image = path
            .strip_prefix('/')
            .and_then(|id| id.parse().ok().filter(|image: &ImageId| image.to_string() == id));
        let Some(image) = image else { return said(StatusCode::NOT_FOUND, "no such image") };
        let writes = [Method::PUT, Method::DELETE].contains(&head.method);
        if writes && self.writing == Writing::Refused {
            return said(StatusCode::METHOD_NOT_ALLOWED, "images are only read here");
        }
        let answered = match head.method {
            Method::HEAD => self.images.content(image).await.and_then(|content| {
                let content = content.ok_or(ImageError::NoSuchImage { image })?;
                Ok(described(Leaving::Short(Bytes::new()), &content))
            }),
            Method::GET => self.open(image, pace).await,
            Method::PUT => {
                let bytes = Arriving::new(body, &head.headers, pace);
                self.images.put(image, Box::new(bytes)).await.map(|content| {
                    let mut kept = json(&content);
                    *kept.status_mut() = StatusCode::CREATED;
                    kept
                })
            }
            Method::DELETE => self.images.remove(image).await.map(|()| {
                let mut removed = Response::new(Leaving::Short(Bytes::new()));
                *removed.status_mut() = StatusCode::NO_CONTENT;
                removed
            }),
            _ => Ok(said(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD, PUT and DELETE")),
        };
        answered.unwrap_or_else(|error| failed(&error))
    }

    async fn list(&self) -> Response<Leaving> {
        match self.images.list().await {
            Ok(images) => json(&images),
            Err(error) => failed(&error),
        }
    }

    async fn open(&self, image: ImageId, pace: Arc<Pace>) -> Result<Response<Leaving>, ImageError> {
        let content = self.images.content(image).await?;
        let content = content.ok_or(ImageError::NoSuchImage { image })?;
        let bytes = self.images.open(image).await?;
        let left = Some(content.size_bytes);
        Ok(described(Leaving::Long { bytes, left, measure: None, pace }, &content))
    }
}

fn described(body: Leaving, content: &ImageContent) -> Response<Leaving> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(content.size_bytes));
    if let Ok(sha256) = HeaderValue::from_str(&content.sha256) {
        headers.insert(SHA256, sha256);
    }
    response
}

fn json(value: &impl serde::Serialize) -> Response<Leaving> {
    match serde_json::to_vec(value) {
        Ok(text) => Response::new(Leaving::Short(text.into())),
        Err(_) => said(StatusCode::INTERNAL_SERVER_ERROR, "not now"),
    }
}

/// What a store says, without what only its own machine should know.
fn failed(error: &ImageError) -> Response<Leaving> {
    match error {
        ImageError::NoSuchImage { .. } => said(StatusCode::NOT_FOUND, "no such image"),
        ImageError::Exists { .. } => said(StatusCode::CONFLICT, "there is one already"),
        ImageError::ReadOnly { .. } => {
            said(StatusCode::METHOD_NOT_ALLOWED, "images are only read here")
        }
        _ => said(StatusCode::SERVICE_UNAVAILABLE, "not now"),
    }
}

fn said(status: StatusCode, text: &'static str) -> Response<Leaving> {
    let mut response = Response::new(Leaving::Short(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
