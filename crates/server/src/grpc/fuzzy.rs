//! Watching patterns of keys (config.md §4.7). A written key costs a look at the patterns that are
//! watched at this node, of which there are few; what each watcher is still to be told is kept with
//! its connection ([`Matching`](super::outbox::matching::Matching)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_core::key::{GroupKey, NamespaceId};
use quorate_core::store::State;
use quorate_core::watch::{Fed, KeyFeed};

use super::Server;
use super::connection::Connection;
use super::fields::{Fields, Unreadable};
use super::outbox::matching::MATCHES;
use super::unary::Answered;
use super::wire::{Object, Refusal};

/// Patterns of one node (`nacos.config.fuzzy.watch.max.pattern.count`).
const PATTERNS: usize = 20;
/// Longest pattern, in bytes: two names and a namespace.
const PATTERN_BYTES: usize = 1024;
/// Most keys that a client says it knows.
const MAX_KNOWN: usize = 10_000;

/// How one part of a key is matched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    All,
    Exact(Box<str>),
    Starts(Box<str>),
    Ends(Box<str>),
    Contains(Box<str>),
    /// A star where none is understood.
    Never,
}

impl Part {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::All;
        }
        let (open, rest) = match text.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (inner, close) = match rest.strip_suffix('*') {
            Some(inner) => (inner, true),
            None => (rest, false),
        };
        if inner.contains('*') || (inner.is_empty() && (open || close)) {
            return Self::Never;
        }
        match (open, close) {
            (false, false) => Self::Exact(inner.into()),
            (false, true) => Self::Starts(inner.into()),
            (true, false) => Self::Ends(inner.into()),
            (true, true) => Self::Contains(inner.into()),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exact(part) => text == &**part,
            Self::Starts(part) => text.starts_with(&**part),
            Self::Ends(part) => text.ends_with(&**part),
            Self::Contains(part) => text.contains(&**part),
            Self::Never => false,
        }
    }
}

/// `namespace>>group>>dataId`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    namespace: NamespaceId,
    group: Part,
    data_id: Part,
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(">>");
        let (namespace, group, data_id) = (parts.next()?.trim(), parts.next()?, parts.next()?);
        if parts.next().is_some() || text.len() > PATTERN_BYTES {
            return None;
        }
        let namespace = NamespaceId::parse_or_public(namespace).ok()?;
        Some(Self { namespace, group: Part::parse(group), data_id: Part::parse(data_id) })
    }

    fn matches(&self, key: &GroupKey) -> bool {
        key.namespace() == self.namespace.as_str()
            && self.group.matches(key.group())
            && self.data_id.matches(key.data_id())
    }

    /// The keys of a state, up to the bound.
    fn all(&self, state: &State) -> BTreeSet<GroupKey> {
        let keys = state.configs_in(&self.namespace).map(|(key, _)| key);
        keys.filter(|key| self.matches(key)).take(MATCHES).cloned().collect()
    }
}

#[derive(Debug)]
struct Watched {
    pattern: Pattern,
    /// By the ids of their connections.
    watchers: BTreeMap<String, Arc<Connection>>,
}

/// The patterns that connections of this node watch, as they wrote them.
#[derive(Debug, Default)]
pub(super) struct Patterns(Mutex<BTreeMap<Arc<str>, Watched>>);

impl Patterns {
    /// Registers a watcher; false when there are too many patterns.
    fn enter(
        &self,
        text: &Arc<str>,
        pattern: &Pattern,
        connection: &Arc<Connection>,
        feed: &KeyFeed,
    ) -> bool {
        let mut patterns = self.0.lock();
        if !patterns.contains_key(text) && patterns.len() >= PATTERNS {
            return false;
        }
        feed.switch_on();
        let watched = patterns
            .entry(Arc::clone(text))
            .or_insert_with(|| Watched { pattern: pattern.clone(), watchers: BTreeMap::new() });
        watched.watchers.insert(connection.id.clone(), Arc::clone(connection));
        true
    }

    /// Takes a watcher out, of one pattern or of all.
    pub(super) fn leave(&self, connection: &Connection, only: Option<&str>, feed: &KeyFeed) {
        let mut patterns = self.0.lock();
        patterns.retain(|text, watched| {
            if only.is_none_or(|only| only == &**text) {
                watched.watchers.remove(&connection.id);
            }
            !watched.watchers.is_empty()
        });
        if patterns.is_empty() {
            feed.switch_off();
        }
    }

    /// Tells watchers what was written. The patterns that are to be compared anew come back.
    fn written(&self, fed: &Fed) -> Vec<(Arc<str>, Pattern)> {
        let mut anew = Vec::new();
        for (text, watched) in &*self.0.lock() {
            let Fed::Keys(keys) = fed else {
                anew.push((Arc::clone(text), watched.pattern.clone()));
                continue;
            };
            let mut is_too_much = false;
            for key in keys.iter().filter(|key| watched.pattern.matches(key)) {
                for watcher in watched.watchers.values() {
                    let mut outbox = watcher.outbox.lock();
                    is_too_much |= !outbox.matched(text, |matching| matching.written(key));
                }
            }
            if is_too_much {
                anew.push((Arc::clone(text), watched.pattern.clone()));
            }
        }
        anew
    }

