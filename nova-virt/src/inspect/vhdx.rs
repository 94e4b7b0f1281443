//! Microsoft's format of Hyper-V (MS-VHDX).

use super::Refusal;
use super::bytes::Bytes;

const KIB: u64 = 1024;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const REGION_TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
/// The most entries of a table, which are 32 bytes each.
const REGIONS_MAX: u32 = 2047;
const ITEMS_MAX: u16 = 1023;
const ENTRY: usize = 32;

type Guid = [u8; 16];

const BLOCKS: Guid = guid(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
const METADATA: Guid = guid(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);
const PARAMETERS: Guid = guid(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b);
const SIZE: Guid = guid(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8);
const PAGE_83: Guid = guid(0xbeca_12ab, 0xb2e6, 0x4523, 0x93ef_c309_e000_c746);
const LOGICAL_SECTOR: Guid = guid(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f);
const PHYSICAL_SECTOR: Guid = guid(0xcda3_48c7, 0x445d, 0x4471, 0x9cc9_e988_5251_c556);
const PARENT: Guid = guid(0xa8d3_5f2d, 0xb30b, 0x454d, 0xabf7_d3d8_4834_ab0c);

/// A GUID as it is written on a disk: its first three numbers the little end first.
const fn guid(a: u32, b: u16, c: u16, rest: u64) -> Guid {
    let (a, b, c, d) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), rest.to_be_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// The size of the disk, of an image that is all in this file and needs nothing replayed.
pub(super) fn disk(bytes: &mut Bytes<'_>) -> Result<u64, Refusal> {
    for at in HEADERS {
        let head = bytes.header::<80>("vhdx header", at)?;
        if head.at(0) != *b"head" || head.le16(66) != 1 {
            return Err(Refusal::Wrong("it has not two headers"));
        }
        // What is replayed may say anything, and is not seen here.
        if head.at::<16>(48) != [0; 16] {
            return Err(Refusal::Wrong("it was not closed: changes wait in its log"));
        }
    }
    let metadata = metadata_region(bytes)?;
    let table = bytes.header::<32>("vhdx metadata", metadata)?;
    if table.at(0) != *b"metadata" || table.le16(10) > ITEMS_MAX {
        return Err(Refusal::Wrong("its metadata is none"));
    }
    let items = bytes.vec("vhdx metadata", metadata + 32, usize::from(table.le16(10)) * ENTRY)?;
    let (mut parameters, mut size) = (None, None);
    for item in items.chunks_exact(ENTRY) {
        let offset = u64::from(le32(item, 16));
        let once = |of: &mut Option<u64>| match of.replace(metadata + offset) {
            None => Ok(()),
            Some(_) => Err(Refusal::Wrong("its metadata says one thing twice")),
        };
        match guid_of(item) {
            PARAMETERS => once(&mut parameters)?,
            SIZE => once(&mut size)?,
            PAGE_83 | LOGICAL_SECTOR | PHYSICAL_SECTOR => {}
            PARENT => return Err(Refusal::OtherFile("a parent disk")),
            _ => return Err(Refusal::Wrong("its metadata has an unknown item")),
        }
    }
    let (Some(parameters), Some(size)) = (parameters, size) else {
        return Err(Refusal::Wrong("its metadata does not say how large it is"));
    };
    let flags = bytes.header::<8>("vhdx metadata", parameters)?.le32(4);
    match flags {
        0 | 1 => Ok(bytes.header::<8>("vhdx metadata", size)?.le64(0)),
        2 | 3 => Err(Refusal::OtherFile("a parent disk")),
        _ => Err(Refusal::Unknown { what: "vhdx parameter", value: flags.into() }),
    }
}

/// Where the metadata is. Both tables of regions have to say the same.
fn metadata_region(bytes: &mut Bytes<'_>) -> Result<u64, Refusal> {
    let mut tables = Vec::new();
    for at in REGION_TABLES {
        let head = bytes.header::<16>("vhdx region table", at)?;
        if head.at(0) != *b"regi" || head.le32(8) > REGIONS_MAX {
            return Err(Refusal::Wrong("it has not two tables of regions"));
        }
        tables.push(bytes.vec("vhdx region table", at + 16, head.le32(8) as usize * ENTRY)?);
    }
    if tables[0] != tables[1] {
        return Err(Refusal::Wrong("its two tables of regions differ"));
    }
    let (mut metadata, mut blocks) = (None, None);
    for region in tables[0].chunks_exact(ENTRY) {
        let known = match guid_of(region) {
            METADATA => metadata.replace(le64(region, 16)),
            BLOCKS => blocks.replace(le64(region, 16)),
            _ => return Err(Refusal::Wrong("it has a region of an unknown kind")),
        };
        if known.is_some() {
            return Err(Refusal::Wrong("it has two regions of one kind"));
        }
    }
    let metadata = metadata.filter(|at| at.checked_add(1 << 40).is_some());
    match (metadata, blocks) {
        (Some(metadata), Some(_)) => Ok(metadata),
        _ => Err(Refusal::Wrong("it does not say where its metadata and its blocks are")),
    }
}

fn guid_of(entry: &[u8]) -> Guid {
    let mut guid = [0; 16];
    guid.copy_from_slice(&entry[..16]);
    guid
}

fn le32(entry: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
}

fn le64(entry: &[u8], at: usize) -> u64 {
    u64::from(le32(entry, at)) | u64::from(le32(entry, at + 4)) << 32
}
