//! Finding configurations by what is known of them. Reads a frozen copy of the state: a search
//! holds nothing up, and the caller runs it off the request threads.

use quorate_core::content::Md5;
use quorate_core::key::{GroupKey, NamespaceId};
use quorate_core::kind::config::ConfigDatum;
use quorate_core::store::State;

use super::Page;

/// How one text is matched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Match {
    /// Anything.
    #[default]
    Any,
    /// This text.
    Exact(String),
    /// A pattern with `*` for any characters.
    Like(String),
}

impl Match {
    /// Blank matches anything.
    pub(crate) fn exact(text: &str) -> Self {
        if text.trim().is_empty() { Self::Any } else { Self::Exact(text.to_owned()) }
    }

    /// Blank matches anything; without a `*` the text itself.
    pub(crate) fn like(text: &str) -> Self {
        if text.trim().is_empty() { Self::Any } else { Self::Like(text.to_owned()) }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => wanted == text,
            Self::Like(pattern) => like(pattern, text),
        }
    }
}

/// Whether a pattern with `*` covers a text. Each piece is looked for once, left to right: linear
/// in both for patterns without overlaps, and never exponential.
fn like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
        match left.find(piece) {
            Some(at) => left = left.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.ends_with(last)
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// In one namespace, or in all.
    pub(crate) namespace: Option<NamespaceId>,
    pub(crate) data_id: Match,
    pub(crate) group: Match,
    pub(crate) app: Match,
    pub(crate) content: Match,
    /// One of these tags; none: any.
    pub(crate) tags: Vec<Match>,
    /// One of these types; none: any.
    pub(crate) types: Vec<String>,
}

impl Filter {
    fn covers(&self, key: &GroupKey, datum: &ConfigDatum) -> bool {
        let Self { namespace: _, data_id, group, app, content, tags, types } = self;
        if !data_id.matches(key.data_id()) || !group.matches(key.group()) {
            return false;
        }
        if !types.is_empty() && !types.iter().any(|kind| kind == datum.content_type().as_str()) {
            return false;
        }
        if *content != Match::Any && !content.matches(&String::from_utf8_lossy(&datum.content())) {
            return false;
        }
        if *app == Match::Any && tags.is_empty() {
            return true;
        }
        let detail = datum.detail();
        let has = |wanted: &Match| detail.tags.split(',').any(|tag| wanted.matches(tag));
        app.matches(&detail.app) && (tags.is_empty() || tags.iter().any(has))
    }
}

/// A configuration that was found.
pub(crate) type Found = (GroupKey, ConfigDatum);

/// What matches, by namespace, group and data id. Pages count from 1.
pub(crate) fn search(state: &State, filter: &Filter, number: usize, size: usize) -> Page<Found> {
    let mut page = Page { total: 0, number, size, items: Vec::new() };
    let first = number.saturating_sub(1).saturating_mul(size);
    let mut take = |(key, datum): (&GroupKey, &ConfigDatum)| {
        if filter.covers(key, datum) {
            if page.total >= first && page.items.len() < size {
                page.items.push((key.clone(), datum.clone()));
            }
            page.total += 1;
        }
    };
    match &filter.namespace {
        Some(namespace) => state.configs_in(namespace).for_each(&mut take),
        None => state.configs().for_each(&mut take),
    }
    page
}

/// A number that stands for a configuration where the reference has the number of a row: made of
/// its key, so that all nodes agree on it and it stays.
pub(crate) fn id_of(key: &GroupKey) -> u64 {
    let Md5(digest) = Md5::of(key.as_str().as_bytes());
    let first = digest.first_chunk().copied().unwrap_or_default();
    // Positive as a signed number, which is what clients read it as.
    u64::from_be_bytes(first) >> 1
}

/// The configurations with these numbers.
pub(crate) fn by_ids(state: &State, ids: &[u64]) -> Vec<Found> {
    let wanted = state.configs().filter(|(key, _)| ids.contains(&id_of(key)));
    wanted.map(|(key, datum)| (key.clone(), datum.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("*b*", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("*ab*bc*", "abbc", true),
            ("*ab*bc*", "abc", false),
            ("*", "", true),
            ("**", "x", true),
            ("%", "x", false),
            ("*测*", "a测b", true),
        ] {
            assert_eq!(Match::like(pattern).matches(text), want, "{pattern} {text}");
        }
        assert_eq!((Match::like(" "), Match::exact("")), (Match::Any, Match::Any));
    }
}
