//! Images as programs make them: all are taken.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use nova_virt::inspect::{Format, Refusal, inspect};

use super::look;
use super::makers::*;

#[test]
fn the_smallest_whole_images_are_taken() {
    let stream_of_one = vmdk(&descriptor("streamOptimized"));
    for (format, made) in [
        (Format::Raw, raw()),
        (Format::Raw, Made(vec![])),
        (Format::Qcow2, qcow2(2)),
        (Format::Qcow2, qcow2(3)),
        (Format::Qcow2, qcow2(3).be64(72, 1)),
        (Format::Qcow2, qcow2(3).be64(72, 8).be32(100, 112).with(104, &[1])),
        (Format::Vmdk, vmdk(&descriptor("monolithicSparse"))),
        (Format::Vmdk, vmdk(&descriptor("monolithicSparse").replace('\n', "\r\n"))),
        (Format::Vmdk, stream_of_one),
        (Format::Vmdk, stream()),
        (Format::Vhd, vhd_fixed()),
        (Format::Vhd, vhd_dynamic()),
        (Format::Vhdx, vhdx()),
        (Format::Vdi, vdi()),
        (Format::Luks, luks()),
        (Format::Iso, iso()),
        (Format::Iso, iso().with(510, &[0x55, 0xaa])),
    ] {
        let disk = look(&made, format).unwrap_or_else(|refusal| panic!("{format}: {refusal:?}"));
        assert_eq!(disk.format, format);
        let expected = match format {
            Format::Raw | Format::Iso => made.0.len() as u64,
            _ => MIB,
        };
        assert_eq!(disk.virtual_size, expected, "{format}");
    }
}

/// Images for some clouds say nothing of their geometry by saying the largest that there is.
#[test]
fn a_vhd_with_the_largest_geometry_is_as_large_as_it_says() {
    let with = |geometry: [u8; 4]| {
        let footer = summed(vhd_footer(2).with(56, &geometry), 0, 512, 64);
        look(&raw().and(&footer.0), Format::Vhd).unwrap().virtual_size
    };
    assert_eq!(with([0xff, 0xff, 16, 255]), MIB);
    assert_eq!(with([0xff, 0xff, 16, 254]), 65_535 * 16 * 254 * 512);
    assert_eq!(with([0, 4, 16, 63]), 4 * 16 * 63 * 512);
    assert_eq!(with([0, 1, 16, 63]), MIB);
}

/// What `qemu-img create` is told, for each of our formats. Sizes are those of the disk.
const CREATED: &[(Format, &str, &[&str])] = &[
    (Format::Raw, "raw", &["", "preallocation=full"]),
    (
        Format::Qcow2,
        "qcow2",
        &[
            "",
            "compat=0.10",
            "compat=0.10,cluster_size=512",
            "cluster_size=512",
            "cluster_size=4096",
            "cluster_size=2M",
            "lazy_refcounts=on",
            "refcount_bits=1",
            "refcount_bits=8",
            "refcount_bits=64",
            "compression_type=zstd",
            "extended_l2=on,cluster_size=128k",
            "preallocation=metadata",
            "preallocation=falloc",
            "preallocation=full",
        ],
    ),
    (
        Format::Vmdk,
        "vmdk",
        &[
            "subformat=monolithicSparse",
            "subformat=streamOptimized",
            "subformat=monolithicSparse,adapter_type=lsilogic",
            "subformat=monolithicSparse,adapter_type=buslogic",
            "subformat=monolithicSparse,hwversion=7",
            "subformat=monolithicSparse,compat6=on",
            "subformat=monolithicSparse,zeroed_grain=on",
        ],
    ),
    (
        Format::Vhd,
        "vpc",
        &[
            "subformat=dynamic",
            "subformat=fixed",
            "subformat=dynamic,force_size=on",
            "subformat=fixed,force_size=on",
        ],
    ),
    (
        Format::Vhdx,
        "vhdx",
        &[
            "subformat=dynamic",
            "subformat=fixed",
            "block_size=1M",
            "block_size=8M",
            "log_size=2M",
            "block_state_zero=off",
        ],
    ),
    (Format::Vdi, "vdi", &["", "static=on"]),
    (Format::Luks, "luks", &["cipher-alg=aes-256", "cipher-alg=aes-128,hash-alg=sha1"]),
];

/// What qemu-img says against it.
fn qemu_img_says(folder: &Path, arguments: &[&str]) -> Option<String> {
    let run = Command::new("qemu-img").args(arguments).current_dir(folder).output();
    let output = run.expect("it was there a moment ago");
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then(said)
}

fn qemu_img(folder: &Path, arguments: &[&str]) {
    let said = qemu_img_says(folder, arguments);
    assert_eq!(said, None, "qemu-img {arguments:?}");
}

fn taken(folder: &Path, file: &str, format: Format, size: u64) {
    let mut there = File::open(folder.join(file)).unwrap();
    let disk = inspect(&mut there, format, None);
    let disk = disk.unwrap_or_else(|refusal| panic!("{file}: {refusal:?}"));
    // VHD and LUKS round up to what their geometry or their sectors allow.
    let rounded = matches!(format, Format::Vhd | Format::Luks);
    let rounded = rounded && (size..size + MIB).contains(&disk.virtual_size);
    assert!(rounded || disk.virtual_size == size, "{file}: {disk:?}");
}

