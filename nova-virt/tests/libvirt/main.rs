//! The driver on real daemons: in a world of its own that `.ci/lab` makes, with guests that boot.
//! Elsewhere each of these says that it was skipped.

#![cfg(any(feature = "libvirt", feature = "libvirt-native"))]

#[cfg(feature = "libvirt-native")]
mod abilities;
#[cfg(feature = "libvirt-native")]
mod agents;
#[cfg(feature = "libvirt-native")]
mod alone;
#[cfg(feature = "libvirt-native")]
mod boot_volume;
#[cfg(feature = "libvirt-native")]
mod cloud;
mod connections;
#[cfg(feature = "libvirt-native")]
mod foreign;
#[cfg(feature = "libvirt-native")]
mod hosts;
mod lab;
#[cfg(feature = "libvirt-native")]
mod live;
#[cfg(feature = "libvirt-native")]
mod lost;
#[cfg(feature = "libvirt-native")]
mod moves;
mod options;
#[cfg(feature = "libvirt-native")]
mod proxy;
mod suite;
#[cfg(feature = "libvirt-native")]
mod verbs;
