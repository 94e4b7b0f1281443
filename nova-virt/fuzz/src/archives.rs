//! What has to be true of an archive that was unpacked, and of one that was not.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nova_virt::inspect::inspect_archive;
use nova_virt::libvirt::fuzzing::unpack;

/// The most bytes that are unpacked.
const SIZE_MAX: u64 = 1 << 20;

/// Looks at an archive and unpacks it, whatever was said of it. The first byte of the input says
/// whether checksums are made right.
pub fn look(input: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let Some((mend, archive)) = input.split_first() else { return };
    let mut archive = archive.to_vec();
    if mend & 1 != 0 {
        mend_sums(&mut archive);
    }
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("rootfs-{}", std::process::id()));
        fs::create_dir_all(folder.join("beside")).expect("a folder can be made");
        folder
    });
    let (file, into) = (folder.join("tar"), folder.join("root"));
    fs::write(&file, &archive).expect("a file can be written");
    let found = inspect_archive(&mut Cursor::new(&archive), Some(SIZE_MAX));
    let unpacked = unpack(&file, &into, Some(SIZE_MAX));
    match (found, unpacked) {
        (Ok(found), Ok(())) => {
            assert!(found.bytes <= SIZE_MAX && found.bytes <= 200 * archive.len() as u64);
            let mut bytes = 0;
            walk(&into, &mut bytes);
            // A file with several names is found several times.
            assert!(bytes <= found.bytes * found.entries);
            fs::remove_dir_all(&into).expect("it can be removed");
        }
        (Err(refusal), Err(error)) => {
            assert!(refusal.to_string().len() < 1024, "{refusal}");
            assert_eq!(error.to_string(), refusal.to_string());
        }
        (found, unpacked) => panic!("{found:?} but {unpacked:?}"),
    }
    let left = fs::read_dir(folder).expect("it can be read").count();
    let beside = fs::read_dir(folder.join("beside")).expect("it can be read").count();
    assert_eq!((left, beside), (2, 0), "there is something else now");
}

/// Looks at everything that was unpacked.
fn walk(folder: &Path, bytes: &mut u64) {
    for entry in fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let meta = path.symlink_metadata().expect("it is there");
        let kind = meta.file_type();
        assert!(meta.uid() < 65_536 && meta.gid() < 65_536);
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{}", path.display());
        if kind.is_file() {
            assert_eq!(meta.mode() & 0o6000, 0, "it runs as somebody of the host");
            *bytes += meta.size();
        }
        if kind.is_dir() {
            walk(&path, bytes);
        }
    }
}

/// Without this nothing gets past the first checksum.
fn mend_sums(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = archive.get_mut(at..at + 512) {
        if head.iter().all(|byte| *byte == 0) {
            return;
        }
        head[148..156].fill(b' ');
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&head[124..135]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 8).ok()).unwrap_or(0);
        at += 512 + size.next_multiple_of(512);
    }
}
