//! Configurations over gRPC (config.md §4): fields of a request to an operation, its outcome to
//! the fields of an answer. The operations are those of every dialect.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::command::{Cause, Describe, ExpectedMd5, Presence, Writer};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::{Labels, Rule};
use quorate_core::subscribe::Subscriber as _;
use quorate_core::watch::ClientMd5;

use super::Server;
use super::connection::Connection;
use super::fields::{Fields, Unreadable};
use super::outbox::{TENANT_ABSENT, TENANT_NAMED};
use super::unary::Answered;
use super::wire::{Object, Refusal};
use crate::failure::Failure;
use crate::http::encoded;
use crate::operations::config::{self, PublishRequest};
use crate::parameters;

const NOT_FOUND: u64 = 300;
const INVALID: u64 = 400;
const FAILED: u64 = 500;

/// A key as a request names it.
struct Named {
    data_id: String,
    group: String,
    /// As it was sent: clients know their keys by it.
    tenant: Option<String>,
}

impl Named {
    fn read(fields: &Fields) -> Result<Self, Unreadable> {
        Ok(Self {
            data_id: fields.text("dataId")?.unwrap_or_default(),
            group: fields.text("group")?.unwrap_or_default(),
            tenant: fields.text("tenant")?,
        })
    }

    /// The key, if the checks in front of all operations let it through.
    fn key(&self) -> Result<GroupKey, Refusal> {
        let tenant = self.tenant.as_deref().unwrap_or_default();
        parameters::parts(tenant, &self.data_id, &self.group)
            .map_err(|why| Refusal::new(INVALID, format!("Param check invalid:{why}")))?;
        parameters::key(tenant, &self.data_id, &self.group)
            .map_err(|why| Refusal::new(INVALID, why))
    }
}

fn plain(outcome: Result<(), Refusal>) -> Answered {
    let more = Object::response(&outcome);
    Answered { outcome, more }
}

/// `ConfigQueryRequest`
pub(super) fn query(
    server: &Server,
    connection: &Connection,
    fields: &Fields,
) -> Result<Answered, Unreadable> {
    let named = Named::read(fields)?;
    let tag = fields.text("tag")?.filter(|tag| !tag.trim().is_empty());
    let found = named.key().and_then(|key| {
        let carried = connection.labels();
        let asked = tag.as_ref().map(|tag| Labels::new(carried.ip(), tag));
        let labels = asked.as_ref().unwrap_or(carried);
        let (seen, _) = config::get(&server.app.node, &key, labels, tag.is_some());
        seen.ok_or_else(|| Refusal::new(NOT_FOUND, "config data not exist"))
    });
    Ok(match found {
        Ok(seen) => {
            let content = seen.content();
            let more = Object::response(&Ok(()))
                .text("content", &String::from_utf8_lossy(&content))
                .text("encryptedDataKey", &seen.encrypted_data_key())
                .text("contentType", seen.content_type().as_str())
                .text("md5", &seen.md5().to_string())
                .number("lastModified", seen.modified().0);
            let more = match seen.rule() {
                Some(Rule::Tag(tag)) => more.text("tag", &encoded(tag)),
                _ => more,
            };
            let is_beta = matches!(seen.rule(), Some(Rule::Beta(_)));
            Answered { outcome: Ok(()), more: more.flag("beta", is_beta) }
        }
        Err(refusal) => {
            let outcome = Err(refusal);
            let more = Object::response(&outcome).number("lastModified", 0);
            let more = match &tag {
                Some(tag) => more.text("tag", tag),
                None => more,
            };
            Answered { outcome, more: more.flag("beta", false) }
        }
    })
}

/// `ConfigPublishRequest`
pub(super) async fn publish(
    server: &Server,
    connection: &Arc<Connection>,
    mut fields: Fields,
) -> Result<Answered, Unreadable> {
    let named = Named::read(&fields)?;
    let content = fields.take_text("content")?.unwrap_or_default();
    let cas = fields.text("casMd5")?.filter(|md5| !md5.trim().is_empty());
    let addition = fields.take_object("additionMap")?.unwrap_or_default();
    let request = match read_publish(connection, &named, content, cas, &addition)? {
        Ok(request) => request,
        Err(refusal) => return Ok(plain(Err(refusal))),
    };
    let begun = std::time::Instant::now();
    let outcome = config::publish(&server.app.node, request, server.app.deadline()).await;
    server.app.metrics.published(begun.elapsed());
    Ok(plain(outcome.map(drop).map_err(|failure| refused(&failure))))
}

