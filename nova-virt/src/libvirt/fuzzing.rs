//! The readers of this room as fuzzers call them; there is none of it in any other build.

use std::io;
use std::path::Path;

use super::xml::Element;

pub use super::rpc::fuzzing::rpc;

/// Reads a document, writes what was read, and reads that again.
///
/// # Panics
/// When it is not what it was.
pub fn xml(document: &str) {
    let Some(tree) = Element::read(document) else { return };
    // What stands in a document may be what none may hold.
    let Ok(written) = tree.write() else { return };
    assert_eq!(Element::read(&written).as_ref(), Some(&tree), "{written}");
}

/// Unpacks the archive of a root file system, as the driver does.
///
/// # Errors
/// Those of unpacking.
pub fn unpack(archive: &Path, into: &Path, size_max: Option<u64>) -> io::Result<()> {
    super::rootfs::unpack(archive, into, 0, size_max)
}
