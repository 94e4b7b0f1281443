//! Everything that crosses a file, a clock or a port.

mod cache;
mod conversions;
mod directories;
mod filling;
mod honesty;
mod hostile;
#[cfg(feature = "http-images")]
mod http;
mod inspect;
mod killed;
mod laws;
mod model;
mod volume_laws;
mod world;
