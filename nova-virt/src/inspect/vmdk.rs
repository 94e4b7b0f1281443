//! VMware's format in one file: sparse, or compressed for streams ("VMware Virtual Disk Format
//! 5.0").

use super::Refusal;
use super::bytes::{Bytes, Header};

const SECTOR: u64 = 512;
/// Where the directory of grains is when only the footer knows it.
const AT_THE_END: u64 = u64::MAX;
/// The longest descriptor that is read, in sectors.
const DESCRIPTOR_SECTORS_MAX: u64 = 2048;

/// Whether the beginning of a file is that of a descriptor that stands alone: comments and empty
/// lines, then its version.
pub(super) fn is_text(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    if text.trim_start().get(..21).is_some_and(|s| s.eq_ignore_ascii_case("# Disk DescriptorFile"))
    {
        return true;
    }
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| ["version=1", "version=2", "version=3"].contains(&line))
}

/// The size of the disk, of an image that is all in this file.
pub(super) fn disk(bytes: &mut Bytes<'_>) -> Result<u64, Refusal> {
    let head = bytes.header::<512>("vmdk header", 0)?;
    let capacity = look_at(&head)?;
    if head.le64(56) == AT_THE_END {
        look_at_footer(bytes, &head)?;
    } else if head.le64(56).checked_mul(SECTOR).is_none_or(|offset| offset >= bytes.len()) {
        return Err(Refusal::Wrong("its directory of grains is not within it"));
    }
    let (offset, sectors) = (head.le64(28), head.le64(36));
    if offset == 0 || !(1..=DESCRIPTOR_SECTORS_MAX).contains(&sectors) {
        return Err(Refusal::Wrong("it has no descriptor within it, or one that is too long"));
    }
    let len = usize::try_from(sectors * SECTOR).map_err(|_| Refusal::Wrong("too long"))?;
    let offset = offset.checked_mul(SECTOR).ok_or(Refusal::Short { what: "vmdk descriptor" })?;
    let text = bytes.vec("vmdk descriptor", offset, len)?;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(text);
    let text = text.map_err(|_| Refusal::Wrong("its descriptor is not text"))?;
    describes_itself(text, capacity)?;
    capacity
        .checked_mul(SECTOR)
        .ok_or(Refusal::Wrong("its disk has more bytes than can be counted"))
}

/// Checks a header; how many sectors the disk has.
fn look_at(head: &Header<512>) -> Result<u64, Refusal> {
    let version = head.le32(4);
    if !(1..=3).contains(&version) {
        return Err(Refusal::Unknown { what: "vmdk version", value: version.into() });
    }
    // Line ends as they were written: whoever copies it as text breaks them.
    if head.le32(8) & 1 != 0 && head.at::<4>(73) != *b"\n \r\n" {
        return Err(Refusal::Wrong("its line ends were changed on the way"));
    }
    let grain = head.le64(20);
    if !grain.is_power_of_two() || !(8..=128 << 10).contains(&grain) {
        return Err(Refusal::Unknown { what: "vmdk grain size", value: grain });
    }
    if !(1..=512).contains(&head.le32(44)) {
        let value = head.le32(44).into();
        return Err(Refusal::Unknown { what: "vmdk table size", value });
    }
    if head.le16(77) > 1 {
        let value = head.le16(77).into();
        return Err(Refusal::Unknown { what: "vmdk compression", value });
    }
    Ok(head.le64(12))
}

