//! Archives made by hand, header by header, and a list of those that must be refused.

/// A header; its checksum is made when it gets into an archive.
#[derive(Clone)]
pub(crate) struct Head([u8; 512]);

impl Head {
    fn new(kind: u8, name: &str, magic: &[u8; 8]) -> Self {
        let head = Self([0; 512]).with(0, name.as_bytes()).with(156, &[kind]).with(257, magic);
        let head = head.with(100, b"0000755\0").with(108, b"0000000\0").with(116, b"0000000\0");
        head.size(0).with(136, b"14400000000\0")
    }

    pub(crate) fn gnu(kind: u8, name: &str) -> Self {
        Self::new(kind, name, b"ustar  \0")
    }

    pub(crate) fn posix(kind: u8, name: &str) -> Self {
        Self::new(kind, name, b"ustar\x0000")
    }

    /// The same with these bytes at an offset.
    #[must_use]
    pub(crate) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    #[must_use]
    pub(crate) fn size(self, size: u64) -> Self {
        self.with(124, format!("{size:011o}\0").as_bytes())
    }

    #[must_use]
    pub(crate) fn link(self, to: &str) -> Self {
        self.with(157, to.as_bytes())
    }

    /// With its checksum, but for one that is off by some.
    fn summed(self, off: u32) -> [u8; 512] {
        let head = self.with(148, b"        ");
        let sum: u32 = head.0.iter().map(|byte| u32::from(*byte)).sum();
        head.with(148, format!("{:06o}\0 ", sum + off).as_bytes()).0
    }
}

/// An archive that is being made.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    /// With one more header, and what follows it, as they are.
    #[must_use]
    pub(crate) fn head(mut self, head: Head, data: &[u8]) -> Self {
        self.0.extend(head.summed(0));
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// With one more entry, whose size is said.
    #[must_use]
    pub(crate) fn data(self, head: Head, data: &[u8]) -> Self {
        self.head(head.size(data.len() as u64), data)
    }

    #[must_use]
    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.data(Head::gnu(b'0', name), data)
    }

    #[must_use]
    pub(crate) fn directory(self, name: &str) -> Self {
        self.head(Head::gnu(b'5', name), &[])
    }

    #[must_use]
    pub(crate) fn symlink(self, name: &str, to: &str) -> Self {
        self.head(Head::gnu(b'2', name).link(to), &[])
    }

    #[must_use]
    pub(crate) fn link(self, name: &str, to: &str) -> Self {
        self.head(Head::gnu(b'1', name).link(to), &[])
    }

    /// With lines that say something of the next entry.
    #[must_use]
    pub(crate) fn pax(self, said: &[(&str, &str)]) -> Self {
        let text: Vec<u8> = said.iter().flat_map(|(key, value)| line(key, value)).collect();
        self.data(Head::posix(b'x', "PaxHeaders/a"), &text)
    }

    /// With the two blocks at the end.
    #[must_use]
    pub(crate) fn end(mut self) -> Self {
        self.0.extend([0; 1024]);
        self
    }

    /// With other bytes behind.
    #[must_use]
    pub(crate) fn and(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    #[must_use]
    pub(crate) fn cut(mut self, len: usize) -> Self {
        self.0.truncate(len);
        self
    }
}

/// A line that counts its own length.
pub(crate) fn line(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    format!("{length}{rest}").into_bytes()
}

/// One piece of a file with holes, as GNU writes it.
fn piece(at: u64, len: u64) -> Vec<u8> {
    format!("{at:011o}\0{len:011o}\0").into_bytes()
}

/// A file with holes as GNU writes it: 512 bytes at 4096 of `size`.
pub(crate) fn gnu_sparse(name: &str, pieces: &[(u64, u64)], size: u64) -> Head {
    let map: Vec<u8> = pieces.iter().flat_map(|(at, len)| piece(*at, *len)).collect();
    Head::gnu(b'S', name).with(386, &map).with(483, format!("{size:011o}\0").as_bytes())
}

