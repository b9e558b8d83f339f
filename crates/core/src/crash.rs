//! Places where a process can be made to end at once, so that a test sees what a crash there
//! leaves behind (`tests/cluster/crash.rs` names them all). Nothing at all in a release build.

/// Ends the process, as a crash does, if the variable `QUORATE_CRASH_AT` has this name:
/// `name` at the first time, `name:3` at the third.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("QUORATE_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU64::new(count.parse().ok()?)))
    });
    if let Some((wanted, left)) = wanted
        && wanted == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        tracing::error!(name, "crash asked for");
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn point(_name: &str) {}
