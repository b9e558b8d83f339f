//! Waiting for a state with a deadline.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Tries again every millisecond until `attempt` yields something.
///
/// # Errors
/// When it has yielded nothing for as long as `patience`.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {patience:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
