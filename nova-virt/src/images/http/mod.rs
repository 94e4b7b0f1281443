//! Images over HTTP: a service that any machine can run, and a store that speaks to it.
//!
//! [`ImageService`] gives out what an [`ImageStore`](nova_core::port::ImageStore) holds;
//! [`HttpImages`] is such a store for hosts elsewhere. It reads from any plain web server as well
//! where images lie under their ids: such a server tells no checksums, so what it has is measured
//! by reading it, and to write there is refused with
//! [`ReadOnly`](nova_core::port::ImageError::ReadOnly). A type of its own for that would differ in
//! nothing else.
//!
//! **There is no authentication and no encryption.** Whoever reaches the service may read, and
//! write unless it is [read-only](ImageService::read_only): it is meant for the network between
//! hosts. A host does not have to believe it: what it downloads is measured against what was
//! registered, by [`ImageCache`](crate::ImageCache) and by every driver.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the ids, sorted, as a JSON array |
//! | `HEAD /ID`, `GET /ID` | `Content-Length` and `X-Image-Sha256`, and the bytes; 404 |
//! | `PUT /ID` | 201 with size and checksum as JSON, when every byte is kept; 409 when it is there |
//! | `DELETE /ID` | 204 |
//!
//! An upload may declare `X-Image-Sha256`, before the bytes or in a trailer behind them; one that
//! is other than declared, or ends early, is not kept. A connection carries one request, so that
//! one that breaks off concerns nobody else. Nothing waits without a limit: a connection over which
//! fewer than [`PACE_BYTES`] went in its [patience](PATIENCE) is given up.

mod client;
mod pace;
mod service;
mod stream;

use std::time::Duration;

pub use client::HttpImages;
pub use service::ImageService;

/// How long a connection may go without [`PACE_BYTES`] passing, unless told otherwise. It includes
/// the time that a store takes to get the last bytes onto its disk.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Fewer bytes in the time that is given are as good as none. Who sends single bytes holds a place
/// as well as who sends nothing.
pub const PACE_BYTES: u64 = 64 << 10;
/// More connections at once than this wait, unless told otherwise.
pub const CONNECTIONS_MAX: usize = 64;

/// The checksum, in lower-case hex.
const SHA256: hyper::header::HeaderName = hyper::header::HeaderName::from_static("x-image-sha256");
/// A request's or answer's head may be as long as this; no more are read.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A head may have so many headers.
const HEADERS_MAX: usize = 32;
