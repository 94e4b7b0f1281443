//! What a daemon may send, as fuzzers call it.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use super::super::xdr::Reader;
use super::super::{change, domain};
use super::{Calls, Shared, Told, dispatch, receive};

/// Calls that wait for an answer.
const CALLS: u32 = 4;

/// Reads what a daemon sends until it does not read, and each answer as if it were that of any
/// call.
///
/// # Panics
/// When a call is answered twice, or an answer is larger than what was sent.
pub fn rpc(mut sent: &[u8]) {
    let all = sent.len();
    let mut calls = Calls::default();
    let mut callers = Vec::new();
    for serial in 1..=CALLS {
        let (answer, answered) = oneshot::channel();
        calls.open.insert(serial, answer);
        callers.push(answered);
    }
    let shared = Shared(Mutex::new(calls));
    let changes = Arc::new(Mutex::new(0));
    let told: Told = {
        let changes = Arc::clone(&changes);
        Box::new(move |number, body| {
            assert!(body.len() <= all);
            if change(number, body).is_some() {
                *changes.lock().expect("nobody panicked") += 1;
            }
        })
    };
    let mut messages = 0;
    loop {
        let before = sent.len();
        // What was sent is all here, so nothing is waited for.
        let message = match pin!(receive(&mut sent)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(message)) => message,
            Poll::Ready(Err(_)) => break,
            Poll::Pending => panic!("it waits for bytes that are there"),
        };
        assert_eq!(before - sent.len(), message.len() + 4);
        messages += 1;
        if dispatch(&message, &shared, &told).is_err() {
            break;
        }
    }
    let told = *changes.lock().expect("nobody panicked");
    let open = shared.with(|calls| calls.open.len());
    let answers: Vec<_> = callers.iter_mut().filter_map(|caller| caller.try_recv().ok()).collect();
    assert_eq!(answers.len() + open, callers.len());
    assert!(answers.len() + told <= messages);
    for answer in answers.into_iter().flatten() {
        assert!(answer.len() <= all);
        let new = || Reader::new(&answer);
        let _ = (new().i32(), new().u64());
        if let Ok(text) = new().text() {
            assert!(text.len() + 4 <= answer.len());
        }
        if let Ok(domains) = new().list(domain) {
            assert!(domains.len() * 24 <= answer.len());
        }
        let _ = new().list(Reader::u32).map(|list| assert!(list.len() * 4 < answer.len()));
        let _ = new().list(|each| Ok((each.text()?, each.fixed()?, each.maybe_text()?)));
    }
}
