//! The store that speaks to the service.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, TRAILER};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use nova_core::clock::Clock;
use nova_core::domain::{ImageContent, ImageId, Invalid};
use nova_core::port::{ImageBytes, ImageError, ImageStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::pace::Pace;
use super::stream::{Arriving, Leaving, broken};
use super::{HEAD_BYTES_MAX, HEADERS_MAX, PATIENCE, SHA256};
use crate::digest;

/// A longer answer about images is none: more than a million ids.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Images on another machine, over HTTP: see the [module](super).
///
/// Every call makes a connection of its own. One that breaks off, stands still, or brings other
/// bytes than were declared is [`ImageError::Io`] for a download's reader or the caller, and may be
/// tried again; after an upload of which nobody knows, that finds
/// [`Exists`](ImageError::Exists) when it was kept.
#[derive(Debug, Clone)]
pub struct HttpImages {
    /// With the slash at its end.
    base: String,
    host: String,
    port: u16,
    clock: Arc<dyn Clock>,
    patience: Duration,
}

impl HttpImages {
    /// The images below a URL, such as `http://10.0.0.1:9292/`; nobody is asked yet.
    ///
    /// # Errors
    /// [`Invalid`] unless it is `http://`, a host, perhaps a port and perhaps a path.
    pub fn at(url: &str, clock: Arc<dyn Clock>) -> Result<Self, Invalid> {
        let allowed = "http://HOST[:PORT][/PATH]";
        let invalid = || Invalid::new("images.url", url, allowed);
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(invalid());
        };
        if authority.as_str().contains('@') || uri.query().is_some() || authority.host().is_empty()
        {
            return Err(invalid());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let base = format!("http://{authority}{}/", uri.path().trim_end_matches('/'));
        Ok(Self { base, host, port: uri.port_u16().unwrap_or(80), clock, patience: PATIENCE })
    }

    /// Gives a connection up over which too little went for so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks, and reads the head of the answer.
    async fn ask(&self, method: Method, name: &str, body: Ask) -> io::Result<Answer> {
        let pace = Pace::new(&self.clock, self.patience);
        let mut stalled: Stalled = Box::pin(Arc::clone(&pace).stalled());
        let asked = self.exchange(method, name, body, Arc::clone(&pace));
        let (line, response) = tokio::select! {
            biased;
            asked = asked => asked?,
            () = &mut stalled => return Err(stood_still()),
        };
        let (head, body) = response.into_parts();
        let bytes = Arriving::new(body, &head.headers, Arc::clone(&pace));
        let bytes = Download { line, bytes, stalled, pace, waits: Waits::No };
        Ok(Answer { status: head.status, headers: head.headers, bytes })
    }

    async fn exchange(
        &self,
        method: Method,
        name: &str,
        body: Ask,
        pace: Arc<Pace>,
    ) -> io::Result<(Line, hyper::Response<hyper::body::Incoming>)> {
        let uri: Uri = format!("{}{name}", self.base).parse().map_err(io::Error::other)?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder().method(method).header(HOST, authority);
        request = request.uri(uri.path());
        let body = match body {
            Ask::Nothing => Leaving::Short(Bytes::new()),
            Ask::Keep(bytes) => {
                request = request.header(TRAILER, HeaderValue::from_name(SHA256));
                let measure = Some(digest::Measure::default());
                Leaving::Long { bytes, left: None, measure, pace: Arc::clone(&pace) }
            }
        };
        let request = request.body(body).map_err(io::Error::other)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let mut http = http1::Builder::new();
        http.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let (mut sender, line) = http.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut line = Line(Some(Box::pin(line)));
        let mut answer = std::pin::pin!(sender.send_request(request));
        let answered = poll_fn(|context| {
            line.poll(context);
            answer.as_mut().poll(context)
        });
        let answered = answered.await.map_err(broken)?;
        pace.restart();
        Ok((line, answered))
    }

    /// Size and checksum as the other side tells them; none when there is no such image. Without a
    /// checksum where it tells none.
    async fn told(&self, image: ImageId) -> io::Result<Option<Option<ImageContent>>> {
        let answer = self.ask(Method::HEAD, &image.to_string(), Ask::Nothing).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.content())),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(unexpected(status)),
        }
    }
}

/// What is sent along.
enum Ask {
    Nothing,
    Keep(ImageBytes),
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Download,
}

impl Answer {
    fn content(&self) -> Option<ImageContent> {
        let size = self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        let sha256 = self.headers.get(SHA256)?.to_str().ok()?;
        Some(ImageContent { size_bytes: size, sha256: sha256.to_owned() })
    }

