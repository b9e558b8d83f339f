//! What the edge counts. The raft crate registers its own in the same registry.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Level = Gauge<u64, AtomicU64>;

/// What a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Operation {
    /// Publish a configuration.
    Publish,
    /// Get a configuration.
    Get,
    /// Remove a configuration.
    Remove,
    /// A long or short poll.
    Listen,
    /// Probes, metrics, cluster, unknown paths.
    Other,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Answer {
    Done,
    NotFound,
    Refused,
    Failed,
    Unavailable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    operation: Operation,
    answer: Answer,
}

/// How a poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum PollAnswer {
    /// On arrival, with changed keys.
    Instant,
    /// On arrival, without.
    NoHangup,
    /// By a change while it was held.
    InAdvance,
    /// At its time-out.
    Timeout,
    /// After the fixed interval.
    Fixed,
    /// By the end of the server.
    Closed,
    /// Not held: as many are held as may be.
    Refused,
    /// A short poll.
    Short,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabels {
    answer: PollAnswer,
}

/// The counters of one operation, looked up once.
#[derive(Debug)]
struct Answers {
    done: Counter,
    not_found: Counter,
    refused: Counter,
    failed: Counter,
    unavailable: Counter,
}

/// The server's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    publish_seconds: Histogram,
    publish: Answers,
    get: Answers,
    remove: Answers,
    listen: Answers,
    other: Answers,
    polls: Family<PollLabels, Counter>,
    in_advance: Counter,
    /// Connections that are open.
    pub(crate) connections: Level,
    /// Connections that were closed at once, for there were too many.
    pub(crate) connections_refused: Counter,
    /// Pushes to gRPC clients that were handed to their connections.
    pub(crate) pushes_sent: Counter,
    /// Those that were acknowledged.
    pub(crate) pushes_acknowledged: Counter,
    /// Those that were refused, or not acknowledged in time.
    pub(crate) pushes_lost: Counter,
    /// gRPC connections that were closed for their silence.
    pub(crate) connections_given_up: Counter,
    /// gRPC connections that were closed at once, for there were too many.
    pub(crate) grpc_refused: Counter,
    grpc_connections: Level,
    grpc_watches: Level,
    grpc_waiting: Level,
    /// Requests that ended in a panic, and their connections with them.
    pub(crate) panics: Counter,
    held_polls: Level,
    poll_keys: Level,
    body_bytes: Level,
}

