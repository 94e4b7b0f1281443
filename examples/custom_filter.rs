//! A filter and a weigher of your own, used unchanged in a cloud and in a trace replay.
//!
//! The filter leaves part of every host empty for emergencies; the weigher fills hosts with many
//! servers first, so that others can be switched off. Both are plain functions of a host and a
//! request, which is all that a policy is made of.

use std::error::Error;

use nova_core::cloud::{Cloud, CloudOptions, FlavorSpec, HostSpec, ImageSpec, Ports, ServerSpec};
use nova_core::domain::{
    GiB, HostState, ImageFormat, MiB, NetworkKind, RequestSpec, ResourceKind, Resources, Vcpus,
};
use nova_core::port::NetworkSpec;
use nova_core::seed::Seed;
use nova_sched::sim::{Scenario, Simulation, TraceReader, uniform_hosts};
use nova_sched::{Filter, FilterScheduler, Reason, Verdict, Weigher, filters};
use nova_virt::SimHost;

/// Leaves a quarter of every host's memory free.
#[derive(Debug)]
struct Headroom;

impl Filter for Headroom {
    fn name(&self) -> &str {
        "headroom"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let left = host.free(ResourceKind::Memory) - request.flavor.memory().0 as f64;
        let kept = host.inventory.memory.capacity() / 4.0;
        Verdict::pass_if(left >= kept, Reason("too little headroom"))
    }
}

/// Prefers hosts that run many servers already.
#[derive(Debug)]
struct Crowd;

impl Weigher for Crowd {
    fn name(&self) -> &str {
        "crowd"
    }

    fn weigh(&self, host: &HostState, _: &RequestSpec) -> f64 {
        host.instance_count() as f64
    }
}

/// The policy that both worlds use.
fn policy() -> Result<FilterScheduler, Box<dyn Error>> {
    let policy = FilterScheduler::new("crowd-with-headroom")
        .with_filter(filters::HostUp)
        .with_filter(filters::Capacity)
        .with_filter(Headroom)
        .with_weigher(Crowd, 1.0)?;
    Ok(policy)
}

const HOST: Resources = Resources { vcpus: Vcpus(16), memory: MiB(16 << 10), disk: GiB(100) };

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    in_a_cloud().await?;
    in_a_replay()
}

/// Four hosts, eight servers: they crowd, and every host keeps its headroom.
async fn in_a_cloud() -> Result<(), Box<dyn Error>> {
    let ports = Ports::memory(Seed::new(1)).with_scheduler(policy()?);
    let mut cloud = Cloud::start(ports, CloudOptions::default()).await?;
    for number in 1..=4 {
        let name = format!("host-{number}");
        let driver = SimHost::new(name.parse()?, HOST);
        cloud.add_host(HostSpec::new(name.parse()?), driver).await?;
    }
    let (admin, demo) = (cloud.admin(), cloud.project("demo".parse()?));
    let new = || demo.new_request();
    let image = ImageSpec::new("tiny".parse()?, ImageFormat::Raw);
    let image = admin.register_image(new(), &image, Box::new(&b"the bytes of a disk"[..])).await?;
    let flavor = FlavorSpec::new("medium".parse()?, Vcpus(1), MiB(3 << 10));
    admin.create_flavor(new(), &flavor).await?;
    let network = NetworkSpec::new("net".parse()?, NetworkKind::FlatDhcp, "10.0.0.0/24".parse()?);
    admin.create_networks(new(), &network).await?;
    for number in 1..=8 {
        let server = ServerSpec::new(format!("web-{number}").parse()?, "medium".parse()?, image);
        let server = demo.create_server(new(), &server).await?;
        demo.wait(server.operation).await?;
    }
    println!("in a cloud of four hosts with {} each:", HOST.memory);
    let mut hosts = admin.hosts().await?;
    hosts.sort_by(|one, other| one.host.name.cmp(&other.host.name));
    for status in hosts {
        let (name, count) = (&status.host.name, status.instances.len());
        println!("  {name}: {count} servers, {} claimed", status.used.memory);
    }
    cloud.stop().await;
    Ok(())
}

/// The same policy on a trace: six VMs, of which the last finds no headroom.
fn in_a_replay() -> Result<(), Box<dyn Error>> {
    let trace = "vm,arrival_s,end_s,vcpu,mem_mib\n\
                 1,0,-1,1,6144\n2,1,-1,1,6144\n3,2,9,1,6144\n4,3,-1,1,6144\n\
                 5,10,-1,1,6144\n6,11,-1,1,4096\n";
    let policy = policy()?;
    let (hosts, scenario) = (uniform_hosts(2, HOST)?, Scenario::default());
    let mut simulation = Simulation::new(hosts, &policy, scenario, Seed::new(1))?;
    let report = simulation.run(TraceReader::new(trace.as_bytes())?)?;
    println!("in a replay on two hosts: {} placed, {} rejected", report.placed, report.rejected);
    for rejected in &report.rejected_for {
        println!("  {} on {} hosts: {}", rejected.filter, rejected.hosts, rejected.reason);
    }
    Ok(())
}
