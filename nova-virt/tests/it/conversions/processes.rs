//! What becomes of the processes that convert: they end, whatever happens, and are told everything.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::SystemClock;
use nova_core::domain::{Image, ImageFormat, ImageId};
use nova_core::port::{ImageError, ImageStore as _};
use nova_virt::ImageCache;
use nova_virt::cache::{Conversion, ConversionError};
use nova_virt::inspect::Refusal;

use super::{MIB, World, bomb, is_here, why};
use crate::inspect::makers::{qcow2, vdi, vhd_dynamic};
use crate::world::{SkipClock, images, run};

/// Nothing is left of a conversion that takes too much, and it is said of what.
#[test]
fn a_conversion_that_takes_too_much_ends() {
    if !is_here("a_conversion_that_takes_too_much_ends") {
        return;
    }
    run(async {
        let world = World::new().await;
        let store = &world.store;
        // A tebibyte of nothing, in five mebibytes.
        let endless = world.image(2, ImageFormat::Vdi, bomb(1 << 20, 0)).await;
        let full = world.image(3, ImageFormat::Vdi, bomb(64, 1)).await;
        let system = || Arc::new(SystemClock::new());
        let limits = Conversion::default();

        let cache = world.cache_with(system(), limits.with_processor_time(Duration::from_secs(1)));
        let over = why(cache.base(&endless, None, store).await);
        assert!(matches!(over, ConversionError::ProcessorTime { .. }), "{over:?}");
        assert_eq!((world.files(), cache.images().await.unwrap()), (vec![], vec![]));
        drop(cache);

        let cache = world.cache_with(system(), limits.with_memory(64 << 20));
        let over = why(cache.base(&full, None, store).await);
        assert!(matches!(over, ConversionError::Memory { allowed: 67_108_864 }), "{over:?}");
        assert_eq!(world.files(), [""; 0]);
        drop(cache);

        // There is room for the image, and not for what it becomes.
        let cache = world.cache_with(system(), limits).with_room(10 << 20);
        let over = cache.base(&full, None, store).await.unwrap_err();
        let full = matches!(&over, ImageError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::StorageFull);
        assert!(full, "{over:?}");
        assert_eq!(world.files(), [""; 0]);
        drop(cache);

        // On this clock any time has passed at once.
        let time = Duration::from_secs(600);
        let cache = world.cache_with(Arc::<SkipClock>::default(), limits.with_time(time));
        let over = cache.base(&endless, None, store).await.unwrap_err();
        let ImageError::Io { source, .. } = &over else { panic!("{over:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
        let over = source.get_ref().and_then(|inner| inner.downcast_ref::<ConversionError>());
        let late = matches!(over, Some(ConversionError::Time { allowed }) if *allowed == time);
        assert!(late, "{over:?}");
        assert_eq!(world.files(), [""; 0]);
        assert_eq!(converters(world.folder.path()), [0; 0]);
    });
}

/// The processes that convert something below a folder.
fn converters(folder: &Path) -> Vec<u32> {
    let folder = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap();
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that ended meanwhile says nothing.
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("qemu-img") && line.contains(folder) {
            found.push(number);
        }
    }
    found
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let patience = 60_000;
    for _ in 0..patience {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never came to {what}");
}

#[test]
fn who_gives_up_ends_the_conversion_and_the_next_one_begins_it_anew() {
    if !is_here("who_gives_up_ends_the_conversion_and_the_next_one_begins_it_anew") {
        return;
    }
    run(async {
        let world = World::new().await;
        let cache = world.cache();
        let endless = world.image(2, ImageFormat::Vdi, bomb(1 << 20, 0)).await;
        let folder = world.folder.path().to_owned();
        {
            let mut first = Box::pin(cache.base(&endless, None, &world.store));
            while converters(&folder).is_empty() {
                let more = tokio::time::sleep(Duration::from_millis(1));
                tokio::select! { biased; r = &mut first => panic!("{r:?}"), () = more => {} }
            }
        }
        until("its end", || converters(&folder).is_empty());
        until("nothing left", || world.files().is_empty());
        let small = world.image(3, ImageFormat::Vdi, bomb(1, 1)).await;
        cache.base(&small, None, &world.store).await.unwrap();
    });
}

const DIRECTORY: &str = "NOVA_VIRT_TEST_CONVERSION";

/// What the other test starts and kills; on its own it does nothing.
#[test]
fn the_process_that_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    run(async {
        let (store, image) = images().await;
        let id = ImageId::from_u128(2);
        let bytes = std::io::Cursor::new(bomb(1 << 20, 0));
        let content = store.put(id, Box::new(bytes)).await.unwrap();
        let image = Image { id, content, format: ImageFormat::Vdi, ..image };
        let cache = ImageCache::at(&directory, Arc::new(SystemClock::new())).unwrap();
        let limits = Conversion::default().with_processor_time(Duration::from_secs(60));
        let _ = cache.with_conversion(limits).base(&image, None, &store).await;
    });
}

#[test]
fn of_an_agent_that_is_killed_nothing_goes_on_and_nothing_is_left() {
    if !is_here("of_an_agent_that_is_killed_nothing_goes_on_and_nothing_is_left") {
        return;
    }
    /// A process that does not outlive its test.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    run(async {
        let world = World::new().await;
        let directory = world.folder.path().join("cache");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "conversions::processes::the_process_that_is_killed", "--nocapture"])
            .env(DIRECTORY, &directory)
            .stdout(Stdio::null())
            .spawn();
        let mut agent = Killed(child.unwrap());
        let begun = || world.files().iter().any(|name| name.ends_with(".made.part"));
        until("a conversion", || {
            assert_eq!(agent.0.try_wait().unwrap(), None, "it ended by itself");
            directory.exists() && begun() && !converters(&directory).is_empty()
        });
        drop(agent);
        until("its end", || converters(&directory).is_empty());
        assert!(begun(), "what was begun is there");
        let cache = world.cache();
        assert_eq!(world.files(), [""; 0]);
        let image = world.image(3, ImageFormat::Vdi, bomb(1, 1)).await;
        cache.base(&image, None, &world.store).await.unwrap();
    });
}

