//! What a guest starts from: its image, and a kernel beside it where the image names one.

use nova_core::domain::{Image, ImageFormat, ImageId, InstanceId};
use nova_core::port::{GuestSpec, ImageError, ImageStore, VirtError};

use super::host::{Inner, host};
use super::record::KernelFiles;
use crate::cache::{Base, ImageCache};
use crate::files::FileError;

/// The images that a guest was started from, held while they are needed.
#[derive(Debug)]
pub(super) struct Bases {
    /// None of a guest whose root disk is a volume.
    pub(super) root: Option<Base>,
    kernel: Option<(KernelFiles, Vec<Base>)>,
}

impl Bases {
    pub(super) fn kernel(&self) -> Option<KernelFiles> {
        self.kernel.as_ref().map(|(files, _)| files.clone())
    }

    /// Notes that a guest needs them.
    pub(super) fn keep(&self, cache: &ImageCache, guest: InstanceId) -> Result<(), FileError> {
        let kernel = self.kernel.iter().flat_map(|(_, bases)| bases);
        self.root.iter().chain(kernel).try_for_each(|base| cache.keep(base, guest))
    }
}

impl Inner {
    /// What a guest starts from; of its image nothing but a kernel where its root disk is a volume.
    pub(super) async fn fetch(
        &self,
        spec: &GuestSpec,
        size_max: Option<u64>,
        images: &dyn ImageStore,
    ) -> Result<Bases, VirtError> {
        let image = &spec.image;
        let root = match spec.root {
            None => Some(self.base(spec.instance, image, size_max, images).await?),
            Some(_) => None,
        };
        self.with_kernel(spec.instance, root, image, images).await
    }

    /// What a guest starts from that is rescued with this image.
    pub(super) async fn fetch_rescue(
        &self,
        instance: InstanceId,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<Bases, VirtError> {
        let root = self.base(instance, image, None, images).await?;
        self.with_kernel(instance, Some(root), image, images).await
    }

    async fn with_kernel(
        &self,
        instance: InstanceId,
        root: Option<Base>,
        image: &Image,
        images: &dyn ImageStore,
    ) -> Result<Bases, VirtError> {
        let Some(kernel) = image.properties.get("kernel_id") else {
            return Ok(Bases { root, kernel: None });
        };
        let mut bases = Vec::new();
        let mut contents = Vec::new();
        for id in [Some(kernel), image.properties.get("ramdisk_id")].into_iter().flatten() {
            let wrong = || {
                let why = format!("its image names {id} as a kernel, which is no image");
                host("find a kernel")(why)
            };
            let id: ImageId = id.parse().map_err(|_| wrong())?;
            let content = images.content(id).await;
            let content = content.map_err(|source| VirtError::Image { instance, source })?;
            let missing = ImageError::NoSuchImage { image: id };
            let content = content.ok_or(VirtError::Image { instance, source: missing })?;
            let properties = Default::default();
            let format = ImageFormat::Raw;
            let file = Image { id, format, content: content.clone(), properties, ..image.clone() };
            bases.push(self.base(instance, &file, None, images).await?);
            contents.push(content);
        }
        let mut contents = contents.into_iter();
        let kernel = contents.next().map(|kernel| {
            let command_line = image.properties.get("os_command_line");
            let command_line = command_line.unwrap_or_default().to_owned();
            (KernelFiles { kernel, ramdisk: contents.next(), command_line }, bases)
        });
        Ok(Bases { root, kernel })
    }

    async fn base(
        &self,
        instance: InstanceId,
        image: &Image,
        size_max: Option<u64>,
        images: &dyn ImageStore,
    ) -> Result<Base, VirtError> {
        self.cache.base(image, size_max, images).await.map_err(|source| match source {
            ImageError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                VirtError::NoRoom { instance }
            }
            source => VirtError::Image { instance, source },
        })
    }
}
