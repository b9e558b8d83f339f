//! Gray releases: what some clients get instead of the formal content (config.md §5.1).
//!
//! A release has a name, a rule that says for whom it is, and a priority. The one that matches with
//! the highest priority is what a client sees; of equal ones the first by name.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::{ExpectedMd5, Outcome, PublishGray, Reply, Writer};
use crate::content::Md5;
use crate::key::GroupKey;
use crate::record::{RecordError, exact, md5_from_wire, wire};
use crate::time::{LogTime, Revision};

/// Most releases of one configuration (`nacos.config.gray.version.max.count`).
pub const MAX_RELEASES: usize = 10;
/// Name of the release for a list of addresses.
pub const BETA: &str = "beta";
const TAG_PREFIX: &str = "tag_";

/// What is known of a client when a release is chosen for it: its address as the edge saw it, and
/// the tag it carries. Kept with a held poll: one allocation, tag after a zero byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Box<str>);

impl Labels {
    /// Labels of an address (config.md §0.3) and the tag of `Vipserver-Tag`, blank for none.
    #[must_use]
    pub fn new(ip: &str, tag: &str) -> Self {
        let (ip, tag) = (ip.trim_end_matches('\0'), tag.trim());
        Self(if tag.is_empty() { Box::from(ip) } else { format!("{ip}\0{tag}").into_boxed_str() })
    }

    /// The address.
    #[must_use]
    pub fn ip(&self) -> &str {
        self.0.split('\0').next().unwrap_or_default()
    }

    /// The tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.0.split_once('\0').map(|(_, tag)| tag)
    }
}

/// For whom a release is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Clients at these addresses: a list with commas, which is not trimmed.
    Beta(Box<str>),
    /// Clients with this tag.
    Tag(Box<str>),
}

impl Rule {
    /// The name of the release that has this rule.
    #[must_use]
    pub fn release_name(&self) -> String {
        match self {
            Self::Beta(_) => BETA.to_owned(),
            Self::Tag(tag) => format!("{TAG_PREFIX}{tag}"),
        }
    }

    /// The kind as rules are written: `beta` or `tag`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Beta(_) => "beta",
            Self::Tag(_) => "tag",
        }
    }

    /// The addresses or the tag.
    #[must_use]
    pub fn expression(&self) -> &str {
        match self {
            Self::Beta(expression) | Self::Tag(expression) => expression,
        }
    }

    /// The priority that releases of this kind have.
    #[must_use]
    pub const fn priority(&self) -> i32 {
        match self {
            Self::Beta(_) => i32::MAX,
            Self::Tag(_) => i32::MAX - 1,
        }
    }

    /// Whether a client is inside.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::Beta(ips) => ips.split(',').any(|ip| ip == labels.ip()),
            Self::Tag(tag) => labels.tag() == Some(tag),
        }
    }
}

/// One gray release. Immutable: a change replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gray {
    /// `beta` or `tag_…`: unique within its configuration.
    pub name: Box<str>,
    /// For whom.
    pub rule: Rule,
    /// Higher ones are looked at first.
    pub priority: i32,
    /// What they get.
    pub content: Bytes,
    /// Of the content.
    pub md5: Md5,
    /// From 1, +1 for each publish of this release.
    pub version: u64,
    /// Revision that created it.
    pub create_revision: Revision,
    /// Revision that wrote it last.
    pub modify_revision: Revision,
    /// The leader's time of the last write.
    pub modified: LogTime,
    /// `appName`
    pub app: Box<str>,
    /// `encryptedDataKey`
    pub encrypted_data_key: Box<str>,
    /// The last writer.
    pub writer: Writer,
}

impl Gray {
    /// What a publish makes of the release that was there before it.
    fn next(
        before: Option<&Self>,
        publish: &PublishGray,
        revision: Revision,
        time: LogTime,
    ) -> Self {
        let kept = || before.map_or_else(Box::default, |before| before.app.clone());
        Self {
            name: publish.rule.release_name().into_boxed_str(),
            priority: publish.rule.priority(),
            rule: publish.rule.clone(),
            content: publish.content.clone(),
            md5: publish.md5,
            version: before.map_or(1, |before| before.version + 1),
            create_revision: before.map_or(revision, |before| before.create_revision),
            modify_revision: revision,
            modified: time,
            app: publish.app.as_ref().map_or_else(kept, |app| app.as_str().into()),
            encrypted_data_key: publish.encrypted_data_key.as_str().into(),
            writer: publish.writer.clone(),
        }
    }

