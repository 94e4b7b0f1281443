//! Images of formats that no hypervisor starts from: converted once, under limits, by `qemu-img`.

mod processes;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use nova_core::clock::{Clock, SystemClock};
use nova_core::domain::{Image, ImageFormat, ImageId};
use nova_core::memory::MemoryImages;
use nova_core::port::{ImageError, ImageStore as _};
use nova_virt::ImageCache;
use nova_virt::cache::{Conversion, ConversionError};
use nova_virt::inspect::{Format, Refusal};
use proptest::prelude::*;

use crate::inspect::makers::{Made, descriptor, qcow2, stream, vdi, vhd_dynamic, vhdx, vmdk};
use crate::world::{SkipClock, images, run};

const MIB: u64 = 1 << 20;
const FOREIGN: [ImageFormat; 4] =
    [ImageFormat::Vmdk, ImageFormat::Vhd, ImageFormat::Vhdx, ImageFormat::Vdi];

/// Whether there is who converts; says which test is skipped otherwise.
fn is_here(test: &str) -> bool {
    let here = Command::new("qemu-img").arg("--version").output().is_ok();
    if !here {
        eprintln!("skipped {test}: there is no qemu-img");
    }
    here
}

fn qemu_img(folder: &Path, arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "qemu-img {arguments:?}: {output:?}");
}

struct World {
    folder: tempfile::TempDir,
    store: MemoryImages,
    image: Image,
}

impl World {
    async fn new() -> Self {
        let (store, image) = images().await;
        Self { folder: tempfile::tempdir().unwrap(), store, image }
    }

    fn cache_with(&self, clock: Arc<dyn Clock>, conversion: Conversion) -> ImageCache {
        let cache = ImageCache::at(self.folder.path().join("cache"), clock).unwrap();
        cache.with_conversion(conversion)
    }

    fn cache(&self) -> ImageCache {
        self.cache_with(Arc::new(SystemClock::new()), Conversion::default())
    }

    async fn image(&self, number: u128, format: ImageFormat, bytes: Vec<u8>) -> Image {
        let id = ImageId::from_u128(number);
        let content = self.store.put(id, Box::new(std::io::Cursor::new(bytes))).await.unwrap();
        Image { id, content, format, ..self.image.clone() }
    }

    /// The names of all files of the cache but its lock.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("cache")).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<_> = entries.map(name).filter(|name| name != ".lock").collect();
        names.sort_unstable();
        names
    }
}

fn why(refused: Result<nova_virt::cache::Base, ImageError>) -> ConversionError {
    match refused {
        Err(ImageError::Refused { source, .. }) => *source.downcast().expect("of a conversion"),
        other => panic!("{other:?}"),
    }
}

/// A disk of VirtualBox's all of whose blocks are the same one, filled with `fill`: a small file,
/// and as much work as its disk is large.
fn bomb(blocks: u32, fill: u8) -> Vec<u8> {
    let data = (512 + u64::from(blocks) * 4).next_multiple_of(512);
    let made = vdi().cut(512).le32(344, u32::try_from(data).unwrap()).le32(384, blocks);
    let mut bytes = made.le32(388, blocks).le64(368, u64::from(blocks) * MIB).0;
    bytes.resize(usize::try_from(data).unwrap(), 0);
    bytes.resize(bytes.len() + (1 << 20), fill);
    bytes
}

#[test]
fn an_image_of_each_format_is_converted_into_the_same_disk() {
    if !is_here("an_image_of_each_format_is_converted_into_the_same_disk") {
        return;
    }
    run(async {
        let world = World::new().await;
        let folder = world.folder.path();
        let cache = world.cache();
        // Something, a hole, something else.
        let mut written: Vec<u8> =
            (0..2 * MIB).map(|at| u8::try_from(at / 4096 % 251).unwrap()).collect();
        written.resize(6 << 20, 0);
        written.extend_from_slice(&[0xa5; 1 << 20]);
        std::fs::write(folder.join("written"), &written).unwrap();
        for (number, (format, name, options)) in [
            (ImageFormat::Vmdk, "vmdk", "subformat=monolithicSparse"),
            (ImageFormat::Vmdk, "vmdk", "subformat=streamOptimized"),
            (ImageFormat::Vhd, "vpc", "subformat=dynamic"),
            (ImageFormat::Vhd, "vpc", "subformat=fixed"),
            (ImageFormat::Vhd, "vpc", "subformat=dynamic,force_size=on"),
            (ImageFormat::Vhdx, "vhdx", "subformat=dynamic"),
            (ImageFormat::Vhdx, "vhdx", "subformat=fixed"),
            (ImageFormat::Vdi, "vdi", "static=off"),
            (ImageFormat::Vdi, "vdi", "static=on"),
        ]
        .into_iter()
        .enumerate()
        {
            let file = format!("image-{number}");
            qemu_img(
                folder,
                &["convert", "-f", "raw", "-O", name, "-o", options, "written", &file],
            );
            let bytes = std::fs::read(folder.join(&file)).unwrap();
            let image = world.image(10 + number as u128, format, bytes).await;
            let base = cache.base(&image, Some(8 * MIB), &world.store).await.unwrap();
            let disk = base.disk().unwrap();
            assert_eq!(disk.format, Format::Qcow2, "{file}");
            let path = base.path().to_str().unwrap();
            assert!(path.ends_with(&format!("/{}.image", image.content.sha256)), "{path}");
            qemu_img(folder, &["convert", "-f", "qcow2", "-O", "raw", path, "back"]);
            let back = std::fs::read(folder.join("back")).unwrap();
            assert_eq!(back.len() as u64, disk.virtual_size, "{file}");
            // A VHD rounds up to what its geometry allows.
            let (same, rest) = back.split_at(written.len());
            assert!(same == written && rest.iter().all(|byte| *byte == 0), "{file}");
            assert!(format == ImageFormat::Vhd || rest.is_empty(), "{file}");
            assert!(base.path().metadata().unwrap().permissions().readonly());
        }
    });
}

