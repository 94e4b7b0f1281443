//! The laws of a driver, on three kinds of daemon.

macro_rules! laws_of {
    ($kind:ident) => {
        mod $kind {
            use crate::lab;

            nova_core::virt_laws!(if lab::is_here, lab::$kind());
        }
    };
}

laws_of!(test);
laws_of!(lxc);
laws_of!(lxc_of_nobody);
laws_of!(qemu);
