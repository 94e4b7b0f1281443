//! Crafted images, by what they try: all are refused, and for the right reason.

use nova_virt::inspect::Format::{self, Iso, Luks, Qcow2, Raw, Vdi, Vhd, Vhdx, Vmdk};
use nova_virt::inspect::Refusal;

use super::look;
use super::makers::*;

/// What an image tries, as it is declared, and what it is refused for.
type Case = (String, Format, Made, fn(&Refusal) -> bool);

/// The reasons.
const OTHER_FILE: fn(&Refusal) -> bool = |r| matches!(r, Refusal::OtherFile(_));
const UNKNOWN: fn(&Refusal) -> bool = |r| matches!(r, Refusal::Unknown { .. });
const WRONG: fn(&Refusal) -> bool = |r| matches!(r, Refusal::Wrong(_) | Refusal::Short { .. });
const LINE: fn(&Refusal) -> bool = |r| matches!(r, Refusal::Line { .. });
const DISGUISED: fn(&Refusal) -> bool = |r| matches!(r, Refusal::Disguised { .. });
const AMBIGUOUS: fn(&Refusal) -> bool = |r| matches!(r, Refusal::Ambiguous { .. });
const BANNED: fn(&Refusal) -> bool = |r| matches!(r, Refusal::Banned(_));
const TOO_LARGE: fn(&Refusal) -> bool = |r| matches!(r, Refusal::TooLarge { .. });

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        what: impl Into<String>,
        declared: Format,
        made: Made,
        why: fn(&Refusal) -> bool,
    ) {
        self.0.push((what.into(), declared, made, why));
    }
}

/// One of each format, whole.
fn whole() -> Vec<(Format, Made)> {
    vec![
        (Qcow2, qcow2(3)),
        (Vmdk, vmdk(&descriptor("monolithicSparse"))),
        (Vhd, vhd_dynamic()),
        (Vhdx, vhdx()),
        (Vdi, vdi()),
        (Luks, luks()),
        (Iso, iso()),
    ]
}

/// CVE-2014-... and CVE-2024-40767: a guest writes a header onto its raw disk, or a user lies.
fn disguised(cases: &mut Cases) {
    for (is, made) in whole() {
        for declared in Format::ACCEPTED.into_iter().filter(|declared| *declared != is) {
            cases.add(format!("{is} declared as {declared}"), declared, made.clone(), DISGUISED);
        }
    }
    cases.add("fixed vhd as raw", Raw, vhd_fixed(), DISGUISED);
    cases.add("old fixed vhd as raw", Raw, raw().and(&vhd_footer(2).0[..511]), DISGUISED);
    for declared in Format::ACCEPTED.into_iter().filter(|declared| *declared != Raw) {
        cases.add(format!("raw declared as {declared}"), declared, raw(), DISGUISED);
    }
}

/// Files that are two things at once.
fn polyglots(cases: &mut Cases) {
    for (is, made) in whole().into_iter().filter(|(is, _)| *is != Iso) {
        let descriptor = iso().0[0x8000..0x8000 + 190].to_vec();
        let cd = made.clone().with(0x8000, &descriptor);
        cases.add(format!("{is} and a CD"), is, cd.clone(), AMBIGUOUS);
        cases.add(format!("a CD and {is}"), Iso, cd, AMBIGUOUS);
        if is != Vhd {
            let vhd = made.clone().and(&vhd_footer(2).0);
            cases.add(format!("{is} and a fixed vhd"), is, vhd.clone(), AMBIGUOUS);
            cases.add(format!("a fixed vhd and {is}"), Vhd, vhd, AMBIGUOUS);
        }
        if ![Vdi, Vhd, Vmdk].contains(&is) {
            let vdi = made.with(64, &[0x7f, 0x10, 0xda, 0xbe]);
            cases.add(format!("{is} and vdi"), is, vdi, AMBIGUOUS);
        }
    }
}

