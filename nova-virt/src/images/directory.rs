//! Images in a directory.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nova_core::domain::{ImageContent, ImageId};
use nova_core::port::{ImageBytes, ImageError, ImageStore};

use crate::digest;
use crate::files::{self, FORMAT, FileError, Lock};

/// Keeps each image as a plain file, `<id>.image`, with its size and checksum beside it in
/// `<id>.json`.
///
/// An image is there when its `.image` is. It is written under another name and renamed when
/// every byte is on the disk, so a process that is killed leaves no half image; what it left is
/// removed by the next put, or when the directory is used next. Several processes may use one directory at a time.
#[derive(Debug, Clone)]
pub struct DirImageStore {
    directory: Arc<Path>,
}

impl DirImageStore {
    /// The images in `directory`, which is made when it is not there. Leftovers of puts that
    /// were interrupted are removed, on the calling thread.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn at(directory: impl AsRef<Path>) -> Result<Self, FileError> {
        let directory = files::directory(directory.as_ref())?;
        let store = Self { directory: directory.into() };
        let _lock = store.lock()?;
        let clean = store.clean();
        clean.map_err(FileError::io(&store.directory, "remove leftovers"))?;
        Ok(store)
    }

    fn clean(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&*self.directory)? {
            let path = entry?.path();
            let leftover = match path.extension().and_then(OsStr::to_str) {
                // Whoever still writes has it locked; a lock ends with its process.
                Some("part") => match File::open(&path) {
                    Ok(file) => file.try_lock().is_ok(),
                    // Its writer has just given it up.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                    Err(error) => return Err(error),
                },
                Some("tmp") => true,
                Some("json") => !path.with_extension("image").exists(),
                _ => false,
            };
            if leftover {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<Lock, FileError> {
        Lock::wait(&self.directory.join(".lock"))
    }

    fn bytes_of(&self, image: ImageId) -> PathBuf {
        self.directory.join(format!("{image}.image"))
    }

    fn content_of(&self, image: ImageId) -> PathBuf {
        self.directory.join(format!("{image}.json"))
    }

    /// Makes the file into which the bytes of a new image go.
    fn begin(&self, image: ImageId) -> Result<Part, ImageError> {
        let failed = fails(image, "make its file");
        let _lock = self.lock().map_err(|error| failed(error.into_io()))?;
        if self.bytes_of(image).exists() {
            return Err(ImageError::Exists { image });
        }
        // Another process may have died since: its bytes would be nobody's as long as this runs.
        self.clean().map_err(failed)?;
        for number in 0..PUTS_MAX {
            let path = self.directory.join(format!("{image}.{number}.part"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let part = Part { path, file, renamed: false };
                    part.file.try_lock().map_err(|error| failed(error.into()))?;
                    return Ok(part);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::ResourceBusy.into()))
    }

    /// Gives the written file its name, unless another put was faster.
    fn publish(
        &self,
        image: ImageId,
        mut part: Part,
        content: ImageContent,
    ) -> Result<(), ImageError> {
        let failed = fails(image, "keep it");
        part.file.sync_all().map_err(failed)?;
        let _lock = self.lock().map_err(|error| failed(error.into_io()))?;
        let path = self.bytes_of(image);
        if path.exists() {
            return Err(ImageError::Exists { image });
        }
        // The description first: without bytes it says nothing, and the next put replaces it.
        let sidecar = Sidecar { format: FORMAT, content };
        let saved = files::save(&self.content_of(image), &sidecar);
        saved.map_err(|error| failed(error.into_io()))?;
        std::fs::rename(&part.path, &path).map_err(failed)?;
        part.renamed = true;
        files::sync_directory_of(&path).map_err(failed)
    }

    fn read_content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        let failed = fails(image, "read its size and checksum");
        let _lock = self.lock().map_err(|error| failed(error.into_io()))?;
        let size_bytes = match self.bytes_of(image).metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let sidecar: Option<Sidecar> =
            files::load(&self.content_of(image)).map_err(|error| failed(error.into_io()))?;
        match sidecar {
            Some(Sidecar { content, .. }) if content.size_bytes == size_bytes => Ok(Some(content)),
            Some(Sidecar { content, .. }) => {
                let expected = format!("{} bytes", content.size_bytes);
                Err(ImageError::Mismatch { image, expected, found: format!("{size_bytes} bytes") })
            }
            None => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "they are missing"))),
        }
    }

    fn forget(&self, image: ImageId) -> Result<(), ImageError> {
        let failed = fails(image, "remove it");
        let _lock = self.lock().map_err(|error| failed(error.into_io()))?;
        let path = self.bytes_of(image);
        files::remove(&path)
            .and_then(|()| files::remove(&self.content_of(image)))
            .and_then(|()| files::sync_directory_of(&path))
            .map_err(failed)
    }

    fn ids(&self) -> io::Result<Vec<ImageId>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&*self.directory)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".image"));
            // Only the spelling that is looked up again: other files are not ours.
            let known = id.and_then(|id| id.parse().ok().filter(|i: &ImageId| i.to_string() == id));
            ids.extend(known);
        }
        ids.sort_unstable();
        Ok(ids)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        image: ImageId,
        operation: &'static str,
        work: impl FnOnce(&Self) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let store = self.clone();
        files::off_thread(move || work(&store), fails(image, operation)).await
    }
}

/// More puts of one image at a time than this are a caller gone wild.
const PUTS_MAX: u32 = 64;

/// What lies beside an image.
#[derive(serde::Serialize, serde::Deserialize)]
struct Sidecar {
    format: u32,
    #[serde(flatten)]
    content: ImageContent,
}

/// A file that is being written: locked, and removed unless it was renamed.
struct Part {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed now is removed when the directory is used next.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn fails(image: ImageId, operation: &'static str) -> impl Fn(io::Error) -> ImageError + Copy {
    move |source| ImageError::Io { image, operation, source }
}

impl std::fmt::Display for DirImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "images in {}", self.directory.display())
    }
}

#[async_trait]
impl ImageStore for DirImageStore {
    async fn put(&self, image: ImageId, mut bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        let part = self.off_thread(image, "make its file", move |store| store.begin(image)).await?;
        let copied = async {
            let mut file = tokio::fs::File::from_std(part.file.try_clone()?);
            digest::copy(&mut *bytes, &mut file, u64::MAX, |_| ()).await
        };
        let copied = copied.await;
        let content = copied.map_err(fails(image, "write its bytes"))?;
        let kept = content.clone();
        self.off_thread(image, "keep it", move |store| store.publish(image, part, kept)).await?;
        Ok(content)
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        let operation = "read its size and checksum";
        self.off_thread(image, operation, move |store| store.read_content(image)).await
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        match tokio::fs::File::open(self.bytes_of(image)).await {
            Ok(file) => Ok(Box::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ImageError::NoSuchImage { image })
            }
            Err(source) => Err(ImageError::Io { image, operation: "open it", source }),
        }
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        self.off_thread(image, "remove it", move |store| store.forget(image)).await
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        let store = self.clone();
        let listed = files::off_thread(move || store.ids(), |error| error).await;
        listed.map_err(|source| ImageError::List { source })
    }
}
