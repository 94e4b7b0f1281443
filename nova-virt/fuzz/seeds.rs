//! Writes what the fuzzers begin with into the folder of the corpora. It needs no crate:
//! `rustc --edition 2024 -o target/seeds seeds.rs && target/seeds corpus`.
//!
//! Images are made by hand, as the tests make them, and by qemu-img and genisoimage where they are
//! there; only what is not zero in them is written, and no more than a few KiB.

#[path = "../tests/it/inspect/makers.rs"]
mod makers;
#[path = "../tests/it/inspect/archives/makers.rs"]
mod tars;
#[expect(dead_code, reason = "the targets use all of it")]
#[path = "src/sparse.rs"]
mod sparse;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::makers::*;
use self::sparse::Sparse;
use self::tars::{Head, Tar, gnu_sparse, pax_sparse};

/// The longest seed of a disk.
const BYTES_MAX: usize = 6 << 10;

fn main() {
    let corpus = std::env::args_os().nth(1).map(PathBuf::from);
    let corpus = corpus.expect("the folder of the corpora is named");
    let save = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("the folder can be made");
        fs::write(folder.join(name), bytes).expect("the seed can be written");
    };
    let disk = |target: &str, name: &str, bytes: &[u8]| {
        // Checksums are made right, and a disk may have 2^40 bytes.
        let seed = [&[1, 40], &*Sparse::input(bytes, BYTES_MAX)].concat();
        save(target, name, &seed);
        // What is one format is a disguise as any other.
        if name.ends_with("-made") {
            save("raw", &format!("{target}-{name}"), &seed);
        }
    };
    for (target, name, made) in by_hand() {
        disk(target, &format!("{name}-made"), &made.0);
    }
    for (target, name, bytes) in by_programs() {
        disk(target, &name, &bytes);
    }
    for (index, (_, tar, _)) in tars::hostile().into_iter().enumerate() {
        // Those that are only long teach nothing.
        if tar.len() <= BYTES_MAX {
            save("rootfs", &format!("hostile-{index}"), &[&[1], &*tar].concat());
        }
    }
    for (name, tar) in roots() {
        save("rootfs", name, &[&[1], &*tar.0].concat());
    }
    for (name, text) in XML.iter().enumerate() {
        save("xml", &name.to_string(), text.as_bytes());
    }
    for (name, bytes) in messages() {
        save("rpc", name, &bytes);
    }
}

fn by_hand() -> Vec<(&'static str, &'static str, Made)> {
    vec![
        ("raw", "boot", raw()),
        ("raw", "nothing", Made(vec![])),
        ("qcow2", "2", qcow2(2)),
        ("qcow2", "3", qcow2(3)),
        ("qcow2", "long", qcow2(3).be64(72, 8).be32(100, 112).with(104, &[1])),
        ("qcow2", "names", qcow2(3).be32(104, 0x6803_f857).be32(108, 48).be32(160, 0x2385_2875)),
        ("qcow2", "over", qcow2(3).be64(8, 1024).be32(16, 11).with(1024, b"/etc/shadow")),
        ("vmdk", "sparse", vmdk(&descriptor("monolithicSparse"))),
        ("vmdk", "stream", stream()),
        ("vhd", "fixed", vhd_fixed()),
        ("vhd", "dynamic", vhd_dynamic()),
        ("vhdx", "dynamic", vhdx()),
        ("vdi", "dynamic", vdi()),
        ("luks", "1", luks()),
        ("iso", "cd", iso()),
    ]
}

/// As programs make them; those that are not there are left out.
fn by_programs() -> Vec<(&'static str, String, Vec<u8>)> {
    let folder = std::env::temp_dir().join(format!("seeds-{}", std::process::id()));
    fs::create_dir_all(folder.join("cd")).expect("a folder can be made");
    fs::write(folder.join("cd/file"), b"a file").expect("a file can be written");
    let mut made = Vec::new();
    let mut take = |target, name: String, program: &str, arguments: &[&str], file: &Path| {
        let done = Command::new(program).args(arguments).current_dir(&folder).output();
        match done.is_ok_and(|output| output.status.success()) {
            true => made.push((target, name, fs::read(folder.join(file)).expect("it was made"))),
            false => eprintln!("left out: {program} {arguments:?}"),
        }
    };
    for (target, format, variants) in CREATED {
        for (index, options) in variants.iter().enumerate() {
            let file = format!("{format}-{index}");
            let secret = "secret,id=key,data=nothing";
            let mut arguments = vec!["create", "-q", "-f", format, "--object", secret];
            if !options.is_empty() {
                arguments.extend(["-o", options]);
            }
            arguments.extend([&*file, "4M"]);
            take(*target, format!("qemu-{index}"), "qemu-img", &arguments, Path::new(&file));
        }
    }
    for (index, kind) in [&["-r"][..], &["-J"], &["-V", "config-2"]].into_iter().enumerate() {
        let arguments = [&["-quiet", "-o", "cd.iso"], kind, &["cd"]].concat();
        take("iso", format!("made-{index}"), "genisoimage", &arguments, Path::new("cd.iso"));
    }
    fs::remove_dir_all(&folder).expect("the folder can be removed");
    made
}

