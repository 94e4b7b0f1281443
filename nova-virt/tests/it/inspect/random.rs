//! Whatever the bytes are, there is an answer.

use std::io::Cursor;

use nova_virt::inspect::{Format, detect, inspect};
use proptest::prelude::*;

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
}
