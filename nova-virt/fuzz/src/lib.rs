//! What the fuzz targets of nova-virt share: files that are written down in few bytes, and what
//! has to be true of a disk that was taken.

pub mod disks;
pub mod sparse;
