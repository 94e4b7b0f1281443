//! Guests on a real host, through a libvirt daemon.

mod bases;
mod daemon;
mod definition;
mod disks;
mod driver;
mod facts;
mod host;
mod making;
mod plugging;
mod power;
mod record;
mod rescue;
mod rootfs;
mod rpc;
mod snapshot;
mod turns;
mod xml;

use std::path::Path;
use std::sync::Arc;

use self::daemon::Daemon;

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
    pub fn native(uri: &str) -> Self {
        Self { daemon: Arc::new(rpc::Rpc::new(uri, None)) }
    }

    /// The same for a daemon that listens elsewhere.
    pub fn native_at(uri: &str, socket: &Path) -> Self {
        Self { daemon: Arc::new(rpc::Rpc::new(uri, Some(socket))) }
    }
}

impl std::fmt::Display for Libvirtd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.daemon.fmt(f)
    }
}
