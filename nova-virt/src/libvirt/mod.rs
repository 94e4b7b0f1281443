//! Guests on a real host, through a libvirt daemon.
//!
//! There are two ways to one, each behind a feature of its own: over its socket (`libvirt-native`),
//! which can do all that the driver can, and through libvirt's own library (`libvirt`).

mod bases;
mod caching;
mod choice;
mod config_drive;
mod console;
mod daemon;
mod definition;
mod disks;
mod driver;
mod extents;
mod facts;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod incoming;
mod interfaces;
#[cfg(feature = "libvirt")]
mod library;
mod live;
mod making;
mod measuring;
mod moving;
mod offer;
mod plugging;
mod power;
mod record;
mod rescue;
mod rootfs;
#[cfg(feature = "libvirt-native")]
mod rpc;
mod seal;
mod sending;
mod snapshot;
mod storage;
mod telling;
mod turns;
mod xml;

#[cfg(feature = "libvirt-native")]
use std::path::Path;
use std::sync::Arc;

use self::daemon::Daemon;

pub use self::config_drive::GuestFiles;
pub use self::daemon::LibvirtError;
pub use self::host::LibvirtHost;

/// A libvirt daemon, and the way to it.
///
/// Clones share one connection.
#[derive(Debug, Clone)]
pub struct Libvirtd {
    daemon: Arc<dyn Daemon>,
}

impl Libvirtd {
    /// The daemon of this machine for `uri`, such as `qemu:///system` or `lxc:///system`, spoken to
    /// over its local socket and without its library. Nothing is connected before it is used, and
    /// a connection that was lost is made anew.
    ///
    /// It has to be let in as root, by the socket's permissions, or by polkit.
    #[cfg(feature = "libvirt-native")]
    pub fn native(uri: &str) -> Self {
        Self { daemon: Arc::new(rpc::Rpc::new(uri, None)) }
    }

    /// The same for a daemon that listens elsewhere.
    #[cfg(feature = "libvirt-native")]
    pub fn native_at(uri: &str, socket: &Path) -> Self {
        Self { daemon: Arc::new(rpc::Rpc::new(uri, Some(socket))) }
    }

    /// The daemon for `uri`, spoken to through libvirt's own library in C, which finds it as every
    /// other program that uses it does: `qemu+unix:///system?socket=/run/other` is one that listens
    /// elsewhere, and `test:///default` needs none. Nothing is connected before it is used, and a
    /// connection that was lost is made anew.
    ///
    /// What is changed by others is not told, only looked for once in a while, so that waiting for
    /// a guest may take a second longer; and no images are taken of guests. Calls keep threads of
    /// the runtime's waiting, at most five at a time. Errors that the library writes to the
    /// standard error are silenced, for the whole process.
    ///
    /// The library and its bindings are under the LGPL, version 2.1 or later.
    #[cfg(feature = "libvirt")]
    pub fn library(uri: &str) -> Self {
        Self { daemon: Arc::new(library::Library::new(uri)) }
    }
}

impl std::fmt::Display for Libvirtd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.daemon.fmt(f)
    }
}

#[cfg(test)]
mod tests;
