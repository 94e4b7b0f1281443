//! The images that a host has: each downloaded once, looked at before it is used, and kept for as
//! long as anybody needs it.

mod convert;
mod fetch;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nova_core::clock::{Clock, Timestamp};
use nova_core::domain::{Image, ImageContent, ImageFormat, ImageId, InstanceId};
use nova_core::port::{ImageError, ImageStore};

pub use self::convert::{Conversion, ConversionError};
pub(crate) use self::shelf::is_checksum;
use self::shelf::{Converted, Note, Shelf, Stamp};
use crate::digest;
use crate::files::{self, FileError};
use crate::inspect::{Disk, Format, Refusal, inspect, inspect_archive};

/// The images of one host, in a directory that is its alone.
///
/// - An image is found by what it holds: two images with the same bytes are one file.
/// - However many guests ask at the same time, it is downloaded once; whoever comes later waits.
///   When the one who downloads gives up, the next one does it.
/// - What was downloaded is measured against what was registered and [inspected](crate::inspect)
///   before anybody is given it. A file that was changed since is measured again, and replaced
///   when it is not what it was.
/// - Where [conversions](Self::with_conversion) are wanted, an image whose format no hypervisor starts
///   from is converted before it is kept, and what was made of it is inspected in its turn. It is
///   still found by what it held before.
/// - An image is in use while a [`Base`] of it is held, and while a guest [keeps](Self::keep) it,
///   which outlives the process. What is in use is never removed; what is not goes when nobody has
///   used it for a while, or when its room is needed.
///
/// Nothing is written into the file of an image: it is read-only, and disks lie over it.
#[derive(Debug, Clone)]
pub struct ImageCache {
    inner: Arc<Inner>,
    idle: Duration,
    room: Option<u64>,
    conversion: Option<Conversion>,
}

#[derive(Debug)]
struct Inner {
    shelf: Shelf,
    clock: Arc<dyn Clock>,
    /// Of each image that somebody holds or wants, by its checksum.
    wanted: Mutex<BTreeMap<String, Wanted>>,
    /// How many downloads were begun.
    downloads: AtomicU64,
}

/// An image that somebody holds or wants.
#[derive(Debug, Default)]
struct Wanted {
    holders: usize,
    /// Held by the one who looks whether it is there, or downloads it.
    turn: Arc<tokio::sync::Mutex<()>>,
    download: Option<(ImageId, u64, Arc<AtomicU64>)>,
}

/// An image that is on the host and stays there while this is held.
#[derive(Debug)]
pub struct Base {
    holder: Holder,
    path: PathBuf,
    disk: Option<Disk>,
}

impl Base {
    /// The file. It is read-only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What kind of disk the file is, as it was inspected; none for an archive of files.
    pub fn disk(&self) -> Option<Disk> {
        self.disk
    }
}

/// One who holds or wants an image.
#[derive(Debug)]
struct Holder {
    inner: Arc<Inner>,
    sha256: String,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut wanted = self.inner.wanted();
        if let Some(one) = wanted.get_mut(&self.sha256) {
            one.holders -= 1;
            if one.holders == 0 {
                wanted.remove(&self.sha256);
            }
        }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Download {
    /// The image that was asked for first.
    pub image: ImageId,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes that it has.
    pub of: u64,
}

/// An image of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// What it holds.
    pub content: ImageContent,
    /// When it was last asked for, give or take a tenth of the time after which it may go.
    pub used_at: Timestamp,
    /// How many bytes its file has here, which are others where it was converted.
    pub file_bytes: u64,
    /// Whether it is in use.
    pub in_use: bool,
}

impl Inner {
    fn wanted(&self) -> MutexGuard<'_, BTreeMap<String, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ImageCache {
    /// How long an image stays after it was last used, unless told otherwise.
    pub const IDLE: Duration = Duration::from_secs(24 * 3600);

    /// The images in `directory`, which is made when it is not there. Halves of downloads that
    /// were cut short are removed.
    ///
    /// # Errors
    /// [`FileError::InUse`] while another has it; [`FileError::Io`].
    pub fn at(directory: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        let shelf = Shelf::at(directory.as_ref())?;
        let inner = Inner { shelf, clock, wanted: Mutex::default(), downloads: AtomicU64::new(0) };
        Ok(Self { inner: Arc::new(inner), idle: Self::IDLE, room: None, conversion: None })
    }

    /// Lets images go that nobody has used for so long, when it is [pruned](Self::prune).
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Takes no more than so many bytes, beside what is being downloaded: images that are not in
    /// use go for others, those first that were not used for longest.
    #[must_use]
    pub fn with_room(self, bytes: u64) -> Self {
        Self { room: Some(bytes), ..self }
    }