const TOOL: &str = "NOVA_VIRT_TEST_TOOL";

/// What the other test starts, with another program in the place of `qemu-img`.
#[test]
fn the_process_with_another_tool() {
    let Some(folder) = std::env::var_os(TOOL).map(PathBuf::from) else { return };
    run(async {
        let world = World::new().await;
        let limits = Conversion::default()
            .with_memory(600 << 20)
            .with_processor_time(Duration::from_secs(7));
        let cache = world.cache_with(Arc::new(SystemClock::new()), limits);
        let image = world.image(2, ImageFormat::Vhd, vhd_dynamic().0).await;
        let ask = async |made: Option<Vec<u8>>| {
            let file = folder.join("made");
            let _ = std::fs::remove_file(&file);
            made.into_iter().for_each(|bytes| std::fs::write(&file, bytes).unwrap());
            let answer = cache.base(&image, None, &world.store).await;
            assert_eq!(world.files().is_empty(), answer.is_err());
            answer
        };
        // What it makes is looked at as if somebody had sent it.
        let with_backing = qcow2(3).be64(8, 512).be32(16, 11).with(512, b"/etc/shadow").0;
        let with_data = qcow2(3).be64(72, 4).0;
        for wrong in [with_backing, with_data, vec![7; 4096], vdi().0, vec![]] {
            let refused = why(ask(Some(wrong)).await);
            assert!(matches!(refused, ConversionError::Made(_)), "{refused:?}");
        }
        let larger = why(ask(Some(qcow2(3).be64(24, MIB + 512).0)).await);
        let larger = matches!(larger, ConversionError::Made(Refusal::TooLarge { .. }));
        assert!(larger);
        let nothing = why(ask(None).await);
        assert!(matches!(&nothing, ConversionError::Failed { said } if said.contains("cannot")));
        let base = ask(Some(qcow2(3).0)).await.unwrap();
        assert_eq!(base.disk().unwrap().virtual_size, MIB);
        let told = std::fs::read_to_string(folder.join("told")).unwrap();
        let told: Vec<&str> = told.split_whitespace().collect();
        let cache = world.folder.path().join("cache").canonicalize().unwrap();
        let of = |what: &str| format!("{}/{}.7.{what}", cache.display(), image.content.sha256);
        let (from, into) = (of("part"), of("made.part"));
        let call = ["convert", "-q", "-f", "vpc", "-O", "qcow2", &from, &into];
        assert_eq!(told[..call.len()], call);
        // Memory in KiB, seconds, blocks of 512 bytes, and how far it stands back.
        let blocks = ((MIB + MIB / 1024 + (4 << 20)) / 512).to_string();
        assert_eq!(told[call.len()..], ["614400", "7", &blocks, "0", "19"]);
    });
}

#[test]
fn what_was_made_is_inspected_and_the_tool_is_told_everything_and_may_take_little() {
    let folder = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\n{ echo \"$@\"; ulimit -v; ulimit -t; ulimit -f; ulimit -c; nice; } \
                  >\"$NOVA_VIRT_TEST_TOOL/told\"\nfor last; do :; done\n\
                  cp \"$NOVA_VIRT_TEST_TOOL/made\" \"$last\"\n";
    let tool = folder.path().join("qemu-img");
    std::fs::write(&tool, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&tool, executable).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "conversions::processes::the_process_with_another_tool", "--nocapture"])
        .env(TOOL, folder.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
