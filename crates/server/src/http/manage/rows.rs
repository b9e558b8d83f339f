//! What answers are made of, property by property in the reference's order (config.md §2.7, §6).

use quorate_core::key::GroupKey;
use quorate_core::kind::config::ConfigDatum;
use quorate_core::kind::gray::{Gray, Rule};
use quorate_core::kind::history::{History, Kept};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::date::iso8601;
use crate::operations::Page;
use crate::operations::namespace::Listed;
use crate::operations::search::id_of;

/// `null` where there is nothing.
fn filled(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::from(text) }
}

fn text(content: &[u8]) -> String {
    String::from_utf8_lossy(content).into_owned()
}

/// A page.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageRow<T> {
    total_count: usize,
    page_number: usize,
    pages_available: usize,
    page_items: Vec<T>,
}

impl<T> PageRow<T> {
    pub(super) fn of<I>(page: Page<I>, row: impl FnMut(I) -> T) -> Self {
        Self {
            total_count: page.total,
            page_number: page.number,
            pages_available: page.pages(),
            page_items: page.items.into_iter().map(row).collect(),
        }
    }
}

/// One configuration as v1 lists it.
pub(super) fn listed_v1(key: &GroupKey, datum: &ConfigDatum, with_key: bool) -> Value {
    let detail = datum.detail();
    json!({
        "id": id_of(key).to_string(),
        "dataId": key.data_id(),
        "group": key.group(),
        "content": text(&datum.content()),
        "md5": datum.md5().to_string(),
        "encryptedDataKey": if with_key { Value::from(detail.encrypted_data_key) } else { Value::Null },
        "tenant": key.namespace(),
        "appName": detail.app,
        "type": datum.content_type().as_str(),
    })
}

/// One configuration as v1 shows it.
pub(super) fn detail_v1(key: &GroupKey, datum: &ConfigDatum) -> Value {
    let mut row = listed_v1(key, datum, true);
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), described(datum, false)) {
        row.extend(more);
    }
    row
}

/// The descriptive fields; with the type where they stand alone.
pub(super) fn described(datum: &ConfigDatum, with_type: bool) -> Value {
    let detail = datum.detail();
    let mut row = Map::new();
    let mut put = |name: &str, value: Value| drop(row.insert(name.to_owned(), value));
    put("createTime", datum.modified().0.into());
    put("modifyTime", datum.modified().0.into());
    put("createUser", filled(&detail.writer.user));
    put("createIp", filled(&detail.writer.ip));
    put("desc", filled(&detail.description));
    put("use", filled(&detail.used_for));
    put("effect", filled(&detail.effect));
    if with_type {
        put("type", datum.content_type().as_str().into());
    }
    put("schema", filled(&detail.schema));
    put("configTags", filled(&detail.tags));
    Value::Object(row)
}

/// What all rows of the third generation begin with.
fn basic(
    key: &GroupKey,
    id: &str,
    (md5, kind): (Option<String>, Option<&str>),
    app: &str,
    times: (u64, u64),
) -> Value {
    json!({
        "id": id,
        "namespaceId": key.namespace(),
        "groupName": key.group(),
        "dataId": key.data_id(),
        "md5": md5,
        "type": kind,
        "appName": app,
        "createTime": times.0,
        "modifyTime": times.1,
    })
}

/// md5 and type of a formal content.
fn content_of(datum: &ConfigDatum) -> (Option<String>, Option<&'static str>) {
    (Some(datum.md5().to_string()), Some(datum.content_type().as_str()))
}

