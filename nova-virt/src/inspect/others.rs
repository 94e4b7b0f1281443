//! Formats with little to say: VirtualBox's, LUKS, CDs.

use super::Refusal;
use super::bytes::Bytes;

/// Of VirtualBox's: blocks as they were written, or all of them.
const DYNAMIC: u32 = 1;
const STATIC: u32 = 2;
const DIFFERENCING: u32 = 4;

/// The size of a disk of VirtualBox's, of an image that has no parent.
pub(super) fn vdi(bytes: &mut Bytes<'_>) -> Result<u64, Refusal> {
    let head = bytes.header::<512>("vdi header", 0)?;
    if head.le32(68) != 0x1_0001 {
        return Err(Refusal::Unknown { what: "vdi version", value: head.le32(68).into() });
    }
    match head.le32(76) {
        DYNAMIC | STATIC => {}
        DIFFERENCING => return Err(Refusal::OtherFile("a parent disk")),
        other => return Err(Refusal::Unknown { what: "vdi type", value: other.into() }),
    }
    // The ids of the image that this one differs from, and of that one's last change.
    if head.at::<16>(0x1a8) != [0; 16] || head.at::<16>(0x1b8) != [0; 16] {
        return Err(Refusal::OtherFile("a parent disk"));
    }
    let (size, block, blocks) = (head.le64(368), u64::from(head.le32(376)), head.le32(384));
    if block != 1 << 20 {
        return Err(Refusal::Unknown { what: "vdi block size", value: block });
    }
    if u64::from(blocks) < size.div_ceil(block) || head.le32(388) > blocks {
        return Err(Refusal::Wrong("its table of blocks does not fit its disk"));
    }
    let (table, data) = (u64::from(head.le32(340)), u64::from(head.le32(344)));
    if table < 512 || table + u64::from(blocks) * 4 > data || data > bytes.len() {
        return Err(Refusal::Wrong("its table of blocks is not within it"));
    }
    Ok(size)
}

/// The size of the disk that LUKS has encrypted.
pub(super) fn luks(bytes: &mut Bytes<'_>) -> Result<u64, Refusal> {
    let head = bytes.header::<592>("luks header", 0)?;
    let version = u16::from_be_bytes(head.at(6));
    if version != 1 {
        return Err(Refusal::Unknown { what: "luks version", value: version.into() });
    }
    // Eight keys follow, each with where its material is.
    let payload = u64::from(head.be32(104)) * 512;
    match bytes.len().checked_sub(payload) {
        Some(size) if payload >= 592 => Ok(size),
        _ => Err(Refusal::Wrong("its data is not within it")),
    }
}

/// The first volume descriptor of a CD.
const DESCRIPTOR: u64 = 0x8000;

/// Whether there is a CD: among the first sixteen descriptors there is one of that standard.
pub(super) fn is_iso(bytes: &mut Bytes<'_>) -> Result<bool, Refusal> {
    bytes.has(DESCRIPTOR + 1, b"CD001")
}

/// The size of a CD.
pub(super) fn iso(bytes: &mut Bytes<'_>) -> Result<u64, Refusal> {
    let head = bytes.header::<190>("volume descriptor", DESCRIPTOR)?;
    if (head.all()[0], head.all()[6]) != (1, 1) {
        return Err(Refusal::Wrong("its first volume descriptor is not a primary one"));
    }
    // Every number is written twice, the little and the big end first.
    let (blocks, block) = (head.le32(80), head.le16(128));
    if blocks != head.be32(84) || block.to_be_bytes() != head.at(130) {
        return Err(Refusal::Wrong("its volume descriptor contradicts itself"));
    }
    if ![512, 1024, 2048].contains(&block) {
        return Err(Refusal::Unknown { what: "CD block size", value: block.into() });
    }
    match u64::from(blocks) * u64::from(block) {
        size if size > bytes.len() => Err(Refusal::Short { what: "volume" }),
        // The guest sees the file, with whatever follows the volume.
        _ => Ok(bytes.len()),
    }
}
