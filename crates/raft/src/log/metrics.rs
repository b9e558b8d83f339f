//! What the log measures.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Handles of the log's metrics; clones share them.
#[derive(Debug, Clone)]
pub struct LogMetrics {
    /// Seconds of each fsync.
    pub fsync_seconds: Histogram,
    /// Fsyncs.
    pub fsyncs: Counter,
    /// Bytes written, heads and control records included.
    pub appended_bytes: Counter,
    /// Operations taken from the queue at once.
    pub batch_operations: Histogram,
    /// Bytes written at once.
    pub batch_bytes: Histogram,
    /// Bytes of all segments, the prepared one included.
    pub disk_bytes: Gauge,
    /// Bytes waiting in the queue.
    pub queue_bytes: Gauge,
    /// Above 0 while space is missing.
    pub full: Gauge,
}

impl Default for LogMetrics {
    fn default() -> Self {
        Self {
            fsync_seconds: Histogram::new([
                50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2,
                0.5, 1.0, 2.0,
            ]),
            fsyncs: Counter::default(),
            appended_bytes: Counter::default(),
            batch_operations: Histogram::new([
                1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0,
            ]),
            batch_bytes: Histogram::new([256.0, 1024.0, 4096.0, 16384.0, 65536.0, 1048576.0]),
            disk_bytes: Gauge::default(),
            queue_bytes: Gauge::default(),
            full: Gauge::default(),
        }
    }
}

impl LogMetrics {
    /// Makes them known to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            fsync_seconds,
            fsyncs,
            appended_bytes,
            batch_operations,
            batch_bytes,
            disk_bytes,
            queue_bytes,
            full,
        } = self.clone();
        registry.register("quorate_log_fsync_seconds", "Seconds of each fsync", fsync_seconds);
        registry.register("quorate_log_fsyncs", "Fsyncs of the Raft log", fsyncs);
        registry.register(
            "quorate_log_appended_bytes",
            "Bytes written to the Raft log",
            appended_bytes,
        );
        registry.register(
            "quorate_log_batch_operations",
            "Operations written at once",
            batch_operations,
        );
        registry.register("quorate_log_batch_bytes", "Bytes written at once", batch_bytes);
        registry.register("quorate_log_disk_bytes", "Bytes of all log segments", disk_bytes);
        registry.register("quorate_log_queue_bytes", "Bytes waiting to be written", queue_bytes);
        registry.register("quorate_log_full", "Above 0 while the log has no space", full);
    }
}
