//! What is asked about clients, and of them: who is connected, their own figures, and that they go
//! elsewhere (grpc.md §7, config.md §4.8).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Server;
use super::connection::Connection;
use super::wire::{Object, push};

/// For one client's answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Clients of one address that are asked.
const MAX_ASKED: usize = 100;

impl Server {
    fn set_up(&self) -> Vec<Arc<Connection>> {
        let all = self.connections.lock();
        all.values().filter(|connection| connection.setup().is_some()).cloned().collect()
    }

    /// How many clients are connected.
    pub(crate) fn count(&self) -> usize {
        self.connections.lock().len()
    }

    /// The figures that clients of an address keep of themselves, of one key where it is named:
    /// those of the clients that answer within a second.
    pub(crate) async fn client_metrics(&self, ip: &str, key: Option<&str>) -> Map<String, Value> {
        let mut asked = JoinSet::new();
        let of_ip = |it: &Arc<Connection>| it.setup().is_some_and(|setup| setup.client_ip == ip);
        for connection in self.set_up().into_iter().filter(of_ip).take(MAX_ASKED) {
            let (answer, answered) = oneshot::channel();
            let id = self.push_id();
            let keys = key.iter().flat_map(|key| {
                ["cacheData", "snapshotData"]
                    .map(|kind| Object::new().text("type", kind).text("key", key))
            });
            let object = Object::request(Some(id)).list("metricsKeys", keys);
            let payload =
                push("ClientConfigMetricRequest", self.ip(), object.text("module", "config"));
            if connection.outbox.lock().ask(id, payload, answer) {
                asked.spawn(timeout(PATIENCE, answered));
            }
        }
        let mut metrics = Map::new();
        while let Some(answered) = asked.join_next().await {
            if let Ok(Ok(Ok(body))) = answered {
                metrics.extend(metrics_of(&body));
            }
        }
        metrics
    }

    /// The connections of clients by their ids (core.md §9).
    pub(crate) fn rows(&self) -> BTreeMap<String, Value> {
        self.set_up().iter().filter_map(|it| Some((it.id.clone(), row(it)?))).collect()
    }

    /// Tells a client to connect to another node, to this one where it is named; false when there
    /// is no such client.
    pub(crate) fn reset(&self, id: &str, redirect: Option<&str>) -> bool {
        let found = self.set_up().into_iter().find(|connection| connection.id == id);
        found.is_some_and(|connection| self.send_away(&connection, redirect))
    }

    /// Tells so many clients that no more than `count` are left.
    pub(crate) fn reload_to(&self, count: usize, redirect: Option<&str>) {
        let all = self.set_up();
        for connection in all.iter().take(all.len().saturating_sub(count)) {
            self.send_away(connection, redirect);
        }
    }

    fn send_away(&self, connection: &Connection, redirect: Option<&str>) -> bool {
        let object = Object::request(Some(self.push_id()));
        let object = match redirect.and_then(|address| address.rsplit_once(':')) {
            Some((ip, port)) => object
                .text("serverIp", ip)
                .text("serverPort", port)
                .text("connectionId", &connection.id),
            None => object,
        };
        let payload = push("ConnectResetRequest", self.ip(), object.text("module", "internal"));
        connection.outbox.lock().control(payload)
    }
}

/// What an answer of a client says.
fn metrics_of(body: &Bytes) -> Map<String, Value> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    match answer.get("metrics") {
        Some(Value::Object(metrics)) => metrics.clone(),
        _ => Map::new(),
    }
}

fn row(connection: &Connection) -> Option<Value> {
    let setup = connection.setup()?;
    let labels: Map<String, Value> =
        setup.labels.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let app = setup.app().unwrap_or("-");
    let in_app = json!({"ClientVersion": setup.version, "AppName": app});
    Some(json!({
        "traced": false,
        "abilityTable": null,
        "metaInfo": {
            "connectType": "GRPC",
            "clientIp": setup.client_ip,
            "remoteIp": connection.peer.ip().to_string(),
            "remotePort": connection.peer.port(),
            "localPort": connection.local_port,
            "version": setup.version,
            "connectionId": connection.id,
            "createTime": connection.created_ms,
            "lastActiveTime": connection.active_ms(),
            "appName": app,
            "namespaceId": setup.namespace,
            "labels": labels,
            "tlsProtected": false,
            "appLabels": in_app,
            "clusterSource": false,
            "sdkSource": true,
            "tag": setup.gray.tag(),
        },
        "connected": true,
        "appLabels": in_app,
        "labels": labels,
    }))
}