    /// Tells watchers of a pattern what matches it now.
    fn compare(&self, text: &str, matches: &BTreeSet<GroupKey>) {
        let watchers: Vec<_> = match self.0.lock().get(text) {
            Some(watched) => watched.watchers.values().cloned().collect(),
            None => return,
        };
        for watcher in watchers {
            watcher.outbox.lock().matched(text, |matching| {
                matching.written_any(matches);
                true
            });
        }
    }
}

/// Hands on what is written, for as long as the server runs.
pub(super) async fn feed(server: Server) {
    let node = server.app.node.clone();
    loop {
        let fed = node.announce_queue().feed().next().await;
        for (text, pattern) in server.patterns.written(&fed) {
            // What is written meanwhile is fed after this.
            let state = node.store().freeze();
            let matches = tokio::task::spawn_blocking(move || pattern.all(&state)).await;
            if let Ok(matches) = matches {
                server.patterns.compare(&text, &matches);
            }
        }
    }
}

/// `ConfigFuzzyWatchRequest`
pub(super) async fn watch(
    server: &Server,
    connection: &Arc<Connection>,
    mut fields: Fields,
) -> Result<Answered, Unreadable> {
    let text: Arc<str> = fields.text("groupKeyPattern")?.unwrap_or_default().into();
    let kind = fields.text("watchType")?.unwrap_or_default();
    let is_first = fields.flag("initializing", false)?;
    let known = fields.take_texts("receivedGroupKeys")?;
    let outcome = match (Pattern::parse(&text), kind.as_str()) {
        (None, _) => Err(Refusal::new(400, format!("invalid groupKeyPattern : {text}"))),
        _ if known.len() > MAX_KNOWN => Err(Refusal::new(400, "too many receivedGroupKeys")),
        (Some(pattern), "WATCH") => {
            let known = known.iter().filter_map(|key| key.parse().ok()).collect();
            begin(server, connection, text, pattern, (known, is_first)).await
        }
        (Some(_), "CANCEL_WATCH") => {
            let feed = server.app.node.announce_queue().feed();
            server.patterns.leave(connection, Some(&text), feed);
            drop(connection.outbox.lock().unwatch(&text));
            Ok(())
        }
        (Some(_), other) => Err(Refusal::new(400, format!("invalid watchType : {other}"))),
    };
    let more = Object::response(&outcome);
    Ok(Answered { outcome, more })
}

async fn begin(
    server: &Server,
    connection: &Arc<Connection>,
    text: Arc<str>,
    pattern: Pattern,
    (known, is_first): (BTreeSet<GroupKey>, bool),
) -> Result<(), Refusal> {
    let node = server.app.node.clone();
    let feed = node.announce_queue().feed();
    // First for itself, then among the watchers, then compared: what is written from here on is
    // noted, and what was before is seen.
    connection.outbox.lock().watch(&text, known, is_first);
    if !server.patterns.enter(&text, &pattern, connection, feed) {
        drop(connection.outbox.lock().unwatch(&text));
        return Err(Refusal::new(50310, "fuzzy watch pattern over limit"));
    }
    if connection.closing.is_cancelled() {
        // It may have been taken out before it was put in.
        server.patterns.leave(connection, None, feed);
    }
    // All keys of a namespace are looked at: not on a thread that serves others.
    let state = node.store().freeze();
    let compared = tokio::task::spawn_blocking(move || pattern.all(&state)).await;
    let matches = compared.map_err(|_| Refusal::new(500, "the keys could not be compared"))?;
    connection.outbox.lock().matched(&text, |matching| {
        matching.compare(&matches);
        true
    });
    if matches.len() < MATCHES {
        Ok(())
    } else {
        Err(Refusal::new(50311, "fuzzy watch pattern matched count over limit"))
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::key::{DataId, Group};

    use super::*;

    fn key(namespace: &str, group: &str, data_id: &str) -> GroupKey {
        GroupKey::new(
            &NamespaceId::parse(namespace).unwrap(),
            &Group::parse(group).unwrap(),
            &DataId::parse(data_id).unwrap(),
        )
    }

    #[test]
    fn patterns_match_as_in_the_reference() {
        for (pattern, group, data_id, want) in [
            ("public>>G>>d", "G", "d", true),
            (">>G>>d", "G", "d", true),
            ("other>>G>>d", "G", "d", false),
            ("public>>*>>d", "X", "d", true),
            ("public>>G>>d*", "G", "d1", true),
            ("public>>G>>d*", "G", "1d", false),
            ("public>>G>>*d", "G", "1d", true),
            ("public>>G>>*d*", "G", "1d1", true),
            ("public>>G>>d*d", "G", "d1d", false),
            ("public>>G>>**", "G", "d", false),
            ("public>>G>>**d", "G", "d", false),
            ("public>>G>>", "G", "d", false),
        ] {
            let read = Pattern::parse(pattern).unwrap();
            assert_eq!(read.matches(&key("public", group, data_id)), want, "{pattern}");
        }
        for wrong in ["", "public", "public>>G", "public>>G>>d>>e", "a b>>G>>d"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong}");
        }
    }
}
