//! Crafted archives: all are refused, and for the right reason.

use std::io::Cursor;

use nova_virt::inspect::{Refusal, inspect_archive};

use super::makers::{Head, Tar, hostile};

#[test]
fn hostile_archives_are_refused_for_what_they_are() {
    let cases = hostile();
    for (what, bytes, why) in &cases {
        let refusal = inspect_archive(&mut Cursor::new(bytes), None);
        let refusal = refusal.expect_err(what);
        assert!(refusal.to_string().contains(why), "{what}: {refusal}");
    }
    assert!(cases.len() >= 40, "{}", cases.len());
    println!("{} hostile archives were refused", cases.len());
}

/// What a guest would see has to fit on its disk.
#[test]
fn an_archive_that_is_larger_than_the_disk_is_refused() {
    let tar = Tar::default().file("a", &[7; 6000]).file("b", &[7; 6000]).end().0;
    let found = inspect_archive(&mut Cursor::new(&tar), Some(12_000)).unwrap();
    assert_eq!((found.entries, found.bytes), (2, 12_000));
    let refusal = inspect_archive(&mut Cursor::new(&tar), Some(11_999)).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge { virtual_size: 12_000, allowed: 11_999 }));
}

/// Directories that are only named on the way count, too: few bytes stand for many of them.
#[test]
fn an_archive_with_too_many_entries_is_refused() {
    let way = "/a".repeat(74);
    let name = "a/".repeat(49);
    let many = (0..8200).fold(Tar::default(), |tar, number| {
        let prefix = format!("{number:06}{way}");
        tar.head(Head::posix(b'5', &name).with(345, prefix.as_bytes()), &[])
    });
    let refusal = inspect_archive(&mut Cursor::new(many.end().0), None).unwrap_err();
    assert!(matches!(refusal, Refusal::TooMany { what: "entries", .. }), "{refusal}");
}
