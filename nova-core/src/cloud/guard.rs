//! Keeps a panic of a part that was handed in from taking anything else with it.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

/// What a part said when it panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) String);

/// Runs `work`, and catches its panic: schedulers, drivers and stores may be anybody's code.
///
/// What `work` had changed stays changed, as after any call that was cut short. So it may only
/// wrap what is looked at again afterwards.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    let step =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(Panicked(said(&*panic)))),
        });
    step.await
}

/// The words of a panic, cut to what fits a fault.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it did not say why").chars().take(WORDS_CHARS_MAX).collect()
}

/// Characters of a panic's message that are kept.
const WORDS_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_value_and_ordinary_answers_pass() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            assert_eq!(caught(async { 5 }).await, Ok(5));
            let late = caught(async {
                tokio::task::yield_now().await;
                "none".parse::<u8>().expect("no number")
            });
            assert_eq!(
                late.await,
                Err(Panicked("no number: ParseIntError { kind: InvalidDigit }".to_owned()))
            );
        });
    }
}
