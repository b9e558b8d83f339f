//! Configurations: the stored datum, and what publishing and removing do to it.

use bytes::Bytes;
use prost::Message;
use triomphe::ThinArc;

use crate::command::{Describe, ExpectedMd5, Outcome, Presence, Publish, Reply, Writer};
use crate::content::{ContentType, Md5};
use crate::key::GroupKey;
use crate::record::{RecordError, exact, md5_from_wire, wire};
use crate::time::{LogTime, Revision};

/// One stored configuration. Immutable: a change replaces it. A clone refers to the same one.
///
/// One allocation: the fixed fields, then the content, then an encoded [`ConfigDetail`], which no
/// poll and no plain read needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigDatum(ThinArc<Fixed, u8>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fixed {
    content_bytes: u32,
    content_type: ContentType,
    md5: Md5,
    version: u64,
    create_revision: Revision,
    modify_revision: Revision,
    modified: LogTime,
}

/// The descriptive fields of a stored configuration, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigDetail {
    /// `appName`
    pub app: String,
    /// `config_tags`, a comma list.
    pub tags: String,
    /// `desc`
    pub description: String,
    /// `use`
    pub used_for: String,
    /// `effect`
    pub effect: String,
    /// `schema`
    pub schema: String,
    /// `encryptedDataKey`
    pub encrypted_data_key: String,
    /// The last writer.
    pub writer: Writer,
}

/// Content bytes that keep their datum alive: handed to a response without a copy.
struct SharedContent(ConfigDatum);

impl AsRef<[u8]> for SharedContent {
    fn as_ref(&self) -> &[u8] {
        self.0.parts().0
    }
}

impl ConfigDatum {
    fn new(fixed: Fixed, content: &[u8], detail: &wire::ConfigDetail) -> Self {
        let mut bytes = Vec::with_capacity(content.len() + detail.encoded_len());
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(&detail.encode_to_vec());
        Self(ThinArc::from_header_and_slice(fixed, &bytes))
    }

    fn fixed(&self) -> &Fixed {
        &self.0.header.header
    }

    /// The content, and the encoded detail.
    fn parts(&self) -> (&[u8], &[u8]) {
        self.0.slice.split_at_checked(self.content_bytes()).unwrap_or((&self.0.slice, &[]))
    }

    /// The content, shared with the store.
    #[must_use]
    pub fn content(&self) -> Bytes {
        Bytes::from_owner(SharedContent(self.clone()))
    }

