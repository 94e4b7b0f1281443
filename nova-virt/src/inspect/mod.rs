//! What an image's bytes are, found out before anything else opens them.
//!
//! Programs that open disk images do what the images say: read another file of the host, believe
//! in a size, guess a format. [`inspect`] reads an image's headers as nothing but numbers and
//! texts, and refuses what a host must not open. It follows the rules that OpenStack came to after
//! CVE-2015-5163, CVE-2022-47951, CVE-2024-32498 and CVE-2024-40767, and is stricter where they
//! leave room.
//!
//! - The format that was declared has to be the one that the bytes show, and no other; raw is what
//!   shows nothing.
//! - An image names no other file: no backing file, no external data file, no parent, and no
//!   extent but itself.
//! - What is not understood is refused: versions, features, lines of descriptors.
//! - The disk that a guest would see is not larger than is allowed.
//!
//! A raw disk may say anything else, also in a table of its partitions that cannot be true. Whoever
//! sees only bytes there does not read it, and disks that were grown, cut short, or never had a
//! table look like that.
//!
//! Archives of root file systems are another matter: see [`inspect_archive`].
//!
//! A guest can write any header onto its own raw disk. So inspect again whatever a guest has had,
//! before it is used anew, and name the format to every program that opens it.
//!
//! ```
//! use std::io::Cursor;
//! use nova_virt::inspect::{Format, Refusal, inspect};
//!
//! let mut qcow2 = vec![0; 512];
//! qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
//! let refusal = inspect(&mut Cursor::new(qcow2), Format::Raw, None).unwrap_err();
//! assert_eq!(refusal.to_string(), "it is declared to be raw and looks like qcow2");
//!
//! let disk = inspect(&mut Cursor::new(vec![0; 512]), Format::Raw, None).unwrap();
//! assert_eq!(disk.virtual_size, 512);
//! # let _: Refusal = refusal;
//! ```

pub(crate) mod archive;
mod bytes;
mod others;
mod qcow2;
mod vhd;
mod vhdx;
mod vmdk;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::str::FromStr;

use nova_core::domain::{ImageFormat, Invalid};

pub use self::archive::{Archive, inspect_archive};
pub(crate) use self::bytes::Bytes;
pub use self::bytes::ReadSeek;
use self::qcow2::Below;

/// A format of disk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The disk's bytes and nothing else.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
    /// VMware's, in one file.
    Vmdk,
    /// Microsoft's of Virtual PC, fixed or dynamic.
    Vhd,
    /// Microsoft's of Hyper-V.
    Vhdx,
    /// VirtualBox's.
    Vdi,
    /// A disk that is encrypted by LUKS.
    Luks,
    /// A CD.
    Iso,
    /// QEMU's first copy-on-write format; known in order to be refused, as all that follow.
    Qcow,
    /// QEMU's enhanced disk.
    Qed,
    /// VMware's, a text that names other files.
    VmdkText,
    /// VMware's of ESX 2.
    Cowd,
    /// That of Parallels.
    Parallels,
    /// That of Bochs.
    Bochs,
    /// A compressed loop.
    Cloop,
    /// Apple's.
    Dmg,
}

impl Format {
    /// Every format that an image may have.
    pub const ACCEPTED: [Self; 8] = [
        Self::Raw,
        Self::Qcow2,
        Self::Vmdk,
        Self::Vhd,
        Self::Vhdx,
        Self::Vdi,
        Self::Luks,
        Self::Iso,
    ];

    /// Whether an image may have it.
    pub fn is_accepted(self) -> bool {
        Self::ACCEPTED.contains(&self)
    }

