//! Microsoft's format of Virtual PC ("Virtual Hard Disk Image Format Specification", 1.0).

use super::Refusal;
use super::bytes::{Bytes, Header};

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
const FOOTER: u64 = 512;

/// The sectors of the largest geometry. Disks have it that are larger, and those whose makers mean
/// that only their size counts, which is how QEMU takes it.
const GEOMETRY_MAX: u64 = 65_535 * 16 * 255;

/// The size of the disk, of an image that is all in this file.
pub(super) fn disk(bytes: &mut Bytes<'_>) -> Result<u64, Refusal> {
    let Some(end) = bytes.len().checked_sub(FOOTER) else {
        return Err(Refusal::Short { what: "vhd footer" });
    };
    let footer = bytes.header::<512>("vhd footer", end)?;
    if footer.at(0) != *b"conectix" {
        return Err(Refusal::Wrong("it does not end in a whole footer"));
    }
    let size = look_at(&footer)?;
    let begins = bytes.has(0, b"conectix")?;
    match footer.be32(60) {
        FIXED if begins => Err(Refusal::Wrong("it begins as if it had no footer")),
        FIXED if footer.be64(48) > end => Err(Refusal::Short { what: "disk" }),
        FIXED => Ok(size),
        DYNAMIC => {
            // Some read the first, some the last.
            if bytes.header::<512>("vhd header", 0)?.all() != footer.all() {
                return Err(Refusal::Wrong("its header is not its footer"));
            }
            dynamic(bytes, &footer)?;
            Ok(size)
        }
        DIFFERENCING => Err(Refusal::OtherFile("a parent disk")),
        other => Err(Refusal::Unknown { what: "vhd disk type", value: other.into() }),
    }
}

/// Checks a footer; the size of the disk, the larger where it says two.
fn look_at(footer: &Header<512>) -> Result<u64, Refusal> {
    if footer.be32(12) != 0x1_0000 {
        return Err(Refusal::Unknown { what: "vhd version", value: footer.be32(12).into() });
    }
    if footer.be32(64) != checksum(footer.all(), 64) {
        return Err(Refusal::Wrong("the checksum of its footer is wrong"));
    }
    if footer.all()[84] != 0 {
        return Err(Refusal::Wrong("it is of a machine that was suspended"));
    }
    let [high, low, heads, sectors] = footer.at(56);
    let cylinders = u64::from(u16::from_be_bytes([high, low]));
    // Who made it tells whether the geometry or the size counts.
    match cylinders * u64::from(heads) * u64::from(sectors) {
        GEOMETRY_MAX => Ok(footer.be64(48)),
        geometry => Ok(footer.be64(48).max(geometry * 512)),
    }
}

/// Checks the header that says where blocks are.
fn dynamic(bytes: &mut Bytes<'_>, footer: &Header<512>) -> Result<(), Refusal> {
    let head = bytes.header::<1024>("vhd header", footer.be64(16))?;
    if head.at(0) != *b"cxsparse" || head.be32(24) != 0x1_0000 {
        return Err(Refusal::Wrong("its second header is none"));
    }
    if head.be32(36) != checksum(head.all(), 36) {
        return Err(Refusal::Wrong("the checksum of its second header is wrong"));
    }
    // The parent's id, name, and where it is looked for.
    let parent = [40..56, 64..576, 576..768];
    if parent.into_iter().any(|range| head.all()[range].iter().any(|byte| *byte != 0)) {
        return Err(Refusal::OtherFile("a parent disk"));
    }
    let (entries, block) = (u64::from(head.be32(28)), u64::from(head.be32(32)));
    if !block.is_power_of_two() || block < 512 || entries * block < footer.be64(48) {
        return Err(Refusal::Wrong("its table of blocks does not fit its disk"));
    }
    let end = head.be64(16).checked_add(entries * 4);
    if end.is_none_or(|end| end > bytes.len()) {
        return Err(Refusal::Wrong("its table of blocks is not within it"));
    }
    Ok(())
}

/// The complement of the sum of all bytes but those of the checksum itself.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let counted = bytes.iter().enumerate().filter(|(index, _)| !(at..at + 4).contains(index));
    !counted.map(|(_, byte)| u32::from(*byte)).sum::<u32>()
}
