//! The files of a guest's disks. Whoever reads or writes one is told its format, always.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::domain::{Backing, Disk, DiskFormat};
use crate::tools::{self, run};

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
    tool.args(["-q", "-O", word(format), &chain(disk)]).arg(into);
    run(tool)
}

/// Grows a disk that is not in use.
pub(super) fn grow(disk: &Disk, size: u64) -> io::Result<()> {
    if disk.format == DiskFormat::Raw {
        return std::fs::OpenOptions::new().write(true).open(&disk.path)?.set_len(size);
    }
    let mut tool = qemu_img("resize");
    tool.args(["-q", &chain(disk), &size.to_string()]);
    run(tool)
}

/// Writes into a disk what lies below it, whatever it said before. Nothing is opened but itself.
pub(super) fn lay_over(disk: &Disk) -> io::Result<()> {
    let Some(Backing { path, format }) = &disk.backing else { return Ok(()) };
    let mut tool = qemu_img("rebase");
    tool.args(["-q", "-u", "-f", word(disk.format), "-F", word(*format), "-b", path, &disk.path]);
    run(tool)
}

/// A disk as tools open it: with everything that lies below it said, so that nothing is looked up
/// in the file.
fn chain(disk: &Disk) -> String {
    let file = |path: &str| serde_json::json!({ "driver": "file", "filename": path });
    let mut chain = serde_json::json!({ "driver": word(disk.format), "file": file(&disk.path) });
    if let Some(Backing { path, format }) = &disk.backing {
        let mut below = serde_json::json!({ "driver": word(*format), "file": file(path) });
        if *format == DiskFormat::Qcow2 {
            below["backing"] = serde_json::Value::Null;
        }
        chain["backing"] = below;
    } else if disk.format == DiskFormat::Qcow2 {
        chain["backing"] = serde_json::Value::Null;
    }
    format!("json:{chain}")
}

fn qemu_img(verb: &str) -> Command {
    limited(&[tools::MEMORY, tools::CPU], verb)
}

fn limited(limits: &[&str], verb: &str) -> Command {
    let mut tool = tools::limited("qemu-img", limits);
    tool.arg(verb);
    tool
}
