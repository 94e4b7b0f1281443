//! QEMU's copy-on-write format (docs/interop/qcow2.txt of QEMU).

use super::Refusal;
use super::bytes::Bytes;

/// Of the incompatible features: not closed cleanly, another compression, entries for parts of
/// clusters. Not those that say that the image is corrupt or that its data is elsewhere.
const DIRTY: u64 = 1 << 0;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Of the autoclear features: that the external data file is raw.
const DATA_FILE_IS_RAW: u64 = 1 << 1;

/// Extensions of the header that are taken: the end, names of features, bitmaps.
const END: u32 = 0;
const FEATURE_NAMES: u32 = 0x6803_f857;
const BITMAPS: u32 = 0x2385_2875;
/// Those that are refused by name.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;

/// The largest tables that QEMU opens: 32 MiB of entries, 65536 snapshots.
const L1_ENTRIES_MAX: u64 = 32 << 17;
const SNAPSHOTS_MAX: u32 = 65536;

/// The longest name of a backing file.
const BACKING_NAME_MAX: u32 = 1023;

/// What an image may say of a backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// Nothing.
    Nothing,
    /// Any name: nobody follows it.
    Named,
}

/// The size of the disk, of an image that names no other file but what may lie below it.
pub(super) fn disk(bytes: &mut Bytes<'_>, below: Below) -> Result<u64, Refusal> {
    let head = bytes.header::<72>("qcow2 header", 0)?;
    let version = head.be32(4);
    if !(2..=3).contains(&version) {
        return Err(Refusal::Unknown { what: "qcow2 version", value: version.into() });
    }
    match below {
        Below::Nothing if head.be64(8) != 0 || head.be32(16) != 0 => {
            return Err(Refusal::OtherFile("a backing file"));
        }
        Below::Named if head.be32(16) > BACKING_NAME_MAX => {
            return Err(Refusal::Wrong("the name of its backing file is too long"));
        }
        Below::Nothing | Below::Named => {}
    }
    let cluster_bits = head.be32(20);
    if !(9..=21).contains(&cluster_bits) {
        return Err(Refusal::Unknown { what: "qcow2 cluster bits", value: cluster_bits.into() });
    }
    if head.be32(32) != 0 {
        let value = head.be32(32).into();
        return Err(Refusal::Unknown { what: "qcow2 encryption", value });
    }
    let (extensions, extended) = if version == 3 { features(bytes)? } else { (72, false) };
    look_at_extensions(bytes, extensions, 1 << cluster_bits, below)?;
    let size = head.be64(24);
    tables(bytes, &head, cluster_bits, size, extended)?;
    if head.be32(60) > SNAPSHOTS_MAX {
        let value = head.be32(60).into();
        return Err(Refusal::Unknown { what: "number of qcow2 snapshots", value });
    }
    Ok(size)
}

/// Checks what a header of version 3 says besides; where its extensions begin, and whether
/// entries have two words.
fn features(bytes: &mut Bytes<'_>) -> Result<(u64, bool), Refusal> {
    let more = bytes.header::<32>("qcow2 header", 72)?;
    let incompatible = more.be64(0);
    if incompatible & DATA_FILE != 0 {
        return Err(Refusal::OtherFile("an external data file"));
    }
    let unknown = incompatible & !(DIRTY | COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        return Err(Refusal::Unknown { what: "qcow2 feature", value: unknown });
    }
    if more.be64(16) & DATA_FILE_IS_RAW != 0 {
        return Err(Refusal::OtherFile("a raw external data file"));
    }
    let (refcount_order, length) = (more.be32(24), more.be32(28));
    if refcount_order > 6 {
        let value = refcount_order.into();
        return Err(Refusal::Unknown { what: "qcow2 refcount order", value });
    }
    if length < 104 || !length.is_multiple_of(8) {
        return Err(Refusal::Unknown { what: "qcow2 header length", value: length.into() });
    }
    let compression =
        if length > 104 { bytes.header::<1>("qcow2 header", 104)?.all()[0] } else { 0 };
    // Deflate, and Zstandard, which the feature has to announce.
    let announced = incompatible & COMPRESSION != 0;
    if compression > 1 || announced != (compression == 1) {
        let value = compression.into();
        return Err(Refusal::Unknown { what: "qcow2 compression", value });
    }
    Ok((length.into(), incompatible & EXTENDED_L2 != 0))
}

/// Goes through the extensions, all of which lie in the first cluster.
fn look_at_extensions(
    bytes: &mut Bytes<'_>,
    from: u64,
    cluster: u64,
    below: Below,
) -> Result<(), Refusal> {
    let mut at = from;
    let mut seen = Vec::new();
    while at + 8 <= cluster {
        let mut head = [0; 8];
        let head = bytes.some(at, &mut head)?;
        let [a, b, c, d, e, f, g, h] = *head else { return Ok(()) };
        let kind = u32::from_be_bytes([a, b, c, d]);
        let length = u64::from(u32::from_be_bytes([e, f, g, h]));
        match kind {
            END => return Ok(()),
            FEATURE_NAMES | BITMAPS => {}
            BACKING_FORMAT if below == Below::Named => {}
            BACKING_FORMAT => return Err(Refusal::OtherFile("the format of a backing file")),
            DATA_FILE_NAME => return Err(Refusal::OtherFile("the name of a data file")),
            ENCRYPTION => {
                return Err(Refusal::Unknown {
                    what: "qcow2 encryption header",
                    value: kind.into(),
                });
            }
            _ => return Err(Refusal::Unknown { what: "qcow2 extension", value: kind.into() }),
        }
        if seen.contains(&kind) {
            return Err(Refusal::Wrong("an extension of its header comes twice"));
        }
        seen.push(kind);
        // Each is padded to eight bytes.
        at += 8 + length.next_multiple_of(8);
        if at > cluster {
            return Err(Refusal::Wrong("an extension of its header is longer than its cluster"));
        }
    }
    Ok(())
}

/// Checks that the tables are where tables can be, and are as large as the disk needs.
fn tables(
    bytes: &Bytes<'_>,
    head: &super::bytes::Header<72>,
    cluster_bits: u32,
    size: u64,
    extended: bool,
) -> Result<(), Refusal> {
    let (entries, l1, refcounts) = (u64::from(head.be32(36)), head.be64(40), head.be64(48));
    // What one entry of the first table stands for.
    let l2_entries = (1_u64 << cluster_bits) / if extended { 16 } else { 8 };
    let covered = l2_entries << cluster_bits;
    if entries > L1_ENTRIES_MAX || entries < size.div_ceil(covered) {
        return Err(Refusal::Wrong("its first table does not fit its disk"));
    }
    let aligned = |offset: u64| offset.is_multiple_of(1 << cluster_bits);
    let within =
        |offset: u64, length: u64| offset.checked_add(length).is_some_and(|end| end <= bytes.len());
    if !aligned(l1) || entries > 0 && (l1 == 0 || !within(l1, entries * 8)) {
        return Err(Refusal::Wrong("its first table is not within it"));
    }
    let refcount_bytes = u64::from(head.be32(56)) << cluster_bits;
    if refcounts == 0 || !aligned(refcounts) || !within(refcounts, refcount_bytes) {
        return Err(Refusal::Wrong("its table of reference counts is not within it"));
    }
    Ok(())
}
