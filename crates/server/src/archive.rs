//! Configurations as a ZIP archive: one entry `<group>/<dataId>` for each, and one that describes
//! them (config.md §2.1.10, §2.1.11). Two forms of the description are in use: `.meta.yml` of 1.x
//! with applications only, and `.metadata.yml`, which is YAML.

// Named by path, for the fuzz target that includes this file.
#[path = "archive/scalar.rs"]
mod scalar;
#[cfg(test)]
#[path = "archive/tests.rs"]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Write};

use bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

const OLD_METADATA: &str = ".meta.yml";
const METADATA: &str = ".metadata.yml";

/// Most entries of an archive that is read.
const MAX_ENTRIES: usize = 20_000;

/// Largest entry, in bytes once inflated: a content of 10 Mi UTF-16 units in UTF-8.
const MAX_ENTRY_BYTES: usize = 30 * 1024 * 1024;

/// How an archive describes its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `.meta.yml`: lines with the application, where there is one.
    Old,
    /// `.metadata.yml`, for each configuration.
    New {
        /// Whether tags are among it.
        with_tags: bool,
    },
}

/// A configuration in an archive. Nothing of one that was read is checked, but that its content is
/// UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Item {
    pub(crate) group: String,
    pub(crate) data_id: String,
    pub(crate) content: Bytes,
    /// Declared type, or that by the ending of the data id.
    pub(crate) kind: String,
    pub(crate) app: Option<String>,
    pub(crate) tags: Option<String>,
    pub(crate) description: String,
    pub(crate) encrypted_data_key: String,
}

/// What of an archive is no configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unrecognized {
    /// An entry that the metadata does not name.
    NotInMetadata(String),
    /// Named by the metadata, and not there.
    NotInFile(String),
    /// A name that is not `<group>/<dataId>`.
    Name(String),
}

/// An archive, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Archive {
    pub(crate) items: Vec<Item>,
    pub(crate) unrecognized: Vec<Unrecognized>,
}

/// Why an archive cannot be read or written.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    /// Neither form of description.
    #[error("the metadata is malformed: {0}")]
    Metadata(String),
    /// Not to be inflated.
    #[error("the archive cannot be read: {0}")]
    Unreadable(String),
    /// Over a limit of ours.
    #[error("the archive has {0}")]
    TooLarge(String),
    /// An archive has one entry of a name.
    #[error("two configurations are called {0}: choose one namespace")]
    Twice(String),
    /// Not to be made.
    #[error("the archive cannot be written: {0}")]
    Write(#[from] zip::result::ZipError),
}

/// Reads an archive. Bytes that are none are an archive without entries. `admit` is asked before
/// so many more bytes are taken into memory.
///
/// # Errors
/// [`ArchiveError`] says what is wrong; nothing of the archive is to be used then.
pub(crate) fn read(
    bytes: &[u8],
    admit: &mut dyn FnMut(usize) -> bool,
) -> Result<Archive, ArchiveError> {
    let Ok(mut zip) = ZipArchive::new(Cursor::new(bytes)) else { return Ok(Archive::default()) };
    if zip.len() > MAX_ENTRIES {
        return Err(ArchiveError::TooLarge(format!("more than {MAX_ENTRIES} entries")));
    }
    let mut entries = Vec::new();
    let mut metadata = None;
    for index in 0..zip.len() {
        let Some((name, content)) = entry(&mut zip, index, admit)? else { continue };
        if metadata.is_none() && (name == OLD_METADATA || name == METADATA) {
            metadata = Some((name, content));
        } else {
            entries.push((name, content));
        }
    }
    match metadata {
        Some((name, text)) if name == METADATA => described(entries, &text),
        Some((_, text)) => old(entries, &text),
        None => old(entries, ""),
    }
}

/// Name and text.
type Entry = (String, String);

