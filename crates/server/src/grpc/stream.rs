//! The stream of one connection: what the client sends on it is taken in while what it is to be
//! told goes out. One future does both, so a connection needs no further task.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::Labels;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::Server;
use super::connection::{Connection, Setup};
use super::fields::{Fields, Unreadable};
use super::wire::{Object, Payload, parts, push};

/// Payloads taken in before others get their turn.
const TURN: usize = 64;

/// What goes to the client.
pub(super) struct PushStream {
    server: Server,
    connection: Arc<Connection>,
    inbound: Streaming<Payload>,
    number: u32,
    /// For this stream alone.
    own: VecDeque<Payload>,
    is_over: bool,
}

impl PushStream {
    pub(super) fn new(
        server: Server,
        connection: Arc<Connection>,
        inbound: Streaming<Payload>,
    ) -> Self {
        let number = connection.open_stream();
        Self { server, connection, inbound, number, own: VecDeque::new(), is_over: false }
    }

    /// Takes in what has come.
    fn take_in(&mut self, context: &mut Context<'_>) {
        for _ in 0..TURN {
            match Pin::new(&mut self.inbound).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(payload))) => self.received(payload),
                // Half closed, or broken: this side ends, and the connection stays registered.
                Poll::Ready(None | Some(Err(_))) => {
                    self.is_over = true;
                    return;
                }
            }
            if self.is_over {
                return;
            }
        }
        context.waker().wake_by_ref();
    }

    fn received(&mut self, payload: Payload) {
        let (metadata, body) = parts(payload);
        if metadata.r#type == "ConnectionSetupRequest" {
            // What cannot be read is ignored, as the reference does.
            if let Ok(setup) = read_setup(&body, metadata.client_ip) {
                self.set_up(setup);
            }
        } else if metadata.r#type.ends_with("Response") {
            self.connection.touch();
            self.acknowledged(&body);
        }
    }

    fn set_up(&mut self, (setup, negotiates): (Setup, bool)) {
        if !self.server.has_started() || !self.server.admit(&self.connection, setup) {
            // Without a word, as the reference: the client tries another server.
            self.is_over = true;
            self.connection.closing.cancel();
            return;
        }
        if negotiates {
            let abilities = br#"{"supportPersistentInstanceByGrpc":false,"fuzzyWatch":true,"lock":false,"mcp":false}"#;
            let object = Object::request(None).raw("abilityTable", abilities);
            let object = object.text("module", "internal");
            self.own.push_back(push("SetupAckRequest", self.server.ip(), object));
        }
    }

    fn acknowledged(&self, body: &Bytes) {
        let Ok(fields) = Fields::parse(body) else { return };
        let id = fields.text("requestId").ok().flatten().and_then(|id| id.parse().ok());
        let Some(id) = id else { return };
        if self.connection.outbox.lock().answered(id, body) {
            return;
        }
        let code = fields.text("resultCode").ok().flatten();
        let is_success = code.is_none_or(|code| code == "200");
        self.connection.outbox.lock().acknowledged(id, is_success, Instant::now());
        self.server.count_acknowledged(is_success);
    }
}

/// A setup, and whether the client negotiates abilities.
fn read_setup(body: &[u8], client_ip: String) -> Result<(Setup, bool), Unreadable> {
    let mut fields = Fields::parse(body)?;
    let version = fields.take_text("clientVersion")?.unwrap_or_default();
    let namespace = fields.text("tenant")?.unwrap_or_default();
    let labels: Vec<(String, String)> =
        fields.take_object("labels")?.unwrap_or_default().texts().collect();
    let tag = labels.iter().find(|(name, _)| name == "app_Vipserver-Tag");
    let gray = Labels::new(&client_ip, tag.map_or("", |(_, tag)| tag.as_str()));
    let negotiates = fields.take_object("abilityTable")?.is_some();
    Ok((Setup { client_ip, version, namespace, labels, gray }, negotiates))
}

impl Stream for PushStream {
    type Item = Result<Payload, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.is_over {
            this.take_in(context);
        }
        if this.is_over || this.connection.closing.is_cancelled() {
            return Poll::Ready(None);
        }
        if let Some(payload) = this.own.pop_front() {
            return Poll::Ready(Some(Ok(payload)));
        }
        if this.connection.setup().is_none() || !this.connection.takes_pushes(this.number) {
            return Poll::Pending;
        }
        let mut outbox = this.connection.outbox.lock();
        let store = this.server.app.node.store();
        let exists = |key: &GroupKey| store.md5(key).is_some();
        let next = outbox.next(Instant::now(), this.server.ip(), &exists, || this.server.push_id());
        match next {
            Some(payload) => {
                drop(outbox);
                this.server.count_sent();
                Poll::Ready(Some(Ok(payload)))
            }
            None => {
                outbox.wait(context.waker());
                Poll::Pending
            }
        }
    }
}

impl Drop for PushStream {
    fn drop(&mut self) {
        self.connection.close_stream(self.number);
    }
}