    /// Converts images whose format no hypervisor starts from (vmdk, vhd, vhdx, vdi) into qcow2,
    /// within these limits; without, they are refused.
    #[must_use]
    pub fn with_conversion(self, conversion: Conversion) -> Self {
        Self { conversion: Some(conversion), ..self }
    }

    /// The image on this host, downloaded from `images` unless it is there. A guest may see a disk
    /// of at most `size_max` bytes, where that is given.
    ///
    /// # Errors
    /// [`ImageError::Refused`] when it must not be opened, its disk is too large, or it could not be
    /// [converted](ConversionError) within the limits;
    /// [`ImageError::Mismatch`] when it is not what was registered; those of the store;
    /// [`ImageError::Io`], with [`StorageFull`](io::ErrorKind::StorageFull) when there is no room.
    /// Nothing of it is kept then.
    pub async fn base(
        &self,
        image: &Image,
        size_max: Option<u64>,
        images: &dyn ImageStore,
    ) -> Result<Base, ImageError> {
        let sha256 = image.content.sha256.clone();
        if !is_checksum(&sha256) {
            let source = io::Error::new(io::ErrorKind::InvalidData, "its checksum is none");
            return Err(ImageError::Io { image: image.id, operation: "look for it", source });
        }
        let (holder, turn) = self.join(&sha256);
        let _turn = turn.lock().await;
        let path = self.inner.shelf.file(&sha256, "image");
        let converted = match self.has(image).await? {
            Some(note) => note.converted,
            None => self.download(image, size_max, images).await?,
        };
        let declared = match converted {
            // The same bytes cannot be of another format.
            Some(Converted { from, .. }) if from != image.format => {
                let formats = Format::of(image.format).zip(Format::of(from));
                let disguised = formats.map(|(declared, from)| {
                    let found = BTreeSet::from([from]);
                    Refusal::Disguised { declared, found }
                });
                let refusal = disguised.unwrap_or(Refusal::Wrong("it is no archive of files"));
                return Err(refused(image.id, refusal));
            }
            Some(_) => convert::INTO,
            None => image.format,
        };
        let disk = self.look(image.id, declared, &path, size_max).await?;
        Ok(Base { holder, path, disk })
    }

    /// One more who wants an image; and what is held while it is looked for.
    fn join(&self, sha256: &str) -> (Holder, Arc<tokio::sync::Mutex<()>>) {
        let mut wanted = self.inner.wanted();
        let one = wanted.entry(sha256.to_owned()).or_default();
        one.holders += 1;
        let holder = Holder { inner: Arc::clone(&self.inner), sha256: sha256.to_owned() };
        (holder, Arc::clone(&one.turn))
    }