/// Formats that no image may have.
fn banned(cases: &mut Cases) {
    let text = descriptor("monolithicFlat").replace("SPARSE", "FLAT");
    let begins: [(&str, Vec<u8>); 11] = [
        ("qcow of version 1", b"QFI\xfb\0\0\0\x01\0\0\0\0\0\0\x02\0".to_vec()),
        ("qed", b"QED\0".to_vec()),
        ("qed with a backing file", b"QED\0\0\0\x01\0\x04\0\0\0\x01\0\0\0\x01\0\0\0".to_vec()),
        ("cowd", b"COWD\x01\0\0\0".to_vec()),
        ("parallels", b"WithoutFreeSpace".to_vec()),
        ("parallels, newer", b"WithouFreSpacExt".to_vec()),
        ("bochs", b"Bochs Virtual HD Image\0".to_vec()),
        ("cloop", b"#!/bin/sh\n#V2.0 Format\nmodprobe".to_vec()),
        ("a descriptor that names files", text.into_bytes()),
        ("one in other letters", b"\n# DISK descriptorfile\nversion=1\n".to_vec()),
        (
            "one behind comments",
            b"# nothing\n\n# here\nversion=3\nRW 1 FLAT \"/etc/shadow\" 0\n".to_vec(),
        ),
    ];
    for (what, bytes) in begins {
        for declared in [Raw, Qcow2, Vmdk] {
            let made = Made(vec![0; 64 << 10]).with(0, &bytes);
            cases.add(format!("{what} as {declared}"), declared, made, BANNED);
        }
    }
    let mut koly = vec![0; 512];
    koly[..4].copy_from_slice(b"koly");
    cases.add("dmg", Raw, raw().and(&koly), BANNED);
}

/// CVE-2015-5163 and its kind: another file of the host becomes the disk.
fn backing_files(cases: &mut Cases) {
    for version in [2, 3] {
        let name = b"/etc/shadow";
        let backed = qcow2(version).be64(8, 1024).be32(16, 11).with(1024, name);
        cases.add(format!("qcow2 {version} over a file"), Qcow2, backed, OTHER_FILE);
        let json = br#"json:{"driver":"file","filename":"/etc/shadow"}"#;
        let made = qcow2(version).be64(8, 1024).be32(16, json.len() as u32).with(1024, json);
        cases.add(format!("qcow2 {version} over a json"), Qcow2, made, OTHER_FILE);
        let made = qcow2(version).be64(8, 1024);
        cases.add(format!("qcow2 {version} over a name without length"), Qcow2, made, OTHER_FILE);
        let made = qcow2(version).be32(16, 11);
        cases.add(format!("qcow2 {version} over a name without place"), Qcow2, made, OTHER_FILE);
        let made = qcow2(version).be64(8, u64::MAX).be32(16, u32::MAX);
        cases.add(format!("qcow2 {version} over a name beyond"), Qcow2, made, OTHER_FILE);
    }
    let made = qcow2(3).be32(104, 0xe279_2aca).be32(108, 3).with(112, b"raw");
    cases.add("qcow2 with a backing format", Qcow2, made, OTHER_FILE);
    let made = vhd_dynamic();
    for (what, at) in [("id", 40), ("name", 64), ("first locator", 576), ("last locator", 744)] {
        let made = summed(made.clone().with(512 + at, b"W2ku"), 512, 1024, 512 + 36);
        cases.add(format!("vhd with the {what} of a parent"), Vhd, made, OTHER_FILE);
    }
    let footer = vhd_footer(4).0;
    let made = vhd_dynamic().with(0, &footer);
    let end = made.0.len() - 512;
    cases.add("differencing vhd", Vhd, made.with(end, &footer), OTHER_FILE);
    for flags in [2, 3] {
        let made = vhdx().le32(METADATA + (64 << 10) + 4, flags);
        cases.add(format!("vhdx with a parent, flags {flags}"), Vhdx, made, OTHER_FILE);
    }
    let parent = guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");
    for entry in 0..3 {
        let made = vhdx().with(METADATA + 32 + 32 * entry, &parent);
        cases.add(format!("vhdx with a parent's locator, {entry}"), Vhdx, made, OTHER_FILE);
    }
    cases.add("differencing vdi", Vdi, vdi().le32(76, 4), OTHER_FILE);
    for (what, at) in [("parent", 0x1b8), ("link", 0x1a8)] {
        let made = vdi().with(at, &[7; 16]);
        cases.add(format!("vdi with the id of a {what}"), Vdi, made, OTHER_FILE);
    }
}

