//! What the machine needs for real guests, and the guest itself.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use indicatif::{ProgressBar, ProgressStyle};

/// What has to be there, and the package of Debian's that has it.
const TOOLS: [(&str, &str); 14] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("dnsmasq", "dnsmasq-base"),
    ("busybox", "busybox-static"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("libvirtd", "libvirt-daemon-system"),
    ("virsh", "libvirt-clients"),
    ("/usr/lib/libvirt/libvirt_lxc", "libvirt-daemon-driver-lxc"),
    ("syslinux", "syslinux"),
    ("mcopy", "mtools"),
    ("mkfs.vfat", "dosfstools"),
    ("prlimit", "util-linux"),
    ("genisoimage", "genisoimage"),
];

/// The scripts of the workspace are found beside this crate.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Prepares everything, and tells the story in a world of its own.
///
/// # Errors
/// What is missing and cannot be had.
pub fn in_a_world(guest: &Path, more: u16, simulated: u16) -> Result<ExitCode, Box<dyn Error>> {
    everything(guest)?;
    let world = workspace().join(".ci/lab");
    let lacks = Command::new(&world).arg("--lacks").output()?;
    let lacks = String::from_utf8_lossy(&lacks.stdout).trim().to_owned();
    if !lacks.is_empty() {
        return Err(format!("no world of its own: {lacks}; try --here").into());
    }
    let mut story = Command::new(world);
    // With a second host in it.
    story.env("LAB_HOSTS", "1");
    story.arg(std::env::current_exe()?).args(["--prepared", "--more", &more.to_string()]);
    story.args(["--simulated", &simulated.to_string()]);
    let status = story.arg("--guest").arg(guest.canonicalize()?).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs what is missing, and makes the guest.
///
/// # Errors
/// What is missing and cannot be had.
pub fn everything(guest: &Path) -> Result<(), Box<dyn Error>> {
    let missing: Vec<&str> =
        TOOLS.into_iter().filter(|(tool, _)| !is_there(tool)).map(|(_, package)| package).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let scripts = workspace().join("examples/guest");
    let changed = |path: PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    let scripted = ["init", "build", "address"].map(|file| changed(scripts.join(file)));
    // One that is older than what it is made by is another guest.
    let made = ["disk.qcow2", "rootfs.tar"]
        .map(|file| changed(guest.join(file)))
        .iter()
        .all(|made| made.is_some() && scripted.iter().all(|script| script <= made));
    if !made {
        let kernel = guest.with_extension("kernel");
        wait("Debian's kernel", Command::new(scripts.join("kernel")).arg(&kernel))?;
        wait("a small guest", Command::new(scripts.join("build")).arg(&kernel).arg(guest))?;
    }
    Ok(())
}

fn is_there(tool: &str) -> bool {
    if tool.starts_with('/') {
        return Path::new(tool).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).any(|folder| folder.join(tool).exists())
}

fn install(packages: &[&str]) -> Result<(), Box<dyn Error>> {
    if !is_there("apt-get") {
        return Err(
            format!("install these, by their names on Debian: {}", packages.join(" ")).into()
        );
    }
    let mut update = Command::new("apt-get");
    wait("the list of packages", update.args(["-qq", "update"]))?;
    // One by one, so that one sees how far it is.
    for package in packages {
        let mut tool = Command::new("apt-get");
        tool.env("DEBIAN_FRONTEND", "noninteractive");
        tool.args(["-qq", "-y", "--no-install-recommends", "install", package]);
        wait(package, &mut tool)?;
    }
    Ok(())
}

/// Runs a command while something moves on the screen; what it says is shown when it fails.
fn wait(what: &str, command: &mut Command) -> Result<(), Box<dyn Error>> {
    let style = ProgressStyle::with_template("   {spinner} {msg} ({elapsed})")?;
    let bar = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"));
    bar.finish_and_clear();
    let output = output?;
    if output.status.success() {
        eprintln!("   {what}: ready");
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(format!("cannot make {what} ready: {last}").into())
}