    /// Length of the content in bytes.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.fixed().content_bytes as usize
    }

    /// Of the content.
    #[must_use]
    pub fn md5(&self) -> Md5 {
        self.fixed().md5
    }

    /// Declared type.
    #[must_use]
    pub fn content_type(&self) -> ContentType {
        self.fixed().content_type
    }

    /// From 1, +1 for each publish; the source article's datum `timestamp`.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.fixed().version
    }

    /// Revision that created it.
    #[must_use]
    pub fn create_revision(&self) -> Revision {
        self.fixed().create_revision
    }

    /// Revision that wrote it last.
    #[must_use]
    pub fn modify_revision(&self) -> Revision {
        self.fixed().modify_revision
    }

    /// The leader's time of the last write.
    #[must_use]
    pub fn modified(&self) -> LogTime {
        self.fixed().modified
    }

    /// The descriptive fields.
    #[must_use]
    pub fn detail(&self) -> ConfigDetail {
        // The bytes were encoded by `next`, or checked when the row was read.
        let wire::ConfigDetail {
            app,
            tags,
            description,
            r#use,
            effect,
            schema,
            encrypted_data_key,
            writer_user,
            writer_ip,
        } = wire::ConfigDetail::decode(self.parts().1).unwrap_or_default();
        ConfigDetail {
            app,
            tags,
            description,
            used_for: r#use,
            effect,
            schema,
            encrypted_data_key,
            writer: Writer { user: writer_user, ip: writer_ip },
        }
    }

    /// What a publish makes of the configuration that was there before it.
    fn next(
        before: Option<&Self>,
        publish: &Publish,
        revision: Revision,
        modified: LogTime,
    ) -> Self {
        let Describe { app, tags, description, used_for, effect, schema, encrypted_data_key } =
            &publish.describe;
        let kept = match before {
            Some(before) if app.is_none() || tags.is_none() => before.detail(),
            _ => ConfigDetail::default(),
        };
        let detail = wire::ConfigDetail {
            app: app.clone().unwrap_or(kept.app),
            tags: tags.clone().unwrap_or(kept.tags),
            description: description.clone(),
            r#use: used_for.clone(),
            effect: effect.clone(),
            schema: schema.clone(),
            encrypted_data_key: encrypted_data_key.clone(),
            writer_user: publish.writer.user.clone(),
            writer_ip: publish.writer.ip.clone(),
        };
        let fixed = Fixed {
            content_bytes: content_bytes(&publish.content),
            content_type: publish.content_type,
            md5: publish.md5,
            version: before.map_or(1, |before| before.version() + 1),
            create_revision: before.map_or(revision, Self::create_revision),
            modify_revision: revision,
            modified,
        };
        Self::new(fixed, &publish.content, &detail)
    }

    /// The value of the row that keeps it.
    pub(crate) fn to_wire(&self) -> wire::ConfigDatum {
        let (content, detail) = self.parts();
        let Fixed {
            content_bytes: _,
            content_type,
            md5,
            version,
            create_revision,
            modify_revision,
            modified,
        } = self.fixed();
        wire::ConfigDatum {
            content: Bytes::copy_from_slice(content),
            md5: Bytes::copy_from_slice(&md5.0),
            content_type: u32::from(content_type.code()),
            version: *version,
            create_revision: create_revision.0,
            modify_revision: modify_revision.0,
            modified_ms: modified.0,
            detail: wire::ConfigDetail::decode(detail).ok(),
        }
    }

    pub(crate) fn from_wire(datum: wire::ConfigDatum) -> Result<Self, RecordError> {
        let detail = datum.detail.ok_or(RecordError::Field("detail"))?;
        let fixed = Fixed {
            content_bytes: content_bytes(&datum.content),
            content_type: ContentType::from_code(datum.content_type),
            md5: md5_from_wire(&datum.md5)?,
            version: datum.version,
            create_revision: Revision(datum.create_revision),
            modify_revision: Revision(datum.modify_revision),
            modified: LogTime(datum.modified_ms),
        };
        Ok(Self::new(fixed, &datum.content, &detail))
    }

    /// Its share of the state hash: everything but the content's bytes, which md5 stands for.
    pub(crate) fn digest(&self, key: &GroupKey) -> u128 {
        let (_, detail) = self.parts();
        let fixed = self.fixed();
        let mut text = Vec::with_capacity(key.as_str().len() + detail.len() + 64);
        text.extend_from_slice(key.as_str().as_bytes());
        text.push(0);
        text.extend_from_slice(&fixed.md5.0);
        text.push(fixed.content_type.code());
        for number in
            [fixed.version, fixed.create_revision.0, fixed.modify_revision.0, fixed.modified.0]
        {
            text.extend_from_slice(&number.to_be_bytes());
        }
        text.extend_from_slice(detail);
        u128::from_be_bytes(Md5::of(&text).0)
    }
}

/// Records bound a content far below 4 GiB.
fn content_bytes(content: &[u8]) -> u32 {
    u32::try_from(content.len()).unwrap_or(u32::MAX)
}

/// Why what is there may not be changed, if it may not.
pub(crate) fn refusal(
    before: Option<&ConfigDatum>,
    expected: Option<ExpectedMd5>,
    presence: Presence,
) -> Option<Outcome> {
    match (before, expected, presence) {
        (Some(_), _, Presence::New) => Some(Outcome::Exists),
        (None, _, Presence::Old) => Some(Outcome::Absent),
        (Some(before), Some(expected), _) if expected != ExpectedMd5::Digest(before.md5()) => {
            Some(Outcome::CasMismatch)
        }
        _ => None,
    }
}

/// Publishes onto what is there: the new datum, or `None` when compare-and-set refuses.
pub(crate) fn publish(
    before: Option<&ConfigDatum>,
    publish: &Publish,
    revision: Revision,
    time: LogTime,
) -> (Option<ConfigDatum>, Reply) {
    if let Some(outcome) = refusal(before, publish.expected, publish.presence) {
        let version = before.map_or(0, ConfigDatum::version);
        return (None, Reply { revision, version, outcome });
    }
    let datum = ConfigDatum::next(before, publish, revision, time);
    let reply = Reply { revision, version: datum.version(), outcome: Outcome::Done };
    (Some(datum), reply)
}

/// The row that keeps a configuration, on disk and in snapshots.
pub(crate) fn row(key: &GroupKey, datum: &ConfigDatum) -> Bytes {
    exact(&wire::Row {
        row: Some(wire::row::Row::Config(wire::ConfigRow {
            key: key.as_str().to_owned(),
            datum: Some(datum.to_wire()),
        })),
    })
}

/// Reads the configuration of a row.
pub(crate) fn from_row(row: wire::ConfigRow) -> Result<(GroupKey, ConfigDatum), RecordError> {
    let key = GroupKey::from_record(&row.key)?;
    let datum = ConfigDatum::from_wire(row.datum.ok_or(RecordError::Field("datum"))?)?;
    Ok((key, datum))
}
