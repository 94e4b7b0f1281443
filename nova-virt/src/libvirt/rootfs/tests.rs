//! What is unpacked, and that nothing else is touched.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use super::*;

#[path = "../../../tests/it/inspect/archives/makers.rs"]
mod makers;

use self::makers::{Head, Tar, gnu_sparse, hostile, pax_sparse};

/// A folder with something beside the place where a root file system is unpacked.
struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("beside")).unwrap();
        fs::write(folder.path().join("beside/file"), "untouched").unwrap();
        Self(folder)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn unpack(&self, tar: &[u8], first_user: u32, size_max: Option<u64>) -> io::Result<()> {
        let file = self.0.path().join("tar");
        fs::write(&file, tar)?;
        unpack(&file, &self.root(), first_user, size_max)
    }

    /// The names in the folder; that which is beside is as it was.
    fn names(&self) -> Vec<String> {
        let beside = self.0.path().join("beside/file");
        assert_eq!(fs::read_to_string(&beside).unwrap(), "untouched");
        let meta = beside.metadata().unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o111), (1, 0));
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Only root may give files to others; anybody may keep them, if they are one of a container's
/// users.
fn own(head: Head, world: &World) -> Option<Head> {
    let meta = world.0.path().metadata().unwrap();
    let fits = meta.uid() < 65_536 && meta.gid() < 65_536;
    let number = |id: u32| format!("{id:07o}\0").into_bytes();
    fits.then(|| head.with(108, &number(meta.uid())).with(116, &number(meta.gid())))
}

#[test]
fn a_hostile_archive_leaves_nothing_behind() {
    for (what, tar, why) in hostile() {
        let world = World::new();
        fs::create_dir(world.root()).unwrap();
        fs::write(world.root().join("old"), "").unwrap();
        let error = world.unpack(&tar, 0, None).expect_err(&what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
        assert!(error.to_string().contains(why), "{what}: {error}");
        assert_eq!(world.names(), ["beside", "tar"], "{what}");
    }
}

#[test]
fn an_archive_that_is_too_large_leaves_nothing_behind() {
    let world = World::new();
    let tar = Tar::default().file("a", &[7; 6000]).end().0;
    assert!(world.unpack(&tar, 0, Some(5999)).is_err());
    assert_eq!(world.names(), ["beside", "tar"]);
}

/// What would be overlooked is still not followed: nobody else may write into the directory, but
/// if they did, nothing would be made elsewhere.
#[test]
fn nothing_is_made_through_a_link_that_somebody_else_made() {
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    for (name, to) in [("up", "../beside"), ("all", "/"), ("inside", "directory")] {
        symlink(to, world.root().join(name)).unwrap();
    }
    fs::create_dir(world.root().join("directory")).unwrap();
    let mut root = Root::at(&world.root(), 0).unwrap();
    for way in ["up", "all", "inside", "..", "../beside", "/", "directory/../.."] {
        assert!(root.directory(way.as_bytes()).is_err(), "{way}");
        // Even if it is believed to be a directory of the archive.
        root.directories.insert(way.into(), UNSAID);
        assert!(root.parent_of(format!("{way}/x").as_bytes()).is_err(), "{way}");
    }
    assert!(root.directory(b"directory").is_ok());
    assert_eq!(world.names(), ["beside", "root"]);
}

#[test]
fn a_file_does_not_run_as_a_user_of_the_host() {
    let world = World::new();
    let head = own(Head::gnu(b'0', "su").with(100, b"0006755\0"), &world);
    let sticky = own(Head::gnu(b'5', "tmp").with(100, b"0003777\0"), &world);
    let (Some(head), Some(sticky)) = (head, sticky) else {
        eprintln!("skipped a_file_does_not_run_as_a_user_of_the_host: no user of a container");
        return;
    };
    let tar = Tar::default().data(head, b"x").head(sticky, &[]).end().0;
    world.unpack(&tar, 0, None).unwrap();
    let mode = |name| world.root().join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("su"), mode("tmp")), (0o755, 0o3777));
    if world.unpack(&tar, 200_000, None).is_err() {
        eprintln!("skipped half of it: only root gives files away");
        return;
    }
    assert_eq!((mode("su"), mode("tmp")), (0o6755, 0o3777));
    let user = world.root().join("su").metadata().unwrap().uid();
    let own = world.0.path().metadata().unwrap().uid();
    assert_eq!(user, 200_000 + own);
}

