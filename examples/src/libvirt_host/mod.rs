//! The story of `libvirt_host`, stage by stage: real guests on this machine.
//!
//! [`prepare`] is what the machine needs, `ground` the cloud and what it stands on, `neighbour` its
//! second host, `guests` what is asked of the guests themselves, `figures` what the cloud takes.

mod figures;
mod ground;
mod guests;
mod neighbour;
pub mod prepare;
mod resize;
mod told;

use std::error::Error;
use std::path::{Path, PathBuf};

use nova_core::cloud::{ServerSpec, VolumeSpec};
use nova_core::domain::{GiB, ImageId, InstanceId, Label, Reboot, VolumeSize};

use self::figures::{Share, own_use};
use self::ground::{Ground, POOL};
use crate::Stopwatch;
use crate::private_cloud::{Screen, table, time};

/// What can go wrong in the story is told and ends it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A claim, and whether it holds.
pub type Check = (String, bool);

/// What the story is to have.
#[derive(Debug, Clone)]
pub struct Options {
    guest: PathBuf,
    more: u16,
    simulated: u16,
}

impl Options {
    /// With the guest in this folder.
    pub fn new(guest: &Path) -> Self {
        Self { guest: guest.to_owned(), more: 0, simulated: 0 }
    }

    /// With so many containers more, all at once.
    #[must_use]
    pub fn with_more(self, more: u16) -> Self {
        Self { more, ..self }
    }

    /// With so many simulated hosts beside the real one, at the end.
    #[must_use]
    pub fn with_simulated(self, simulated: u16) -> Self {
        Self { simulated, ..self }
    }
}

/// A server of the story.
#[derive(Debug, Clone)]
struct Made {
    name: &'static str,
    id: InstanceId,
    address: String,
}

/// Tells the story: what it claimed, and whether that was so.
///
/// # Errors
/// Something that has to work did not.
pub async fn run(options: &Options, screen: &mut dyn Screen) -> Result<Vec<Check>> {
    let mut ground = Ground::lay(options, screen).await?;
    let told = tell(&mut ground, options, screen).await;
    // Whatever happened, nothing is left.
    let cleared = ground.clear(screen).await;
    let mut checks = told?;
    checks.extend(cleared?);
    Ok(checks)
}

async fn tell(
    ground: &mut Ground,
    options: &Options,
    screen: &mut dyn Screen,
) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let made = boot(ground, screen, &mut checks).await?;
    meet(ground, screen, &made, &mut checks).await?;
    reach(ground, screen, &made, &mut checks).await?;
    keep(ground, screen, &made[0], &mut checks).await?;
    restart(ground, screen, &made, &mut checks).await?;
    copy(ground, screen, &made[0], &mut checks).await?;
    resize::resize(ground, screen, &made[0], &made[1], &mut checks).await?;
    if options.more > 0 || options.simulated > 0 {
        crowd(ground, screen, options, &mut checks).await?;
    }
    Ok(checks)
}

/// Two machines and two containers, one after the other: the first of each kind finds no image on
/// the host, the second does.
async fn boot(
    ground: &Ground,
    screen: &mut dyn Screen,
    checks: &mut Vec<Check>,
) -> Result<Vec<Made>> {
    let sentence = "Two machines under QEMU and two containers. The first of each kind downloads \
                    its image, the second finds it on the host.";
    screen.section("Four guests", sentence);
    let mut rows =
        table(&["Server", "Kind", "Image", "Address", ">Running", ">Of it ours", ">Answers"]);
    let mut made = Vec::new();
    let names = ["machine-1", "machine-2", "container-1", "container-2"];
    for (index, name) in names.into_iter().enumerate() {
        screen.progress("booting", index, names.len());
        let machine = name.starts_with("machine");
        let image = if machine { ground.machine } else { ground.container };
        let share = Share::start(ground);
        let server = server(ground, name, image).await?;
        let (running, ours) = share.elapsed();
        ground.answers(&server.address, "/").await?;
        rows.add_row([
            name.to_owned(),
            if machine { "QEMU" } else { "LXC" }.to_owned(),
            if name.ends_with('1') { "downloaded" } else { "there" }.to_owned(),
            server.address.clone(),
            time(running),
            time(ours),
            time(share.elapsed().0),
        ]);
        made.push(server);
    }
    screen.progress("booting", names.len(), names.len());
    screen.table(&rows);
    let told = ground.get(&made[0].address, "/cgi-bin/config").await?;
    let right = told.trim() == format!("config-2 {}", made[0].id);
    checks.push(("a machine reads its id on its config drive".to_owned(), right));
    let sentence = "Running is from the request to a guest that runs. Ours is what is left of it without \
                    waiting for libvirt and for the programs that make disks, rules and DHCP.";
    screen.say(sentence);
    screen.say(&format!("This process, with all parts of the cloud: {}.", own_use()));
    Ok(made)
}

