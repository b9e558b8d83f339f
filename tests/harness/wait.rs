//! Waiting for a state with a deadline: the only kind of waiting that tests do.

use std::future::Future;
use std::time::{Duration, Instant};

/// Long enough for a debug build on a busy machine to start, elect and catch up.
pub(crate) const READY: Duration = Duration::from_secs(30);

const EVERY: Duration = Duration::from_millis(20);

/// Asks every 20 ms until the condition gives a value; past the deadline the test fails.
#[track_caller]
pub(crate) fn wait_until<T, F>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            assert!(started.elapsed() < deadline, "{caller}: not within {deadline:?}: {what}");
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Asks every 20 ms and fails the test when the condition is false once in that time. For what
/// must not happen: no event announces it.
pub(crate) async fn stays<F>(what: &str, time: Duration, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let started = Instant::now();
    while started.elapsed() < time {
        assert!(condition().await, "did not stay: {what} (after {:?})", started.elapsed());
        tokio::time::sleep(EVERY).await;
    }
}

/// Awaits one event; past the deadline the test fails.
#[track_caller]
pub(crate) fn within<T>(
    what: &str,
    deadline: Duration,
    event: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        tokio::time::timeout(deadline, event)
            .await
            .unwrap_or_else(|_| panic!("{caller}: not within {deadline:?}: {what}"))
    }
}