/// CVE-2024-32498 and CVE-2024-40767: the data is in another file.
fn data_files(cases: &mut Cases) {
    let name = |made: Made| made.be32(104, 0x4441_5441).be32(108, 11).with(112, b"/etc/shadow");
    cases.add("qcow2 with a data file", Qcow2, name(qcow2(3).be64(72, 4)), OTHER_FILE);
    cases.add("the same and no name", Qcow2, qcow2(3).be64(72, 4), OTHER_FILE);
    cases.add("the name alone", Qcow2, name(qcow2(3)), OTHER_FILE);
    cases.add("beside other features", Qcow2, qcow2(3).be64(72, 4 | 1 | 16), OTHER_FILE);
    cases.add("beside unknown features", Qcow2, qcow2(3).be64(72, 4 | 1 << 40), OTHER_FILE);
    cases.add("a raw one", Qcow2, name(qcow2(3).be64(72, 4).be64(88, 2)), OTHER_FILE);
    cases.add("raw, without the feature", Qcow2, qcow2(3).be64(88, 2), OTHER_FILE);
    let behind = qcow2(3).be32(104, 0x6803_f857).be32(108, 8);
    let behind = behind.be32(120, 0x4441_5441).be32(124, 11).with(128, b"/etc/shadow");
    cases.add("the name behind another extension", Qcow2, behind, OTHER_FILE);
    let longer = qcow2(3).be32(100, 112).be32(112, 0x4441_5441).be32(116, 4).with(120, b"/etc");
    cases.add("the name behind a longer header", Qcow2, longer, OTHER_FILE);
    let old = qcow2(2).be32(72, 0x4441_5441).be32(76, 11).with(80, b"/etc/shadow");
    cases.add("the name in version 2", Qcow2, old, OTHER_FILE);
}

