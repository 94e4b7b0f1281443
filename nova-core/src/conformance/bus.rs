//! The laws of [`MessageBus`]. Each takes a bus on which nobody serves yet.
//!
//! Calls end by a limit, so the bus's clock must run by itself.

use std::time::Duration;

use crate::port::{BusError, Inbox, MessageBus, Payload, Topic};

/// A call that is answered ends long before.
const LONG: Duration = Duration::from_secs(3600);

/// A call that is not answered ends after this.
const SHORT: Duration = Duration::from_millis(10);

/// A bus that took so many messages for one server without a word has no bound.
const WAITING_MAX: usize = 1 << 21;

/// One test for each law of [`MessageBus`](crate::port::MessageBus); the expression makes a bus.
///
/// ```
/// nova_core::bus_laws!(async { nova_core::memory::LocalBus::new(std::sync::Arc::new(nova_core::clock::SystemClock::new())) });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! bus_laws {
    ($make:expr) => {
        $crate::laws!(
            bus,
            $make,
            [
                a_cast_arrives_at_one_server,
                a_cast_without_server_says_so,
                a_call_brings_the_answer,
                a_call_without_server_says_so,
                a_call_without_answer_ends_by_its_limit,
                a_call_whose_server_goes_away_has_no_answer,
                a_full_queue_is_an_error,
                a_dropped_inbox_serves_no_more,
            ]
        );
    };
}

/// Of several that serve the topic, and at none of another topic.
pub async fn a_cast_arrives_at_one_server(bus: impl MessageBus) {
    let mut first = bus.serve(&topic()).await.unwrap();
    let mut second = bus.serve(&topic()).await.unwrap();
    let mut other = bus.serve(&Topic::new("suite.other").unwrap()).await.unwrap();
    for number in 0..10 {
        bus.cast(&topic(), payload(&number.to_string())).await.unwrap();
    }
    bus.cast(&Topic::new("suite.other").unwrap(), payload("other")).await.unwrap();
    let mut arrived = Vec::new();
    while arrived.len() < 10 {
        let delivery = tokio::select! {
            biased;
            delivery = first.next() => delivery,
            delivery = second.next() => delivery,
        };
        let delivery = delivery.expect("the bus is there");
        assert!(delivery.reply.is_none());
        arrived.push(delivery.payload);
    }
    arrived.sort();
    let all: Vec<Payload> = (0..10).map(|number: u8| payload(&number.to_string())).collect();
    assert_eq!(arrived, all);
    assert_eq!(text(&mut other).await, "other");
}

/// Nothing waits for somebody who may never come.
pub async fn a_cast_without_server_says_so(bus: impl MessageBus) {
    let refused = bus.cast(&topic(), payload("x")).await;
    assert!(matches!(&refused, Err(BusError::NoServer { topic: at }) if *at == topic()));
}

/// To the caller it belongs to, even when answers come in another order.
pub async fn a_call_brings_the_answer(bus: impl MessageBus) {
    let mut inbox = bus.serve(&topic()).await.unwrap();
    let server = async {
        let mut waiting = Vec::new();
        for _ in 0..2 {
            waiting.push(inbox.next().await.expect("the bus is there"));
        }
        for delivery in waiting.into_iter().rev() {
            let reply = delivery.reply.expect("an answer is awaited");
            let question = String::from_utf8_lossy(&delivery.payload).into_owned();
            reply.send(payload(&format!("{question}!")));
        }
    };
    let (to, a, b) = (topic(), payload("a"), payload("b"));
    let (a, b, ()) = tokio::join!(bus.call(&to, a, LONG), bus.call(&to, b, LONG), server);
    assert_eq!((a.unwrap(), b.unwrap()), (payload("a!"), payload("b!")));
}

/// At once, not when the limit is reached.
pub async fn a_call_without_server_says_so(bus: impl MessageBus) {
    let refused = bus.call(&topic(), payload("x"), LONG).await;
    assert!(matches!(&refused, Err(BusError::NoServer { topic: at }) if *at == topic()));
}

/// A server that answers later meets no error.
pub async fn a_call_without_answer_ends_by_its_limit(bus: impl MessageBus) {
    let mut inbox = bus.serve(&topic()).await.unwrap();
    let ended = bus.call(&topic(), payload("x"), SHORT).await;
    assert!(matches!(&ended, Err(BusError::NoAnswer { topic: at }) if *at == topic()));
    let late = inbox.next().await.expect("the bus is there");
    late.reply.expect("an answer was awaited").send(payload("late"));
}

/// A delivery that is dropped with its reply is not waited for, or ends by the limit.
pub async fn a_call_whose_server_goes_away_has_no_answer(bus: impl MessageBus) {
    let mut inbox = bus.serve(&topic()).await.unwrap();
    let server = async { drop(inbox.next().await.expect("the bus is there")) };
    let to = topic();
    let (ended, ()) = tokio::join!(bus.call(&to, payload("x"), SHORT), server);
    assert!(matches!(&ended, Err(BusError::NoAnswer { topic: at }) if *at == topic()));
}

/// It comes back, and there is room again when something was taken out.
pub async fn a_full_queue_is_an_error(bus: impl MessageBus) {
    let mut inbox = bus.serve(&topic()).await.unwrap();
    let mut taken = 0;
    let capacity = loop {
        match bus.cast(&topic(), payload("x")).await {
            Ok(()) => taken += 1,
            Err(BusError::Full { topic: at, capacity }) => {
                assert_eq!(at, topic());
                break capacity;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(taken < WAITING_MAX, "no bound");
    };
    assert!(taken >= capacity, "{taken} of {capacity}");
    let refused = bus.call(&topic(), payload("x"), LONG).await;
    assert!(matches!(refused, Err(BusError::Full { .. })), "{refused:?}");
    for _ in 0..taken {
        assert_eq!(text(&mut inbox).await, "x");
    }
    bus.cast(&topic(), payload("y")).await.unwrap();
    assert_eq!(text(&mut inbox).await, "y");
}

/// What is sent afterwards goes to the others; nobody left is no server.
pub async fn a_dropped_inbox_serves_no_more(bus: impl MessageBus) {
    let dropped = bus.serve(&topic()).await.unwrap();
    let mut stays = bus.serve(&topic()).await.unwrap();
    drop(dropped);
    for number in 0..4 {
        bus.cast(&topic(), payload(&number.to_string())).await.unwrap();
    }
    for number in 0..4 {
        assert_eq!(text(&mut stays).await, number.to_string());
    }
    drop(stays);
    let refused = bus.cast(&topic(), payload("x")).await;
    assert!(matches!(refused, Err(BusError::NoServer { .. })), "{refused:?}");
    let mut again = bus.serve(&topic()).await.unwrap();
    bus.cast(&topic(), payload("z")).await.unwrap();
    assert_eq!(text(&mut again).await, "z");
}

fn topic() -> Topic {
    Topic::new("suite.server").expect("a topic")
}

fn payload(text: &str) -> Payload {
    text.as_bytes().into()
}

async fn text(inbox: &mut Inbox) -> String {
    let delivery = inbox.next().await.expect("the bus is there");
    String::from_utf8_lossy(&delivery.payload).into_owned()
}