/// One as POSIX archives have it, with the map before the data.
pub(crate) fn pax_sparse(name: &str, map: &str, data: &[u8], size: &str) -> Tar {
    let said = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", name),
        ("GNU.sparse.realsize", size),
    ];
    let mut bytes = map.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(data);
    Tar::default().pax(&said).data(Head::posix(b'0', "GNUSparseFile.0/a"), &bytes)
}

const OUT: &str = "leads out of the archive";
const THROUGH: &str = "goes through what is no directory";
const TWICE: &str = "comes twice";
const NO_FILE: &str = "is no file of the archive";
const MAP: &str = "map of its holes that contradicts itself";
const LONG: &str = "has a path that is too long";
const USER: &str = "belongs to a user that a container does not have";

/// Archives that must be refused: what each tries, and what the refusal says.
pub(crate) fn hostile() -> Vec<(String, Vec<u8>, &'static str)> {
    let mut cases = Vec::new();
    for part in [leading_out(), through_links(), of_kinds(), too_large(), unreadable()] {
        for (what, tar, why) in part {
            cases.push((what.to_owned(), tar.0, why));
        }
    }
    cases
}

type Cases = Vec<(&'static str, Tar, &'static str)>;

/// CVE-2001-1267 and all that followed: paths and links to elsewhere.
fn leading_out() -> Cases {
    let new = Tar::default;
    let long = |kind, name: &str| {
        Tar::default().data(Head::gnu(kind, "././@LongLink"), &[name.as_bytes(), &[0]].concat())
    };
    let mut cases: Cases =
        ["/etc/x", "../x", "a/../../x", "a/../b", "//etc/x", "./../x", "a/..", "..", "./.."]
            .map(|name| ("a path", new().file(name, b"x").end(), OUT))
            .into();
    cases.extend([
        ("a directory", new().directory("../d").end(), OUT),
        ("a long name", long(b'L', "../x").file("a", b"x").end(), OUT),
        ("a long absolute name", long(b'L', "/etc/x").file("a", b"x").end(), OUT),
        ("a path of POSIX", new().pax(&[("path", "../x")]).file("a", b"x").end(), OUT),
        ("an absolute one", new().pax(&[("path", "/etc/x")]).file("a", b"x").end(), OUT),
        ("a prefix", new().data(Head::posix(b'0', "x").with(345, b"../a"), b"x").end(), OUT),
        (
            "an absolute prefix",
            new().data(Head::posix(b'0', "x").with(345, b"/etc"), b"x").end(),
            OUT,
        ),
        ("a sparse file's name", pax_sparse("../x", "1\n0\n1\n", b"x", "1").end(), OUT),
        ("a hard link", new().link("a", "../x").end(), OUT),
        ("an absolute hard link", new().link("a", "/etc/shadow").end(), OUT),
        ("a long hard link", long(b'K', "../../etc/shadow").link("a", "b").end(), OUT),
        (
            "a hard link of POSIX",
            new().pax(&[("linkpath", "/etc/shadow")]).link("a", "b").end(),
            OUT,
        ),
        ("a link up", new().symlink("a", "..").end(), OUT),
        ("a link up and down", new().symlink("a", "../etc/shadow").end(), OUT),
        ("a link up from below", new().symlink("a/b/c", "../../../x").end(), OUT),
        ("a link down and up", new().symlink("a", "b/../../x").end(), OUT),
        ("an absolute link up", new().symlink("a", "/etc/../../x").end(), OUT),
        ("a long link", long(b'K', "../x").symlink("a", "b").end(), OUT),
        ("a link of POSIX", new().pax(&[("linkpath", "../x")]).symlink("a", "b").end(), OUT),
    ]);
    cases
}

