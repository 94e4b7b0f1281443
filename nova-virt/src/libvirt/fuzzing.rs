//! The readers of this room as fuzzers call them; there is none of it in any other build.

use std::io;
use std::path::Path;

use super::passthrough::{PciSpec, given};
use super::xml::Element;

pub use super::rpc::fuzzing::rpc;

/// Reads the devices of a host of a document, and a document, writes what was read, and reads that again.
///
/// # Panics
/// When it is not what it was.
pub fn xml(document: &str) {
    if let Ok(any) = PciSpec::new([("address", "*:*:*.*")]) {
        let told = given(&[document.to_owned()], &[any]);
        assert!(told.len() <= 1, "{told:?}");
    }
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
