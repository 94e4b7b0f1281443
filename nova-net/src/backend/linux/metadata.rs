//! The metadata service of a host: a web server that knows who asks by where a packet came from.
//!
//! It listens in the host's namespace at the address that all clouds use. A question comes over a
//! connection whose sender's address is that of a guest's port: the firewall lets a port send from
//! no other address, and drops what comes from elsewhere than guests. The port's MAC names the
//! server. Nothing that is said inside the connection is believed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nova_core::domain::Mac;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::metadata::{MetadataSource, answer};

/// The port that all clouds use.
const PORT: u16 = 80;
/// More connections at once than this wait: a guest may open many, and they are answered fast.
const CONNECTIONS_MAX: usize = 64;
/// How long a question may take, of which each connection carries one: whoever holds one open takes
/// the place of another.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// Whose ports are on the host: which MAC has which address.
pub(super) type Ports = Arc<Mutex<BTreeMap<IpAddr, Mac>>>;

/// The service; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Service(JoinHandle<()>);

impl Service {
    /// Begins to listen in the namespace of this thread.
    pub(super) fn start(
        address: IpAddr,
        ports: Ports,
        source: Arc<dyn MetadataSource>,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((address, PORT))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self(tokio::spawn(serve(listener, ports, source))))
    }

    /// Whether it still listens.
    pub(super) fn runs(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(listener: TcpListener, ports: Ports, source: Arc<dyn MetadataSource>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Where nothing can be accepted any more it ends, which the next look at the host sees.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, from)) = listener.accept().await else { return };
        let (ports, source) = (Arc::clone(&ports), Arc::clone(&source));
        tokio::spawn(async move {
            talk(stream, from, ports, source).await;
            drop(place);
        });
    }
}

async fn talk(stream: TcpStream, from: SocketAddr, ports: Ports, source: Arc<dyn MetadataSource>) {
    let service = service_fn(|request: Request<Incoming>| {
        let mac = ports.lock().unwrap_or_else(PoisonError::into_inner).get(&from.ip()).copied();
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(reply(&request, mac, &*source).await) }
    });
    let mut http = http1::Builder::new();
    let http = http.timer(TokioTimer::new()).header_read_timeout(ASK_WITHIN).keep_alive(false);
    // Whoever breaks off has no answer to miss.
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}

async fn reply(
    request: &Request<Incoming>,
    mac: Option<Mac>,
    source: &dyn MetadataSource,
) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return said(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
    }
    // Somebody else's port is like none: nobody learns which addresses there are.
    let Some(mac) = mac else { return said(StatusCode::NOT_FOUND, "not found") };
    match source.about(mac).await {
        Err(_) => said(StatusCode::SERVICE_UNAVAILABLE, "not now"),
        Ok(None) => said(StatusCode::NOT_FOUND, "not found"),
        Ok(Some(server)) => match answer(&server, request.uri().path()) {
            None => said(StatusCode::NOT_FOUND, "not found"),
            Some(answer) => {
                let mut response = Response::new(Full::new(Bytes::from(answer.body)));
                let media_type = HeaderValue::from_static(answer.media_type);
                response.headers_mut().insert(CONTENT_TYPE, media_type);
                response
            }
        },
    }
}

fn said(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