/// CVE-2022-47951 and what followed: a descriptor names files.
fn descriptors(cases: &mut Cases) {
    let sparse = descriptor("monolithicSparse");
    let extent = "RW 2048 SPARSE \"disk.vmdk\"";
    let extents = [
        "RW 2048 FLAT \"/etc/shadow\" 0",
        "RW 2048 FLAT \"shadow\" 0",
        "RW 2048 SPARSE \"/etc/shadow\"",
        "RW 2048 SPARSE \"../../etc/shadow\"",
        "RW 2048 SPARSE \"a\\b\"",
        "RW 2048 SPARSE \"nbd:host\"",
        "RW 2048 SPARSE \"\"",
        "RW 2048 SPARSE disk.vmdk",
        "RW 2048 SPARSE",
        "RW 2048 VMFS \"disk.vmdk\"",
        "RW 2048 ZERO",
        "RW 2048 VMFSRDM \"disk.vmdk\"",
        "RDONLY 2048 FLAT \"/etc/shadow\" 0",
        "RW 4096 SPARSE \"disk.vmdk\"",
        "RW -1 SPARSE \"disk.vmdk\"",
        "NOACCESS 2048 SPARSE \"disk.vmdk\"",
        "rw 2048 FLAT \"/etc/shadow\" 0",
        "RW\t2048 FLAT \"/etc/shadow\" 0",
    ];
    for other in extents {
        let made = vmdk(&sparse.replace(extent, other));
        cases.add(format!("the extent {other:?}"), Vmdk, made, LINE);
    }
    let two = format!("{extent}\nRW 2048 SPARSE \"disk.vmdk\"");
    cases.add("two extents", Vmdk, vmdk(&sparse.replace(extent, &two)), OTHER_FILE);
    cases.add("no extent", Vmdk, vmdk(&sparse.replace(extent, "")), WRONG);
    for kind in ["monolithicFlat", "twoGbMaxExtentSparse", "vmfs", "custom", "fullDevice", ""] {
        cases.add(format!("of the kind {kind:?}"), Vmdk, vmdk(&descriptor(kind)), LINE);
    }
    let kind = "createType=\"monolithicSparse\"";
    cases.add("of no kind", Vmdk, vmdk(&sparse.replace(kind, "")), WRONG);
    let twice = format!("{kind}\n{kind}");
    cases.add("of two kinds", Vmdk, vmdk(&sparse.replace(kind, &twice)), WRONG);
    let lines = [
        "parentFileNameHint=\"/etc/shadow\"",
        "parentCID=7a8e2b1c",
        "isNativeSnapshot=\"yes\"",
        "changeTrackPath=\"/etc/shadow\"",
        "ddb.nativeParentHint=\"/etc/shadow\"",
        "ddb.=\"\"",
        "ddb.a/b=\"\"",
        "version=9",
        "something",
        "something=else",
    ];
    for line in lines {
        cases.add(format!("the line {line:?}"), Vmdk, vmdk(&format!("{sparse}{line}\n")), LINE);
    }
    // QEMU looks for these words anywhere in the text.
    let hidden = [
        ("# parentFileNameHint=\"/etc/shadow\"", OTHER_FILE),
        ("ddb.parentFileNameHint = \"/etc/shadow\"", OTHER_FILE),
        ("ddb.a.parentfilenamehint = \"/etc/shadow\"", OTHER_FILE),
        ("ddb.comment = \"parentFileNameHint=/etc/shadow\"", OTHER_FILE),
        ("#parentCID=7a8e2b1c", OTHER_FILE),
        ("ddb.parentCID = \"7a8e2b1c\"", OTHER_FILE),
        ("# createType=\"monolithicFlat\"", WRONG),
        ("ddb.createType = \"vmfs\"", WRONG),
    ];
    for (line, why) in hidden {
        let text = format!("{line}\n{sparse}");
        cases.add(format!("the words {line:?} in front"), Vmdk, vmdk(&text), why);
        let text = format!("{sparse}{line}\n");
        cases.add(format!("the words {line:?} behind"), Vmdk, vmdk(&text), why);
    }
    cases.add("no text", Vmdk, vmdk(&sparse).with(530, &[0xff, 0xfe]), WRONG);
    cases.add("nothing", Vmdk, vmdk(&sparse).with(512, &[0]), WRONG);
    // CVE-2024-32498 showed them too: what stands for the header says something else.
    let end = stream().0.len() - 1024;
    for (what, at, number) in [
        ("descriptor", 28, 90),
        ("descriptor's size", 36, 1),
        ("size", 12, 1 << 40),
        ("grain", 20, 8),
    ] {
        let made = stream().le64(end + at, number);
        cases.add(format!("a footer with another {what}"), Vmdk, made, WRONG);
    }
    cases.add("a footer without directory", Vmdk, stream().le64(end + 56, u64::MAX), WRONG);
    cases.add("a footer without marker", Vmdk, stream().le32(end - 512 + 12, 0), WRONG);
    cases.add("a footer without end", Vmdk, stream().and(&[1; 512]), WRONG);
    cases.add("no footer", Vmdk, vmdk(&sparse).le64(56, u64::MAX), WRONG);
}

