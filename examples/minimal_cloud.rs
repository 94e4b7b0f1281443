//! The ten-line cloud of the README, as a program.
//!
//! One process, one simulated host, everything in memory: what a host, a flavor, an image and a
//! network have to do with a server, and how long it takes to say so.

use nova_core::{cloud::*, domain::*, port::NetworkSpec, seed::Seed};
use nova_virt::SimHost;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ports = Ports::memory(Seed::new(1)).with_scheduler(nova_sched::FilterScheduler::nova());
    let mut cloud = Cloud::start(ports, CloudOptions::default()).await?;
    let host = Resources { vcpus: Vcpus(16), memory: MiB(32 << 10), disk: GiB(500) };
    let driver = SimHost::new("host-1".parse()?, host);
    cloud.add_host(HostSpec::new("host-1".parse()?), driver).await?;
    let (admin, demo) = (cloud.admin(), cloud.project("demo".parse()?));
    let new = || demo.new_request();

    let image = ImageSpec::new("tiny".parse()?, ImageFormat::Raw);
    let image = admin.register_image(new(), &image, Box::new(&b"the bytes of a disk"[..])).await?;
    let flavor = FlavorSpec::new("small".parse()?, Vcpus(1), MiB(512));
    admin.create_flavor(new(), &flavor).await?;
    let network = NetworkSpec::new("net".parse()?, NetworkKind::FlatDhcp, "10.0.0.0/24".parse()?);
    admin.create_networks(new(), &network).await?;

    let web = ServerSpec::new("web".parse()?, "small".parse()?, image);
    let web = demo.create_server(new(), &web).await?;
    demo.wait(web.operation).await?;
    let web = demo.server(web.id).await?;
    println!("{} is {} at {}", web.instance.name, web.instance.state, web.ports[0].address);
    cloud.stop().await;
    Ok(())
}