/// CVE-2002-1216 and its kind: an entry makes a way out that a later one takes.
fn through_links() -> Cases {
    let new = Tar::default;
    vec![
        ("through an absolute link", new().symlink("a", "/tmp").file("a/x", b"x").end(), THROUGH),
        (
            "through a link inside",
            new().directory("b").symlink("a", "b").file("a/x", b"x").end(),
            THROUGH,
        ),
        ("a directory through a link", new().symlink("a", "/").directory("a/etc").end(), THROUGH),
        ("a link through a link", new().symlink("a", "/").symlink("a/b", "c").end(), THROUGH),
        (
            "a hard link through a link",
            new().file("f", b"x").symlink("a", "/").link("a/b", "f").end(),
            THROUGH,
        ),
        ("two links", new().symlink("a", ".").symlink("b", "a/x").file("b/c", b"x").end(), THROUGH),
        ("far below a link", new().symlink("a", "/").file("a/b/c/d", b"x").end(), THROUGH),
        (
            "through another spelling",
            new().symlink("./a/", "/").file(".//a/./x", b"x").end(),
            THROUGH,
        ),
        ("through a file", new().file("a", b"x").file("a/x", b"x").end(), THROUGH),
        (
            "a hard link to what is beyond one",
            new().symlink("a", "/etc").link("b", "a/shadow").end(),
            NO_FILE,
        ),
        ("a hard link to a link", new().symlink("a", "/etc/shadow").link("b", "a").end(), NO_FILE),
        ("a hard link to a directory", new().directory("a").link("b", "a").end(), NO_FILE),
        ("a hard link to itself", new().link("a", "a").end(), NO_FILE),
        ("a hard link to what comes later", new().link("a", "b").file("b", b"x").end(), NO_FILE),
        ("a hard link to the root", new().directory("./").link("a", ".").end(), NO_FILE),
        ("a file over a link", new().symlink("a", "/etc/x").file("a", b"x").end(), TWICE),
        ("a file over a file", new().file("a", b"x").file("a", b"y").end(), TWICE),
        ("a link over a link", new().symlink("a", "b").symlink("./a", "/").end(), TWICE),
        ("a link over a directory", new().directory("a").symlink("a", "/").end(), TWICE),
        (
            "a link over one that was implied",
            new().file("a/b", b"x").symlink("a", "/").end(),
            TWICE,
        ),
        ("a directory over a link", new().symlink("a", "/").directory("a").end(), TWICE),
        (
            "a hard link over a link",
            new().file("f", b"x").symlink("a", "/").link("a", "f").end(),
            TWICE,
        ),
        ("a link as the root", new().symlink("./", "/").end(), "in place of the root"),
        ("a file as the root", new().file(".", b"x").end(), "in place of the root"),
    ]
}

fn of_kinds() -> Cases {
    let new = Tar::default;
    let of = |kind| {
        new().head(Head::gnu(kind, "a").with(329, b"0000001\0").with(337, b"0000003\0"), &[]).end()
    };
    let mut cases = vec![
        ("a terminal", of(b'3'), "is a device"),
        ("a disk", of(b'4'), "is a device"),
        ("a FIFO", of(b'6'), "is a FIFO"),
        ("a device of POSIX", new().head(Head::posix(b'3', "dev/mem"), &[]).end(), "is a device"),
        ("a file that is a directory", new().file("a/", b"x").end(), "name of a directory"),
        ("a directory with bytes", new().data(Head::gnu(b'5', "a"), b"x").end(), "has bytes"),
        ("a link with bytes", new().data(Head::gnu(b'2', "a").link("b"), b"x").end(), "has bytes"),
        (
            "a hard link with bytes",
            new().file("b", b"x").data(Head::gnu(b'1', "a").link("b"), b"x").end(),
            "has bytes",
        ),
        ("a link to nothing", new().symlink("a", "").end(), "is a link to nothing"),
        ("an empty name", new().file("", b"x").end(), "has no name"),
        ("user 65536", new().head(Head::gnu(b'0', "a").with(108, b"0200000\0"), &[]).end(), USER),
        ("group 65536", new().head(Head::gnu(b'0', "a").with(116, b"0200000\0"), &[]).end(), USER),
        (
            "a large user",
            new()
                .head(Head::gnu(b'0', "a").with(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), &[])
                .end(),
            USER,
        ),
        ("a user of POSIX", new().pax(&[("uid", "4294967295")]).file("a", b"x").end(), USER),
        ("a group of POSIX", new().pax(&[("gid", "100000")]).file("a", b"x").end(), USER),
    ];
    // A volume's name, what was continued, a directory as incremental backups have it, others.
    for kind in *b"VMDNAIXs8Z" {
        cases.push(("another kind", of(kind), "is of a kind that is not taken"));
    }
    cases
}

