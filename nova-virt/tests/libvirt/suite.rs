//! The laws of a driver, on three kinds of daemon and by both ways to them.

use crate::lab::{self, Way};

macro_rules! laws_of {
    ($way:expr, $kind:ident) => {
        mod $kind {
            use super::*;

            nova_core::virt_laws!(if lab::is_here, lab::$kind($way));
        }
    };
}

#[cfg(feature = "libvirt-native")]
mod native {
    use super::*;

    laws_of!(Way::Native, test);
    laws_of!(Way::Native, lxc);
    laws_of!(Way::Native, lxc_of_nobody);
    laws_of!(Way::Native, qemu);
}

#[cfg(feature = "libvirt")]
mod library {
    use super::*;

    laws_of!(Way::Library, test);
    laws_of!(Way::Library, lxc);
    laws_of!(Way::Library, qemu);
}
