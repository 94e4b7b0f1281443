//! The readers of this room as fuzzers call them; there is none of it in any other build.

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