async fn server(ground: &Ground, name: &'static str, image: ImageId) -> Result<Made> {
    let project = ground.project()?;
    let flavor = if image == ground.container { "container" } else { "machine" };
    let spec = ServerSpec::new(name.parse()?, flavor.parse()?, image);
    let id = ground.done(project.create_server(project.new_request(), &spec).await?).await?;
    let address = project.server(id).await?.ports[0].address.to_string();
    Ok(Made { name, id, address })
}

/// Everybody reaches everybody, machine or container.
async fn meet(
    ground: &Ground,
    screen: &mut dyn Screen,
    made: &[Made],
    checks: &mut Vec<Check>,
) -> Result<()> {
    screen.section("Neighbours", "Each guest is asked to ping every other one.");
    let mut all = true;
    for from in made {
        for to in made.iter().filter(|to| to.id != from.id) {
            let path = format!("/cgi-bin/ping?{}", to.address);
            all &= ground.get(&from.address, &path).await?.trim() == "yes";
        }
    }
    checks.push(("the guests reach each other".to_owned(), all));
    screen.say(if all { "All of them answer." } else { "Not all of them answer." });
    Ok(())
}

/// Floating IPs lead to a machine and to a container, from outside.
async fn reach(
    ground: &Ground,
    screen: &mut dyn Screen,
    made: &[Made],
    checks: &mut Vec<Check>,
) -> Result<()> {
    let sentence = "A floating IP for a machine and one for a container, asked from outside.";
    screen.section("From outside", sentence);
    let project = ground.project()?;
    for server in [&made[1], &made[2]] {
        let pool = POOL.parse()?;
        let floating = project.allocate_floating_ip(project.new_request(), &pool).await?;
        let led = project.associate_floating_ip(project.new_request(), floating, server.id).await?;
        ground.done(led).await?;
        let said = ground.outside_asks(&floating.to_string());
        let right = said.contains(server.name) && said.contains(&server.address);
        screen.say(&format!("{floating} says: {}", said.trim()));
        checks.push((format!("{} is reached from outside", server.name), right));
        let apart = project.disassociate_floating_ip(project.new_request(), floating).await?;
        ground.done(apart).await?;
        let silent = ground.outside_asks(&floating.to_string()).is_empty();
        checks.push((format!("{floating} leads nowhere afterwards"), silent));
        project.release_floating_ip(project.new_request(), floating).await?;
    }
    Ok(())
}

/// A volume is plugged into a running machine, outlives its reboot, and is pulled out.
async fn keep(
    ground: &Ground,
    screen: &mut dyn Screen,
    server: &Made,
    checks: &mut Vec<Check>,
) -> Result<()> {
    screen.section("A volume", "Plugged into a running machine, through a reboot, and pulled out.");
    let project = ground.project()?;
    let spec = VolumeSpec::new(Label::new("store")?, VolumeSize::new(GiB(1))?);
    let volume = ground.done(project.create_volume(project.new_request(), &spec).await?).await?;
    let request = project.new_request();
    ground.done(project.attach_volume(request, server.id, volume).await?).await?;
    // Its kernel takes a moment to notice.
    let sees = |said: &str| said.contains("vdc");
    ground.comes_to_say(&server.address, "/cgi-bin/disks", sees).await?;
    let life = ground.get(&server.address, "/life").await?;
    let request = project.new_request();
    ground.done(project.reboot(request, server.id, Reboot::Soft).await?).await?;
    ground.comes_to_say(&server.address, "/life", |said| said != life).await?;
    let disks = ground.answers(&server.address, "/cgi-bin/disks").await?;
    checks.push(("the volume outlives a reboot".to_owned(), sees(&disks)));
    let request = project.new_request();
    ground.done(project.detach_volume(request, volume).await?).await?;
    let disks = ground.get(&server.address, "/cgi-bin/disks").await?;
    checks.push(("the machine has given the volume up".to_owned(), !sees(&disks)));
    ground.done(project.delete_volume(project.new_request(), volume).await?).await?;
    screen.say("It came, stayed and went.");
    Ok(())
}