#[test]
fn however_many_ask_it_is_converted_once_and_kept_under_what_it_was() {
    if !is_here("however_many_ask_it_is_converted_once_and_kept_under_what_it_was") {
        return;
    }
    run(async {
        let world = World::new().await;
        let (cache, store) = (world.cache(), &world.store);
        let image = world.image(2, ImageFormat::Vdi, bomb(4, 7)).await;
        let sha256 = &image.content.sha256;
        let ask = || cache.base(&image, None, store);
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        let all = [one.unwrap(), two.unwrap(), three.unwrap()];
        assert!(all.iter().all(|base| base.path() == all[0].path()));
        assert_eq!(world.files(), [format!("{sha256}.image"), format!("{sha256}.json")]);
        let path = all[0].path().to_owned();
        let made = std::fs::read(&path).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
        let first = inode(&path);
        let cached = cache.images().await.unwrap();
        assert_eq!((cached.len(), &cached[0].content), (1, &image.content));
        assert_eq!(cached[0].file_bytes, made.len() as u64);
        assert!(cached[0].in_use && made.len() > 4 << 20);
        assert_eq!(cache.prune().await.unwrap(), made.len() as u64, "its file is what is counted");
        drop((all, cache));
        // Another process makes nothing anew: there is nobody to ask.
        store.remove(image.id).await.unwrap();
        let cache = world.cache();
        let base = cache.base(&image, None, store).await.unwrap();
        assert_eq!((base.disk().unwrap().virtual_size, inode(base.path())), (4 * MIB, first));
        // Nor does it when somebody only touched the file, but when it is not what was made.
        std::fs::rename(&path, path.with_extension("moved")).unwrap();
        std::fs::copy(path.with_extension("moved"), &path).unwrap();
        cache.base(&image, None, store).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &made[..made.len() - 1]).unwrap();
        let missing = cache.base(&image, None, store).await.unwrap_err();
        assert!(matches!(missing, ImageError::NoSuchImage { .. }), "{missing:?}");
        world.image(2, ImageFormat::Vdi, bomb(4, 7)).await;
        let again = cache.base(&image, None, store).await.unwrap();
        assert_eq!(std::fs::read(again.path()).unwrap(), made);
        // A guest with less room does not get it.
        let refused = cache.base(&image, Some(4 * MIB - 1), store).await;
        assert!(matches!(refused, Err(ImageError::Refused { .. })), "{refused:?}");
    });
}

/// What is refused for what it is was not seen by anybody but our own reader.
#[test]
fn what_must_not_be_opened_is_refused_before_anything_is_converted() {
    run(async {
        let world = World::new().await;
        let (cache, store) = (world.cache(), &world.store);
        let sparse = descriptor("monolithicSparse");
        let parent = |made: Made| vec![(ImageFormat::Vdi, made.with(0x1a8, &[1; 16]))];
        let mut hostile = vec![
            (ImageFormat::Vmdk, vmdk(&sparse.replace("SPARSE \"", "SPARSE \"/etc/"))),
            (ImageFormat::Vmdk, vmdk(&sparse.replace("ffffffff", "12345678"))),
            (ImageFormat::Vmdk, vmdk(&descriptor("twoGbMaxExtentFlat"))),
            (ImageFormat::Vmdk, Made(sparse.clone().into_bytes())),
            (ImageFormat::Vhdx, vhdx().with((64 << 10) + 48, &[1; 16])),
            (ImageFormat::Vdi, vdi().le32(76, 4)),
            (ImageFormat::Vdi, vdi().le32(384, 0)),
            (ImageFormat::Vhd, vhd_dynamic().with(60, &[0, 0, 0, 4])),
        ];
        hostile.extend(parent(vdi()));
        // Each as if it were another, and as if others were it.
        let whole = [
            (ImageFormat::Vmdk, stream()),
            (ImageFormat::Vhd, vhd_dynamic()),
            (ImageFormat::Vhdx, vhdx()),
            (ImageFormat::Vdi, vdi()),
            (ImageFormat::Qcow2, qcow2(3)),
            (ImageFormat::Raw, Made(vec![7; 4096])),
        ];
        for declared in FOREIGN {
            let others = whole.iter().filter(|(format, _)| *format != declared);
            hostile.extend(others.map(|(_, made)| (declared, made.clone())));
        }
        for (number, (format, made)) in hostile.into_iter().enumerate() {
            let image = world.image(100 + number as u128, format, made.0).await;
            match cache.base(&image, None, store).await {
                Err(ImageError::Refused { source, .. }) => {
                    assert!(source.is::<Refusal>(), "{number} {format:?}: {source:?}");
                }
                other => panic!("{number} {format:?}: {other:?}"),
            }
        }
        // Larger than the guest may have, and than anybody may.
        let large = world.image(3, ImageFormat::Vdi, bomb(64, 1)).await;
        let policy = Conversion::default().with_size_max(63 * MIB);
        for (cache, size_max, most) in [
            (cache.clone(), Some(5 * MIB), 5 * MIB),
            (cache.clone().with_conversion(policy), None, 63 * MIB),
            (cache.clone().with_conversion(policy), Some(1 << 40), 63 * MIB),
        ] {
            let refused = cache.base(&large, size_max, store).await;
            let source = match refused {
                Err(ImageError::Refused { source, .. }) => source.downcast::<Refusal>().unwrap(),
                other => panic!("{other:?}"),
            };
            let is = matches!(&*source, Refusal::TooLarge { allowed, .. } if *allowed == most);
            assert!(is, "{source:?}");
        }
        assert_eq!(world.files(), [""; 0]);
    });
}

