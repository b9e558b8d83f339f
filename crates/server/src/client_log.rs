//! The client log and the persistence trace: two tracing targets whose messages are the lines of
//! the source article's servers, fields separated by `|`.
//!
//! The forms are those up to release 2.4 (config.md §3.7, core.md §12), for they are the ones
//! that the article and its readers' tools know. A subscriber puts the time in front. Nothing is
//! formatted unless the target is enabled.

use std::fmt::Display;
use std::time::Duration;

use quorate_core::content::Md5;
use quorate_core::key::GroupKey;
use tracing::{Level, enabled, info};

/// Target of the client log (`config-client-request.log`). A constant is no literal, so the
/// macros below repeat it.
pub(crate) const CLIENT: &str = "config-client-request";
/// Target of the persistence trace (`config-trace.log`).
pub(crate) const TRACE: &str = "config-trace";

/// Whether anybody reads the client log.
pub(crate) fn is_on() -> bool {
    enabled!(target: CLIENT, Level::INFO)
}

/// Whether anybody reads the persistence trace.
pub(crate) fn is_tracing() -> bool {
    enabled!(target: TRACE, Level::INFO)
}

/// What all lines of one poll share.
#[derive(Debug)]
pub(crate) struct PollLine {
    /// Client address.
    pub(crate) ip: Box<str>,
    /// Number of distinct keys.
    pub(crate) keys: u32,
    /// Length of the decoded list, in UTF-16 units.
    pub(crate) length: u32,
}

impl PollLine {
    fn write(&self, took: Duration, verb: &str, rest: &dyn Display) {
        let Self { ip, keys, length } = self;
        info!(target: CLIENT, "{}|{verb}|{ip}|polling|{keys}|{length}{rest}", took.as_millis());
    }

    /// Answered on arrival with this many changed keys.
    pub(crate) fn instant(&self, took: Duration, changed: usize) {
        self.write(took, "instant", &format_args!("|{changed}"));
    }

    /// Answered on arrival because the client asked not to be held.
    pub(crate) fn no_hang_up(&self, took: Duration) {
        self.write(took, "nohangup", &"|0");
    }

    /// Held to the end.
    pub(crate) fn timeout(&self, took: Duration) {
        self.write(took, "timeout", &"");
    }

    /// Held for the fixed interval.
    pub(crate) fn fixed(&self, took: Duration) {
        self.write(took, "fix", &"");
    }

    /// Answered by a change that was queued `since` ago. The namespace is named when the client
    /// named it.
    pub(crate) fn in_advance(&self, since: Duration, key: &GroupKey, is_named: bool) {
        let (data_id, group) = (key.data_id(), key.group());
        if is_named {
            self.write(since, "in-advance", &format_args!("|{key}"));
        } else {
            self.write(since, "in-advance", &format_args!("|{data_id}+{group}"));
        }
    }
}

/// A request about one configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLine<'a> {
    /// How long it took.
    pub(crate) took: Duration,
    /// Client address.
    pub(crate) ip: &'a str,
    /// Which configuration.
    pub(crate) key: &'a GroupKey,
    /// The namespace as the client wrote it.
    pub(crate) tenant: &'a str,
    /// Header `Client-AppName` as it was sent.
    pub(crate) app: Option<&'a str>,
}

impl RequestLine<'_> {
    fn write(&self, returned: &str, verb: &str, md5: &dyn Display) {
        let Self { took, ip, key, tenant, app } = self;
        let (data_id, group) = (key.data_id(), key.group());
        let app = app.unwrap_or("null");
        info!(
            target: CLIENT,
            "{}|{returned}|{ip}|{verb}|{data_id}|{group}|{tenant}|{md5}|{app}",
            took.as_millis()
        );
    }

    /// A get; it returns nothing, which the source prints as `null`.
    pub(crate) fn get(&self, md5: Option<Md5>) {
        match md5 {
            Some(md5) => self.write("null", "get", &md5),
            None => self.write("null", "get", &""),
        }
    }

    /// A publish.
    pub(crate) fn publish(&self, returned: bool, md5: Md5) {
        self.write(if returned { "true" } else { "false" }, "publish", &md5);
    }

    /// A remove.
    pub(crate) fn remove(&self, returned: bool) {
        self.write(if returned { "true" } else { "false" }, "remove", &"null");
    }
}

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PersistLine<'a> {
    /// This node.
    pub(crate) self_ip: &'a str,
    /// Which configuration.
    pub(crate) key: &'a GroupKey,
    /// The namespace as the client wrote it.
    pub(crate) tenant: &'a str,
    /// Header `Client-AppName` as it was sent.
    pub(crate) app: Option<&'a str>,
    /// Wall clock, milliseconds.
    pub(crate) at_ms: u64,
}