impl Metrics {
    /// Registers everything under the prefix `quorate_`; `registry` has no prefix itself.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("quorate");
        let answers = Family::<AnswerLabels, Counter>::default();
        registry.register(
            "requests",
            "Requests answered, by what they asked and got",
            answers.clone(),
        );
        let of = |operation| {
            let counter = |answer| answers.get_or_create_owned(&AnswerLabels { operation, answer });
            Answers {
                done: counter(Answer::Done),
                not_found: counter(Answer::NotFound),
                refused: counter(Answer::Refused),
                failed: counter(Answer::Failed),
                unavailable: counter(Answer::Unavailable),
            }
        };
        let polls = Family::<PollLabels, Counter>::default();
        let metrics = Self {
            // 0.25 ms to 8 s.
            publish_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            publish: of(Operation::Publish),
            get: of(Operation::Get),
            remove: of(Operation::Remove),
            listen: of(Operation::Listen),
            other: of(Operation::Other),
            in_advance: polls.get_or_create_owned(&PollLabels { answer: PollAnswer::InAdvance }),
            polls,
            connections: Level::default(),
            connections_refused: Counter::default(),
            pushes_sent: Counter::default(),
            pushes_acknowledged: Counter::default(),
            pushes_lost: Counter::default(),
            connections_given_up: Counter::default(),
            grpc_refused: Counter::default(),
            grpc_connections: Level::default(),
            grpc_watches: Level::default(),
            grpc_waiting: Level::default(),
            panics: Counter::default(),
            held_polls: Level::default(),
            poll_keys: Level::default(),
            body_bytes: Level::default(),
        };
        metrics.register_rest(registry);
        metrics
    }

    fn register_rest(&self, registry: &mut Registry) {
        registry.register(
            "publish_seconds",
            "Time from a publish's last byte to its answer",
            self.publish_seconds.clone(),
        );
        registry.register("polls", "Polls answered, by how they ended", self.polls.clone());
        registry.register("held_polls", "Long polls held", self.held_polls.clone());
        registry.register(
            "watch_index_listeners",
            "Registrations in the watch index: keys that held polls name",
            self.poll_keys.clone(),
        );
        registry.register(
            "body_in_flight_bytes",
            "Bytes of request bodies in memory",
            self.body_bytes.clone(),
        );
        registry.register("http_connections", "HTTP connections open", self.connections.clone());
        registry.register(
            "http_connections_refused",
            "HTTP connections closed at once, for there were too many",
            self.connections_refused.clone(),
        );
        self.register_grpc(registry);
        registry.register("http_panics", "Requests that ended in a panic", self.panics.clone());
    }

    fn register_grpc(&self, registry: &mut Registry) {
        registry.register(
            "grpc_connections",
            "gRPC connections open",
            self.grpc_connections.clone(),
        );
        registry.register(
            "grpc_watches",
            "Keys that gRPC connections listen to",
            self.grpc_watches.clone(),
        );
        registry.register(
            "grpc_pushes_waiting",
            "Notices of changed keys that wait or are not acknowledged",
            self.grpc_waiting.clone(),
        );
        registry.register(
            "grpc_pushes_sent",
            "Pushes handed to gRPC connections",
            self.pushes_sent.clone(),
        );
        registry.register(
            "grpc_pushes_acknowledged",
            "Pushes that clients took",
            self.pushes_acknowledged.clone(),
        );
        registry.register(
            "grpc_pushes_lost",
            "Pushes that clients refused or did not acknowledge in time",
            self.pushes_lost.clone(),
        );
        registry.register(
            "grpc_connections_refused",
            "gRPC connections closed at once, for there were too many, in all or of one address",
            self.grpc_refused.clone(),
        );
        registry.register(
            "grpc_connections_given_up",
            "gRPC connections closed for their silence",
            self.connections_given_up.clone(),
        );
    }

    /// Sets what is counted now and then.
    pub(crate) fn sample_grpc(&self, connections: usize, watches: usize, waiting: usize) {
        let set = |level: &Level, value: usize| {
            level.set(u64::try_from(value).unwrap_or(u64::MAX));
        };
        set(&self.grpc_connections, connections);
        set(&self.grpc_watches, watches);
        set(&self.grpc_waiting, waiting);
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, operation: Operation, status: StatusCode) {
        let answers = match operation {
            Operation::Publish => &self.publish,
            Operation::Get => &self.get,
            Operation::Remove => &self.remove,
            Operation::Listen => &self.listen,
            Operation::Other => &self.other,
        };
        let counter = match status.as_u16() {
            0..400 => &answers.done,
            404 => &answers.not_found,
            503 => &answers.unavailable,
            400..500 => &answers.refused,
            _ => &answers.failed,
        };
        counter.inc();
    }

    /// Notes how long a publish took.
    pub(crate) fn published(&self, took: Duration) {
        self.publish_seconds.observe(took.as_secs_f64());
    }

    /// Counts the end of a poll.
    pub(crate) fn polled(&self, answer: PollAnswer) {
        if answer == PollAnswer::InAdvance {
            // The one that comes in thousands at a time: no look-up.
            self.in_advance.inc();
        } else {
            self.polls.get_or_create(&PollLabels { answer }).inc();
        }
    }

    /// Sets what is read when somebody asks.
    pub(crate) fn sample(&self, held_polls: usize, poll_keys: usize, body_bytes: usize) {
        let set = |level: &Level, value: usize| {
            level.set(u64::try_from(value).unwrap_or(u64::MAX));
        };
        set(&self.held_polls, held_polls);
        set(&self.poll_keys, poll_keys);
        set(&self.body_bytes, body_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_prefix_and_labels() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for status in [200, 204, 404, 400, 413, 500, 501, 503] {
            metrics.answered(Operation::Get, StatusCode::from_u16(status).unwrap());
        }
        metrics.polled(PollAnswer::InAdvance);
        metrics.published(Duration::from_millis(3));
        metrics.sample(7, 8, 9);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "quorate_requests_total{operation=\"Get\",answer=\"Done\"} 2",
            "quorate_requests_total{operation=\"Get\",answer=\"NotFound\"} 1",
            "quorate_requests_total{operation=\"Get\",answer=\"Refused\"} 2",
            "quorate_requests_total{operation=\"Get\",answer=\"Failed\"} 2",
            "quorate_requests_total{operation=\"Get\",answer=\"Unavailable\"} 1",
            "quorate_polls_total{answer=\"InAdvance\"} 1",
            "quorate_held_polls 7",
            "quorate_watch_index_listeners 8",
            "quorate_body_in_flight_bytes 9",
            "quorate_publish_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