/// More than was meant to be unpacked.
fn too_large() -> Cases {
    let new = Tar::default;
    let sparse =
        |pieces: &[(u64, u64)], size| new().data(gnu_sparse("a", pieces, size), &[7; 512]).end();
    let name = |len| "n".repeat(len);
    let deep = "d/".repeat(129);
    let ratio = "bytes for each of its own";
    let max = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    vec![
        ("a hole of a TiB", sparse(&[(4096, 512)], 1 << 32), ratio),
        ("one of POSIX", pax_sparse("a", "1\n0\n1\n", b"x", "1099511627776").end(), ratio),
        (
            "one of all that can be counted",
            pax_sparse("a", "0\n", b"", "18446744073709551615").end(),
            ratio,
        ),
        (
            "many holes",
            (0..50)
                .fold(new(), |tar, n| {
                    tar.data(gnu_sparse(&n.to_string(), &[(0, 1)], 1 << 20), b"x")
                })
                .end(),
            ratio,
        ),
        ("a map beyond the file", sparse(&[(4096, 512)], 4096), MAP),
        ("a map that goes back", sparse(&[(4096, 256), (0, 256)], 8192), MAP),
        ("a map that overlaps", sparse(&[(0, 256), (128, 256)], 8192), MAP),
        ("a map of more than there is", sparse(&[(0, 1024)], 8192), MAP),
        ("a map of less than there is", sparse(&[(0, 128)], 8192), MAP),
        ("a map of POSIX beyond the file", pax_sparse("a", "1\n9\n1\n", b"x", "9").end(), MAP),
        (
            "a map with too many pieces",
            pax_sparse("a", "4000000000\n", b"x", "9").end(),
            "pieces of one file",
        ),
        ("a map that ends early", pax_sparse("a", "3\n0\n1\n", b"", "9").end(), "no map of them"),
        ("a map of words", pax_sparse("a", "x\n", b"", "9").end(), "no map of them"),
        (
            "a map that goes on without an end",
            new().head(gnu_sparse("a", &[], 0).with(482, &[1]), &[0; 2048]).end(),
            "no map of them",
        ),
        (
            "a size beyond the archive",
            new().head(Head::gnu(b'0', "a").size(1 << 20), b"x").end(),
            "ends before",
        ),
        (
            "a size beyond counting",
            new().head(Head::gnu(b'0', "a").with(124, &max), b"x").end(),
            "ends before",
        ),
        (
            "said in a TiB",
            new().head(Head::posix(b'x', "a").size(1 << 32), b"x").end(),
            "bytes said of an entry",
        ),
        (
            "a name of a TiB",
            new().head(Head::gnu(b'L', "a").size(1 << 32), b"x").end(),
            "bytes said of an entry",
        ),
        ("a long path", new().pax(&[("path", &"a/".repeat(2049))]).directory("a").end(), LONG),
        ("a long name", new().pax(&[("path", &name(256))]).file("a", b"x").end(), LONG),
        ("a long way down", new().pax(&[("path", &deep)]).directory("a").end(), LONG),
        (
            "much behind its end",
            new().file("a", b"x").end().and(&vec![0; 2 << 20]),
            "behind its end",
        ),
    ]
}