fn with(mut row: Value, more: Value) -> Value {
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

/// One configuration as v3 lists it.
pub(super) fn listed_v3(key: &GroupKey, datum: &ConfigDatum) -> Value {
    basic(key, &id_of(key).to_string(), content_of(datum), &datum.detail().app, (0, 0))
}

/// One configuration as v3 shows it.
pub(super) fn detail_v3(key: &GroupKey, datum: &ConfigDatum) -> Value {
    let detail = datum.detail();
    let modified = datum.modified().0;
    let id = id_of(key).to_string();
    let row = basic(key, &id, content_of(datum), &detail.app, (modified, modified));
    with(
        row,
        json!({
            "content": text(&datum.content()),
            "desc": filled(&detail.description),
            "encryptedDataKey": detail.encrypted_data_key,
            "createUser": filled(&detail.writer.user),
            "createIp": filled(&detail.writer.ip),
            "configTags": filled(&detail.tags),
        }),
    )
}

/// One configuration of a namespace's list, which has neither content nor md5.
pub(super) fn named_only(key: &GroupKey, datum: &ConfigDatum, is_v3: bool) -> Value {
    let app = datum.detail().app;
    let kind = datum.content_type().as_str();
    if is_v3 {
        return basic(key, "0", (None, Some(kind)), &app, (0, 0));
    }
    json!({
        "id": "0",
        "dataId": key.data_id(),
        "group": key.group(),
        "content": null,
        "md5": null,
        "encryptedDataKey": null,
        "tenant": key.namespace(),
        "appName": app,
        "type": kind,
        "lastModified": 0,
    })
}

/// The rule of a release as the reference stores it.
fn rule_text(gray: &Gray) -> String {
    json!({
        "type": gray.rule.kind(),
        "version": "1.0.0",
        "expr": gray.rule.expression(),
        "priority": gray.priority,
    })
    .to_string()
}

fn addresses(gray: &Gray) -> &str {
    match &gray.rule {
        Rule::Beta(addresses) => addresses,
        Rule::Tag(_) => "",
    }
}

/// A beta release as v1 shows it.
pub(super) fn beta_v1(key: &GroupKey, gray: &Gray) -> Value {
    json!({
        "id": gray.create_revision.0.to_string(),
        "dataId": key.data_id(),
        "group": key.group(),
        "content": text(&gray.content),
        "md5": gray.md5.to_string(),
        "encryptedDataKey": gray.encrypted_data_key,
        "tenant": key.namespace(),
        "appName": gray.app,
        "type": null,
        "betaIps": addresses(gray),
    })
}

/// A release as v3 shows it; the console adds the type of the formal content.
pub(super) fn gray_v3(key: &GroupKey, gray: &Gray, kind: Option<&str>) -> Value {
    let id = gray.create_revision.0.to_string();
    let content = (Some(gray.md5.to_string()), kind);
    with(
        basic(key, &id, content, &gray.app, (0, gray.modified.0)),
        json!({
            "content": text(&gray.content),
            "desc": null,
            "encryptedDataKey": gray.encrypted_data_key,
            "createUser": filled(&gray.writer.user),
            "createIp": filled(&gray.writer.ip),
            "configTags": null,
            "grayName": gray.name,
            "grayRule": rule_text(gray),
        }),
    )
}

/// What a record knows besides the columns of the reference's table (config.md §6.1), and why it
/// was written.
fn extra(kept: &Kept, record: Option<&History>) -> String {
    let mut row = Map::new();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            row.insert(name.to_owned(), value.into());
        }
    };
    match kept {
        Kept::Formal(datum) => {
            let detail = datum.detail();
            put("src_user", &detail.writer.user);
            put("type", datum.content_type().as_str());
            put("config_tags", &detail.tags);
            put("c_desc", &detail.description);
            put("c_use", &detail.used_for);
            put("effect", &detail.effect);
            put("c_schema", &detail.schema);
        }
        Kept::Gray(gray) => {
            put("gray_name", &gray.name);
            put("src_user", &gray.writer.user);
            put("gray_rule", &rule_text(gray));
        }
    }
    if let Some(record) = record {
        use quorate_core::command::Cause;
        match record.cause {
            Cause::Publish => {}
            Cause::Import => put("cause", "import"),
            Cause::Clone => put("cause", "clone"),
            Cause::Rollback { of } => {
                put("cause", "rollback");
                put("rollback_of", &of.to_string());
            }
        }
        put("revision", &record.revision.to_string());
    }
    Value::Object(row).to_string()
}

fn of_kept(kept: &Kept) -> (String, String, &'static str) {
    match kept {
        Kept::Formal(datum) => {
            let detail = datum.detail();
            (detail.app, detail.encrypted_data_key, "formal")
        }
        Kept::Gray(gray) => (gray.app.to_string(), gray.encrypted_data_key.to_string(), "gray"),
    }
}

/// The moment that the reference's embedded store has for all of them.
const CREATED: &str = "2010-05-05T00:00:00.000+00:00";

