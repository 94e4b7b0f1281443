//! Where the bytes of images are: in a directory, or with a service on another machine.

mod directory;
#[cfg(feature = "http-images")]
pub mod http;

pub use directory::DirImageStore;
