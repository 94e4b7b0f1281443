//! Config drives: what a guest is told on a disk of its own, where no network can tell it.
//!
//! The disk is an ISO 9660 file system with the label `config-2`, by which `cloud-init` and its
//! like find it. It is made once, with the guest, and is read-only.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use nova_core::port::GuestSpec;

use crate::tools;

/// Knows what guests are to find on their config drives.
///
/// Nobody here knows what a metadata service would say. Whoever has one puts both together: the
/// answers under `openstack/latest/meta_data.json`, `…/network_data.json` and `…/user_data` are
/// what guests look for.
#[async_trait]
pub trait GuestFiles: Debug + Send + Sync + 'static {
    /// The files of a guest that is being made, by their paths on the drive; none when it is to
    /// have no drive.
    ///
    /// # Errors
    /// Why that cannot be said now; the guest is not made then.
    async fn files(
        &self,
        guest: &GuestSpec,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, Box<dyn std::error::Error + Send + Sync>>;
}

const _: fn(Box<dyn GuestFiles>) = |files| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(files);
};

/// The label that guests look for.
const LABEL: &str = "config-2";

/// The most files of a drive.
const FILES_MAX: usize = 256;

/// The most bytes of all files of a drive: what Nova allows.
const BYTES_MAX: usize = 64 << 20;

/// Makes a drive in place of what is there. The folder beside it is used meanwhile.
///
/// # Errors
/// With [`InvalidInput`](io::ErrorKind::InvalidInput), a path that leads out of the drive, or too
/// much of something.
pub(super) fn make(drive: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    check(files)?;
    crate::files::remove(drive)?;
    let folder = drive.with_extension("folder");
    remove(&folder)?;
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        std::fs::write(path, bytes)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut tool = tools::limited("genisoimage", &[tools::MEMORY, tools::CPU]);
    tool.args(["-quiet", "-input-charset", "utf-8", "-V", LABEL, "-J", "-r", "-o"]);
    tool.arg(drive).arg(&folder);
    tools::run(tool)?;
    remove(&folder)
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn check(files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let wrong = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if files.len() > FILES_MAX {
        return wrong(format!("a config drive of {} files: at most {FILES_MAX}", files.len()));
    }
    let bytes: usize = files.values().map(Vec::len).sum();
    if bytes > BYTES_MAX {
        return wrong(format!("a config drive of {bytes} bytes: at most {BYTES_MAX}"));
    }
    for path in files.keys() {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let inside = !path.is_empty()
            && !path.chars().any(char::is_control)
            && PathBuf::from(path).components().all(plain);
        if !inside {
            return wrong(format!("a file of a config drive: {path:?} leads out of it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.iso");
        let files =
            files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        make(&path, &files)?;
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the drive: {left:?}");
        std::fs::read(path)
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in ["", "/etc/passwd", "../up", "a/../../up", ".", "a\nb", "a\0b"] {
            let refused = drive(&[(path, b"x")]).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        let large = vec![0; BYTES_MAX + 1];
        assert_eq!(drive(&[("a", &large)]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_drive_has_its_label_and_its_files() {
        if std::process::Command::new("genisoimage").arg("-version").output().is_err() {
            println!("skipped: a config drive: genisoimage is not installed");
            return;
        }
        let text = b"{\"name\":\"w\xc3\xa9b\"}";
        let bytes = drive(&[("openstack/latest/meta_data.json", text)]).unwrap();
        let has = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        assert_eq!(&bytes[0x8028..0x8030], LABEL.as_bytes());
        assert!(has(text) && has(b"meta_data.json"));
        let mut image = io::Cursor::new(bytes);
        let inspected = crate::inspect::inspect(&mut image, crate::inspect::Format::Iso, None);
        assert!(inspected.is_ok(), "{inspected:?}");
    }
}