/// What one reader takes for this and another for that.
fn unreadable() -> Cases {
    let new = Tar::default;
    let file = || new().file("a", b"x");
    let pax =
        |text: &str| new().data(Head::posix(b'x', "a"), text.as_bytes()).file("a", b"x").end();
    let said = |said: &[(&str, &str)]| new().pax(said).file("a", b"x").end();
    let twice = "says something of an entry twice";
    let unread = "what it says of an entry does not read";
    let mut sum = file().end();
    sum.0[0] ^= 1;
    let number = |bytes: &[u8]| new().head(Head::gnu(b'0', "a").with(124, bytes), b"x").end();
    vec![
        // CVE-2025-62518: the bytes that one reader skips are the next header of another.
        (
            "two sizes",
            new().pax(&[("size", "1024")]).data(Head::posix(b'0', "a"), b"x").end(),
            "has two sizes",
        ),
        (
            "none and some",
            new().pax(&[("size", "0")]).data(Head::posix(b'0', "a"), b"x").end(),
            "has two sizes",
        ),
        (
            "some and none",
            new().pax(&[("size", "512")]).head(Head::posix(b'0', "a"), &[0; 512]).end(),
            "has two sizes",
        ),
        ("a path twice", said(&[("path", "a"), ("path", "b")]), twice),
        (
            "two headers beside",
            new().pax(&[("path", "b")]).pax(&[("path", "c")]).file("a", b"x").end(),
            twice,
        ),
        ("a number with a sign", said(&[("size", "+1")]), twice),
        ("a path with an end inside", said(&[("path", "a\0b")]), twice),
        ("a path of nothing", said(&[("path", "")]), twice),
        ("holes as they were once", said(&[("GNU.sparse.map", "0,1")]), "not taken"),
        (
            "holes of another version",
            said(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")]),
            "has holes",
        ),
        ("holes of no version", said(&[("GNU.sparse.realsize", "9")]), "has holes"),
        (
            "holes of a directory",
            new()
                .pax(&[
                    ("GNU.sparse.major", "1"),
                    ("GNU.sparse.minor", "0"),
                    ("GNU.sparse.realsize", "9"),
                ])
                .directory("a")
                .end(),
            "has holes",
        ),
        ("a key that is not known", said(&[("charset", "x")]), "not taken"),
        (
            "a path for all",
            new().data(Head::posix(b'g', "g"), &line("path", "../x")).file("a", b"x").end(),
            "not taken",
        ),
        (
            "a size for all",
            new().data(Head::posix(b'g', "g"), &line("size", "0")).file("a", b"x").end(),
            "not taken",
        ),
        ("a line that is too long", pax("99 path=b\n"), unread),
        ("a line that is too short", pax("5 path=b\n"), unread),
        ("a line of nothing", pax("0 path=b\n"), unread),
        ("a line without an end", pax("9 path=bc"), unread),
        ("a line without a length", pax("path=b\n"), unread),
        ("said of nothing", new().pax(&[("path", "b")]).end(), "an entry that is not there"),
        (
            "said in another dialect",
            new().head(Head::gnu(b'x', "a"), &[]).file("a", b"x").end(),
            "of a kind",
        ),
        (
            "a long name in another dialect",
            new().data(Head::posix(b'L', "a"), b"b\0").file("a", b"x").end(),
            "of a kind",
        ),
        (
            "a header without a magic",
            new().head(Head::gnu(b'0', "a").with(257, &[0; 8]), &[]).end(),
            "not one of GNU's or POSIX's",
        ),
        ("a wrong checksum", sum, "the checksum of a header is wrong"),
        ("a number of letters", number(b"0000000000x\0"), "a number of a header is none"),
        ("a negative number", number(&[0xff; 12]), "a number of a header is none"),
        ("a number with more behind", number(b"00001\x0000001\0"), "a number of a header is none"),
        ("no bytes", new(), "ends before"),
        ("nothing but zeros", new().end(), "has no entries"),
        ("no end", file(), "ends before"),
        ("half an end", file().and(&[0; 512]), "ends before"),
        ("half a header", file().end().cut(300), "ends before"),
        ("half a file", new().file("a", &[7; 4096]).cut(2048), "ends before"),
        ("an archive behind its end", file().end().and(&file().end().0), "goes on behind its end"),
        (
            "a compressed one",
            Tar(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).and(&[9; 1024]),
            "not one of GNU's",
        ),
        ("a text", Tar(b"#!/bin/sh\n".repeat(100)), "not one of GNU's"),
        (
            "a disk, too",
            new().head(Head::gnu(b'0', "a").with(0, b"QFI\xfb\0\0\0\x03"), &[]).end(),
            "it is a disk",
        ),
        (
            "a CD, too",
            new().file("a", &[&[0; 0x8001 - 512][..], b"CD001"].concat()).end(),
            "it is a disk",
        ),
    ]
}