#[test]
fn the_same_bytes_are_of_one_format_also_when_they_were_converted() {
    if !is_here("the_same_bytes_are_of_one_format_also_when_they_were_converted") {
        return;
    }
    run(async {
        let world = World::new().await;
        let (cache, store) = (world.cache(), &world.store);
        let image = world.image(2, ImageFormat::Vdi, bomb(2, 3)).await;
        cache.base(&image, None, store).await.unwrap();
        let formats = [
            ImageFormat::Raw,
            ImageFormat::Qcow2,
            ImageFormat::Vmdk,
            ImageFormat::Vhd,
            ImageFormat::Vhdx,
            ImageFormat::RootfsTar,
        ];
        for format in formats {
            let lie = Image { format, ..image.clone() };
            let refused = cache.base(&lie, None, store).await;
            assert!(matches!(refused, Err(ImageError::Refused { .. })), "{format:?} {refused:?}");
        }
        // And the other way round: what is kept as it is was not made of anything.
        let plain = world.image(3, ImageFormat::Qcow2, qcow2(3).0).await;
        cache.base(&plain, None, store).await.unwrap();
        let lie = Image { format: ImageFormat::Vdi, ..plain };
        let refused = cache.base(&lie, None, store).await;
        assert!(matches!(refused, Err(ImageError::Refused { .. })), "{refused:?}");
        cache.base(&image, None, store).await.unwrap();
    });
}

#[test]
fn without_conversions_such_an_image_is_refused_by_name() {
    run(async {
        let world = World::new().await;
        let cache = ImageCache::at(world.folder.path().join("cache"), Arc::<SkipClock>::default());
        for format in FOREIGN {
            let image = world.image(format as u128 + 50, format, vec![format as u8; 9]).await;
            let refused = why(cache.as_ref().unwrap().base(&image, None, &world.store).await);
            assert!(matches!(refused, ConversionError::Unwanted { .. }), "{refused:?}");
        }
        assert_eq!(world.files(), [""; 0]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is damaged: an image becomes a disk of no more than was allowed, or is refused, and
    /// nothing else is left of it.
    #[test]
    fn a_damaged_image_is_converted_or_refused(
        which in 0..5_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        head in any::<bool>(),
    ) {
        if !is_here("a_damaged_image_is_converted_or_refused") {
            return Ok(());
        }
        let (format, made) = [
            (ImageFormat::Vmdk, vmdk(&descriptor("monolithicSparse"))),
            (ImageFormat::Vmdk, stream()),
            (ImageFormat::Vhd, vhd_dynamic()),
            (ImageFormat::Vhdx, vhdx()),
            (ImageFormat::Vdi, Made(bomb(2, 5))),
        ].into_iter().nth(which).unwrap();
        let mut bytes = made.0;
        // Most of what says something is at the beginning.
        let end = if head { bytes.len().min(2048) } else { bytes.len() };
        for (at, byte) in damage {
            let at = at.index(end);
            bytes[at] = byte;
        }
        run(async {
            let world = World::new().await;
            let cache = world.cache();
            let image = world.image(2, format, bytes).await;
            match cache.base(&image, Some(64 * MIB), &world.store).await {
                Ok(base) => {
                    let disk = base.disk().unwrap();
                    assert_eq!(disk.format, Format::Qcow2);
                    assert!(disk.virtual_size <= 64 * MIB);
                    assert_eq!(world.files().len(), 2);
                }
                Err(ImageError::Refused { .. }) => assert_eq!(world.files(), [""; 0]),
                Err(other) => panic!("{other:?}"),
            }
        });
    }
}
