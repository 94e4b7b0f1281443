//! The images of a host: downloaded once, refused when they must not be opened, kept while needed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nova_core::clock::Clock as _;
use nova_core::domain::{Image, ImageContent, ImageFormat, ImageId};
use nova_core::memory::MemoryImages;
use nova_core::port::{ImageBytes, ImageError, ImageStore};
use nova_virt::inspect::Refusal;
use nova_virt::{FileError, ImageCache};
use tokio::sync::Semaphore;

use crate::inspect::archives::makers::{Head, Tar};
use crate::world::{SkipClock, id, images, run, settle};

/// A store that counts how often an image is opened, and opens it when it is let.
#[derive(Debug)]
struct Counting {
    images: MemoryImages,
    opened: AtomicUsize,
    gate: Semaphore,
}

impl Counting {
    fn over(images: MemoryImages) -> Self {
        Self { images, opened: AtomicUsize::new(0), gate: Semaphore::new(Semaphore::MAX_PERMITS) }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.images.fmt(f)
    }
}

#[async_trait]
impl ImageStore for Counting {
    async fn put(&self, image: ImageId, bytes: ImageBytes) -> Result<ImageContent, ImageError> {
        self.images.put(image, bytes).await
    }

    async fn content(&self, image: ImageId) -> Result<Option<ImageContent>, ImageError> {
        self.images.content(image).await
    }

    async fn open(&self, image: ImageId) -> Result<ImageBytes, ImageError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let _gate = self.gate.acquire().await.unwrap();
        self.images.open(image).await
    }

    async fn remove(&self, image: ImageId) -> Result<(), ImageError> {
        self.images.remove(image).await
    }

    async fn list(&self) -> Result<Vec<ImageId>, ImageError> {
        self.images.list().await
    }
}

/// One more image, of these bytes.
async fn another(store: &Counting, like: &Image, number: u128, bytes: &[u8]) -> Image {
    let id = ImageId::from_u128(number);
    let content = store.put(id, Box::new(std::io::Cursor::new(bytes.to_vec()))).await.unwrap();
    Image { id, content, ..like.clone() }
}

struct World {
    folder: tempfile::TempDir,
    clock: Arc<SkipClock>,
    store: Counting,
    image: Image,
}

impl World {
    async fn new() -> Self {
        let (images, image) = images().await;
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock: Arc::default(), store: Counting::over(images), image }
    }

    fn cache(&self) -> ImageCache {
        ImageCache::at(self.folder.path(), self.clock.clone()).unwrap()
    }

    async fn pass(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now().after(time)).await;
    }

    /// The files that images are in.
    fn files(&self) -> usize {
        let of_image = |path: &Path| path.extension().is_some_and(|e| e == "image" || e == "part");
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries.filter(|entry| of_image(&entry.as_ref().unwrap().path())).count()
    }
}

#[test]
fn however_many_ask_it_is_downloaded_once_and_the_same_bytes_are_one_file() {
    run(async {
        let world = World::new().await;
        let cache = world.cache();
        let (store, image) = (&world.store, &world.image);
        let twin = another(store, image, 2, &[5; 100_000]).await;
        let ask = |image| cache.base(image, None, store);
        let (a, b, c, d) = tokio::join!(ask(image), ask(image), ask(&twin), ask(image));
        let all = [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap()];
        assert!(all.iter().all(|base| base.path() == all[0].path()));
        assert_eq!(all[0].disk().unwrap().virtual_size, 100_000);
        assert_eq!(std::fs::read(all[0].path()).unwrap(), vec![5; 100_000]);
        assert_eq!((store.opened(), world.files()), (1, 1));
        assert!(all[0].path().metadata().unwrap().permissions().readonly());
        drop((cache.clone(), all));
        // Nor again by another process.
        drop(cache);
        world.cache().base(image, None, store).await.unwrap();
        assert_eq!(store.opened(), 1);
    });
}

