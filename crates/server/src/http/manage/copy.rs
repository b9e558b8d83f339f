//! Many configurations at once into a namespace: copies of others, or those of an archive.

use std::collections::VecDeque;

use hyper::StatusCode;
use quorate_core::command::{Cause, Describe, Presence, Writer};
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId};
use quorate_core::kind::config::ConfigDatum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::envelope::{Code, Dialect, Trouble, rest, result};
use super::super::pairs::Pairs;
use super::super::response::Response;
use super::Request;
use crate::failure::Failure;
use crate::operations::config::{self, PublishRequest};
use crate::operations::{namespace, search};

/// How a clone or an import ended, as v1 and as v3 say it. HTTP says 200 of all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    v1: (u32, &'static str),
    v3: Code,
}

impl Verdict {
    const fn new(code: u32, v1: &'static str, v3: &'static str) -> Self {
        Self { v1: (code, v1), v3: Code(code, v3) }
    }

    pub(super) const CLONED: Self =
        Self { v1: (200, "Clone Completed Successfully"), v3: Code::SUCCESS };
    pub(super) const IMPORTED: Self = Self { v1: (200, "import success"), v3: Code::SUCCESS };
    pub(super) const NO_NAMESPACE: Self =
        Self { v1: (100_001, "目标 namespace 不存在"), v3: Code::NO_NAMESPACE };
    pub(super) const METADATA: Self =
        Self::new(100_002, "导入的元数据非法", "Imported metadata is invalid");
    pub(super) const UNREADABLE: Self = Self::new(100_004, "解析数据失败", "Failed to parse data");
    pub(super) const NO_DATA: Self =
        Self::new(100_005, "导入的文件数据为空", "Imported file data is empty");
    pub(super) const NOTHING_SELECTED: Self =
        Self::new(100_006, "没有选择任何配置", "No configuration selected");

    pub(super) fn answer(self, dialect: Dialect, data: impl Serialize) -> Response {
        let (code, text) = self.v1;
        match dialect {
            Dialect::V1 => rest(code, Some(text), data),
            Dialect::V2 | Dialect::Admin | Dialect::Console => {
                result(StatusCode::OK, self.v3, data)
            }
        }
    }

    /// Nothing was done.
    pub(super) fn refuse(self, dialect: Dialect) -> Trouble {
        Trouble::Written(Box::new(self.answer(dialect, json!({"succCount": 0}))))
    }
}

/// What is done with a configuration that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// It and all that follow are left out.
    Abort,
    /// It is left out.
    Skip,
    Overwrite,
}

impl Policy {
    pub(super) fn read(request: &Request, pairs: &Pairs<'_>) -> Result<Self, Trouble> {
        Ok(match request.filled(pairs, "policy")?.as_deref() {
            None | Some("ABORT") => Self::Abort,
            Some("SKIP") => Self::Skip,
            Some("OVERWRITE") => Self::Overwrite,
            Some(other) => return Err(Trouble::invalid(format!("invalid policy : {other}"))),
        })
    }

    pub(super) const fn presence(self) -> Presence {
        match self {
            Self::Overwrite => Presence::Any,
            Self::Abort | Self::Skip => Presence::New,
        }
    }
}

/// The namespace that a clone or an import goes to.
pub(super) fn target(
    request: &Request,
    pairs: &Pairs<'_>,
    name: &str,
) -> Result<NamespaceId, Trouble> {
    let namespace = request.namespace(pairs, name)?;
    if namespace::exists(&request.app.node, &namespace) {
        Ok(namespace)
    } else {
        Err(Verdict::NO_NAMESPACE.refuse(request.dialect))
    }
}

