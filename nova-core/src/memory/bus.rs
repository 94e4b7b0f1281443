//! The bus within one process: a bounded queue for each inbox.
//!
//! It loses nothing while the inbox lives and keeps the order of each inbox. Nobody may rely on
//! that: the port promises less, so that a broker can take this bus's place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::{self, Sender, error::TrySendError};

use crate::clock::{Clock, ClockExt as _};
use crate::port::{BusError, Delivery, Inbox, MessageBus, Payload, ReplyTo, Topic};

/// Carries messages between the parts of one process.
///
/// When several servers share a topic they take turns in the order in which they began to serve;
/// one whose queue is full is passed over.
///
/// ```
/// # use std::sync::Arc;
/// # use nova_core::{clock::SystemClock, memory::LocalBus, port::{MessageBus, Topic}};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let bus = LocalBus::new(Arc::new(SystemClock::new()));
/// let mut inbox = bus.serve(&Topic::conductor()).await?;
/// bus.cast(&Topic::conductor(), b"wake up".as_slice().into()).await?;
/// assert_eq!(&*inbox.next().await.unwrap().payload, b"wake up");
/// # Ok::<(), nova_core::port::BusError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct LocalBus {
    clock: Arc<dyn Clock>,
    capacity: usize,
    /// The queues of each topic; the front one is next in turn.
    servers: Mutex<BTreeMap<Topic, VecDeque<Sender<Delivery>>>>,
}

impl LocalBus {
    /// How many messages wait in one inbox, unless told otherwise. Wake-ups are cheap to repeat,
    /// so a longer queue would only hide that nobody is serving.
    pub const CAPACITY: usize = 1024;

    /// The most that can be asked for with [`with_capacity`](Self::with_capacity).
    pub const CAPACITY_MAX: usize = 1 << 20;

    /// A bus without servers, whose calls end by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, capacity: Self::CAPACITY, servers: Mutex::default() }
    }

    /// Lets `messages` wait in each inbox served from now on: 1 to
    /// [`CAPACITY_MAX`](Self::CAPACITY_MAX), the nearest of which is taken.
    #[must_use]
    pub fn with_capacity(self, messages: usize) -> Self {
        Self { capacity: messages.clamp(1, Self::CAPACITY_MAX), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Topic, VecDeque<Sender<Delivery>>>> {
        // The lock only guards plain moves of queues; a panic elsewhere leaves them whole.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message into the queue whose turn it is.
    fn deliver(&self, to: &Topic, mut delivery: Delivery) -> Result<(), BusError> {
        let mut servers = self.lock();
        let Some(queues) = servers.get_mut(to) else {
            return Err(BusError::NoServer { topic: to.clone() });
        };
        let mut capacity = 0_usize;
        for _ in 0..queues.len() {
            let Some(queue) = queues.pop_front() else { break };
            match queue.try_send(delivery) {
                Ok(()) => {
                    queues.push_back(queue);
                    return Ok(());
                }
                Err(TrySendError::Full(back)) => {
                    capacity = capacity.saturating_add(queue.max_capacity());
                    queues.push_back(queue);
                    delivery = back;
                }
                // Its inbox was dropped, and so is the queue.
                Err(TrySendError::Closed(back)) => delivery = back,
            }
        }
        if queues.is_empty() {
            servers.remove(to);
            Err(BusError::NoServer { topic: to.clone() })
        } else {
            Err(BusError::Full { topic: to.clone(), capacity })
        }
    }
}

impl std::fmt::Display for LocalBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("local bus")
    }
}

#[async_trait]
impl MessageBus for LocalBus {
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError> {
        self.deliver(to, Delivery { payload, reply: None })
    }

    async fn call(
        &self,
        to: &Topic,
        payload: Payload,
        limit: Duration,
    ) -> Result<Payload, BusError> {
        let (reply, answer) = ReplyTo::new();
        self.deliver(to, Delivery { payload, reply: Some(reply) })?;
        // An answer that is there when the limit is reached counts: `within` looks at it first.
        match self.clock.within(limit, answer).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(_)) | None => Err(BusError::NoAnswer { topic: to.clone() }),
        }
    }

    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError> {
        let (sender, receiver) = mpsc::channel(self.capacity);
        let mut servers = self.lock();
        // Topics that nobody writes to any more would otherwise keep their dead queues for ever.
        servers.retain(|_, queues| {
            queues.retain(|queue| !queue.is_closed());
            !queues.is_empty()
        });
        servers.entry(at.clone()).or_default().push_back(sender);
        Ok(Inbox::new(receiver))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::VirtualClock;

    fn bus(capacity: usize) -> LocalBus {
        LocalBus::new(Arc::new(VirtualClock::new())).with_capacity(capacity)
    }

    fn payload(text: &str) -> Payload {
        text.as_bytes().into()
    }

    /// Casts each word of `sent`; `expected` holds the words that each of `inboxes` found.
    async fn check(bus: &LocalBus, inboxes: &mut [Inbox], sent: &str, expected: &[&str]) {
        for word in sent.split(' ') {
            bus.cast(&Topic::conductor(), payload(word)).await.unwrap();
        }
        for (inbox, expected) in inboxes.iter_mut().zip(expected) {
            for word in expected.split_terminator(' ') {
                assert_eq!(inbox.next().await.unwrap().payload, payload(word));
            }
        }
    }

    #[tokio::test]
    async fn servers_take_turns_in_the_order_they_came() {
        let bus = bus(8);
        let mut inboxes = Vec::new();
        for _ in 0..3 {
            inboxes.push(bus.serve(&Topic::conductor()).await.unwrap());
        }
        check(&bus, &mut inboxes, "a b c d e", &["a d", "b e", "c"]).await;
        drop(inboxes.remove(1));
        check(&bus, &mut inboxes, "f g h i", &["g i", "f h"]).await;
    }

    #[tokio::test]
    async fn a_server_that_is_full_is_passed_over_until_all_are() {
        let bus = bus(2);
        let mut a = bus.serve(&Topic::conductor()).await.unwrap();
        let b = bus.serve(&Topic::conductor()).await.unwrap();
        for _ in 0..4 {
            bus.cast(&Topic::conductor(), payload("x")).await.unwrap();
        }
        let full = bus.cast(&Topic::conductor(), payload("x")).await;
        assert!(matches!(full, Err(BusError::Full { capacity: 4, .. })), "{full:?}");
        a.next().await.unwrap();
        bus.cast(&Topic::conductor(), payload("x")).await.unwrap();
        drop((a, b));
    }

    #[tokio::test]
    async fn a_topic_whose_inboxes_are_gone_is_forgotten() {
        let bus = bus(2);
        drop(bus.serve(&Topic::conductor()).await.unwrap());
        let _other = bus.serve(&Topic::new("other").unwrap()).await.unwrap();
        assert_eq!(bus.lock().len(), 1);
    }
}
