//! Whatever the bytes are, there is an answer.

use std::io::Cursor;

use nova_virt::inspect::{Format, detect, inspect, inspect_archive};
use proptest::prelude::*;

use super::archives::makers::{Head, Tar, gnu_sparse, hostile, pax_sparse};
use super::makers::*;

fn whole() -> Vec<(Format, Made)> {
    vec![
        (Format::Raw, raw().cut(4096)),
        (Format::Qcow2, qcow2(2)),
        (Format::Qcow2, qcow2(3)),
        (Format::Vmdk, vmdk(&descriptor("monolithicSparse"))),
        (Format::Vmdk, stream()),
        (Format::Vhd, vhd_dynamic()),
        (Format::Vhdx, vhdx()),
        (Format::Vdi, vdi().cut(64 << 10)),
        (Format::Luks, luks().cut(64 << 10)),
        (Format::Iso, iso()),
    ]
}

/// Archives of every kind of entry, and those that are refused, which are most of the way there.
fn archives() -> Vec<Vec<u8>> {
    let tree = Tar::default().directory("./").file("./a", b"x").link("b", "a").symlink("c", "/a");
    let long = tree.data(Head::gnu(b'L', "././@LongLink"), &[b'n'; 130]).file("d", b"y");
    let said = long.pax(&[("path", "e/f"), ("size", "1"), ("mtime", "1.5")]).file("g", b"z");
    let holes = said.data(gnu_sparse("h", &[(4096, 512)], 8192), &[7; 512]);
    let map = pax_sparse("i", "2\n0\n1\n9\n1\n", b"xy", "10");
    let whole = holes.and(&map.0).end().0;
    let refused = hostile()
        .into_iter()
        .map(|(_, tar, _)| tar)
        .filter(|tar| (1..64 << 10).contains(&tar.len()));
    refused.chain(std::iter::repeat_n(whole, 100)).collect()
}

/// Makes the checksums of headers right, as far as their sizes lead from one to the next.
fn mend(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = tar.get_mut(at..at + 512).filter(|head| head.iter().any(|b| *b != 0)) {
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&head[124..135]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 8).ok()).unwrap_or(0);
        at += 512 + size.next_multiple_of(512);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// An image with a few numbers of chance in it, and cut somewhere, is taken or refused; what is
    /// taken is of the format that was declared, no larger than was allowed, and taken again.
    #[test]
    fn a_damaged_image_is_taken_or_refused(
        which in 0..10_usize,
        changes in prop::collection::vec((0..2048_usize, any::<u32>(), 0..9_u32), 0..6),
        far in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        max in prop::option::of(any::<u64>()),
    ) {
        let (declared, mut made) = whole().swap_remove(which);
        for (at, number, shift) in changes {
            // Small numbers are likelier than large ones to get far.
            made = made.be32(at, number.checked_shr(shift * 4).unwrap_or(0));
        }
        for (index, byte) in far {
            let at = index.index(made.0.len());
            made.0[at] = byte;
        }
        if let Some(cut) = cut {
            let len = cut.index(made.0.len());
            made = made.cut(len);
        }
        let found = detect(&mut Cursor::new(&made.0)).unwrap();
        prop_assert!(!found.is_empty());
        if let Ok(disk) = inspect(&mut Cursor::new(&made.0), declared, max) {
            prop_assert_eq!(disk.format, declared);
            prop_assert_eq!(found.into_iter().collect::<Vec<_>>(), [declared]);
            prop_assert!(max.is_none_or(|max| disk.virtual_size <= max));
            prop_assert_eq!(inspect(&mut Cursor::new(&made.0), declared, max).unwrap(), disk);
        }
    }

    /// Bytes of chance are a raw disk, unless they look like something.
    #[test]
    fn anything_is_something(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let found = detect(&mut Cursor::new(&bytes)).unwrap();
        let raw = inspect(&mut Cursor::new(&bytes), Format::Raw, None);
        prop_assert_eq!(raw.is_ok(), found.contains(&Format::Raw));
    }

    /// An archive with a few bytes of chance in it, and cut somewhere, is taken or refused; what is
    /// taken is no larger than was allowed, and taken again.
    #[test]
    fn a_damaged_archive_is_taken_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        max in prop::option::of(0..20_000_u64),
    ) {
        let archives = archives();
        let mut tar = which.get(&archives).clone();
        for (index, byte) in changes {
            let at = index.index(tar.len());
            tar[at] = byte;
        }
        mend(&mut tar);
        if let Some(cut) = cut {
            tar.truncate(cut.index(tar.len() + 1));
        }
        if let Ok(archive) = inspect_archive(&mut Cursor::new(&tar), max) {
            prop_assert!(archive.entries > 0 && archive.bytes <= 200 * tar.len() as u64);
            prop_assert!(max.is_none_or(|max| archive.bytes <= max));
            prop_assert_eq!(inspect_archive(&mut Cursor::new(&tar), max).unwrap(), archive);
        }
    }
}
