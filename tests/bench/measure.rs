//! What one timed window yields, and the median over several.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What the servers of a system spent between two moments.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) cpu: Duration,
    /// Fsyncs of all nodes together, where the system counts them.
    pub(crate) fsyncs: Option<f64>,
    /// Resident bytes of all nodes together, at the end.
    pub(crate) rss_bytes: u64,
}

/// One measured window.
pub(crate) struct Window {
    pub(crate) elapsed: Duration,
    /// Latencies in microseconds, one for each operation that succeeded.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) errors: u64,
    pub(crate) spent: Spent,
}

/// A window, or the median of several, as printed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Operations a second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// Server CPU seconds for a thousand operations, all nodes together.
    pub(crate) cpu_per_1000: f64,
    pub(crate) fsyncs_per_1000: Option<f64>,
    pub(crate) rss_mib: f64,
    /// Operations that were refused or failed.
    pub(crate) errors: f64,
}

impl Window {
    pub(crate) fn figures(&self) -> Figures {
        let operations = self.latencies.len().max(1) as f64;
        let thousands = operations / 1000.0;
        Figures {
            rate: self.latencies.len() as f64 / self.elapsed.as_secs_f64(),
            p50_ms: self.latencies.value_at_quantile(0.5) as f64 / 1000.0,
            p99_ms: self.latencies.value_at_quantile(0.99) as f64 / 1000.0,
            max_ms: self.latencies.max() as f64 / 1000.0,
            cpu_per_1000: self.spent.cpu.as_secs_f64() / thousands,
            fsyncs_per_1000: self.spent.fsyncs.map(|count| count / thousands),
            rss_mib: self.spent.rss_bytes as f64 / f64::from(1 << 20),
            errors: self.errors as f64,
        }
    }
}

/// The median of each figure by itself; errors are added up, for none may hide.
pub(crate) fn median_figures(rounds: &[Figures]) -> Figures {
    let of = |pick: fn(&Figures) -> f64| median(rounds.iter().map(pick));
    let counted = rounds.iter().any(|round| round.fsyncs_per_1000.is_some());
    Figures {
        rate: of(|round| round.rate),
        p50_ms: of(|round| round.p50_ms),
        p99_ms: of(|round| round.p99_ms),
        max_ms: of(|round| round.max_ms),
        cpu_per_1000: of(|round| round.cpu_per_1000),
        fsyncs_per_1000: counted
            .then(|| median(rounds.iter().filter_map(|round| round.fsyncs_per_1000))),
        rss_mib: of(|round| round.rss_mib),
        errors: rounds.iter().map(|round| round.errors).sum(),
    }
}

/// The middle value, or the mean of the two in the middle; not a number when there is none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (Some(upper), Some(lower)) if sorted.len().is_multiple_of(2) => {
            f64::midpoint(*upper, *lower)
        }
        (Some(upper), _) => *upper,
        (None, _) => f64::NAN,
    }
}

/// A histogram of microseconds up to two minutes, exact to three digits.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000, 3)?)
}

/// A latency as the histograms hold it.
pub(crate) fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1)
}
