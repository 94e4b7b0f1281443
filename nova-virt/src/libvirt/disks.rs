//! The files of a guest's disks. Whoever reads or writes one is told its format, always.

use std::io;
use std::path::Path;
use std::process::Command;

use super::tools::{self, run};
use crate::domain::{Backing, Disk, DiskFormat};

/// The word of tools and hypervisors for a format.
pub(super) const fn word(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    }
}

/// Makes a disk, as large as it is to be, in place of what is there.
pub(super) fn make(disk: &Disk) -> io::Result<()> {
    let path = Path::new(&disk.path);
    crate::files::remove(path)?;
    match (disk.format, &disk.backing) {
        (DiskFormat::Raw, None) => {
            let file = std::fs::File::create_new(path)?;
            file.set_len(disk.size_bytes.unwrap_or_default())
        }
        (format, backing) => {
            let mut tool = qemu_img("create");
            tool.args(["-q", "-f", word(format)]);
            if let Some(Backing { path, format }) = backing {
                tool.args(["-F", word(*format), "-b", path]);
            }
            tool.arg(path);
            if let Some(size) = disk.size_bytes {
                tool.arg(size.to_string());
            }
            run(tool)
        }
    }
}

/// Copies what a guest sees on a disk that is not in use into a file of its own.
pub(super) fn copy(disk: &Disk, into: &Path, format: DiskFormat) -> io::Result<()> {
    // Reading a whole disk takes as long as it takes: only memory is limited.
    let mut tool = limited(&[tools::MEMORY], "convert");
    tool.args(["-q", "-f", word(disk.format), "-O", word(format), &disk.path]).arg(into);
    run(tool)
}

fn qemu_img(verb: &str) -> Command {
    limited(&[tools::MEMORY, tools::CPU], verb)
}

fn limited(limits: &[&str], verb: &str) -> Command {
    let mut tool = tools::limited("qemu-img", limits);
    tool.arg(verb);
    tool
}