/// Headers with numbers that nobody writes.
fn numbers(cases: &mut Cases) {
    let sparse = vmdk(&descriptor("monolithicSparse"));
    for version in [0, 4, 5, u32::MAX] {
        let made = qcow2(3).be32(4, version);
        cases.add(format!("qcow2 of version {version}"), Qcow2, made, UNKNOWN);
        let made = sparse.clone().le32(4, version);
        cases.add(format!("vmdk of version {version}"), Vmdk, made, UNKNOWN);
    }
    for bit in [1, 5, 6, 7, 31, 32, 63] {
        let made = qcow2(3).be64(72, 1 << bit);
        cases.add(format!("qcow2 with feature {bit}"), Qcow2, made, UNKNOWN);
    }
    for bits in [0, 8, 22, 64, u32::MAX] {
        let made = qcow2(3).be32(20, bits);
        cases.add(format!("qcow2 with clusters of 2^{bits}"), Qcow2, made, UNKNOWN);
    }
    for method in [1, 2, 3] {
        let made = qcow2(3).be32(32, method);
        cases.add(format!("qcow2 encrypted by {method}"), Qcow2, made, UNKNOWN);
    }
    for (what, made) in [
        ("a long table", qcow2(3).be32(36, u32::MAX)),
        ("a short table", qcow2(3).be64(24, 1 << 32)),
        ("a table beyond", qcow2(3).be64(40, 1 << 40)),
        ("a table beyond all", qcow2(3).be64(40, u64::MAX << 16)),
        ("a table nowhere", qcow2(3).be64(40, 0)),
        ("a table askew", qcow2(3).be64(40, (3 << 16) + 8)),
        ("counts nowhere", qcow2(3).be64(48, 0)),
        ("counts askew", qcow2(3).be64(48, 1)),
        ("counts beyond", qcow2(3).be32(56, u32::MAX)),
        ("half a header", qcow2(3).cut(80)),
        ("a long extension", qcow2(3).be32(104, 0x6803_f857).be32(108, u32::MAX)),
        ("an extension twice", qcow2(3).be32(104, 0x2385_2875).be32(112, 0x2385_2875)),
    ] {
        cases.add(format!("qcow2 with {what}"), Qcow2, made, WRONG);
    }
    for (what, made) in [
        ("many snapshots", qcow2(3).be32(60, 65537)),
        ("wide counts", qcow2(3).be32(96, 7)),
        ("a short header", qcow2(3).be32(100, 72)),
        ("an uneven header", qcow2(3).be32(100, 105)),
        ("an unknown extension", qcow2(3).be32(104, 0xdead_beef)),
        ("an encryption header", qcow2(3).be32(104, 0x0537_be77).be32(108, 16)),
        ("zstd unannounced", qcow2(3).be32(100, 112).with(104, &[1])),
        ("zstd announced and absent", qcow2(3).be64(72, 8)),
        ("compression 9", qcow2(3).be64(72, 8).be32(100, 112).with(104, &[9])),
    ] {
        cases.add(format!("qcow2 with {what}"), Qcow2, made, UNKNOWN);
    }
    for (what, made) in [
        ("no grain", sparse.clone().le64(20, 0)),
        ("an uneven grain", sparse.clone().le64(20, 100)),
        ("tables of nothing", sparse.clone().le32(44, 0)),
        ("large tables", sparse.clone().le32(44, 513)),
        ("an unknown compression", sparse.clone().le16(77, 2)),
    ] {
        cases.add(format!("vmdk with {what}"), Vmdk, made, UNKNOWN);
    }
    for (what, made) in [
        ("a descriptor nowhere", sparse.clone().le64(28, 0)),
        ("a descriptor beyond", sparse.clone().le64(28, u64::MAX)),
        ("an empty descriptor", sparse.clone().le64(36, 0)),
        ("an endless descriptor", sparse.clone().le64(36, u64::MAX)),
        ("a directory beyond", sparse.clone().le64(56, 1 << 40)),
        ("other line ends", sparse.clone().with(73, b"\n \n\n")),
        ("half a header", sparse.clone().cut(200)),
    ] {
        cases.add(format!("vmdk with {what}"), Vmdk, made, WRONG);
    }
    others(cases);
}