    pub(crate) fn to_wire(&self) -> wire::GrayDatum {
        wire::GrayDatum {
            name: self.name.to_string(),
            rule_kind: match self.rule {
                Rule::Beta(_) => 0,
                Rule::Tag(_) => 1,
            },
            expression: self.rule.expression().to_owned(),
            priority: self.priority,
            content: self.content.clone(),
            md5: Bytes::copy_from_slice(&self.md5.0),
            version: self.version,
            create_revision: self.create_revision.0,
            modify_revision: self.modify_revision.0,
            modified_ms: self.modified.0,
            app: self.app.to_string(),
            encrypted_data_key: self.encrypted_data_key.to_string(),
            writer_user: self.writer.user.clone(),
            writer_ip: self.writer.ip.clone(),
        }
    }

    pub(crate) fn from_wire(gray: wire::GrayDatum) -> Result<Self, RecordError> {
        let expression = gray.expression.into_boxed_str();
        Ok(Self {
            name: gray.name.into_boxed_str(),
            rule: rule_from_wire(gray.rule_kind, expression)?,
            priority: gray.priority,
            // A slice would keep the whole row, or the file's block.
            content: Bytes::copy_from_slice(&gray.content),
            md5: md5_from_wire(&gray.md5)?,
            version: gray.version,
            create_revision: Revision(gray.create_revision),
            modify_revision: Revision(gray.modify_revision),
            modified: LogTime(gray.modified_ms),
            app: gray.app.into_boxed_str(),
            encrypted_data_key: gray.encrypted_data_key.into_boxed_str(),
            writer: Writer { user: gray.writer_user, ip: gray.writer_ip },
        })
    }

    /// Its share of the state hash: everything but the content's bytes, which md5 stands for.
    pub(crate) fn digest(&self, key: &GroupKey) -> u128 {
        let mut bare = self.to_wire();
        bare.content = Bytes::new();
        let row = gray_row(key, bare);
        u128::from_be_bytes(Md5::of(&row).0)
    }
}

/// Reads the kind of a rule.
pub(crate) fn rule_from_wire(kind: u32, expression: Box<str>) -> Result<Rule, RecordError> {
    match kind {
        0 => Ok(Rule::Beta(expression)),
        1 => Ok(Rule::Tag(expression)),
        _ => Err(RecordError::Field("rule_kind")),
    }
}

/// The releases of one configuration, the first that matches counts. Never empty. A clone refers to
/// the same ones.
#[derive(Debug, Clone)]
pub struct Releases(Arc<[Arc<Gray>]>);

impl PartialEq for Releases {
    /// By what they are, for which the revisions that wrote them stand.
    fn eq(&self, other: &Self) -> bool {
        let marks = |releases: &Self| -> Vec<_> {
            releases.0.iter().map(|gray| (gray.modify_revision, gray.md5)).collect()
        };
        Arc::ptr_eq(&self.0, &other.0) || marks(self) == marks(other)
    }
}

impl Eq for Releases {}

impl Releases {
    /// Releases in any order; `None` when there are none.
    pub(crate) fn of(mut releases: Vec<Arc<Gray>>) -> Option<Self> {
        releases.sort_by(|one, other| {
            other.priority.cmp(&one.priority).then_with(|| one.name.cmp(&other.name))
        });
        (!releases.is_empty()).then(|| Self(releases.into()))
    }

    /// All of them, the one that is looked at first in front.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Gray>> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Gray>> {
        self.0.iter().find(|gray| *gray.name == *name)
    }

    /// The one that a client sees.
    #[must_use]
    pub fn matching(&self, labels: &Labels) -> Option<&Arc<Gray>> {
        self.0.iter().find(|gray| gray.rule.matches(labels))
    }

    /// The others, with one more.
    pub(crate) fn with(before: Option<&Self>, gray: &Arc<Gray>) -> Option<Self> {
        let mut all = Self::without(before, &gray.name);
        all.push(Arc::clone(gray));
        Self::of(all)
    }

    /// All but the one of this name.
    pub(crate) fn without(before: Option<&Self>, name: &str) -> Vec<Arc<Gray>> {
        let kept = before.into_iter().flat_map(Self::iter).filter(|held| *held.name != *name);
        kept.cloned().collect()
    }
}

/// What a key has for everybody: the formal md5, and the releases that some see instead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Of the formal content.
    pub formal: Option<Md5>,
    /// Releases, if there are any.
    pub releases: Option<Releases>,
}

impl Standing {
    /// A key with these contents for everybody.
    #[must_use]
    pub const fn formal(md5: Option<Md5>) -> Self {
        Self { formal: md5, releases: None }
    }

