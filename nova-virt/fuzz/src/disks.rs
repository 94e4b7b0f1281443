//! What has to be true of a disk that was taken, looked up in its bytes a second time and plainly.

use nova_virt::inspect::{Disk, Format, Refusal, detect, inspect};

use crate::sparse::Sparse;

/// The most reads and bytes that looking at an image takes.
const READS_MAX: u64 = 256;
const BYTES_MAX: u64 = (1 << 20) + (256 << 10);

/// Looks at an image as one of the declared format. The first byte of the input says whether
/// checksums are made right, the second how large a disk may be.
pub fn look(declared: Format, input: &[u8]) {
    let Some(([mend, allowed], input)) = input.split_first_chunk() else { return };
    let mut file = Sparse::of(input);
    if mend & 1 != 0 && declared == Format::Vhd {
        mend_vhd(&mut file);
    }
    let allowed = 1_u64.checked_shl((*allowed).into());
    let found = detect(&mut file.clone()).expect("it can be read");
    assert!(!found.is_empty());
    let answer = inspect(&mut file, declared, allowed);
    assert!(file.reads <= READS_MAX, "{} reads", file.reads);
    assert!(file.bytes <= BYTES_MAX, "{} bytes were read", file.bytes);
    match answer {
        Ok(disk) => {
            assert_eq!(disk.format, declared);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), [declared]);
            assert!(allowed.is_none_or(|allowed| disk.virtual_size <= allowed));
            assert_eq!(inspect(&mut file, declared, allowed).expect("it was taken"), disk);
            if let Some(less) = disk.virtual_size.checked_sub(1) {
                let refusal = inspect(&mut file, declared, Some(less));
                assert!(matches!(refusal, Err(Refusal::TooLarge { .. })), "{refusal:?}");
            }
            names_no_file(disk, &file);
        }
        Err(refusal) => assert!(refusal.to_string().len() < 1024, "{refusal}"),
    }
}

/// An image that was taken is all in its file, whichever of its headers is believed.
fn names_no_file(disk: Disk, file: &Sparse) {
    let be32 = |at| u32::from_be_bytes(file.peek(at));
    let be64 = |at| u64::from_be_bytes(file.peek(at));
    let le32 = |at| u32::from_le_bytes(file.peek(at));
    let le64 = |at| u64::from_le_bytes(file.peek(at));
    let end = file.len();
    match disk.format {
        Format::Raw => {
            assert_eq!(disk.virtual_size, end);
            assert_ne!(file.peek(0), *b"QFI\xfb");
            assert_ne!(file.peek(0), *b"KDMV");
            assert_ne!(file.peek(0), *b"vhdxfile");
            assert_ne!(file.peek(0), *b"conectix");
            assert_ne!(file.peek(0), *b"LUKS\xba\xbe");
            assert_ne!(file.peek(0x8001), *b"CD001");
        }
        Format::Qcow2 => {
            assert_eq!(disk.virtual_size, be64(24));
            assert!([2, 3].contains(&be32(4)));
            assert_eq!((be64(8), be32(16)), (0, 0), "it has a backing file");
            assert!(be64(40) < end || be32(36) == 0);
            if be32(4) == 3 {
                assert_eq!(be64(72) & !0b11001, 0, "it has a feature that is not known");
                assert_eq!(be64(88) & 2, 0, "it has a raw data file");
            }
        }
        Format::Vmdk => {
            assert_eq!(Some(disk.virtual_size), le64(12).checked_mul(512));
            let (at, sectors) = (le64(28) * 512, le64(36));
            assert!(at != 0 && sectors <= 2048);
            let mut text = Vec::new();
            for sector in 0..sectors {
                text.extend(file.peek::<512>(at + sector * 512));
            }
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = String::from_utf8_lossy(text).to_lowercase();
            let lines = || text.lines().filter(|line| !line.trim_start().starts_with('#'));
            let of = |what: &str| lines().filter(|line| line.contains(what)).count();
            let extents = lines().filter(|line| line.trim_start().starts_with("rw "));
            let read_only = lines().filter(|line| line.trim_start().starts_with("rdonly "));
            assert_eq!(extents.count() + read_only.count(), 1, "{text}");
            assert!(!lines().any(|line| line.trim_start().starts_with("noaccess")), "{text}");
            assert_eq!(of("parentfilenamehint"), 0, "{text}");
            let parents = lines().filter(|line| line.trim_start().starts_with("parentcid"));
            assert!(parents.into_iter().all(|line| line.contains("ffffffff")), "{text}");
        }
        Format::Vhd => {
            let footer = end - 512;
            assert_eq!(file.peek(footer), *b"conectix");
            assert!(disk.virtual_size >= be64(footer + 48));
            assert!([2, 3].contains(&be32(footer + 60)), "it has a parent");
            if be32(footer + 60) == 3 {
                assert_eq!(file.peek::<512>(0), file.peek::<512>(footer));
                let second = be64(footer + 16);
                assert!(second + 1024 <= end);
                assert_eq!(file.peek(second), *b"cxsparse");
                assert_eq!(file.peek(second + 40), [0; 16], "it has a parent");
                assert_eq!(file.peek(second + 64), [0; 704], "it has a parent's name");
            }
        }
        Format::Vhdx => {
            for head in [64 << 10, 128 << 10] {
                assert_eq!(file.peek(head), *b"head");
                assert_eq!(file.peek(head + 48), [0; 16], "its log is not empty");
            }
            let regions = |at: u64| {
                let of = |index| file.peek::<32>(at + 16 + 32 * index);
                (0..u64::from(le32(at + 8))).map(of).collect::<Vec<_>>()
            };
            assert_eq!(regions(192 << 10), regions(256 << 10));
            assert_eq!(regions(192 << 10).len(), 2);
        }
        Format::Vdi => {
            assert_eq!(disk.virtual_size, le64(368));
            assert!([1, 2].contains(&le32(76)), "it has a parent");
            assert_eq!(file.peek(0x1a8), [0; 32], "it has a parent");
            assert!(u64::from(le32(384)) << 20 >= disk.virtual_size);
        }
        Format::Luks => {
            assert_eq!(file.peek(6), [0, 1]);
            assert_eq!(disk.virtual_size + u64::from(be32(104)) * 512, end);
        }
        Format::Iso => {
            assert_eq!(disk.virtual_size, end);
            assert_eq!(file.peek(0x8000), *b"\x01CD001\x01");
        }
        other => panic!("{other} was taken"),
    }
}

/// Without this nothing gets past the first checksum.
fn mend_vhd(file: &mut Sparse) {
    let Some(end) = file.len().checked_sub(512) else { return };
    let sum = |bytes: &[u8], at: usize| {
        let counted = bytes.iter().enumerate().filter(|(index, _)| !(at..at + 4).contains(index));
        !counted.map(|(_, byte)| u32::from(*byte)).sum::<u32>()
    };
    let footer = file.peek::<512>(end);
    let second = u64::from_be_bytes(file.peek(end + 16));
    if footer[60..64] == [0, 0, 0, 3] && (512..end).contains(&second) {
        let bytes = file.peek::<1024>(second);
        file.put(second + 36, sum(&bytes, 36).to_be_bytes().to_vec());
    }
    let footer = sum(&file.peek::<512>(end), 64).to_be_bytes();
    file.put(end + 64, footer.to_vec());
    if file.peek(0) == *b"conectix" {
        let whole = file.peek::<512>(end);
        file.put(0, whole.to_vec());
    }
}
