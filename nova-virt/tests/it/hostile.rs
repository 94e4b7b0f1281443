//! Files that somebody else wrote, cut or filled: a typed error, never a panic, never a guess.

use std::path::Path;

use nova_core::class::Class;
use nova_core::domain::{Fence, GiB, HostId, ImageId, VolumeId, VolumeSize};
use nova_core::port::{
    ImageError, ImageStore as _, VirtDriver as _, VirtError, VolumeDriver as _, VolumeError,
};
use nova_virt::sim::SimFailure;
use nova_virt::{DirImageStore, FileError, FileVolumes, SimHost};
use proptest::prelude::*;

use crate::world::{TOTAL, guest, id, images, run};

fn open(path: &Path) -> Result<SimHost, FileError> {
    SimHost::open(path, "h".parse().unwrap(), TOTAL)
}

/// What opening a host's file with these contents comes to.
fn opened(contents: &[u8]) -> &'static str {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("host.json");
    std::fs::write(&path, contents).unwrap();
    let outcome = match open(&path) {
        Ok(_) => "fine",
        Err(FileError::Corrupt { .. }) => "corrupt",
        Err(FileError::NewerFormat { found, known: 1, .. }) if found > 1 => "newer",
        Err(FileError::Foreign { .. }) => "foreign",
        Err(other) => panic!("{other:?}"),
    };
    if outcome != "fine" {
        assert_eq!(std::fs::read(&path).unwrap(), contents, "a refused file is left as it is");
    }
    outcome
}

/// The file of a host with a guest.
fn genuine() -> String {
    run(async {
        let (directory, (images, image)) = (tempfile::tempdir().unwrap(), images().await);
        let path = directory.path().join("host.json");
        let host = open(&path).unwrap();
        host.create(&guest(1, &image), &images).await.unwrap();
        std::fs::read_to_string(path).unwrap()
    })
}

#[test]
fn a_host_file_is_read_whole_or_refused() {
    let genuine = genuine();
    assert_eq!(opened(genuine.as_bytes()), "fine");
    let changed = |from: &str, to: &str| {
        assert!(genuine.contains(from), "{from} is not in {genuine}");
        opened(genuine.replacen(from, to, 1).as_bytes())
    };
    assert_eq!(changed("\"format\": 1", "\"format\": 2"), "newer");
    assert_eq!(changed("\"format\": 1", "\"format\": 4294967295, \"more\": [{}]"), "newer");
    assert_eq!(changed("\"format\": 1", "\"format\": 0"), "corrupt");
    assert_eq!(changed("\"format\": 1", "\"format\": -1"), "corrupt");
    assert_eq!(changed("\"format\": 1", "\"format\": \"1\""), "corrupt");
    assert_eq!(changed("\"host\": \"h\"", "\"host\": \"other\""), "foreign");
    assert_eq!(changed("\"host\": \"h\"", "\"host\": \"a\\nb\""), "corrupt");
    assert_eq!(changed("\"power\": \"running\"", "\"power\": \"flying\""), "corrupt");
    assert_eq!(changed("\"memory\": 1024", "\"memory\": -1"), "corrupt");
    assert_eq!(changed("\"memory\": 1024", "\"memory\": 18446744073709551616"), "corrupt");
    assert_eq!(changed("\"memory\": 1024", "\"memory\": 18446744073709551615"), "fine");
    assert_eq!(changed("000000000001\"", "00000000000x\""), "corrupt");
    for text in ["", "{", "null", "[]", "0", "\"h\"", "{}", "{\"format\": 1}"] {
        assert_eq!(opened(text.as_bytes()), "corrupt", "{text:?}");
    }
    assert_eq!(opened("[".repeat(100_000).as_bytes()), "corrupt");
    assert_eq!(opened(b"\xff\xfe\0"), "corrupt");
}

