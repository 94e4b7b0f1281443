//! What the cloud itself takes: time, memory, threads.

use std::sync::Arc;
use std::time::Duration;

use nova_core::clock::ClockExt as _;
use nova_core::cloud::{Agent, CloudOptions, HostSpec};
use nova_core::domain::{GiB, Liveness, MiB, Resources, Vcpus};
use nova_core::seed::Seed;
use nova_net::Networks;
use nova_net::backend::Recorder;
use nova_virt::SimHost;

use super::Result;
use super::ground::Ground;
use crate::Stopwatch;

/// A stopwatch that knows for how long others were waited for.
pub(super) struct Share<'a> {
    watch: Stopwatch,
    ground: &'a Ground,
    outside: Duration,
}

impl<'a> Share<'a> {
    pub(super) fn start(ground: &'a Ground) -> Self {
        Self { watch: Stopwatch::start(), ground, outside: ground.meter.total() }
    }

    /// The time since the start, and what of it nobody else was waited for.
    pub(super) fn elapsed(&self) -> (Duration, Duration) {
        let (all, outside) = (self.watch.elapsed(), self.ground.meter.total());
        (all, all.saturating_sub(outside.saturating_sub(self.outside)))
    }
}

/// The memory of this process now and its threads, in words.
pub(super) fn own_use() -> String {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, |all| all.count());
    let mib = |mib: Option<f64>| mib.map_or_else(|| "?".to_owned(), |mib| format!("{mib:.0}"));
    let (now, most) = (mib(crate::rss_mib()), mib(crate::peak_rss_mib()));
    format!("{now} MiB resident, at most {most} MiB so far, and {threads} threads")
}

impl Ground {
    /// So many simulated hosts join the cloud, each with an agent in this process, as soon as all
    /// of them are heard of.
    pub(super) async fn join_simulated(&mut self, count: u16) -> Result<()> {
        let mut ports = self.cloud()?.ports().clone();
        let seed = Seed::new(std::process::id().into()).child("simulated");
        let (store, clock) = (Arc::clone(&ports.store), Arc::clone(&self.clock));
        // Their networks are no more real than they are.
        ports.network = Arc::new(Networks::new(store, clock, seed, Arc::new(Recorder::new())));
        for number in 1..=count {
            let name: nova_core::domain::HostName = format!("simulated-{number}").parse()?;
            let total = Resources { vcpus: Vcpus(16), memory: MiB(32 << 10), disk: GiB(500) };
            let driver = Arc::new(SimHost::new(name.clone(), total));
            let (ports, spec) = (ports.clone(), HostSpec::new(name));
            let agent = Agent::start(ports, CloudOptions::default(), spec, driver).await?;
            self.joined.push(agent);
        }
        let admin = self.cloud()?.admin();
        loop {
            let hosts = admin.hosts().await?;
            if hosts.iter().all(|host| host.liveness == Liveness::Up) {
                return Ok(());
            }
            self.clock.sleep(super::guests::AGAIN).await;
        }
    }
}