/// What `qemu-img create` is told.
const CREATED: &[(&str, &str, &[&str])] = &[
    (
        "qcow2",
        "qcow2",
        &["", "compat=0.10", "cluster_size=512", "extended_l2=on,cluster_size=128k"],
    ),
    ("vmdk", "vmdk", &["subformat=monolithicSparse", "subformat=streamOptimized"]),
    ("vhd", "vpc", &["subformat=dynamic", "subformat=fixed,force_size=on"]),
    ("vhdx", "vhdx", &["subformat=dynamic", "block_size=1M,log_size=2M"]),
    ("vdi", "vdi", &["", "static=on"]),
    ("luks", "luks", &["key-secret=key,iter-time=10"]),
];

const XML: [&str; 7] = [
    "<a/>",
    "<a b='c' d=\"e&amp;f\">g&lt;h&#65;&#x42;<!-- no --><i/>j</a>",
    "<?xml version='1.0'?>\n<domain type='kvm' id=\"1\"><name>n</name>\n <os>\
     <type arch='x86_64' machine='pc-q35-9.2'>hvm</type></os></domain>",
    "<!DOCTYPE a [<!ENTITY b 'bbbb'>]><a>&b;</a>",
    "<a><![CDATA[<b>]]></a>",
    "<device><name>pci_0000_3b_02_1</name><capability type='pci'><domain>0</domain><bus>59</bus>\
     <slot>2</slot><function>1</function><product id='0x10ca'/><vendor id='0x8086'/>\
     <capability type='phys_function'><address domain='0x0000' bus='0x3b' slot='0x00'\
     function='0x0'/></capability><iommuGroup number='7'/><numa node='1'/></capability></device>",
    "<a b='&#10;&#13;&#9;'> &#13;\r\n\t <b> </b> </a>",
];

/// What a daemon sends, as its protocol has it.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let message = |procedure: u32, kind: u32, serial: u32, status: u32, body: &[u8]| {
        let numbers = [28 + body.len() as u32, 0x2000_8086, 1, procedure, kind, serial, status];
        let header: Vec<u8> = numbers.into_iter().flat_map(u32::to_be_bytes).collect();
        [header, body.to_vec()].concat()
    };
    let text = |text: &[u8]| {
        let mut bytes = [&(text.len() as u32).to_be_bytes(), text].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let domain = [text(b"guest"), vec![7; 16], vec![0xff; 4]].concat();
    let domains = [&[0, 0, 0, 2][..], &domain, &domain].concat();
    let refused = [vec![0, 0, 0, 42, 0, 0, 0, 10, 0, 0, 0, 1], text(b"no domain")].concat();
    let event = [vec![0, 0, 0, 1], domain, vec![0; 8]].concat();
    vec![
        ("number", message(1, 1, 1, 0, &[0, 0, 0, 5])),
        ("text", message(14, 1, 1, 0, &text(b"<domain/>"))),
        ("domains", message(273, 1, 2, 0, &domains)),
        ("refused", message(10, 1, 3, 1, &refused)),
        ("event", message(318, 2, 0, 0, &event)),
        (
            "many",
            [message(1, 1, 1, 0, &[0; 8]), message(318, 2, 0, 0, &event), message(1, 1, 2, 0, &[])]
                .concat(),
        ),
    ]
}

/// Small root file systems.
fn roots() -> Vec<(&'static str, Tar)> {
    let new = Tar::default;
    let tree = new().directory("./").file("./bin/sh", b"x").link("./bin/bash", "bin/sh");
    let long = new().data(Head::gnu(b'L', "././@LongLink"), &[b'n'; 130]);
    vec![
        ("tree", tree.symlink("etc", "/usr/etc").directory("./bin").end()),
        ("long", long.file("a", b"xyz").end()),
        ("said", new().pax(&[("path", "a/b"), ("mtime", "1.5"), ("uid", "7")]).file("a", b"x").end()),
        ("holes", new().data(gnu_sparse("a", &[(4096, 512)], 8192), &[7; 512]).end()),
        ("holes-said", pax_sparse("a", "2\n0\n1\n9\n1\n", b"xy", "10").end()),
    ]
}