    /// The name that image services use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
            Self::Luks => "luks",
            Self::Iso => "iso",
            Self::Qcow => "qcow",
            Self::Qed => "qed",
            Self::VmdkText => "vmdk descriptor",
            Self::Cowd => "cowd",
            Self::Parallels => "parallels",
            Self::Bochs => "bochs",
            Self::Cloop => "cloop",
            Self::Dmg => "dmg",
        }
    }

    /// That of an image's disk; none for an archive of files.
    pub fn of(format: ImageFormat) -> Option<Self> {
        match format {
            ImageFormat::Raw => Some(Self::Raw),
            ImageFormat::Qcow2 => Some(Self::Qcow2),
            ImageFormat::Vmdk => Some(Self::Vmdk),
            ImageFormat::Vhd => Some(Self::Vhd),
            ImageFormat::Vhdx => Some(Self::Vhdx),
            ImageFormat::Vdi => Some(Self::Vdi),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let known = Self::ACCEPTED.into_iter().find(|format| format.name() == text);
        let allowed = "raw, qcow2, vmdk, vhd, vhdx, vdi, luks or iso";
        known.ok_or_else(|| Invalid::new("image format", text, allowed))
    }
}

/// A disk image that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Its format: name it to every program that opens the file.
    pub format: Format,
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
}