fn entry(
    zip: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    admit: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Entry>, ArchiveError> {
    let unreadable = |error: String| ArchiveError::Unreadable(error);
    let mut file = zip.by_index(index).map_err(|error| unreadable(error.to_string()))?;
    if file.is_dir() {
        return Ok(None);
    }
    let name = file.name().map_err(|error| unreadable(error.to_string()))?.into_owned();
    let mut content = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    // What an archive says of its sizes is not believed.
    loop {
        let read = file.read(&mut chunk).map_err(|error| unreadable(format!("{name}: {error}")))?;
        let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else { break };
        if content.len() + read.len() > MAX_ENTRY_BYTES {
            return Err(ArchiveError::TooLarge(format!(
                "an entry {name} of more than {MAX_ENTRY_BYTES} bytes"
            )));
        }
        if !admit(read.len()) {
            return Err(ArchiveError::TooLarge(
                "more bytes than this node has room for".to_owned(),
            ));
        }
        content.extend_from_slice(read);
    }
    let content =
        String::from_utf8(content).map_err(|_| unreadable(format!("{name}: no UTF-8")))?;
    Ok(Some((name, content)))
}

/// The form of 1.x, or none at all.
fn old(entries: Vec<Entry>, metadata: &str) -> Result<Archive, ArchiveError> {
    let mut apps = BTreeMap::new();
    for line in metadata.split(['\r', '\n', '|']).filter(|line| !line.is_empty()) {
        match line.split('=').collect::<Vec<_>>().as_slice() {
            [name, app] => drop(apps.insert((*name).to_owned(), (*app).to_owned())),
            _ => return Err(ArchiveError::Metadata(format!("no line name=application: {line}"))),
        }
    }
    let mut archive = Archive::default();
    for (name, content) in entries {
        let parts: Vec<&str> = name.split('/').collect();
        let [group, data_id] = parts.as_slice() else {
            archive.unrecognized.push(Unrecognized::Name(name));
            continue;
        };
        archive.items.push(Item {
            group: (*group).to_owned(),
            data_id: (*data_id).to_owned(),
            content: content.into(),
            kind: kind_of(data_id).to_owned(),
            app: apps.remove(&old_name(group, data_id)),
            ..Item::default()
        });
    }
    Ok(archive)
}

/// As a line of the old metadata calls a configuration.
fn old_name(group: &str, data_id: &str) -> String {
    let data_id = match data_id.rsplit_once('.') {
        Some((stem, ending)) => format!("{stem}~{ending}"),
        None => data_id.to_owned(),
    };
    format!("{group}.{data_id}.app")
}

/// The type that the ending of a data id tells (config.md §1.5).
fn kind_of(data_id: &str) -> &'static str {
    let ending = data_id.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "yml" | "yaml" => "yaml",
        "properties" => "properties",
        "json" => "json",
        "xml" => "xml",
        "htm" | "html" => "html",
        "toml" => "toml",
        _ => "text",
    }
}

/// One configuration in the newer metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    data_id: Option<String>,
    group: Option<String>,
    r#type: Option<String>,
    app_name: Option<String>,
    config_tags: Option<String>,
    desc: Option<String>,
    encrypted_data_key: Option<String>,
}

