//! Servers of one image come together where the image is, when the policy says so.

use std::sync::Arc;

use nova_core::clock::{Clock, ClockExt as _};
use nova_core::cloud::{
    ApiError, Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports, ServerSpec,
};
use nova_core::domain::{GiB, HostId, ImageFormat, ImageId, MiB, NetworkKind, Resources, Vcpus};
use nova_core::port::NetworkSpec;
use nova_core::seed::Seed;
use nova_core::store::MemoryStore;
use nova_core::testing::alone;
use nova_sched::{PolicyConfig, Registry};
use nova_virt::SimHost;

const HOST: Resources = Resources { vcpus: Vcpus(16), memory: MiB(16 << 10), disk: GiB(100) };

/// Where servers of these images come, one after the other, on six hosts that have no image at
/// first. In between, each host looks which images it has.
fn placed(policy: &PolicyConfig, images: &[&'static [u8]]) -> Vec<HostId> {
    alone(async |clock| place(policy, images, clock).await).unwrap()
}

async fn place(
    policy: &PolicyConfig,
    images: &[&'static [u8]],
    clock: Arc<dyn Clock>,
) -> Result<Vec<HostId>, ApiError> {
    let scheduler = Registry::default().build("mine", policy).unwrap();
    let store = Arc::new(MemoryStore::new());
    let ports = Ports::over(store, Arc::clone(&clock), Seed::new(1)).with_scheduler(scheduler);
    let options = CloudOptions::default();
    let pause = options.sweep_interval * 2;
    let mut cloud = Cloud::start(ports, options).await?;
    for number in 1..=6 {
        let name = format!("host-{number}");
        let driver = SimHost::new(name.parse()?, HOST).with_clock(Arc::clone(&clock));
        cloud.add_host(HostSpec::new(name.parse()?), driver).await?;
    }
    let (admin, demo) = (cloud.admin(), cloud.project("demo".parse()?));
    let new = || demo.new_request();
    let flavor = FlavorSpec::new("medium".parse()?, Vcpus(1), MiB(1 << 10));
    admin.create_flavor(new(), &flavor).await?;
    let range = "10.0.0.0/24".parse().unwrap();
    let network = NetworkSpec::new("net".parse()?, NetworkKind::FlatDhcp, range);
    admin.create_networks(new(), &network).await?;
    let mut hosts = Vec::new();
    for (number, bytes) in images.iter().enumerate() {
        // Each is registered anew: it is what they hold that counts.
        let image = ImageSpec::new(format!("image-{number}").parse()?, ImageFormat::Raw);
        let image: ImageId = admin.register_image(new(), &image, Box::new(*bytes)).await?;
        let name = format!("web-{number}").parse()?;
        let server = ServerSpec::new(name, "medium".parse()?, image);
        let server = demo.create_server(new(), &server).await?;
        demo.wait(server.operation).await?;
        hosts.push(demo.server(server.id).await?.instance.host.unwrap());
        clock.sleep(pause).await;
    }
    cloud.stop().await;
    Ok(hosts)
}

#[test]
fn the_second_server_of_an_image_comes_where_the_image_is() {
    let images: [&[u8]; 4] = [b"one disk", b"another disk", b"one disk", b"another disk"];
    let nova = PolicyConfig::nova();
    let spread = placed(&nova, &images);
    assert!(spread[0] != spread[2] && spread[1] != spread[3], "{spread:?}");
    let together = placed(&nova.with_weigher("image-cached", 10.0), &images);
    assert_eq!((together[0], together[1]), (together[2], together[3]), "{together:?}");
    assert_ne!(together[0], together[1], "it is not the image alone");
}