/// The footer stands for the header with whoever reads it: it has to say the same, but for where
/// the directory is.
fn look_at_footer(bytes: &mut Bytes<'_>, head: &Header<512>) -> Result<(), Refusal> {
    let short = Refusal::Short { what: "vmdk footer" };
    let Some(at) = bytes.len().checked_sub(3 * SECTOR) else { return Err(short) };
    let marker = bytes.header::<512>("vmdk footer", at)?;
    let footer = bytes.header::<512>("vmdk footer", at + SECTOR)?;
    let end = bytes.header::<512>("vmdk footer", at + 2 * SECTOR)?;
    // A marker of one sector and the type of a footer; one of nothing and the type of the end.
    if (marker.le64(0), marker.le32(8), marker.le32(12)) != (1, 0, 3)
        || end.all().iter().any(|byte| *byte != 0)
    {
        return Err(Refusal::Wrong("it does not end in a footer, as its header says"));
    }
    let same = |from: usize, to: usize| head.all()[from..to] == footer.all()[from..to];
    if !same(0, 56) || !same(64, 512) {
        return Err(Refusal::Wrong("its footer is not that of its header"));
    }
    if footer.le64(56).checked_mul(SECTOR).is_none_or(|offset| offset >= bytes.len()) {
        return Err(Refusal::Wrong("its directory of grains is not within it"));
    }
    Ok(())
}

/// Checks every line of a descriptor: the disk is one sparse extent, which is the file itself.
///
/// Some readers look for the words that name a parent anywhere in the text, be it in a comment or in
/// the midst of another word; so these words stand where they belong, or nowhere.
fn describes_itself(text: &str, capacity: u64) -> Result<(), Refusal> {
    let (mut extents, mut kinds, mut parents) = (0, 0, 0);
    for line in text.lines().map(str::trim) {
        let refused = || {
            let line = line.chars().take(120).collect();
            Err(Refusal::Line { line })
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(extent) = ["RW ", "RDONLY "].iter().find_map(|way| line.strip_prefix(way)) {
            extents += 1;
            match is_itself(extent, capacity) {
                true => continue,
                false => return refused(),
            }
        }
        let Some((key, value)) = line.split_once('=') else { return refused() };
        let (key, value) = (key.trim(), unquoted(value.trim()));
        let taken = match key {
            "version" => ["1", "2", "3"].contains(&value),
            "encoding" | "CID" => true,
            "isNativeSnapshot" => value == "no",
            // It has no parent.
            "parentCID" => {
                parents += 1;
                value.eq_ignore_ascii_case("ffffffff")
            }
            "createType" => {
                kinds += 1;
                ["monolithicSparse", "streamOptimized"].contains(&value)
            }
            _ => is_noted(key),
        };
        if !taken {
            return refused();
        }
    }
    let lower = text.to_ascii_lowercase();
    let said = |word: &str| lower.matches(word).count();
    if said("parentfilenamehint") > 0 || said("parentcid") != parents {
        return Err(Refusal::OtherFile("a parent"));
    }
    if said("createtype") != kinds {
        return Err(Refusal::Wrong("its descriptor does not say once of what kind it is"));
    }
    match (extents, kinds) {
        (1, 1) => Ok(()),
        (0, _) => Err(Refusal::Wrong("its descriptor names no extent")),
        (1, _) => Err(Refusal::Wrong("its descriptor does not say once of what kind it is")),
        _ => Err(Refusal::OtherFile("a second extent")),
    }
}

/// Whether an extent, such as `20480 SPARSE "disk.vmdk"`, is the whole disk, in a file that is not
/// looked for anywhere: the name is one that the image once had.
fn is_itself(extent: &str, capacity: u64) -> bool {
    let mut words = extent.splitn(3, ' ');
    let sectors = words.next().and_then(|word| word.parse().ok());
    let (kind, name) = (words.next(), words.next().map(str::trim));
    let name = name.and_then(|name| name.strip_prefix('"')?.strip_suffix('"'));
    let plain = |name: &str| !name.is_empty() && !name.contains(['/', '\\', '"', ':']);
    sectors == Some(capacity) && kind == Some("SPARSE") && name.is_some_and(plain)
}

/// Whether a key is one of the notes that say nothing of where data is.
fn is_noted(key: &str) -> bool {
    let note = key.strip_prefix("ddb.").unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !note.is_empty() && note.bytes().all(plain) && !note.starts_with("native")
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
