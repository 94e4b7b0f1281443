//! What runs on the hosts of a cloud.
//!
//! This room implements three ports of `nova-core`:
//!
//! - [`sim`]: [`SimHost`], a driver for hosts that are not there. It keeps what is true on a host
//!   and can be full, slow, unreliable and without power; [`Fleet`] makes many of them;
//! - `libvirt` (features `libvirt-native` and `libvirt`): a driver for hosts on which a libvirt daemon
//!   runs machines or containers;
//! - [`images`]: [`DirImageStore`], images in a directory, and images over HTTP (feature
//!   `http-images`);
//! - [`volumes`]: [`FileVolumes`], volumes as sparse files in a directory;
//! - [`lvm`]: [`LvmVolumes`], volumes as logical volumes of a thin pool.
//!
//! [`Several`] makes one host of several drivers.
//!
//! [`inspect`] finds out what a disk image is before anything else opens it, and [`cache`] keeps
//! those that a host needs.
//!
//! [`domain`] describes a guest as a hypervisor would define it, as a value and without doing
//! anything: which disks under which names, which interfaces, which console.
//!
//! This crate does not know how networks are made, where guests are placed, or that there is a
//! cloud at all. All it is told is in a [`GuestSpec`](nova_core::port::GuestSpec).

pub mod cache;
mod digest;
pub mod domain;
mod files;
pub mod images;
pub mod inspect;
#[cfg(any(feature = "libvirt", feature = "libvirt-native"))]
pub mod libvirt;
pub mod lvm;
mod several;
pub mod sim;
mod tools;
pub mod volumes;

pub use cache::ImageCache;
pub use files::FileError;
pub use images::DirImageStore;
pub use lvm::{LvmPool, LvmVolumes};
pub use several::Several;
pub use sim::{Fleet, FleetError, SimHost, SimOptions};
pub use volumes::FileVolumes;