/// The whole control plane ends and begins anew on the same store; the guests notice nothing.
async fn restart(
    ground: &mut Ground,
    screen: &mut dyn Screen,
    made: &[Made],
    checks: &mut Vec<Check>,
) -> Result<()> {
    let sentence = "Every part of the cloud stops and starts again on the same store.";
    screen.section("A restart", sentence);
    let mut before = Vec::new();
    for server in made {
        before.push(ground.get(&server.address, "/life").await?);
    }
    let watch = Stopwatch::start();
    ground.restart().await?;
    let mut same = true;
    for (server, life) in made.iter().zip(&before) {
        same &= ground.get(&server.address, "/life").await? == *life;
    }
    checks.push(("no guest noticed the restart".to_owned(), same));
    let servers = ground.project()?.servers().await?;
    checks.push(("all servers are known after it".to_owned(), servers.len() == made.len()));
    screen.say(&format!("It took {}; every guest lives the life it lived.", time(watch.elapsed())));
    Ok(())
}

/// An image of a running machine becomes another machine.
async fn copy(
    ground: &Ground,
    screen: &mut dyn Screen,
    server: &Made,
    checks: &mut Vec<Check>,
) -> Result<()> {
    screen.section("An image of a guest", "Taken while it runs; another machine boots from it.");
    let project = ground.project()?;
    let watch = Stopwatch::start();
    let (request, name) = (project.new_request(), Label::new("copy")?);
    let taken = project.snapshot_server(request, server.id, &name).await?;
    let image = ground.done(taken).await?;
    let taken = watch.elapsed();
    let copy = self::server(ground, "copy", image).await?;
    let said = ground.answers(&copy.address, "/").await?;
    checks.push(("a machine boots from another's image".to_owned(), said.contains("copy")));
    screen.say(&format!("Taken in {}; the copy says: {}", time(taken), said.trim()));
    ground.delete(copy.id).await?;
    project.delete_image(project.new_request(), image).await?;
    Ok(())
}

/// Many containers at once.
async fn crowd(
    ground: &mut Ground,
    screen: &mut dyn Screen,
    options: &Options,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let Options { more, simulated, .. } = *options;
    let sentence = match simulated {
        0 => format!("{more} containers more, all asked for at once."),
        _ => format!("{more} containers more, all asked for at once, and {simulated} hosts."),
    };
    screen.section("A crowd", &sentence);
    let project = ground.project()?;
    let watch = Stopwatch::start();
    let mut accepted = Vec::new();
    for number in 1..=more {
        let name = format!("crowd-{number}").parse()?;
        let spec = ServerSpec::new(name, "container".parse()?, ground.container);
        accepted.push(project.create_server(project.new_request(), &spec).await?);
    }
    let mut crowd = Vec::new();
    for one in accepted {
        crowd.push(ground.done(one).await?);
    }
    let running = watch.elapsed();
    let mut answered = 0;
    for id in &crowd {
        let address = project.server(*id).await?.ports[0].address.to_string();
        ground.answers(&address, "/").await?;
        answered += 1;
    }
    checks.push((format!("all {more} answer"), answered == usize::from(more)));
    screen.say(&format!(
        "All run after {}, all answer after {}. This process: {}.",
        time(running),
        time(watch.elapsed()),
        own_use(),
    ));
    if simulated > 0 {
        ground.join_simulated(simulated).await?;
        let real = ground.project()?.servers().await?.len();
        screen.say(&format!(
            "With {simulated} simulated hosts beside {real} real guests: {}.",
            own_use(),
        ));
    }
    for id in crowd {
        ground.delete(id).await?;
    }
    Ok(())
}