#[test]
fn who_gives_up_leaves_the_download_to_the_next_and_how_far_it_is_can_be_seen() {
    run(async {
        let world = World::new().await;
        let (cache, store) = (world.cache(), &world.store);
        store.gate.forget_permits(Semaphore::MAX_PERMITS);
        let first = cache.base(&world.image, None, store);
        let second = cache.base(&world.image, None, store);
        {
            let mut first = Box::pin(first);
            let mut polls = 0;
            while store.opened() == 0 {
                tokio::select! { biased; _ = &mut first => panic!("it waits"), () = settle() => {} }
                polls += 1;
                assert!(polls < 10_000, "it never began");
            }
            let under_way = cache.downloads();
            assert_eq!((under_way.len(), under_way[0].bytes, under_way[0].of), (1, 0, 100_000));
        }
        store.gate.add_permits(1);
        second.await.unwrap();
        assert_eq!((store.opened(), cache.downloads().len()), (2, 0));
    });
}

#[test]
fn what_must_not_be_opened_is_refused_and_nothing_of_it_is_kept() {
    run(async {
        let world = World::new().await;
        let (cache, store, image) = (world.cache(), &world.store, &world.image);
        let mut wrong = image.clone();
        wrong.content.sha256 = "0".repeat(64);
        let refused = cache.base(&wrong, None, store).await;
        assert!(matches!(refused, Err(ImageError::Mismatch { .. })), "{refused:?}");
        let mut short = image.clone();
        short.content.size_bytes -= 1;
        let refused = cache.base(&short, None, store).await;
        assert!(matches!(refused, Err(ImageError::Mismatch { .. })), "{refused:?}");
        wrong.content.sha256 = "../../etc/shadow".to_owned();
        let refused = cache.base(&wrong, None, store).await;
        assert!(matches!(refused, Err(ImageError::Io { .. })), "{refused:?}");

        let why = |refused: Result<_, ImageError>| match refused {
            Err(ImageError::Refused { source, .. }) => *source.downcast::<Refusal>().unwrap(),
            other => panic!("{:?}", other.map(|_: nova_virt::cache::Base| ())),
        };
        let lie = another(store, image, 3, b"QFI\xfb\0\0\0\x03 over /etc/shadow").await;
        let refused = why(cache.base(&lie, None, store).await);
        assert!(matches!(refused, Refusal::Disguised { .. }), "{refused:?}");
        let declared = Image { format: ImageFormat::Qcow2, ..image.clone() };
        let refused = why(cache.base(&declared, None, store).await);
        assert!(matches!(refused, Refusal::Disguised { .. }), "{refused:?}");
        // An archive of files is no exception.
        let archive = |made: Image| Image { format: ImageFormat::RootfsTar, ..made };
        let device = Tar::default().head(Head::gnu(b'3', "dev/mem"), &[]).end().0;
        let device = archive(another(store, image, 4, &device).await);
        let refused = why(cache.base(&device, None, store).await);
        assert!(matches!(refused, Refusal::Entry { .. }), "{refused:?}");
        let large = Tar::default().file("a", &[7; 10_000]).end().0;
        let large = archive(another(store, image, 5, &large).await);
        let refused = why(cache.base(&large, Some(9_999), store).await);
        assert!(matches!(refused, Refusal::TooLarge { allowed: 9_999, .. }), "{refused:?}");
        let refused = why(cache.base(image, Some(99_999), store).await);
        assert!(matches!(refused, Refusal::TooLarge { allowed: 99_999, .. }), "{refused:?}");
        assert_eq!((world.files(), cache.images().await.unwrap()), (0, vec![]));
        // Also for a guest with less room than the one before.
        cache.base(image, None, store).await.unwrap();
        why(cache.base(image, Some(99_999), store).await);
        assert_eq!(cache.base(&large, None, store).await.unwrap().disk(), None);
    });
}