fn others(cases: &mut Cases) {
    let end = vhd_dynamic().0.len() - 512;
    for (what, made) in [
        ("a header that is not its footer", vhd_dynamic().be64(48, 2 << 20)),
        ("a footer of other sums", vhd_fixed().be32(MIB as usize + 48, 9)),
        ("no footer", vhd_dynamic().cut(end)),
        ("a second header beyond", {
            let footer = summed(vhd_footer(3).be64(16, u64::MAX), 0, 512, 64).0;
            vhd_dynamic().with(0, &footer).with(end, &footer)
        }),
        ("a second header that is none", vhd_dynamic().with(512, b"none")),
        ("blocks of nothing", summed(vhd_dynamic().be32(544, 0), 512, 1024, 548)),
        ("too few blocks", summed(vhd_dynamic().be32(540, 0), 512, 1024, 548)),
        ("a table beyond", summed(vhd_dynamic().be64(528, u64::MAX), 512, 1024, 548)),
        ("a disk longer than it", {
            let footer = summed(vhd_footer(2).be64(48, 2 << 20), 0, 512, 64).0;
            raw().and(&footer)
        }),
    ] {
        cases.add(format!("vhd with {what}"), Vhd, made, |r| {
            matches!(r, Refusal::Wrong(_) | Refusal::Short { .. } | Refusal::OtherFile(_))
        });
    }
    let kind = raw().and(&vhd_footer(7).0);
    cases.add("vhd of an unknown kind", Vhd, kind, UNKNOWN);
    for (what, made) in [
        ("one header", vhdx().with(128 << 10, b"none")),
        ("a log to replay", vhdx().with((64 << 10) + 48, &[1])),
        ("a log to replay in its other header", vhdx().with((128 << 10) + 63, &[1])),
        ("one table of regions", vhdx().with(256 << 10, b"none")),
        ("two different tables", vhdx().le64((256 << 10) + 64, 700 << 10)),
        ("many regions", vhdx().le32((192 << 10) + 8, u32::MAX)),
        ("an unknown region", vhdx().with((192 << 10) + 16, &[9]).with((256 << 10) + 16, &[9])),
        ("metadata beyond", {
            let at = [(192 << 10) + 64, (256 << 10) + 64];
            vhdx().le64(at[0], u64::MAX).le64(at[1], u64::MAX)
        }),
        ("metadata that is none", vhdx().with(METADATA, b"x")),
        ("many items", vhdx().le16(METADATA + 10, u16::MAX)),
        ("an unknown item", vhdx().with(METADATA + 96, &[9])),
        ("no size", vhdx().le16(METADATA + 10, 1)),
        ("two sizes", vhdx().with(METADATA + 96, &guid(VHDX_ITEMS[1]))),
        ("its end missing", vhdx().cut(METADATA + 100)),
    ] {
        cases.add(format!("vhdx with {what}"), Vhdx, made, WRONG);
    }
    cases.add("vhdx of unknown parameters", Vhdx, vhdx().le32(METADATA + 65540, 4), UNKNOWN);
    for (what, made, why) in [
        ("of version 2", vdi().le32(68, 0x2_0000), UNKNOWN),
        ("of an unknown kind", vdi().le32(76, 3), UNKNOWN),
        ("with small blocks", vdi().le32(376, 1), UNKNOWN),
        ("with too few blocks", vdi().le64(368, 1 << 40), WRONG),
        ("with more blocks than there are", vdi().le32(388, 2), WRONG),
        ("with a table in its header", vdi().le32(340, 0), WRONG),
        ("with data beyond", vdi().le32(344, u32::MAX), WRONG),
    ] {
        cases.add(format!("vdi {what}"), Vdi, made, why);
    }
    cases.add("luks of version 2", Luks, luks().with(6, &[0, 2]), UNKNOWN);
    cases.add("luks with data beyond", Luks, luks().be32(104, u32::MAX), WRONG);
    cases.add("luks with data in its header", Luks, luks().be32(104, 0), WRONG);
    cases.add("a CD of another kind", Iso, iso().with(0x8000, &[2]), WRONG);
    cases.add("a CD that contradicts itself", Iso, iso().le32(0x8000 + 80, 1), WRONG);
    cases.add("a CD with odd blocks", Iso, iso().le16(0x8080, 3).with(0x8082, &[0, 3]), UNKNOWN);
    cases.add("a CD that was cut", Iso, iso().cut(39 << 11), WRONG);
}

