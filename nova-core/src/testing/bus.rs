//! A bus that loses, doubles, delays and reorders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::clock::{Clock as _, ClockExt as _, Timestamp};
use crate::memory::VirtualClock;
use crate::port::{BusError, Inbox, MessageBus, Payload, Topic};
use crate::testing::fate::Fault;
use crate::testing::process::Process;

/// Topics that nothing gets through to, and until when; shared by all processes.
#[derive(Debug, Default)]
pub struct Cuts(Mutex<BTreeMap<Topic, Timestamp>>);

impl Cuts {
    /// Nothing gets through to `topic` before `until`.
    pub fn cut(&self, topic: Topic, until: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(topic, until);
    }

    fn holds(&self, topic: &Topic, now: Timestamp) -> bool {
        let cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.get(topic).is_some_and(|until| now < *until)
    }
}

/// One process's end of a bus that does everything a bus may do.
#[derive(Debug)]
pub struct ChaosBus<B: ?Sized> {
    bus: Arc<B>,
    process: Arc<Process>,
    cuts: Arc<Cuts>,
}

/// How late a message may be: later than most orders take.
const DELAY_MAX: Duration = Duration::from_secs(20);

impl<B: MessageBus + ?Sized> ChaosBus<B> {
    /// The end of `bus` that `process` holds.
    pub fn new(bus: Arc<B>, process: Arc<Process>, cuts: Arc<Cuts>) -> Self {
        Self { bus, process, cuts }
    }

    fn is_lost(&self, to: &Topic) -> bool {
        let fate = self.process.fate();
        let cut = fate.is_awake() && self.cuts.holds(to, self.process.world().now());
        cut || self.process.is_cut_off() || fate.strikes(Fault::LoseMessage).is_some()
    }

    /// How late this message arrives.
    fn delay(&self) -> Option<Duration> {
        let mut strike = self.process.fate().strikes(Fault::DelayMessage)?;
        // Most are a little late, some very.
        let most = if strike.unit() < 0.7 { Duration::from_millis(200) } else { DELAY_MAX };
        Some(strike.time(Duration::ZERO, most))
    }

    /// Sends a copy later; nobody waits for what comes of it.
    fn double(&self, to: &Topic, payload: &Payload) {
        if let Some(mut strike) = self.process.fate().strikes(Fault::DoubleMessage) {
            let (bus, to, payload) = (Arc::clone(&self.bus), to.clone(), Arc::clone(payload));
            let world: Arc<VirtualClock> = Arc::clone(self.process.world());
            let late = strike.time(Duration::ZERO, DELAY_MAX);
            tokio::spawn(async move {
                world.sleep(late).await;
                drop(bus.call(&to, payload, Duration::from_secs(60)).await);
            });
        }
    }

    /// What every wait for an answer that does not come ends with.
    async fn silence(&self, to: &Topic, limit: Duration) -> Result<Payload, BusError> {
        self.process.sleep(limit).await;
        Err(BusError::NoAnswer { topic: to.clone() })
    }
}

impl<B: MessageBus + ?Sized> std::fmt::Display for ChaosBus<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unreliable {}", self.bus)
    }
}

#[async_trait]
impl<B: MessageBus + ?Sized> MessageBus for ChaosBus<B> {
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError> {
        self.process.latency().await;
        self.process.note(format_args!("cast {to} {}", String::from_utf8_lossy(&payload)));
        if self.is_lost(to) {
            return Ok(());
        }
        self.double(to, &payload);
        if let Some(late) = self.delay() {
            let (bus, to) = (Arc::clone(&self.bus), to.clone());
            let world = Arc::clone(self.process.world());
            tokio::spawn(async move {
                world.sleep(late).await;
                drop(bus.cast(&to, payload).await);
            });
            return Ok(());
        }
        self.bus.cast(to, payload).await
    }

    async fn call(
        &self,
        to: &Topic,
        payload: Payload,
        limit: Duration,
    ) -> Result<Payload, BusError> {
        self.process.latency().await;
        self.process.note(format_args!("call {to} {}", String::from_utf8_lossy(&payload)));
        if self.is_lost(to) {
            return self.silence(to, limit).await;
        }
        self.double(to, &payload);
        let late = self.delay();
        let (sender, answer) = oneshot::channel();
        let (bus, topic) = (Arc::clone(&self.bus), to.clone());
        let world = Arc::clone(self.process.world());
        // The message is on its way: that the caller dies does not bring it back.
        tokio::spawn(async move {
            if let Some(late) = late {
                world.sleep(late).await;
            }
            drop(sender.send(bus.call(&topic, payload, limit).await));
        });
        let answer = match self.process.within(limit, answer).await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) | None => return Err(BusError::NoAnswer { topic: to.clone() }),
        };
        let answered = answer.is_ok();
        if answered && self.process.fate().strikes(Fault::LoseReply).is_some() {
            return self.silence(to, limit).await;
        }
        self.process.pass().await;
        let said = answer.as_ref().map(|answer| String::from_utf8_lossy(answer).into_owned());
        self.process.note(format_args!("answer of {to}: {said:?}"));
        answer
    }

    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError> {
        self.process.latency().await;
        self.bus.serve(at).await
    }
}