/// A history record of v1 and v2; whole, or as it is listed.
pub(super) fn history_v1(record: &History, is_whole: bool) -> Value {
    let (app, encrypted_data_key, publish_type) = of_kept(&record.kept);
    let whole = |value: String| if is_whole { Value::from(value) } else { Value::Null };
    json!({
        "id": record.id.to_string(),
        "lastId": -1,
        "dataId": record.key.data_id(),
        "group": record.key.group(),
        "tenant": record.key.namespace(),
        "appName": app,
        "md5": whole(record.kept.md5().to_string()),
        "content": whole(text(&record.kept.content())),
        "srcIp": record.writer.ip,
        "srcUser": filled(&record.writer.user),
        "opType": format!("{:<10}", record.operation.letter()),
        "publishType": publish_type,
        "grayName": record.kept.gray_name().unwrap_or_default(),
        "extInfo": extra(&record.kept, Some(record)),
        "createdTime": CREATED,
        "lastModifiedTime": iso8601(record.time.0),
        "encryptedDataKey": whole(encrypted_data_key),
    })
}

/// A history record of v3; whole, or as it is listed.
pub(super) fn history_v3(record: &History, is_whole: bool) -> Value {
    let (app, encrypted_data_key, publish_type) = of_kept(&record.kept);
    let id = record.id.to_string();
    let content = match &record.kept {
        _ if !is_whole => (None, None),
        Kept::Formal(datum) => content_of(datum),
        Kept::Gray(gray) => (Some(gray.md5.to_string()), None),
    };
    let row = with(
        basic(&record.key, &id, content, &app, (record.time.0, record.time.0)),
        json!({
            "srcIp": record.writer.ip,
            "srcUser": filled(&record.writer.user),
            "opType": record.operation.letter(),
            "publishType": publish_type,
        }),
    );
    if !is_whole {
        return row;
    }
    with(
        row,
        json!({
            "content": text(&record.kept.content()),
            "encryptedDataKey": encrypted_data_key,
            "grayName": record.kept.gray_name().unwrap_or_default(),
            "extInfo": extra(&record.kept, Some(record)),
        }),
    )
}

/// A record beside what it became (config.md §6.2).
pub(super) fn history_beside(record: &History, made: Option<&Kept>) -> Value {
    use quorate_core::kind::history::Operation;
    let (app, _, publish_type) = of_kept(&record.kept);
    let show = |kept: Option<&Kept>, absent: Value| match kept {
        None => [absent.clone(), absent.clone(), absent.clone(), absent],
        Some(kept) => [
            kept.md5().to_string().into(),
            text(&kept.content()).into(),
            of_kept(kept).1.into(),
            extra(kept, None).into(),
        ],
    };
    let (original, updated) = match record.operation {
        Operation::Insert => (show(None, "".into()), show(Some(&record.kept), Value::Null)),
        Operation::Update => (show(Some(&record.kept), Value::Null), show(made, Value::Null)),
        Operation::Delete => (show(Some(&record.kept), Value::Null), show(None, Value::Null)),
    };
    let [original_md5, original_content, original_key, original_extra] = original;
    let [updated_md5, updated_content, updated_key, updated_extra] = updated;
    json!({
        "id": record.id,
        "lastId": -1,
        "dataId": record.key.data_id(),
        "group": record.key.group(),
        "tenant": record.key.namespace(),
        "opType": record.operation.letter(),
        "publishType": publish_type,
        "grayName": record.kept.gray_name().unwrap_or_default(),
        "appName": app,
        "srcIp": record.writer.ip,
        "srcUser": filled(&record.writer.user),
        "originalMd5": original_md5,
        "originalContent": original_content,
        "originalEncryptedDataKey": original_key,
        "originalExtInfo": original_extra,
        "updatedMd5": updated_md5,
        "updatedContent": updated_content,
        "updatedEncryptedDataKey": updated_key,
        "updateExtInfo": updated_extra,
        "createdTime": CREATED,
        "lastModifiedTime": iso8601(record.time.0),
    })
}

/// A namespace (config.md §6.4).
pub(super) fn namespace(listed: &Listed) -> Value {
    json!({
        "namespace": listed.id,
        "namespaceShowName": listed.name,
        "namespaceDesc": listed.description,
        "quota": 200,
        "configCount": listed.configs,
        "type": u8::from(!listed.is_public()),
    })
}