    /// The note of the image if it is there and is what it was; and notes that it is used.
    async fn has(&self, image: &Image) -> Result<Option<Note>, ImageError> {
        let (inner, idle, content) = (Arc::clone(&self.inner), self.idle, image.content.clone());
        let look = move || -> Result<Option<Note>, FileError> {
            let (path, beside) = (
                inner.shelf.file(&content.sha256, "image"),
                inner.shelf.file(&content.sha256, "json"),
            );
            let Ok(Some(note)) = files::load::<Note>(&beside) else { return Ok(None) };
            let failed = || FileError::io(&path, "look at it");
            let now = inner.clock.now();
            let stamp = match Stamp::of(&path) {
                Ok(stamp) => stamp,
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed()(error)),
            };
            // One that somebody touched may be another.
            let touched = stamp != note.measured;
            if touched && digest::of_file(&path).map_err(failed())? != *note.file() {
                inner.shelf.discard(&content.sha256).map_err(failed())?;
                return Ok(None);
            }
            if !touched && now.since(note.used_at) <= idle / 10 {
                return Ok(Some(note));
            }
            let note = Note { used_at: now, measured: stamp, ..note };
            files::save(&beside, &note)?;
            Ok(Some(note))
        };
        let failed = fails(image.id, "look whether it is here");
        files::off_thread(move || look().map_err(|error| failed(error.into_io())), failed).await
    }

    /// What kind of disk a file is; none when it is an archive that may be unpacked.
    async fn look(
        &self,
        id: ImageId,
        format: ImageFormat,
        path: &Path,
        size_max: Option<u64>,
    ) -> Result<Option<Disk>, ImageError> {
        let path = path.to_owned();
        let failed = fails(id, "inspect it");
        let look = move || {
            let mut file = File::open(&path).map_err(failed)?;
            let found = match Format::of(format) {
                Some(format) => inspect(&mut file, format, size_max).map(Some),
                None => inspect_archive(&mut file, size_max).map(|_| None),
            };
            found.map_err(|refusal| refused(id, refusal))
        };
        files::off_thread(look, failed).await
    }

    /// Notes that a guest's disk lies over an image, until it is [let go](Self::let_go), by this
    /// process or another. That it does so already is success.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn keep(&self, base: &Base, guest: InstanceId) -> Result<(), FileError> {
        let path = self.inner.shelf.use_of(&base.holder.sha256, guest);
        let note = || {
            File::create(&path)?;
            files::sync_directory_of(&path)
        };
        note().map_err(FileError::io(&path, "note who needs it"))
    }

    /// Notes that a guest needs no image any more.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn let_go(&self, guest: InstanceId) -> Result<(), FileError> {
        self.let_go_but(|other| other != guest)
    }

    /// Notes that only the guests need their images that are still `there`: what an agent says
    /// when it has looked which guests its host has.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn let_go_but(&self, there: impl Fn(InstanceId) -> bool) -> Result<(), FileError> {
        let failed = || FileError::io(&self.inner.shelf.directory, "note that nobody needs it");
        for (sha256, guests) in self.inner.shelf.kept().map_err(failed())? {
            for guest in guests.into_iter().filter(|guest| !there(*guest)) {
                files::remove(&self.inner.shelf.use_of(&sha256, guest)).map_err(failed())?;
            }
        }
        Ok(())
    }

    /// The downloads that are under way.
    pub fn downloads(&self) -> Vec<Download> {
        let wanted = self.inner.wanted();
        let under_way = wanted.values().filter_map(|one| one.download.as_ref());
        let of = |(image, of, bytes): &(ImageId, u64, Arc<AtomicU64>)| Download {
            image: *image,
            bytes: bytes.load(Ordering::Relaxed),
            of: *of,
        };
        under_way.map(of).collect()
    }

    /// The images that are here, sorted by checksum.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub async fn images(&self) -> Result<Vec<Cached>, FileError> {
        let inner = Arc::clone(&self.inner);
        let list = move || {
            let failed = FileError::io(&inner.shelf.directory, "list it");
            let kept = inner.shelf.kept().map_err(failed)?;
            let wanted = inner.wanted();
            let of = |note: Note| {
                let sha256 = &note.content.sha256;
                let in_use = kept.contains_key(sha256) || wanted.contains_key(sha256);
                let file_bytes = note.file().size_bytes;
                Cached { content: note.content, used_at: note.used_at, file_bytes, in_use }
            };
            Ok(inner.shelf.notes()?.into_iter().map(of).collect())
        };
        files::off_thread(list, FileError::io(&self.inner.shelf.directory, "list it")).await
    }

    /// Removes images that are not in use: those that nobody has used for a while, and as many as
    /// it takes to have no more bytes than there is room for. How many bytes are left.
    ///
    /// # Errors
    /// [`FileError::Io`]; what was removed is removed.
    pub async fn prune(&self) -> Result<u64, FileError> {
        self.shrink(self.room.unwrap_or(u64::MAX)).await
    }

    async fn shrink(&self, most: u64) -> Result<u64, FileError> {
        let (inner, idle) = (Arc::clone(&self.inner), self.idle);
        let shrink = move || {
            let failed = || FileError::io(&inner.shelf.directory, "remove an image");
            // Nobody joins meanwhile: what is in use when it is asked is in use when it would go.
            let wanted = inner.wanted();
            let kept = inner.shelf.kept().map_err(failed())?;
            let mut notes = inner.shelf.notes()?;
            notes.sort_by_key(|note| note.used_at);
            let mut left: u64 = notes.iter().map(|note| note.file().size_bytes).sum();
            let now = inner.clock.now();
            for note in notes {
                let (size, Note { content, used_at, .. }) = (note.file().size_bytes, &note);
                let in_use =
                    kept.contains_key(&content.sha256) || wanted.contains_key(&content.sha256);
                if !in_use && (now.since(*used_at) >= idle || left > most) {
                    inner.shelf.discard(&content.sha256).map_err(failed())?;
                    left -= size;
                }
            }
            Ok(left)
        };
        files::off_thread(shrink, FileError::io(&self.inner.shelf.directory, "remove an image"))
            .await
    }
}

impl std::fmt::Display for ImageCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "image cache in {}", self.inner.shelf.directory.display())
    }
}

fn refused(image: ImageId, refusal: Refusal) -> ImageError {
    ImageError::Refused { image, source: Box::new(refusal) }
}

fn fails(image: ImageId, operation: &'static str) -> impl Fn(io::Error) -> ImageError + Copy {
    move |source| ImageError::Io { image, operation, source }
}