/// Publishes one after the other and counts, as the answers have it.
pub(super) async fn publish_all(
    request: &Request,
    policy: Policy,
    copies: Vec<PublishRequest>,
) -> Result<Map<String, Value>, Trouble> {
    let row = |key: &GroupKey| json!({"dataId": key.data_id(), "group": key.group()});
    let mut copies = VecDeque::from(copies);
    let (mut done, mut failed, mut skipped) = (0_u32, Vec::new(), Vec::new());
    while let Some(copy) = copies.pop_front() {
        let row_of_it = row(&copy.key);
        match config::publish(&request.app.node, copy, request.app.deadline()).await {
            Ok(_) => done += 1,
            Err(Failure::Exists { .. }) if policy == Policy::Skip => skipped.push(row_of_it),
            Err(Failure::Exists { .. }) => {
                failed.push(row_of_it);
                skipped.extend(copies.drain(..).map(|copy| row(&copy.key)));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    let mut counts = Map::new();
    counts.insert("succCount".to_owned(), done.into());
    counts.insert("skipCount".to_owned(), skipped.len().into());
    if !failed.is_empty() {
        counts.insert("failData".to_owned(), failed.into());
    }
    if !skipped.is_empty() {
        counts.insert("skipData".to_owned(), skipped.into());
    }
    Ok(counts)
}

/// One configuration that is to be copied.
#[derive(Deserialize)]
struct Copied {
    #[serde(alias = "cfgId", alias = "configId")]
    id: Number,
    #[serde(default, alias = "dataId", alias = "targetDataId")]
    data_id: Option<String>,
    #[serde(default, alias = "targetGroupName")]
    group: Option<String>,
}

/// A number, or the text of one: more digits than a script's number holds.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Digits(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> u64 {
        match self {
            Self::Digits(number) => *number,
            Self::Text(text) => text.trim().parse().unwrap_or_default(),
        }
    }
}

pub(super) async fn clone(request: Request) -> Result<Response, Trouble> {
    let (policy, copies) = read_clone(&request)?;
    let counts = publish_all(&request, policy, copies).await?;
    Ok(Verdict::CLONED.answer(request.dialect, counts))
}

fn read_clone(request: &Request) -> Result<(Policy, Vec<PublishRequest>), Trouble> {
    let pairs = request.checked()?;
    let dialect = request.dialect;
    let name = match dialect {
        Dialect::V1 => "tenant",
        Dialect::Console => "targetNamespaceId",
        Dialect::V2 | Dialect::Admin => "namespaceId",
    };
    let wanted: Vec<Copied> = serde_json::from_slice(&request.whole.bytes).map_err(|error| {
        Trouble::missing(format!("the body is no list of configurations: {error}"))
    })?;
    if wanted.is_empty() {
        return Err(Verdict::NOTHING_SELECTED.refuse(dialect));
    }
    let namespace = target(request, &pairs, name)?;
    let policy = Policy::read(request, &pairs)?;
    let writer = request.writer(&pairs)?;
    let state = request.app.node.store().freeze();
    let numbers: Vec<u64> = wanted.iter().map(|copied| copied.id.value()).collect();
    let found = search::by_ids(&state, &numbers);
    let mut copies = Vec::new();
    for copied in wanted {
        let source = found.iter().find(|(key, _)| search::id_of(key) == copied.id.value());
        let Some((key, datum)) = source else { continue };
        let or = |text: Option<String>, old: &str| {
            text.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| old.to_owned())
        };
        let (data_id, group) = (or(copied.data_id, key.data_id()), or(copied.group, key.group()));
        let data_id = DataId::parse(&data_id)
            .map_err(|_| Trouble::invalid(format!("invalid dataId : {data_id}")))?;
        let group = Group::parse(&group)
            .map_err(|_| Trouble::invalid(format!("invalid group : {group}")))?;
        let key = GroupKey::new(&namespace, &group, &data_id);
        copies.push(copy_of(key, datum, writer.clone(), policy));
    }
    if copies.is_empty() {
        return Err(Verdict::NO_DATA.refuse(dialect));
    }
    Ok((policy, copies))
}

/// A copy keeps type, content, application and description, not the tags (config.md §2.1.12).
fn copy_of(key: GroupKey, datum: &ConfigDatum, writer: Writer, policy: Policy) -> PublishRequest {
    let detail = datum.detail();
    PublishRequest {
        key,
        content: datum.content(),
        md5: datum.md5(),
        content_type: datum.content_type(),
        describe: Describe {
            app: Some(detail.app),
            description: detail.description,
            encrypted_data_key: detail.encrypted_data_key,
            ..Describe::default()
        },
        writer,
        expected: None,
        rule: None,
        presence: policy.presence(),
        cause: Cause::Clone,
    }
}