/// CVE-2013-2096, CVE-2014-...: a small file that is a large disk.
fn bombs(cases: &mut Cases) {
    let size = 1_u64 << 41;
    // 64 clusters of table for as large a disk.
    let made = qcow2(3).be64(24, size).be32(36, 4096);
    cases.add("qcow2", Qcow2, made, TOO_LARGE);
    let text = descriptor("monolithicSparse").replace("2048", &(size / 512).to_string());
    cases.add("vmdk", Vmdk, vmdk(&text).le64(12, size / 512), TOO_LARGE);
    cases.add("vhdx", Vhdx, vhdx().le64(METADATA + (64 << 10) + 8, size), TOO_LARGE);
    let text = descriptor("monolithicSparse").replace("2048", &u64::MAX.to_string());
    cases.add("vmdk beyond counting", Vmdk, vmdk(&text).le64(12, u64::MAX), WRONG);
    let footer = summed(vhd_footer(3).be64(48, size), 0, 512, 64).0;
    let made = vhd_dynamic().be32(540, 1 << 20);
    let made = summed(made, 512, 1024, 548);
    let made = made.and(&vec![0; 4 << 20]).and(&footer).with(0, &footer);
    cases.add("vhd", Vhd, made, TOO_LARGE);
    let geometry = summed(vhd_footer(2).with(56, &[0xff, 0xff, 255, 255]), 0, 512, 64).0;
    cases.add("vhd by its geometry", Vhd, raw().and(&geometry), TOO_LARGE);
    let made = vdi().le64(368, size).le32(384, 1 << 21).le32(344, 9 << 20);
    cases.add("vdi", Vdi, made.and(&vec![0; 8 << 20]), TOO_LARGE);
}

#[test]
fn every_crafted_image_is_refused_for_what_it_tries() {
    let mut cases = Cases::default();
    for group in
        [disguised, polyglots, banned, backing_files, data_files, descriptors, numbers, bombs]
    {
        group(&mut cases);
    }
    let mut wrong = Vec::new();
    for (what, declared, made, why) in &cases.0 {
        match look(made, *declared) {
            Ok(disk) => wrong.push(format!("{what}: taken as {disk:?}")),
            Err(refusal) if why(&refusal) => {}
            Err(refusal) => wrong.push(format!("{what}: {refusal:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cases.0.len() >= 150, "{} crafted images", cases.0.len());
    println!("{} crafted images were refused", cases.0.len());
}

#[test]
fn a_refusal_says_what_is_wrong_and_what_is_allowed() {
    let says = |made: &Made, declared| look(made, declared).unwrap_err().to_string();
    assert_eq!(says(&qcow2(3), Raw), "it is declared to be raw and looks like qcow2");
    let text =
        descriptor("monolithicSparse").replace("SPARSE \"disk.vmdk\"", "FLAT \"/etc/shadow\" 0");
    let line = "its descriptor says \"RW 2048 FLAT \\\"/etc/shadow\\\" 0\", which is not taken";
    assert_eq!(says(&vmdk(&text), Vmdk), line);
    let other = "it names another file: an external data file";
    assert_eq!(says(&qcow2(3).be64(72, 4), Qcow2), other);
}
