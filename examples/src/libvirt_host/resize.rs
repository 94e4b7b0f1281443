//! A machine grows, on another host.

use nova_core::clock::ClockExt as _;
use nova_core::domain::{GiB, MiB, Vcpus, VmState};

use super::ground::{Ground, LARGER};
use super::neighbour::{self, NAMESPACE, heard_in};
use super::{Check, Made, Result};
use crate::Stopwatch;
use crate::private_cloud::{Screen, table, time};

/// What a guest sees of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    vcpus: Vcpus,
    /// Without what its kernel keeps for itself.
    memory: MiB,
    disk: GiB,
}

impl Size {
    /// Reads `CPUS MEMORY-IN-KIB DISK-IN-SECTORS`.
    fn read(said: &str) -> Option<Self> {
        let mut words = said.split_whitespace();
        let vcpus = Vcpus(words.next()?.parse().ok()?);
        let memory = MiB(words.next()?.parse::<u64>().ok()? / 1024);
        let disk = GiB(words.next()?.parse::<u64>().ok()? >> 21);
        Some(Self { vcpus, memory, disk })
    }
}

/// A second host joins the cloud, a machine is resized onto it, looked at and kept.
pub(super) async fn resize(
    ground: &mut Ground,
    screen: &mut dyn Screen,
    server: &Made,
    neighbour: &Made,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let sentence = "A second host joins the cloud, with a libvirt daemon and a network of its own. \
                    A machine moves there with its disk, its address and twice the size.";
    screen.section("A resize", sentence);
    if !neighbour::is_here() {
        screen.say("There is no second host here: without --here there is one.");
        return Ok(());
    }
    let before = ground.get(&server.address, "/cgi-bin/size").await?;
    let before = Size::read(&before).ok_or("the machine does not tell its size")?;
    let watch = Stopwatch::start();
    ground.join_neighbour().await?;
    let joined = watch.elapsed();
    let project = ground.project()?;
    let watch = Stopwatch::start();
    let request = project.new_request();
    ground.done(project.resize_server(request, server.id, &LARGER.parse()?).await?).await?;
    let there = watch.elapsed();
    let view = project.server(server.id).await?;
    let resized = view.instance.state == VmState::Resized;
    checks.push(("the machine waits for its owner's word".to_owned(), resized));
    let moved = view.host.as_ref().is_some_and(|host| host.as_str() == "host-2");
    checks.push(("the machine is on the other host".to_owned(), moved));
    let after = comes_up(ground, &server.address).await?;
    let answers = watch.elapsed();
    let twice = after.vcpus.0 == 2 * before.vcpus.0
        && after.memory.0 > before.memory.0 + 100
        && after.disk.0 == 2 * before.disk.0;
    checks.push(("the machine sees its new size".to_owned(), twice));
    let mut rows = table(&["machine-1", ">vCPUs", ">Memory", ">Disk"]);
    for (what, size) in [("before", before), ("after", after)] {
        let Size { vcpus, memory, disk } = size;
        rows.add_row([
            what.to_owned(),
            vcpus.0.to_string(),
            format!("{} MiB", memory.0),
            format!("{} GiB", disk.0),
        ]);
    }
    screen.table(&rows);
    let request = project.new_request();
    ground.done(project.confirm_resize(request, server.id).await?).await?;
    // Over the wire, from one host to the other.
    let path = format!("/cgi-bin/ping?{}", server.address);
    let reached = ground.get(&neighbour.address, &path).await?.trim() == "yes";
    checks.push(("a guest of the first host reaches it there".to_owned(), reached));
    screen.say(&format!(
        "The host joined in {}; the machine was there after {} and answered after {}.",
        time(joined),
        time(there),
        time(answers),
    ));
    Ok(())
}

/// Waits until the machine says on its new host how large it is. There it is asked from inside:
/// the gateway's address is on either host, so that answers to it stay where they are.
async fn comes_up(ground: &Ground, address: &str) -> Result<Size> {
    let end = ground.clock.now().after(super::guests::PATIENCE);
    loop {
        if let Some(size) = Size::read(&heard_in(NAMESPACE, address, "/cgi-bin/size")) {
            return Ok(size);
        }
        if ground.clock.now() >= end {
            return Err(format!("{address} does not answer on its new host").into());
        }
        ground.clock.sleep(super::guests::AGAIN).await;
    }
}
