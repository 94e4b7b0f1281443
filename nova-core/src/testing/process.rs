//! What a simulated process is to its parts: a clock, a fate, and whether it runs just now.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::clock::{Clock, ClockExt as _, Timestamp};
use crate::memory::VirtualClock;
use crate::seed::{Chance, Seed};
use crate::testing::fate::Fate;

/// What happened, as a hash, and as text when somebody wants to read it.
#[derive(Debug, Default)]
pub struct Log {
    state: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    hash: Sha256,
    lines: Option<Vec<String>>,
}

impl Log {
    /// A log that keeps its lines.
    pub fn with_lines() -> Self {
        Self { state: Mutex::new(Pages { hash: Sha256::new(), lines: Some(Vec::new()) }) }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line down.
    pub fn note(&self, at: Timestamp, line: impl Display) {
        let line = format!("{:>13.6} {line}", at.0 as f64 / 1e9);
        let mut pages = self.lock();
        pages.hash.update(line.as_bytes());
        pages.hash.update(b"\n");
        if let Some(lines) = &mut pages.lines {
            lines.push(line);
        }
    }

    /// Writes down bytes that only the hash is made of.
    pub fn mix(&self, bytes: &[u8]) {
        self.lock().hash.update(bytes);
    }

    /// SHA-256 of everything so far, in hex.
    pub fn hash(&self) -> String {
        self.lock().hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The lines, when they were kept.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone().unwrap_or_default()
    }
}

/// A process of a simulated cloud. Its wrappers ask it before everything they do, so that a
/// process that is paused does nothing, and one that is cut off reaches nobody.
#[derive(Debug)]
pub struct Process {
    name: String,
    world: Arc<VirtualClock>,
    fate: Arc<Fate>,
    log: Arc<Log>,
    state: Mutex<Condition>,
}

#[derive(Debug)]
struct Condition {
    chance: Chance,
    paused_until: Timestamp,
    storeless_until: Timestamp,
    cut_until: Timestamp,
    rate: f64,
    ahead: Duration,
}

/// How often a call takes time, and on which grid its end lies. A grid keeps the number of
/// different moments small, and with it the time that a run takes.
const LATENCY_SHARE: f64 = 0.3;
const LATENCY_GRID: u64 = 1_000_000;

impl Process {
    /// A process with a clock that is right.
    pub fn new(
        name: impl Into<String>,
        world: Arc<VirtualClock>,
        fate: Arc<Fate>,
        log: Arc<Log>,
        seed: Seed,
    ) -> Self {
        let condition = Condition {
            chance: seed.chance(),
            paused_until: Timestamp::default(),
            storeless_until: Timestamp::default(),
            cut_until: Timestamp::default(),
            rate: 1.0,
            ahead: Duration::ZERO,
        };
        Self { name: name.into(), world, fate, log, state: Mutex::new(condition) }
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What happens to it.
    pub fn fate(&self) -> &Fate {
        &self.fate
    }

    /// The time outside.
    pub fn world(&self) -> &Arc<VirtualClock> {
        &self.world
    }

    /// Writes a line into the log of the run.
    pub fn note(&self, line: impl Display) {
        self.log.note(self.world.now(), format_args!("{}: {line}", self.name));
    }

    /// Does not run for `time`.
    pub fn pause(&self, time: Duration) {
        self.lock().paused_until = self.world.now().after(time);
    }

    /// Does not reach the store for `time`.
    pub fn lose_store(&self, time: Duration) {
        self.lock().storeless_until = self.world.now().after(time);
    }

    /// Whether the store is out of reach.
    pub fn is_storeless(&self) -> bool {
        self.fate.is_awake() && self.world.now() < self.lock().storeless_until
    }

    /// Nothing that it says reaches anybody for `time`.
    pub fn cut_off(&self, time: Duration) {
        self.lock().cut_until = self.world.now().after(time);
    }

    /// Whether nothing that it says reaches anybody.
    pub fn is_cut_off(&self) -> bool {
        self.fate.is_awake() && self.world.now() < self.lock().cut_until
    }

    /// Its clock runs at this rate from now on, and is never moved back for it.
    pub fn set_rate(&self, rate: f64) {
        let now = self.now();
        let mut condition = self.lock();
        condition.rate = rate;
        let bare = scaled(self.world.now(), rate);
        condition.ahead = now.since(bare);
    }

    /// Its clock jumps forward.
    pub fn jump(&self, time: Duration) {
        self.lock().ahead += time;
    }

    /// Waits while the process is paused.
    pub async fn pass(&self) {
        loop {
            let until = self.lock().paused_until;
            if self.world.now() >= until || !self.fate.is_awake() {
                return;
            }
            self.world.sleep_until(until).await;
        }
    }

    /// What a call takes on its way: nothing, or a few milliseconds.
    pub async fn latency(&self) {
        self.pass().await;
        let wait = {
            let chance = &mut self.lock().chance;
            chance.happens(LATENCY_SHARE).then(|| 1 + chance.below(4))
        };
        match wait {
            Some(ticks) => {
                let tick = self.world.now().0 / LATENCY_GRID + ticks;
                self.world.sleep_until(Timestamp(tick * LATENCY_GRID)).await;
                self.pass().await;
            }
            None => tokio::task::yield_now().await,
        }
    }
}

fn scaled(moment: Timestamp, rate: f64) -> Timestamp {
    Timestamp((moment.0 as f64 * rate) as u64)
}

impl Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.name)
    }
}

/// The clock that the process sees: it drifts, and jumps forward.
#[async_trait]
impl Clock for Process {
    fn now(&self) -> Timestamp {
        let condition = self.lock();
        scaled(self.world.now(), condition.rate).after(condition.ahead)
    }

    async fn sleep_until(&self, moment: Timestamp) {
        loop {
            let wait = moment.since(self.now());
            if wait.is_zero() {
                return self.pass().await;
            }
            let rate = self.lock().rate;
            // One tick more than it takes, so that rounding never makes it wait for nothing.
            let wait = wait.div_f64(rate) + Duration::from_nanos(1);
            self.world.sleep(wait).await;
        }
    }
}
