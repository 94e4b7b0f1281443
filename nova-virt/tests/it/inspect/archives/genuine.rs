//! Archives as programs make them: all are taken.

use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use nova_virt::inspect::inspect_archive;

use super::makers::{Head, Tar, gnu_sparse, line, pax_sparse};

#[test]
fn small_whole_archives_are_taken() {
    let new = Tar::default;
    let long = format!("{}/x", "a/b".repeat(40));
    let global = line("comment", "3a1f");
    let archives = [
        (new().file("a", b"x"), 1, 1),
        (new().directory("./").directory("./a/").file("./a/b", b"xyz"), 3, 3),
        (new().file("a/b/c", b"").link("d", "a/b/c").link("./e", "./d"), 3, 0),
        (new().directory("a").file("a/b", b"x").directory("a"), 3, 1),
        (new().symlink("a", "/etc/b").symlink("b/c", "../a").symlink("d", "nowhere"), 3, 0),
        (new().data(Head::posix(b'0', "c").with(345, b"a/b"), b"x"), 1, 1),
        (new().data(Head::gnu(b'7', "a").with(136, b"00000000000 "), b"x"), 1, 1),
        (new().data(Head::gnu(b'L', "././@LongLink"), long.as_bytes()).file("a", b"x"), 1, 1),
        (new().pax(&[("path", &long), ("mtime", "-1.5"), ("size", "1")]).file("a", b"x"), 1, 1),
        (new().pax(&[("SCHILY.xattr.user.a", "b=\n"), ("uname", "")]).directory("a"), 1, 0),
        (new().data(Head::posix(b'g', "g"), &global).file("a", b"x"), 1, 1),
        (new().data(gnu_sparse("a", &[(4096, 512), (65536, 0)], 65536), &[7; 512]), 1, 65536),
        (pax_sparse("a", "2\n0\n1\n9\n1\n", b"xy", "10"), 1, 10),
    ];
    for (index, (tar, entries, bytes)) in archives.into_iter().enumerate() {
        let found = inspect_archive(&mut Cursor::new(tar.end().0), None);
        let found = found.unwrap_or_else(|refusal| panic!("{index}: {refusal}"));
        assert_eq!((found.entries, found.bytes), (entries, bytes), "{index}");
    }
}

/// A small root file system with what root file systems have.
fn grow(root: &Path) {
    for directory in ["bin", "etc/alternatives", "var/log", "tmp", &"deep/".repeat(40)] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let long = "a name that is longer than a header has room for ".repeat(5);
    let all = [("bin/true", 0o4755), ("etc/shadow", 0o600), ("bin/ü", 0o755), (&long, 0o644)];
    for (name, mode) in all {
        fs::write(root.join(name), name.repeat(999)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(root.join("bin/true"), root.join("bin/false")).unwrap();
    fs::hard_link(root.join(&long), root.join("etc/short")).unwrap();
    symlink("/bin/true", root.join("etc/alternatives/true")).unwrap();
    symlink("../bin/true", root.join("etc/true")).unwrap();
    symlink(&long, root.join("long")).unwrap();
    let lastlog = File::create(root.join("var/log/lastlog")).unwrap();
    lastlog.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&lastlog, b"somebody", 900_000).unwrap();
}

#[test]
fn archives_of_tar_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    grow(&root);
    let mut count = 0;
    for arguments in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=posix", "--sparse"],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--xattrs", "--acls"],
        &["--format=gnu", "--owner=0", "--group=0", "--numeric-owner", "--sort=name"],
        &["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"],
        &["--format=gnu", "--blocking-factor=1"],
        &["--format=gnu", "--blocking-factor=2000"],
        &["--format=gnu", "--hard-dereference"],
    ] {
        let file = folder.path().join(format!("{count}.tar"));
        let mut run = Command::new("tar");
        // Nobody's, for whoever runs the tests may be a user that a container does not have.
        run.args(["--owner=1", "--group=1"]).args(arguments).arg("-C").arg(&root).arg("-cf");
        let Ok(output) = run.arg(&file).arg(".").output() else {
            eprintln!("skipped archives_of_tar_are_taken: there is no tar");
            return;
        };
        assert!(output.status.success(), "{output:?}");
        let found = inspect_archive(&mut File::open(file).unwrap(), Some(4 << 20));
        let found = found.unwrap_or_else(|refusal| panic!("{arguments:?}: {refusal}"));
        assert!(found.entries >= 57 && found.bytes > 1 << 20, "{arguments:?}: {found:?}");
        count += 1;
    }
    println!("{count} archives of tar were taken");
}
