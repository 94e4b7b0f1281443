//! What the fuzz targets of nova-virt share: files that are written down in few bytes, and what
//! has to be true of a disk or an archive that was taken.

pub mod archives;
pub mod disks;
pub mod sparse;