impl PersistLine<'_> {
    fn write(&self, handled_by: &str, event: &str, md5: &dyn Display) {
        let Self { self_ip, key, tenant, app, at_ms } = self;
        let tenant = if tenant.trim().is_empty() { "null" } else { tenant };
        let (data_id, group) = (key.data_id(), key.group());
        let app = app.unwrap_or("null");
        info!(
            target: TRACE,
            "{self_ip}|{data_id}|{group}|{tenant}|{app}|{at_ms}|{handled_by}|persist|{event}|-1|{md5}"
        );
    }

    /// A content was published by this node.
    pub(crate) fn published(&self, md5: Md5) {
        self.write(self.self_ip, "pub", &md5);
    }

    /// A configuration was removed; the source names the client here.
    pub(crate) fn removed(&self, client_ip: &str) {
        self.write(client_ip, "remove", &"null");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use quorate_core::key::{DataId, Group, NamespaceId};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(write: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .with_level(false)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            assert!(is_on() && is_tracing());
            write();
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_those_of_the_source() {
        let key = GroupKey::new(
            &NamespaceId::public(),
            &Group::parse("G").unwrap(),
            &DataId::parse("d").unwrap(),
        );
        let poll = PollLine { ip: "10.0.0.1".into(), keys: 1, length: 55 };
        let ms = Duration::from_millis;
        let md5 = Md5::of(b"hello");
        let line =
            RequestLine { took: ms(2), ip: "10.0.0.1", key: &key, tenant: "", app: Some("shop") };
        let persist =
            PersistLine { self_ip: "10.9.9.9", key: &key, tenant: " ", app: None, at_ms: 7 };
        let lines = written(|| {
            poll.instant(ms(1), 2);
            poll.no_hang_up(ms(0));
            poll.timeout(ms(29_500));
            poll.fixed(ms(10_000));
            poll.in_advance(ms(3), &key, false);
            poll.in_advance(ms(3), &key, true);
            line.get(None);
            RequestLine { app: None, tenant: "dev", ..line }.get(Some(md5));
            line.publish(true, md5);
            line.remove(false);
            persist.published(md5);
            persist.removed("10.0.0.1");
        });
        assert_eq!(
            lines,
            [
                "config-client-request: 1|instant|10.0.0.1|polling|1|55|2",
                "config-client-request: 0|nohangup|10.0.0.1|polling|1|55|0",
                "config-client-request: 29500|timeout|10.0.0.1|polling|1|55",
                "config-client-request: 10000|fix|10.0.0.1|polling|1|55",
                "config-client-request: 3|in-advance|10.0.0.1|polling|1|55|d+G",
                "config-client-request: 3|in-advance|10.0.0.1|polling|1|55|d+G+public",
                "config-client-request: 2|null|10.0.0.1|get|d|G|||shop",
                "config-client-request: 2|null|10.0.0.1|get|d|G|dev|5d41402abc4b2a76b9719d911017c592|null",
                "config-client-request: 2|true|10.0.0.1|publish|d|G||5d41402abc4b2a76b9719d911017c592|shop",
                "config-client-request: 2|false|10.0.0.1|remove|d|G||null|shop",
                "config-trace: 10.9.9.9|d|G|null|null|7|10.9.9.9|persist|pub|-1|5d41402abc4b2a76b9719d911017c592",
                "config-trace: 10.9.9.9|d|G|null|null|7|10.0.0.1|persist|remove|-1|null",
            ]
        );
    }
}