#[test]
fn a_file_that_was_changed_is_downloaded_again_and_one_that_was_touched_is_not() {
    run(async {
        let world = World::new().await;
        let (cache, store, image) = (world.cache(), &world.store, &world.image);
        let path = cache.base(image, None, store).await.unwrap().path().to_owned();
        std::fs::rename(&path, path.with_extension("moved")).unwrap();
        std::fs::copy(path.with_extension("moved"), &path).unwrap();
        cache.base(image, None, store).await.unwrap();
        assert_eq!(store.opened(), 1, "it is another file with the same bytes");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![6; 100_000]).unwrap();
        cache.base(image, None, store).await.unwrap();
        assert_eq!(store.opened(), 2);
        assert_eq!(std::fs::read(&path).unwrap(), vec![5; 100_000]);
    });
}

#[test]
fn what_is_in_use_stays_and_what_nobody_used_for_a_while_goes() {
    run(async {
        let world = World::new().await;
        let cache = world.cache();
        let (store, image) = (&world.store, &world.image);
        let base = cache.base(image, None, store).await.unwrap();
        world.pass(2 * ImageCache::IDLE).await;
        assert_eq!(cache.prune().await.unwrap(), 100_000, "it is held");
        cache.keep(&base, id(1)).unwrap();
        cache.keep(&base, id(2)).unwrap();
        drop((base, cache));
        // A later process knows of the guests.
        let cache = world.cache();
        assert_eq!(cache.prune().await.unwrap(), 100_000);
        cache.let_go(id(1)).unwrap();
        assert!(cache.images().await.unwrap()[0].in_use);
        cache.let_go_but(|guest| guest != id(2)).unwrap();
        assert!(!cache.images().await.unwrap()[0].in_use);
        assert_eq!(cache.prune().await.unwrap(), 0);
        assert_eq!(world.files(), 0);
        cache.base(image, None, store).await.unwrap();
        assert_eq!(cache.prune().await.unwrap(), 100_000, "it was used just now");
    });
}

#[test]
fn those_go_for_others_that_were_not_used_for_longest() {
    run(async {
        let world = World::new().await;
        let cache = world.cache().with_room(250_000).with_idle(Duration::from_secs(1000));
        let (store, one) = (&world.store, &world.image);
        let two = another(store, one, 2, &[2; 100_000]).await;
        let three = another(store, one, 3, &[3; 100_000]).await;
        let huge = another(store, one, 4, &[4; 300_000]).await;
        for image in [one, &two, one] {
            cache.base(image, None, store).await.unwrap();
            world.pass(Duration::from_secs(300)).await;
        }
        let held = cache.base(&three, None, store).await.unwrap();
        let there = cache.images().await.unwrap();
        let there: Vec<_> = there.iter().map(|cached| &cached.content).collect();
        assert!(there.contains(&&one.content) && !there.contains(&&two.content), "{there:?}");
        let full = cache.base(&huge, None, store).await.unwrap_err();
        let full = matches!(&full, ImageError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::StorageFull);
        assert!(full);
        assert!(held.path().exists());
    });
}

#[test]
fn a_directory_is_one_cache_and_halves_of_downloads_are_removed() {
    run(async {
        let world = World::new().await;
        let cache = world.cache();
        let second = ImageCache::at(world.folder.path(), world.clock.clone());
        assert!(matches!(second, Err(FileError::InUse { .. })));
        drop(cache);
        let name = &world.image.content.sha256;
        for what in ["3.part", "image"] {
            std::fs::write(world.folder.path().join(format!("{name}.{what}")), b"half").unwrap();
        }
        std::fs::write(world.folder.path().join("somebody-elses.image"), b"whole").unwrap();
        let cache = world.cache();
        assert_eq!(world.files(), 1, "only what is not ours is left");
        cache.base(&world.image, None, &world.store).await.unwrap();
        assert_eq!(world.store.opened(), 1);
    });
}