    async fn json<T: serde::de::DeserializeOwned>(self) -> io::Result<T> {
        let mut text = Vec::new();
        self.bytes.take(TEXT_BYTES_MAX).read_to_end(&mut text).await?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    }
}

type Stalled = Pin<Box<dyn Future<Output = ()> + Send>>;

type Connection = http1::Connection<TokioIo<TcpStream>, Leaving>;

/// A connection, which moves only when it is looked at.
struct Line(Option<Pin<Box<Connection>>>);

impl Line {
    fn poll(&mut self, context: &mut Context<'_>) {
        // What ended it is told to who waits for an answer or for bytes.
        if let Some(line) = &mut self.0
            && line.as_mut().poll(context).is_ready()
        {
            self.0 = None;
        }
    }
}

/// The bytes of an answer, with the connection over which they come.
struct Download {
    line: Line,
    bytes: Arriving,
    stalled: Stalled,
    pace: Arc<Pace>,
    waits: Waits,
}

/// Whether the reader waits for the other side: time counts only then.
#[derive(PartialEq)]
enum Waits {
    Yes,
    No,
}

impl AsyncRead for Download {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.waits == Waits::No {
            // The reader may have been elsewhere for long.
            this.waits = Waits::Yes;
            this.pace.restart();
        }
        this.line.poll(context);
        let read = Pin::new(&mut this.bytes).poll_read(context, into);
        if read.is_ready() {
            this.waits = Waits::No;
            return read;
        }
        this.stalled.as_mut().poll(context).map(|()| Err(stood_still()))
    }
}

fn stood_still() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection stood still")
}

fn unexpected(status: StatusCode) -> io::Error {
    io::Error::other(format!("the server answered {status}"))
}

fn fails(image: ImageId, operation: &'static str) -> impl Fn(io::Error) -> ImageError + Copy {
    move |source| ImageError::Io { image, operation, source }
}

impl std::fmt::Display for HttpImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "images at {}", self.base)
    }
}

#[async_trait]
impl ImageStore for HttpImages {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        let failed = fails(image, "send it");
        // Before gigabytes are sent in vain.
        if self.told(image).await.map_err(failed)?.is_some() {
            return Err(ImageError::Exists { image });
        }
        let asked = self.ask(Method::PUT, &image.to_string(), Ask::Keep(bytes)).await;
        let answer = asked.map_err(failed)?;
        match answer.status {
            StatusCode::CREATED => answer.json().await.map_err(failed),
            StatusCode::CONFLICT => Err(ImageError::Exists { image }),
            status if refuses_writes(status) => Err(ImageError::ReadOnly { image }),
            status => Err(failed(unexpected(status))),
        }
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        let failed = fails(image, "ask for its size and checksum");
        match self.told(image).await.map_err(failed)? {
            None => Ok(None),
            Some(Some(content)) => Ok(Some(content)),
            Some(None) => {
                let mut bytes = match self.open(image).await {
                    Err(ImageError::NoSuchImage { .. }) => return Ok(None),
                    opened => opened?,
                };
                digest::measure(&mut *bytes, u64::MAX).await.map(Some).map_err(failed)
            }
        }
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        let failed = fails(image, "open it");
        let asked = self.ask(Method::GET, &image.to_string(), Ask::Nothing).await;
        let answer = asked.map_err(failed)?;
        match answer.status {
            StatusCode::OK => Ok(Box::new(answer.bytes)),
            StatusCode::NOT_FOUND => Err(ImageError::NoSuchImage { image }),
            status => Err(failed(unexpected(status))),
        }
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        let failed = fails(image, "remove it");
        let asked = self.ask(Method::DELETE, &image.to_string(), Ask::Nothing).await;
        match asked.map_err(failed)?.status {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            status if refuses_writes(status) => Err(ImageError::ReadOnly { image }),
            status => Err(failed(unexpected(status))),
        }
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        let list = async {
            let answer = self.ask(Method::GET, "", Ask::Nothing).await?;
            match answer.status {
                StatusCode::OK => answer.json::<Vec<ImageId>>().await,
                status => Err(unexpected(status)),
            }
        };
        let mut images = list.await.map_err(|source| ImageError::List { source })?;
        images.sort_unstable();
        images.dedup();
        Ok(images)
    }
}

/// What servers say to who writes where images are only read.
fn refuses_writes(status: StatusCode) -> bool {
    const REFUSALS: [StatusCode; 3] =
        [StatusCode::METHOD_NOT_ALLOWED, StatusCode::FORBIDDEN, StatusCode::NOT_IMPLEMENTED];
    REFUSALS.contains(&status)
}