/// What the newer metadata names.
fn described(entries: Vec<Entry>, metadata: &str) -> Result<Archive, ArchiveError> {
    let malformed = |text: &str| ArchiveError::Metadata(text.to_owned());
    // Whatever the one property is called, as in the reference.
    let read: BTreeMap<String, Vec<Row>> = serde_saphyr::from_str(metadata)
        .map_err(|error| ArchiveError::Metadata(error.without_snippet().to_string()))?;
    let rows = read.into_values().next().filter(|rows| !rows.is_empty());
    let rows = rows.ok_or_else(|| malformed("no list of configurations"))?;
    let mut contents: BTreeMap<String, String> = entries.into_iter().collect();
    let mut archive = Archive::default();
    for row in rows {
        let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let required =
            |name: &str, text| filled(text).ok_or_else(|| malformed(&format!("no {name}")));
        let data_id = required("dataId", row.data_id)?;
        let group = required("group", row.group)?;
        let kind = required("type", row.r#type)?;
        let name = format!("{group}/{data_id}");
        let Some(content) = contents.remove(&name) else {
            archive.unrecognized.push(Unrecognized::NotInFile(name));
            continue;
        };
        archive.items.push(Item {
            group,
            data_id,
            content: content.into(),
            kind,
            app: row.app_name,
            tags: filled(row.config_tags),
            description: filled(row.desc).unwrap_or_default(),
            encrypted_data_key: filled(row.encrypted_data_key).unwrap_or_default(),
        });
    }
    archive.unrecognized.extend(contents.into_keys().map(Unrecognized::NotInMetadata));
    Ok(archive)
}

/// Writes an archive, its description last.
///
/// # Errors
/// [`ArchiveError::Twice`], [`ArchiveError::Write`].
pub(crate) fn write(
    items: &[Item],
    format: Format,
    modified: DateTime,
) -> Result<Vec<u8>, ArchiveError> {
    let mut zip = ZipWriter::new_stream(Vec::new());
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(modified);
    let mut put = |name: &str, content: &[u8]| -> Result<(), ArchiveError> {
        zip.start_file(name, options)?;
        zip.write_all(content).map_err(zip::result::ZipError::from)?;
        Ok(())
    };
    let mut names = BTreeSet::new();
    let mut metadata = String::new();
    for item in items {
        let name = format!("{}/{}", item.group, item.data_id);
        if let Some(twice) = names.replace(name.clone()) {
            return Err(ArchiveError::Twice(twice));
        }
        put(&name, &item.content)?;
        describe(item, format, &mut metadata);
    }
    match format {
        Format::Old if metadata.is_empty() => {}
        Format::Old => put(OLD_METADATA, metadata.as_bytes())?,
        Format::New { .. } if metadata.is_empty() => put(METADATA, b"metadata: []\n")?,
        Format::New { .. } => put(METADATA, format!("metadata:\n{metadata}").as_bytes())?,
    }
    Ok(zip.finish()?.into_inner())
}

/// Adds what the metadata says of one configuration.
fn describe(item: &Item, format: Format, into: &mut String) {
    let Item { group, data_id, content: _, kind, app, tags, description, encrypted_data_key } =
        item;
    let app = app.as_deref().unwrap_or_default();
    let Format::New { with_tags } = format else {
        if !app.trim().is_empty() {
            into.push_str(&old_name(group, data_id));
            into.extend(["=", app, "\r\n"]);
        }
        return;
    };
    let tags = tags.as_deref().filter(|_| with_tags).unwrap_or_default();
    // In the order of their names; one that is empty is left out, but for the application.
    let fields = [
        ("configTags", tags),
        ("dataId", data_id),
        ("desc", description),
        ("encryptedDataKey", encrypted_data_key),
        ("group", group),
        ("type", kind),
    ];
    into.extend(["- appName: ", scalar::written(app).as_ref(), "\n"]);
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        into.extend(["  ", name, ": ", scalar::written(value).as_ref(), "\n"]);
    }
}

/// Entry point of the fuzz target `archive`: whatever the bytes, as an archive or as the
/// description in one, reading ends without a panic, within what was admitted.
#[cfg_attr(not(test), expect(dead_code, reason = "called by tests/fuzz, which includes this file"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    const ROOM: usize = 1 << 20;
    let mut taken = 0;
    let mut admit = |more: usize| {
        taken += more;
        taken <= ROOM
    };
    if let Ok(archive) = read(bytes, &mut admit) {
        let bytes: usize = archive.items.iter().map(|item| item.content.len()).sum();
        assert!(bytes <= ROOM, "no more is read than was admitted");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(described(vec![("G/a".to_owned(), String::new())], text));
        drop(old(Vec::new(), text));
    }
}
