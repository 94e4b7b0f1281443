//! Messages between parts. A message wakes somebody up; what is true is in the store.

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};

use crate::class::Class;
use crate::domain::{HostId, Invalid};

/// The bytes of a message.
pub type Payload = Arc<[u8]>;

/// An address on the bus: dot-separated words, as brokers know them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Box<str>);

impl Topic {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`] unless it is 1 to 128 of `a-z 0-9 - .`, no word empty.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Invalid> {
        let name = name.as_ref();
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let words = name.split('.').all(|word| !word.is_empty() && word.bytes().all(known));
        if name.len() <= 128 && words {
            Ok(Self(name.into()))
        } else {
            Err(Invalid::new("topic", name, "words of a-z, 0-9 and - joined by '.', 128 in all"))
        }
    }

    /// Where the conductors listen.
    pub fn conductor() -> Self {
        Self("conductor".into())
    }

    /// Where the agent of a host listens.
    pub fn agent(host: HostId) -> Self {
        Self(format!("agent.{host}").into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Topic({})", self.0)
    }
}

/// A message that has arrived.
#[derive(Debug)]
pub struct Delivery {
    /// What it says.
    pub payload: Payload,
    /// Where the answer goes, when one is awaited.
    pub reply: Option<ReplyTo>,
}

/// Where an answer goes.
#[derive(Debug)]
pub struct ReplyTo(oneshot::Sender<Payload>);

impl ReplyTo {
    /// A way back, and the end at which the answer comes out; for those who write a bus.
    pub fn new() -> (Self, oneshot::Receiver<Payload>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. A caller that has given up in the meantime is no error.
    pub fn send(self, answer: Payload) {
        drop(self.0.send(answer));
    }
}

/// Messages that arrive at a topic, in the order in which the bus took them.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Delivery>);

impl Inbox {
    /// An inbox fed through `receiver`; for those who write a bus.
    pub fn new(receiver: mpsc::Receiver<Delivery>) -> Self {
        Self(receiver)
    }

    /// The next message; none when the bus is gone.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.0.recv().await
    }
}

/// Carries messages. It may lose, double, delay and reorder them; nothing may depend on it not
/// doing so, except speed.
///
/// Laws:
/// - `a_cast_arrives_at_one_server` of those that serve the topic;
/// - `a_cast_without_server_says_so`;
/// - `a_call_brings_the_answer`;
/// - `a_call_without_server_says_so`;
/// - `a_call_without_answer_ends_by_its_limit`;
/// - `a_call_whose_server_goes_away_has_no_answer`;
/// - `a_full_queue_is_an_error`: nothing waits without bound;
/// - `a_dropped_inbox_serves_no_more`.
#[async_trait]
pub trait MessageBus: Display + Debug + Send + Sync + 'static {
    /// Sends and forgets.
    ///
    /// # Errors
    /// [`BusError::NoServer`], [`BusError::Full`].
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError>;

    /// Sends and waits for the answer, at most for `limit`.
    ///
    /// # Errors
    /// [`BusError::NoServer`] and [`BusError::Full`]: the message was certainly not delivered.
    /// [`BusError::NoAnswer`]: nobody can say what became of it.
    async fn call(
        &self,
        to: &Topic,
        payload: Payload,
        limit: Duration,
    ) -> Result<Payload, BusError>;

    /// Listens at a topic until the inbox is dropped. Several may; each message goes to one.
    ///
    /// # Errors
    /// [`BusError::Broker`].
    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError>;
}

/// What went wrong with a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// Nobody listens there.
    #[error("nobody serves {topic}")]
    NoServer {
        /// The topic.
        topic: Topic,
    },
    /// Too many messages wait there already.
    #[error("{topic} is full: {capacity} messages wait")]
    Full {
        /// The topic.
        topic: Topic,
        /// How many may wait.
        capacity: usize,
    },
    /// No answer came in time, or the server went away with the message.
    #[error("no answer from {topic}")]
    NoAnswer {
        /// The topic.
        topic: Topic,
    },
    /// An answer came that cannot be understood.
    #[error("{topic}: cannot read the message")]
    Unreadable {
        /// The topic.
        topic: Topic,
        /// Why not.
        source: serde_json::Error,
    },
    /// The broker behind the bus failed.
    #[error("cannot {operation}")]
    Broker {
        /// What was to be done.
        operation: &'static str,
        /// What the broker said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BusError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Unreadable { .. } => Class::Bug,
            _ => Class::Retry,
        }
    }

    /// Whether the message may have been delivered all the same.
    pub const fn may_have_arrived(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Unreadable { .. } | Self::Broker { .. })
    }
}

/// Typed messages, for every bus. They travel as JSON.
#[async_trait]
pub trait MessageBusExt: MessageBus {
    /// Sends `message` and forgets it.
    ///
    /// # Errors
    /// As for [`MessageBus::cast`]; [`BusError::Unreadable`] when it has no JSON form.
    async fn tell<M: Serialize + Sync>(&self, to: &Topic, message: &M) -> Result<(), BusError> {
        self.cast(to, encode(to, message)?).await
    }

    /// Sends `message` and waits for the answer.
    ///
    /// # Errors
    /// As for [`MessageBus::call`]; [`BusError::Unreadable`] when the answer is not an `A`.
    async fn ask<M: Serialize + Sync, A: DeserializeOwned>(
        &self,
        to: &Topic,
        message: &M,
        limit: Duration,
    ) -> Result<A, BusError> {
        let answer = self.call(to, encode(to, message)?, limit).await?;
        serde_json::from_slice(&answer)
            .map_err(|source| BusError::Unreadable { topic: to.clone(), source })
    }
}

fn encode<M: Serialize>(to: &Topic, message: &M) -> Result<Payload, BusError> {
    let bytes = serde_json::to_vec(message);
    bytes.map(Payload::from).map_err(|source| BusError::Unreadable { topic: to.clone(), source })
}

impl<B: MessageBus + ?Sized> MessageBusExt for B {}

#[async_trait]
impl<B: MessageBus + ?Sized> MessageBus for Arc<B> {
    async fn cast(&self, to: &Topic, payload: Payload) -> Result<(), BusError> {
        (**self).cast(to, payload).await
    }

    async fn call(
        &self,
        to: &Topic,
        payload: Payload,
        limit: Duration,
    ) -> Result<Payload, BusError> {
        (**self).call(to, payload, limit).await
    }

    async fn serve(&self, at: &Topic) -> Result<Inbox, BusError> {
        (**self).serve(at).await
    }
}

const _: fn(Box<dyn MessageBus>) = |port| {
    fn is_shared(_: impl Send + Sync + 'static) {}
    is_shared(port);
};