fn read_publish(
    connection: &Connection,
    named: &Named,
    content: String,
    cas: Option<String>,
    addition: &Fields,
) -> Result<Result<PublishRequest, Refusal>, Unreadable> {
    let text = |name| addition.text(name);
    let filled = |name| text(name).map(|it| it.filter(|it: &String| !it.trim().is_empty()));
    let tag = filled("tag")?;
    let rule = config::rule(filled("betaIps")?.as_deref(), tag.as_deref());
    let describe = Describe {
        app: text("appName")?.map(|app| if app.trim().is_empty() { String::new() } else { app }),
        tags: text("config_tags")?,
        description: text("desc")?.unwrap_or_default(),
        used_for: text("use")?.unwrap_or_default(),
        effect: text("effect")?.unwrap_or_default(),
        schema: text("schema")?.unwrap_or_default(),
        encrypted_data_key: text("encryptedDataKey")?.unwrap_or_default(),
    };
    let content_type = text("type")?.unwrap_or_default();
    let writer = writer(connection, text("src_user")?);
    let checked = || {
        let key = named.key()?;
        parameters::content(&content).map_err(|why| Refusal::new(INVALID, why))?;
        if let Some(tag) = &tag {
            parameters::tag(tag).map_err(|why| Refusal::new(FAILED, why))?;
        }
        Ok(key)
    };
    let key = match checked() {
        Ok(key) => key,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let content = Bytes::from(content.into_bytes().into_boxed_slice());
    Ok(Ok(PublishRequest {
        key,
        md5: Md5::of(&content),
        content,
        content_type: ContentType::parse_or_text(&content_type),
        describe,
        writer,
        expected: cas
            .map(|md5| Md5::parse(&md5).map_or(ExpectedMd5::NeverEqual, ExpectedMd5::Digest)),
        rule,
        presence: Presence::Any,
        cause: Cause::Publish,
    }))
}

fn writer(connection: &Connection, user: Option<String>) -> Writer {
    let ip = connection.setup().map(|setup| setup.client_ip.clone()).unwrap_or_default();
    Writer { user: user.unwrap_or_default(), ip }
}

/// `ConfigRemoveRequest`
pub(super) async fn remove(
    server: &Server,
    connection: &Arc<Connection>,
    fields: &Fields,
) -> Result<Answered, Unreadable> {
    let named = Named::read(fields)?;
    let tag = fields.text("tag")?.filter(|tag| !tag.trim().is_empty());
    let key = match named.key() {
        Ok(key) => key,
        Err(refusal) => return Ok(plain(Err(refusal))),
    };
    let writer = writer(connection, None);
    let (node, deadline) = (&server.app.node, server.app.deadline());
    let outcome = match tag {
        None => config::remove(node, key, writer, deadline).await,
        // The name of a gray release as it is: `tag_v1`, not `v1` (config.md §4.4).
        Some(name) => config::end_release(node, key, name, writer, deadline).await,
    };
    // The reference's failures to remove have no code of their own.
    Ok(plain(outcome.map(drop).map_err(|failure| Refusal { error: 0, ..refused(&failure) })))
}

fn refused(failure: &Failure) -> Refusal {
    let message = match failure {
        Failure::CasMismatch { .. } => "Cas publish fail, server md5 may have changed.".to_owned(),
        Failure::TooManyReleases | Failure::Invalid { .. } => {
            return Refusal::new(INVALID, failure.to_string());
        }
        Failure::FieldTooLong => "invalid advanced field: too long".to_owned(),
        Failure::FieldDoesNotFit => "a field is longer than it may be".to_owned(),
        Failure::Exists { .. }
        | Failure::Absent { .. }
        | Failure::InUse
        | Failure::FeatureLevel { .. }
        | Failure::Superseded { .. }
        | Failure::Propose { .. }
        | Failure::Read(_)
        | Failure::BodiesInFlight => failure.text().unwrap_or_default(),
    };
    Refusal::new(FAILED, message)
}

/// `ConfigBatchListenRequest`
pub(super) fn listen(
    server: &Server,
    connection: &Arc<Connection>,
    mut fields: Fields,
) -> Result<Answered, Unreadable> {
    let listens = fields.flag("listen", true)?;
    let mut claims = Vec::new();
    for context in fields.take_objects("configListenContexts")? {
        let named = Named::read(&context)?;
        // Absent is not the same as empty: the client has something that is no md5.
        let md5 = context.text("md5")?.map_or(ClientMd5::Other, |md5| ClientMd5::parse(&md5));
        match named.key() {
            Ok(key) => claims.push((named, key, md5)),
            Err(refusal) => return Ok(plain(Err(refusal))),
        }
    }
    let mut changed = Vec::new();
    for (named, key, md5) in claims {
        if !listens {
            connection.unlisten(&key);
            continue;
        }
        let tenant = named.tenant.as_deref().unwrap_or_default();
        let tag = if tenant.trim().is_empty() { TENANT_ABSENT } else { TENANT_NAMED };
        if !connection.listen(&key, md5, tag) {
            let message = "this connection or this node listens to as many keys as it may";
            return Ok(plain(Err(Refusal::new(503, message))));
        }
        // Compared after it is listened to: no change falls between.
        if !md5.matches(server.app.node.store().md5_for(&key, connection.labels())) {
            let object = Object::new().text("group", &named.group).text("dataId", &named.data_id);
            changed.push(match &named.tenant {
                Some(tenant) => object.text("tenant", tenant),
                None => object,
            });
        }
    }
    let more = Object::response(&Ok(())).list("changedConfigs", changed);
    Ok(Answered { outcome: Ok(()), more })
}