/// CDs with the written file on them, of a few kinds; none where there is nobody who makes them.
fn cds(folder: &Path) -> usize {
    std::fs::create_dir(folder.join("cd")).unwrap();
    std::fs::copy(folder.join("written"), folder.join("cd/written")).unwrap();
    let kinds: [&[&str]; 5] = [&[], &["-r"], &["-J"], &["-r", "-J"], &["-V", "config-2"]];
    for (index, kind) in kinds.iter().enumerate() {
        let file = format!("cd-{index}");
        let mut run = Command::new("genisoimage");
        run.args(["-quiet", "-o", &file]).args(*kind).arg("cd").current_dir(folder);
        let Ok(status) = run.status() else {
            eprintln!("skipped CDs: there is no genisoimage");
            return 0;
        };
        assert!(status.success());
        let len = folder.join(&file).metadata().unwrap().len();
        taken(folder, &file, Format::Iso, len);
    }
    kinds.len()
}

#[test]
fn images_of_qemu_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("skipped images_of_qemu_are_taken: there is no qemu-img");
        return;
    }
    let mut count = 0;
    for (format, name, variants) in CREATED {
        for (index, options) in variants.iter().enumerate() {
            let file = format!("{name}-{index}");
            let secret = "secret,id=key,data=nothing";
            let mut arguments = vec!["create", "-q", "-f", name, "--object", secret];
            let fast = "key-secret=key,iter-time=10,";
            let with = if *format == Format::Luks { fast.to_owned() } else { String::new() };
            let with = format!("{with}{options}");
            if !with.is_empty() {
                arguments.extend(["-o", &with]);
            }
            arguments.extend([&*file, "24M"]);
            match qemu_img_says(folder, &arguments) {
                None => {}
                // It measures how fast it encrypts, which a busy machine may not let it.
                Some(said) if said.contains("accurate CPU usage") => {
                    eprintln!("skipped {file}: {said}");
                    continue;
                }
                Some(said) => panic!("qemu-img {arguments:?}: {said}"),
            }
            taken(folder, &file, *format, 24 << 20);
            count += 1;
        }
    }
    // Disks with something on them, converted from one format to another.
    let written: Vec<u8> = (0..8 << 20_u32).map(|at: u32| (at / 4096 % 7) as u8).collect();
    std::fs::write(folder.join("written"), &written).unwrap();
    for (format, name, options) in [
        (Format::Qcow2, "qcow2", ""),
        (Format::Qcow2, "qcow2", "compat=0.10"),
        (Format::Qcow2, "qcow2", "compression_type=zstd"),
        (Format::Vmdk, "vmdk", "subformat=monolithicSparse"),
        (Format::Vmdk, "vmdk", "subformat=streamOptimized"),
        (Format::Vhd, "vpc", "subformat=dynamic"),
        (Format::Vhd, "vpc", "subformat=fixed"),
        (Format::Vhdx, "vhdx", "subformat=dynamic"),
        (Format::Vhdx, "vhdx", "subformat=fixed"),
        (Format::Vdi, "vdi", ""),
    ] {
        let file = format!("written-{count}");
        let mut arguments = vec!["convert", "-f", "raw", "-O", name];
        if format == Format::Qcow2 {
            arguments.push("-c");
        }
        if !options.is_empty() {
            arguments.extend(["-o", options]);
        }
        arguments.extend(["written", &file]);
        qemu_img(folder, &arguments);
        taken(folder, &file, format, 8 << 20);
        count += 1;
    }
    // With snapshots inside, grown, and a bitmap.
    qemu_img(folder, &["create", "-q", "-f", "qcow2", "snapshots", "24M"]);
    qemu_img(folder, &["snapshot", "-c", "one", "snapshots"]);
    taken(folder, "snapshots", Format::Qcow2, 24 << 20);
    qemu_img(folder, &["resize", "-q", "qcow2-0", "48M"]);
    taken(folder, "qcow2-0", Format::Qcow2, 48 << 20);
    qemu_img(folder, &["bitmap", "--add", "-f", "qcow2", "qcow2-3", "changed"]);
    taken(folder, "qcow2-3", Format::Qcow2, 24 << 20);
    count += 3;
    count += cds(folder);
    // What it makes over other files is not.
    qemu_img(folder, &["create", "-q", "-f", "qcow2", "-b", "raw-0", "-F", "raw", "over"]);
    let data = "data_file=elsewhere,data_file_raw=on";
    qemu_img(folder, &["create", "-q", "-f", "qcow2", "-o", data, "apart", "24M"]);
    let (flat, over) = ("subformat=monolithicFlat", "subformat=twoGbMaxExtentSparse");
    for (file, options) in [("flat", flat), ("two", over)] {
        qemu_img(folder, &["create", "-q", "-f", "vmdk", "-o", options, file, "24M"]);
    }
    qemu_img(folder, &["create", "-q", "-f", "qed", "qed", "24M"]);
    for (file, format) in [
        ("over", Format::Qcow2),
        ("apart", Format::Qcow2),
        ("flat", Format::Vmdk),
        ("two", Format::Vmdk),
        ("qed", Format::Raw),
    ] {
        let refusal = inspect(&mut File::open(folder.join(file)).unwrap(), format, None);
        let refused = matches!(refusal, Err(Refusal::OtherFile(_) | Refusal::Banned(_)));
        assert!(refused, "{file}: {refusal:?}");
    }
    assert!(count + 17 >= 50, "{count} images of qemu-img were taken");
    println!("{count} images of qemu-img were taken");
}