#[test]
fn a_host_file_that_was_cut_anywhere_is_refused() {
    let genuine = genuine();
    for end in 0..genuine.trim_end().len() {
        assert_eq!(opened(&genuine.as_bytes()[..end]), "corrupt", "cut at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(opened(&bytes), "corrupt");
    }

    #[test]
    fn a_byte_changed_anywhere_is_read_or_refused(at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = genuine().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = to;
        opened(&bytes);
    }
}

#[test]
fn a_host_file_is_used_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("host.json");
    let first = open(&path).unwrap();
    let second = open(&path).unwrap_err();
    assert!(matches!(second, FileError::InUse { .. }), "{second:?}");
    assert_eq!(second.class(), Class::Retry);
    drop(first);
    assert!(open(&path).is_ok());
}

#[test]
fn what_could_not_be_saved_has_not_happened() {
    run(async {
        let (directory, (images, image)) = (tempfile::tempdir().unwrap(), images().await);
        let place = directory.path().join("place");
        std::fs::create_dir(&place).unwrap();
        let host = open(&place.join("host.json")).unwrap();
        host.create(&guest(1, &image), &images).await.unwrap();
        std::fs::remove_dir_all(&place).unwrap();
        match host.stop(id(1)).await {
            Err(VirtError::Host { source, .. }) => {
                let file = source.downcast_ref::<SimFailure>();
                let told = matches!(file, Some(SimFailure::File(FileError::Io { .. })));
                assert!(told, "{source:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(host.lose_power().is_err());
        assert!(host.is_powered());
        let guest = host.guest(id(1)).await.unwrap().unwrap();
        assert_eq!(guest.power, nova_core::domain::PowerState::Running);
    });
}

const HOSTILE: [&str; 6] =
    ["", "{", "[]", "{\"format\":2}", "{\"format\":0}", "{\"format\":1,\"size_gib\":0}"];

#[test]
fn a_damaged_description_of_a_volume_is_told_by_every_verb_and_destroys_nothing() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let volumes = FileVolumes::at(directory.path()).unwrap();
        let (volume, host) = (VolumeId::from_u128(1), HostId::from_u128(1));
        let size = VolumeSize::new(GiB(1)).unwrap();
        volumes.create(volume, size, Fence(1)).await.unwrap();
        for text in HOSTILE {
            std::fs::write(directory.path().join(format!("{volume}.json")), text).unwrap();
            let listed = volumes.list().await;
            assert!(matches!(listed, Err(VolumeError::List { .. })), "{text}: {listed:?}");
            for result in [
                volumes.create(volume, size, Fence(1)).await,
                volumes.connect(volume, host, Fence(1)).await.map(|_| ()),
                volumes.disconnect(volume, host, Fence(1)).await,
                volumes.remove(volume, Fence(1)).await,
            ] {
                assert!(matches!(result, Err(VolumeError::Io { .. })), "{text}: {result:?}");
            }
            FileVolumes::at(directory.path()).unwrap();
            assert!(directory.path().join(format!("{volume}.volume")).exists());
        }
    });
}

#[test]
fn a_damaged_description_of_an_image_is_told_and_the_image_can_be_removed() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let store = DirImageStore::at(directory.path()).unwrap();
        let image = ImageId::from_u128(1);
        let put = || store.put(image, Box::new(std::io::Cursor::new(vec![1; 10])));
        for text in HOSTILE {
            put().await.unwrap();
            let sidecar = directory.path().join(format!("{image}.json"));
            std::fs::write(sidecar, text).unwrap();
            let told = store.content(image).await;
            assert!(matches!(told, Err(ImageError::Io { .. })), "{text}: {told:?}");
            assert!(matches!(put().await, Err(ImageError::Exists { .. })));
            store.remove(image).await.unwrap();
        }
        put().await.unwrap();
        std::fs::write(directory.path().join(format!("{image}.image")), "cut").unwrap();
        let told = store.content(image).await;
        assert!(matches!(told, Err(ImageError::Mismatch { .. })), "{told:?}");
    });
}
