//! Import and export of configurations as a ZIP archive (config.md §2.1.10, §2.1.11).

use hyper::StatusCode;
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use quorate_core::command::{Cause, Describe, Writer};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::{GroupKey, NamespaceId};
use quorate_core::kind::config::ConfigDatum;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::super::body;
use super::super::date::{compact, zip_time};
use super::super::envelope::{Code, Dialect, Trouble};
use super::super::response::{Response, caused, malformed, respond};
use super::copy::{Policy, Verdict, publish_all, target};
use super::{Request, What, config};
use crate::archive::{self, Archive, ArchiveError, Format, Item, Unrecognized};
use crate::clock;
use crate::failure::Failure;
use crate::operations::config::{PublishRequest, check_fields};
use crate::operations::search::{self, Filter, Found, Match};
use crate::parameters;

/// Most configurations of one archive.
const MAX_EXPORTED: usize = 20_000;

/// The archive of what is selected, by numbers or by a filter.
pub(super) async fn export(request: Request) -> Result<Response, Trouble> {
    let Ok(_turn) = request.app.searches.try_acquire() else {
        return Err(config::too_many_searches());
    };
    let selection = read_selection(&request)?;
    let format = match (request.what, request.dialect) {
        (What::Export, _) => Format::Old,
        (_, Dialect::V1) => Format::New { with_tags: true },
        _ => Format::New { with_tags: false },
    };
    let now = clock::unix_ms();
    let app = request.app.clone();
    let packed = body::off_thread(true, move || {
        let found = selection.find(&app.node.store().freeze());
        let bytes: usize = found.iter().map(|(_, datum)| datum.content_bytes()).sum();
        let mut share = None;
        if found.len() > MAX_EXPORTED || !app.bodies.take(&mut share, bytes) {
            return Ok(Err(Trouble::from(Failure::BodiesInFlight)));
        }
        let items: Vec<Item> = found.iter().map(|(key, datum)| item(key, datum)).collect();
        Ok(archive::write(&items, format, zip_time(now)).map_err(|error| {
            if matches!(error, ArchiveError::Twice(_)) {
                return Trouble::invalid(error.to_string());
            }
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Trouble::Known(status, Code::SERVER, error.to_string())
        }))
    });
    let packed = packed.await??;
    let octets = HeaderValue::from_static("application/octet-stream");
    let mut response = respond(StatusCode::OK, &octets, packed);
    let name = format!("attachment;filename=nacos_config_export_{}.zip", compact(now));
    if let Ok(name) = HeaderValue::try_from(name) {
        response.headers_mut().insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// What is to be exported. Numbers leave every other filter out of account.
enum Selection {
    Numbers(Vec<u64>),
    Matching(Filter),
}

impl Selection {
    fn find(&self, state: &quorate_core::store::State) -> Vec<Found> {
        match self {
            Self::Numbers(ids) => search::by_ids(state, ids),
            Self::Matching(filter) => search::search(state, filter, 1, MAX_EXPORTED + 1).items,
        }
    }
}

fn read_selection(request: &Request) -> Result<Selection, Trouble> {
    let pairs = request.pairs()?;
    let Some(ids) = pairs.first("ids").map_err(malformed)? else {
        let text = "Required parameter 'ids' is not present";
        return Err(match request.dialect {
            Dialect::V1 => {
                Trouble::Written(Box::new(caused(StatusCode::INTERNAL_SERVER_ERROR, text)))
            }
            Dialect::V2 | Dialect::Admin | Dialect::Console => Trouble::missing(text),
        });
    };
    if !ids.trim().is_empty() {
        return Ok(Selection::Numbers(config::ids(&ids)));
    }
    let filled = |name: &str| Ok::<_, Trouble>(request.filled(&pairs, name)?.unwrap_or_default());
    Ok(Selection::Matching(Filter {
        namespace: Some(request.namespace(&pairs, request.dialect.namespace())?),
        data_id: Match::like(&filled("dataId")?),
        group: Match::exact(&filled(request.dialect.group())?),
        app: Match::exact(&filled("appName")?),
        ..Filter::default()
    }))
}

fn item(key: &GroupKey, datum: &ConfigDatum) -> Item {
    let detail = datum.detail();
    Item {
        group: key.group().to_owned(),
        data_id: key.data_id().to_owned(),
        content: datum.content(),
        kind: datum.content_type().as_str().to_owned(),
        app: Some(detail.app),
        tags: Some(detail.tags),
        description: detail.description,
        encrypted_data_key: detail.encrypted_data_key,
    }
}

/// Publishes what an archive holds. All of it is checked before anything is published.
pub(super) async fn import(request: Request) -> Result<Response, Trouble> {
    let Import { request, policy, copies, unrecognized, share: _share } =
        body::off_thread(true, move || Ok(read_import(request))).await??;
    let mut counts = publish_all(&request, policy, copies).await?;
    tell_unrecognized(&mut counts, request.dialect, unrecognized);
    Ok(Verdict::IMPORTED.answer(request.dialect, counts))
}

/// An upload, read.
struct Import {
    request: Request,
    policy: Policy,
    copies: Vec<PublishRequest>,
    unrecognized: Vec<Unrecognized>,
    /// Of the bytes that may be in memory, for as long as the copies are.
    share: Option<OwnedSemaphorePermit>,
}

fn read_import(request: Request) -> Result<Import, Trouble> {
    let pairs = request.checked()?;
    let dialect = request.dialect;
    let Some(file) = pairs.file() else {
        return Err(Trouble::Written(Box::new(Verdict::NO_DATA.answer(dialect, json!({})))));
    };
    let name = if dialect == Dialect::V1 { "namespace" } else { "namespaceId" };
    let namespace = target(&request, &pairs, name)?;
    let policy = Policy::read(&request, &pairs)?;
    let writer = request.writer(&pairs)?;
    let mut share = None;
    let read = archive::read(file, &mut |bytes| request.app.bodies.take(&mut share, bytes));
    let Archive { items, unrecognized } = read.map_err(|error| match error {
        ArchiveError::Metadata(_) => Verdict::METADATA.refuse(dialect),
        ArchiveError::TooLarge(_) => {
            Trouble::Known(StatusCode::PAYLOAD_TOO_LARGE, Code::INVALID, error.to_string())
        }
        ArchiveError::Unreadable(_) | ArchiveError::Twice(_) | ArchiveError::Write(_) => {
            Verdict::UNREADABLE.refuse(dialect)
        }
    })?;
    if items.is_empty() {
        return Err(Verdict::NO_DATA.refuse(dialect));
    }
    let copies = items
        .into_iter()
        .map(|item| imported(&namespace, item, writer.clone(), policy))
        .collect::<Result<_, _>>()?;
    drop(pairs);
    Ok(Import { request, policy, copies, unrecognized, share })
}

fn imported(
    namespace: &NamespaceId,
    item: Item,
    writer: Writer,
    policy: Policy,
) -> Result<PublishRequest, Trouble> {
    let name = format!("{}/{}", item.group, item.data_id);
    let wrong = |why: String| Trouble::invalid(format!("{name}: {why}"));
    parameters::parts(namespace.as_str(), &item.data_id, &item.group).map_err(wrong)?;
    let key = parameters::key(namespace.as_str(), &item.data_id, &item.group).map_err(wrong)?;
    parameters::content(&String::from_utf8_lossy(&item.content)).map_err(wrong)?;
    let describe = Describe {
        app: item.app,
        tags: item.tags,
        description: item.description,
        encrypted_data_key: item.encrypted_data_key,
        ..Describe::default()
    };
    check_fields(&describe, &writer).map_err(|failure| wrong(failure.to_string()))?;
    Ok(PublishRequest {
        key,
        md5: Md5::of(&item.content),
        content: item.content,
        content_type: ContentType::parse_or_text(&item.kind),
        describe,
        writer,
        expected: None,
        rule: None,
        presence: policy.presence(),
        cause: Cause::Import,
    })
}

/// Adds what of the archive was no configuration, in the words of the generation.
fn tell_unrecognized(
    counts: &mut Map<String, Value>,
    dialect: Dialect,
    unrecognized: Vec<Unrecognized>,
) {
    if unrecognized.is_empty() {
        return;
    }
    let is_english = dialect == Dialect::Admin;
    let rows: Vec<Value> = unrecognized
        .into_iter()
        .map(|it| {
            json!({"itemName": match it {
                Unrecognized::NotInMetadata(name) if is_english => {
                    format!("Item not found in metadata: {name}")
                }
                Unrecognized::NotInMetadata(name) => format!("未在元数据中找到: {name}"),
                Unrecognized::NotInFile(name) if is_english => {
                    format!("Item not found in file: {name}")
                }
                Unrecognized::NotInFile(name) => format!("未在文件中找到: {name}"),
                Unrecognized::Name(name) => name,
            }})
        })
        .collect();
    counts.insert("unrecognizedCount".to_owned(), rows.len().into());
    counts.insert("unrecognizedData".to_owned(), rows.into());
}
