//! Switches that operators change while the node runs: lines of a configuration (config.md §3.4).
//!
//! Known difference: the reference takes the configuration of this data id in any group and
//! namespace, this node only the one of the public namespace and the default group.

use std::time::Duration;

use parking_lot::Mutex;
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId};
use quorate_core::store::Store;
use quorate_core::time::Revision;

const DATA_ID: &str = "com.alibaba.nacos.meta.switch";
const GROUP: &str = "DEFAULT_GROUP";

/// How long polls are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Values {
    /// `fixedDelayTime`: a poll is answered this much before the client's own time-out.
    pub(crate) lead: Duration,
    /// `MIN_LONG_POOLING_TIMEOUT`: the shortest hold.
    pub(crate) least_hold: Duration,
    /// `isFixedPolling` with `fixedPollingInertval` (the spelling is the reference's): when set,
    /// polls are compared once, after this long.
    pub(crate) fixed: Option<Duration>,
}

#[derive(Debug)]
struct Read {
    /// Of the configuration that was read; `None` when there was none.
    at: Option<Revision>,
    values: Values,
}

/// The switches as last read.
#[derive(Debug)]
pub(crate) struct Switches {
    key: GroupKey,
    defaults: Values,
    last: Mutex<Read>,
}

impl Switches {
    /// Without a configuration the hold is at least `least_hold`.
    pub(crate) fn new(least_hold: Duration) -> Self {
        let group = Group::parse(GROUP).expect("a constant that is a group");
        let data_id = DataId::parse(DATA_ID).expect("a constant that is a data id");
        let defaults = Values { lead: Duration::from_millis(500), least_hold, fixed: None };
        Self {
            key: GroupKey::new(&NamespaceId::public(), &group, &data_id),
            defaults,
            last: Mutex::new(Read { at: None, values: defaults }),
        }
    }

    /// The values of this moment: read again only when the configuration was written since.
    pub(crate) fn values(&self, store: &Store) -> Values {
        let datum = store.config(&self.key).0;
        let at = datum.as_ref().map(|datum| datum.modify_revision());
        let mut last = self.last.lock();
        if last.at != at {
            let content = datum.map(|datum| datum.content()).unwrap_or_default();
            let values = self.parse(&String::from_utf8_lossy(&content));
            *last = Read { at, values };
        }
        last.values
    }

    fn parse(&self, content: &str) -> Values {
        let setting = |name: &str| {
            content
                .lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(two_parts)
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
                .next_back()
        };
        let millis = |name: &str| setting(name)?.parse().ok().map(Duration::from_millis);
        let is_fixed =
            setting("isFixedPolling").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let interval = millis("fixedPollingInertval").unwrap_or(self.defaults.least_hold);
        Values {
            lead: millis("fixedDelayTime").unwrap_or(self.defaults.lead),
            least_hold: millis("MIN_LONG_POOLING_TIMEOUT").unwrap_or(self.defaults.least_hold),
            fixed: is_fixed.then(|| interval.max(self.defaults.least_hold)),
        }
    }
}

/// `key=value`; `None` for a line with less or more parts. Empty parts at the end do not count.
fn two_parts(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim_end_matches('=').split_once('=')?;
    (!value.contains('=')).then(|| (key.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_values() {
        let ms = Duration::from_millis;
        let switches = Switches::new(ms(10_000));
        let values = |lead, least_hold, fixed: Option<u64>| Values {
            lead: ms(lead),
            least_hold: ms(least_hold),
            fixed: fixed.map(ms),
        };
        for (content, want) in [
            ("", values(500, 10_000, None)),
            ("fixedDelayTime=300\r\n MIN_LONG_POOLING_TIMEOUT = 100 ", values(300, 100, None)),
            ("#fixedDelayTime=1\nfixedDelayTime=a\nfixedDelayTime=1=2", values(500, 10_000, None)),
            ("isFixedPolling=TRUE", values(500, 10_000, Some(10_000))),
            ("isFixedPolling=true\nfixedPollingInertval=15000", values(500, 10_000, Some(15_000))),
            ("isFixedPolling=true=\nfixedPollingInertval=9", values(500, 10_000, Some(10_000))),
            ("isFixedPolling=yes\nfixedDelayTime=1\nfixedDelayTime=2", values(2, 10_000, None)),
        ] {
            assert_eq!(switches.parse(content), want, "{content:?}");
        }
        assert_eq!(switches.values(&Store::default()), values(500, 10_000, None));
    }
}