#[test]
fn holes_stay_holes() {
    let world = World::new();
    let gnu = own(gnu_sparse("gnu", &[(65536, 512)], 90_000), &world);
    let Some(gnu) = gnu else {
        eprintln!("skipped holes_stay_holes: no user of a container");
        return;
    };
    let tar = Tar::default().data(gnu, &[7; 512]).end().0;
    world.unpack(&tar, 0, None).unwrap();
    let file = File::open(world.root().join("gnu")).unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!(meta.len(), 90_000);
    assert!(meta.blocks() * 512 < 65_536, "{}", meta.blocks());
    let mut bytes = [0; 514];
    file.read_exact_at(&mut bytes, 65_535).unwrap();
    assert_eq!((bytes[0], bytes[1], bytes[512], bytes[513]), (0, 7, 7, 0));
    if meta.uid() == 0 {
        let tar = pax_sparse("posix", "2\n1\n1\n5\n2\n", b"abc", "9").end().0;
        world.unpack(&tar, 0, None).unwrap();
        let bytes = fs::read(world.root().join("posix")).unwrap();
        assert_eq!(bytes, b"\0a\0\0\0bc\0\0");
    }
}

/// What `tar` packs comes out as it was.
#[test]
fn an_archive_of_tar_comes_out_as_it_went_in() {
    let world = World::new();
    let there = world.0.path().join("there");
    for folder in ["bin", "etc", "closed/inner", &"deep/".repeat(60)] {
        fs::create_dir_all(there.join(folder)).unwrap();
    }
    let long = "a name that is longer than a header has room for ".repeat(5);
    for (name, mode) in [("bin/sh", 0o755), ("etc/shadow", 0o400), (&long, 0o644), ("bin/ü", 0)] {
        fs::write(there.join(name), name.repeat(9000)).unwrap();
        fs::set_permissions(there.join(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::hard_link(there.join(&long), there.join("etc/short")).unwrap();
    symlink("/etc/../bin/sh", there.join("etc/link")).unwrap();
    symlink(&long, there.join("closed/inner/link")).unwrap();
    fs::set_permissions(there.join("closed"), Permissions::from_mode(0o555)).unwrap();
    let user = there.metadata().unwrap();
    let packs = Command::new("tar").arg("--version").output().is_ok();
    if !packs || user.uid() >= 65_536 || user.gid() >= 65_536 {
        eprintln!("skipped an_archive_of_tar_comes_out_as_it_went_in: no tar, or nobody to own it");
        return;
    }
    // What only root may read is read by whoever owns it, which tar may not be able to do.
    if user.uid() != 0 {
        fs::set_permissions(there.join("bin/ü"), Permissions::from_mode(0o400)).unwrap();
    }
    for format in ["--format=gnu", "--format=posix"] {
        let mut tar = Command::new("tar");
        let tar = tar.args([format, "--sparse", "-cf", "-", "-C"]).arg(&there).arg(".").output();
        let tar = tar.unwrap();
        assert!(tar.status.success(), "{tar:?}");
        world.unpack(&tar.stdout, 0, None).unwrap();
        assert_eq!(seen(&world.root()), seen(&there), "{format}");
    }
    // So that it can be removed.
    for root in [world.root(), there] {
        fs::set_permissions(root.join("closed"), Permissions::from_mode(0o755)).unwrap();
    }
}

/// Every path with its mode, links, time and what is in it.
fn seen(root: &Path) -> Vec<(PathBuf, u32, u64, i64, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let (links, time, says) = match meta.file_type() {
                kind if kind.is_dir() => {
                    folders.push(path.clone());
                    (0, meta.mtime(), Vec::new())
                }
                kind if kind.is_symlink() => {
                    let says = fs::read_link(&path).unwrap().into_os_string();
                    (meta.nlink(), 0, says.as_bytes().to_vec())
                }
                _ => (meta.nlink(), meta.mtime(), fs::read(&path).unwrap_or_default()),
            };
            let path = path.strip_prefix(root).unwrap().to_owned();
            seen.push((path, meta.mode(), links, time, says));
        }
    }
    seen.sort();
    seen
}
