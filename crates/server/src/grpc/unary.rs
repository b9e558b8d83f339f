//! Unary requests, in the order of checks of grpc.md §4. A failure is an answer like any other: the
//! reference never uses the codes of gRPC for them.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::connection::Connection;
use super::fields::{Fields, Unreadable};
use super::wire::{Object, Payload, Refusal, answer, parts};
use super::{config, fuzzy};

/// Answers that say "too much" come so late, so that clients do not ask in a loop.
const THROTTLE: Duration = Duration::from_secs(1);
const OVER_THRESHOLD: u64 = 503;

/// What is asked for. Those of other modules are added here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Health,
    ConfigQuery,
    ConfigPublish,
    ConfigRemove,
    ConfigListen,
    ConfigFuzzyWatch,
}

impl Kind {
    fn find(name: &str) -> Option<Self> {
        Some(match name {
            "HealthCheckRequest" => Self::Health,
            "ConfigQueryRequest" => Self::ConfigQuery,
            "ConfigPublishRequest" => Self::ConfigPublish,
            "ConfigRemoveRequest" => Self::ConfigRemove,
            "ConfigBatchListenRequest" => Self::ConfigListen,
            "ConfigFuzzyWatchRequest" => Self::ConfigFuzzyWatch,
            _ => return None,
        })
    }

    /// The answer's type: also of a refusal by a check or by the operation.
    const fn response(self) -> &'static str {
        match self {
            Self::Health => "HealthCheckResponse",
            Self::ConfigQuery => "ConfigQueryResponse",
            Self::ConfigPublish => "ConfigPublishResponse",
            Self::ConfigRemove => "ConfigRemoveResponse",
            Self::ConfigListen => "ConfigChangeBatchListenResponse",
            Self::ConfigFuzzyWatch => "ConfigFuzzyWatchResponse",
        }
    }
}

/// Between members of the reference, on a port of their own.
const INNER: [&str; 5] = [
    "ServerLoaderInfoRequest",
    "ServerReloadRequest",
    "MemberReportRequest",
    "DistroDataRequest",
    "ConfigChangeClusterSyncRequest",
];

/// What an operation found out, to be put after the fields that all answers have.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) outcome: Result<(), Refusal>,
    /// Adds the fields of this answer.
    pub(super) more: Object,
}

/// Answers one request.
pub(super) async fn answer_to(
    server: &Server,
    connection: &Arc<Connection>,
    payload: Payload,
) -> Payload {
    let (metadata, body) = parts(payload);
    let name = metadata.r#type.as_str();
    if INNER.contains(&name) {
        let message = format!(" invoke {name} from sdk is forbidden");
        return Refusal::new(502, message).error_response();
    }
    if !server.has_started() {
        let message = "Server is starting,please try later.";
        return Refusal::new(300, message).error_response();
    }
    if name == "ServerCheckRequest" {
        let object = Object::response(&Ok(()))
            .text("connectionId", &connection.id)
            .flag("supportAbilityNegotiation", true);
        return answer("ServerCheckResponse", object.flag("success", true));
    }
    let Some(kind) = Kind::find(name) else {
        return Refusal::new(302, "RequestHandler Not Found").error_response();
    };
    if connection.setup().is_none() {
        return Refusal::new(301, "Connection is unregistered.").error_response();
    }
    let read = match Fields::parse(&body) {
        Ok(fields) => {
            connection.touch();
            drop(body);
            handle(server, connection, kind, fields).await
        }
        Err(why) => Err(why),
    };
    match read {
        Ok(Answered { outcome, more }) => {
            if outcome.as_ref().is_err_and(|refusal| refusal.error == OVER_THRESHOLD) {
                tokio::time::sleep(THROTTLE).await;
            }
            let is_success = outcome.is_ok();
            answer(kind.response(), more.flag("success", is_success))
        }
        Err(Unreadable::Malformed) => {
            let message = "errCode: 101, errMsg: Nacos deserialize failed.  ";
            Refusal::new(502, message).error_response()
        }
        Err(Unreadable::Null) => Refusal::new(502, "Invalid request").error_response(),
    }
}

async fn handle(
    server: &Server,
    connection: &Arc<Connection>,
    kind: Kind,
    fields: Fields,
) -> Result<Answered, Unreadable> {
    match kind {
        Kind::Health => Ok(Answered { outcome: Ok(()), more: Object::response(&Ok(())) }),
        Kind::ConfigQuery => config::query(server, connection, &fields),
        Kind::ConfigPublish => config::publish(server, connection, fields).await,
        Kind::ConfigRemove => config::remove(server, connection, &fields).await,
        Kind::ConfigListen => config::listen(server, connection, fields),
        Kind::ConfigFuzzyWatch => fuzzy::watch(server, connection, fields).await,
    }
}