/// Why an image must not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes show another format than was declared.
    #[error("it is declared to be {declared} and looks like {}", names(found))]
    Disguised {
        /// What was said.
        declared: Format,
        /// What the bytes show.
        found: BTreeSet<Format>,
    },
    /// The bytes show several formats: who opens it decides what it is.
    #[error("it looks like {}, and can only be one", names(found))]
    Ambiguous {
        /// What the bytes show.
        found: BTreeSet<Format>,
    },
    /// No image may have this format.
    #[error("images of the format {0} are not taken: raw, qcow2, vmdk, vhd, vhdx, vdi, luks, iso")]
    Banned(Format),
    /// It names another file, which would be read in its place.
    #[error("it names another file: {0}")]
    OtherFile(&'static str),
    /// It has a feature that is not known, or not taken.
    #[error("{what} {value:#x} is not taken")]
    Unknown {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// It contradicts itself, or its format.
    #[error("{0}")]
    Wrong(&'static str),
    /// It ends before something that it has to have.
    #[error("it ends before its {what} is complete")]
    Short {
        /// What is missing.
        what: &'static str,
    },
    /// A line of a descriptor is none that is taken.
    #[error("its descriptor says {line:?}, which is not taken")]
    Line {
        /// The line, or its beginning.
        line: String,
    },
    /// An entry of an archive is one that must not be unpacked.
    #[error("its entry {path:?} {why}")]
    Entry {
        /// The path, or its beginning.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It has more of something than is taken.
    #[error("it has more than {most} {what}")]
    TooMany {
        /// What it has.
        what: &'static str,
        /// The most that is taken.
        most: u64,
    },
    /// A guest would see a larger disk, or larger files, than is allowed.
    #[error("a guest would see {virtual_size} bytes of it, more than {allowed}")]
    TooLarge {
        /// Its size.
        virtual_size: u64,
        /// The largest that is allowed.
        allowed: u64,
    },
    /// It could not be read.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

fn names(formats: &BTreeSet<Format>) -> String {
    let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    names.join(" and ")
}

/// Every format that the bytes show; [`Format::Raw`] alone where they show none.
///
/// # Errors
/// [`Refusal::Io`].
pub fn detect(file: &mut dyn ReadSeek) -> Result<BTreeSet<Format>, Refusal> {
    shown(&mut Bytes::new(file)?)
}

/// Finds out whether a file is a disk image of the format that was `declared`, and one that a
/// host may open; with a disk of at most `size_max` bytes, where that is given.
///
/// It reads a few headers and at most a mebibyte of descriptor or table, whatever they say.
///
/// # Errors
/// [`Refusal`] says what was found that must not be.
pub fn inspect(
    file: &mut dyn ReadSeek,
    declared: Format,
    size_max: Option<u64>,
) -> Result<Disk, Refusal> {
    look(file, declared, size_max, Below::Nothing)
}

/// The same for a qcow2 that lies over another file. Whatever name it gives that file is not looked
/// at: so never let a program follow it, but say what lies below and of which format it is.
///
/// # Errors
/// [`Refusal`] says what was found that must not be.
pub fn inspect_overlay(file: &mut dyn ReadSeek, size_max: Option<u64>) -> Result<Disk, Refusal> {
    look(file, Format::Qcow2, size_max, Below::Named)
}

fn look(
    file: &mut dyn ReadSeek,
    declared: Format,
    size_max: Option<u64>,
    below: Below,
) -> Result<Disk, Refusal> {
    let mut bytes = Bytes::new(file)?;
    let found = shown(&mut bytes)?;
    if !declared.is_accepted() {
        return Err(Refusal::Banned(declared));
    }
    if let Some(banned) = found.iter().find(|format| !format.is_accepted()) {
        return Err(Refusal::Banned(*banned));
    }
    if found.len() > 1 {
        return Err(Refusal::Ambiguous { found });
    }
    if !found.contains(&declared) {
        return Err(Refusal::Disguised { declared, found });
    }
    let virtual_size = match declared {
        Format::Qcow2 => qcow2::disk(&mut bytes, below)?,
        Format::Vmdk => vmdk::disk(&mut bytes)?,
        Format::Vhd => vhd::disk(&mut bytes)?,
        Format::Vhdx => vhdx::disk(&mut bytes)?,
        Format::Vdi => others::vdi(&mut bytes)?,
        Format::Luks => others::luks(&mut bytes)?,
        Format::Iso => others::iso(&mut bytes)?,
        _ => bytes.len(),
    };
    match size_max {
        Some(allowed) if virtual_size > allowed => Err(Refusal::TooLarge { virtual_size, allowed }),
        _ => Ok(Disk { format: declared, virtual_size }),
    }
}

/// How much of the beginning any detection looks at.
const HEAD: usize = 512;

fn shown(bytes: &mut Bytes<'_>) -> Result<BTreeSet<Format>, Refusal> {
    let mut head = [0; HEAD];
    let head = bytes.some(0, &mut head)?.to_vec();
    let begins = |magic: &[u8]| head.starts_with(magic);
    let version = head.get(4..8) == Some(&[0, 0, 0, 1]);
    let mut found = BTreeSet::new();
    let magics: [(Format, bool); 12] = [
        (Format::Qcow2, begins(b"QFI\xfb") && !version),
        (Format::Qcow, begins(b"QFI\xfb") && version),
        (Format::Qed, begins(b"QED\0")),
        (Format::Vmdk, begins(b"KDMV")),
        (Format::Cowd, begins(b"COWD")),
        (Format::VmdkText, vmdk::is_text(&head)),
        (Format::Vhdx, begins(b"vhdxfile")),
        (Format::Vdi, head.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe])),
        (Format::Luks, begins(b"LUKS\xba\xbe")),
        (Format::Parallels, begins(b"WithoutFreeSpace") || begins(b"WithouFreSpacExt")),
        (Format::Bochs, begins(b"Bochs Virtual HD Image")),
        (Format::Cloop, begins(b"#!/bin/sh\n#V2.0 Format\n")),
    ];
    found.extend(magics.into_iter().filter(|(_, there)| *there).map(|(format, _)| format));
    // The last sector of a fixed disk, of 511 bytes where an old Virtual PC made it.
    let ends = |bytes: &mut Bytes<'_>, back: u64, magic: &[u8]| match bytes.len().checked_sub(back)
    {
        Some(offset) => bytes.has(offset, magic),
        None => Ok(false),
    };
    if begins(b"conectix") || ends(bytes, 512, b"conectix")? || ends(bytes, 511, b"conectix")? {
        found.insert(Format::Vhd);
    }
    if ends(bytes, 512, b"koly")? {
        found.insert(Format::Dmg);
    }
    if others::is_iso(bytes)? {
        found.insert(Format::Iso);
    }
    if found.is_empty() {
        found.insert(Format::Raw);
    }
    Ok(found)
}
