//! What happened, in order: hashed to compare two runs of a seed, the end kept to be read.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines kept for the report of a failure.
const KEPT_LINES: usize = 400;

#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    hasher: DefaultHasher,
    lines: u64,
    tail: VecDeque<String>,
    /// All lines, when a file of them was asked for.
    all: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let all = std::env::var_os("QUORATE_SIM_TRACE").map(|_| Vec::new());
        let (hasher, tail) = (DefaultHasher::new(), VecDeque::new());
        let inner = Mutex::new(Inner { hasher, lines: 0, tail, all });
        Self { start: Instant::now(), inner }
    }

    /// Simulated time since the beginning.
    pub(crate) fn elapsed(&self) -> std::time::Duration {
        self.start.elapsed()
    }

    pub(crate) fn line(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}", self.elapsed().as_secs_f64());
        let mut inner = self.inner.lock();
        inner.hasher.write(line.as_bytes());
        inner.lines += 1;
        if let Some(all) = &mut inner.all {
            all.push(line.clone());
        }
        if inner.tail.len() == KEPT_LINES {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line);
    }

    /// The hash of everything so far, and the number of lines.
    pub(crate) fn hash(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.hasher.finish(), inner.lines)
    }

    pub(crate) fn tail(&self) -> String {
        let inner = self.inner.lock();
        inner.tail.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Writes all lines to the file that `QUORATE_SIM_TRACE` names.
    pub(crate) fn write(&self) {
        if let (Some(all), Some(path)) =
            (&self.inner.lock().all, std::env::var_os("QUORATE_SIM_TRACE"))
        {
            std::fs::write(path, all.join("\n")).expect("write the trace");
        }
    }
}

/// Hash of some bytes, for a line of the trace.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish() & 0xffff_ffff
}

/// Adds a line to the trace of a world.
macro_rules! trace {
    ($world:expr, $($what:tt)*) => {
        $world.trace.line(format_args!($($what)*))
    };
}
pub(crate) use trace;