    /// What one client sees.
    #[must_use]
    pub fn md5_for(&self, labels: &Labels) -> Option<Md5> {
        let gray = self.releases.as_ref().and_then(|releases| releases.matching(labels));
        gray.map_or(self.formal, |gray| Some(gray.md5))
    }
}

/// Publishes onto what is there: the new release, or `None` when it is refused.
pub(crate) fn publish(
    before: Option<&Releases>,
    publish: &PublishGray,
    revision: Revision,
    time: LogTime,
) -> (Option<Arc<Gray>>, Reply) {
    let held = before.and_then(|releases| releases.named(&publish.rule.release_name()));
    let refused = |outcome| {
        let version = held.map_or(0, |held| held.version);
        (None, Reply { revision, version, outcome })
    };
    if held.is_none() && before.is_some_and(|releases| releases.count() >= MAX_RELEASES) {
        return refused(Outcome::TooManyReleases);
    }
    if let (Some(held), Some(expected)) = (held, publish.expected)
        && expected != ExpectedMd5::Digest(held.md5)
    {
        return refused(Outcome::CasMismatch);
    }
    let gray = Gray::next(held.map(AsRef::as_ref), publish, revision, time);
    let reply = Reply { revision, version: gray.version, outcome: Outcome::Done };
    (Some(Arc::new(gray)), reply)
}

fn gray_row(key: &GroupKey, gray: wire::GrayDatum) -> Bytes {
    exact(&wire::Row {
        row: Some(wire::row::Row::Gray(wire::GrayRow {
            key: key.as_str().to_owned(),
            gray: Some(gray),
        })),
    })
}

/// The row that keeps a release.
pub(crate) fn row(key: &GroupKey, gray: &Gray) -> Bytes {
    gray_row(key, gray.to_wire())
}

/// Reads the release of a row.
pub(crate) fn from_row(row: wire::GrayRow) -> Result<(GroupKey, Gray), RecordError> {
    let key = GroupKey::from_record(&row.key)?;
    Ok((key, Gray::from_wire(row.gray.ok_or(RecordError::Field("gray"))?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(rule: Rule, content: &'static str) -> Arc<Gray> {
        let publish = PublishGray {
            key: GroupKey::from_record("n\u{2}g\u{2}d").unwrap(),
            rule,
            content: Bytes::from_static(content.as_bytes()),
            md5: Md5::of(content.as_bytes()),
            app: None,
            encrypted_data_key: String::new(),
            writer: Writer::default(),
            expected: None,
        };
        Arc::new(Gray::next(None, &publish, Revision(1), LogTime(1)))
    }

    #[test]
    fn the_highest_priority_that_matches_counts() {
        let releases = Releases::of(vec![
            gray(Rule::Tag("v1".into()), "one"),
            gray(Rule::Tag("a".into()), "other"),
            gray(Rule::Beta("10.0.0.1, 10.0.0.2,10.0.0.3".into()), "beta"),
        ])
        .unwrap();
        for (ip, tag, want) in [
            ("10.0.0.1", "", Some("beta")),
            ("10.0.0.1", "v1", Some("beta")),
            ("10.0.0.2", "", None),
            ("10.0.0.2", " v1 ", Some("tag_v1")),
            ("10.0.0.9", "a", Some("tag_a")),
            ("10.0.0.9", "b", None),
            ("", "", None),
        ] {
            let found = releases.matching(&Labels::new(ip, tag)).map(|gray| gray.name.to_string());
            assert_eq!(found.as_deref(), want, "{ip} {tag}");
        }
        let standing = Standing { formal: None, releases: Some(releases) };
        assert_eq!(standing.md5_for(&Labels::new("10.0.0.3", "")), Some(Md5::of(b"beta")));
        assert_eq!(standing.md5_for(&Labels::new("10.0.0.4", "")), None);
    }

    #[test]
    fn a_row_is_read_back() {
        let key = GroupKey::from_record("n\u{2}g\u{2}d").unwrap();
        for rule in [Rule::Beta("1,2".into()), Rule::Tag("t".into())] {
            let gray = gray(rule, "c");
            let wire::Row { row: Some(wire::row::Row::Gray(found)) } =
                prost::Message::decode(row(&key, &gray)).unwrap()
            else {
                panic!("a gray row")
            };
            assert_eq!(from_row(found).unwrap(), (key.clone(), (*gray).clone()));
        }
    }

    #[test]
    fn labels_are_told_apart() {
        let labels = Labels::new("1.2.3.4", "v");
        assert_eq!((labels.ip(), labels.tag()), ("1.2.3.4", Some("v")));
        assert_eq!((Labels::new("x", " ").ip(), Labels::new("x", " ").tag()), ("x", None));
    }
}
