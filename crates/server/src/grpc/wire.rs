//! Payloads: a type name and JSON in a frozen envelope (grpc.md §2, §3).

use bytes::Bytes;

#[expect(unreachable_pub, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}

pub(crate) use self::generated::{Any, Metadata, Payload};

/// What a client's message is, and its body.
pub(crate) fn parts(payload: Payload) -> (Metadata, Bytes) {
    let body = payload.body.map(|body| body.value).unwrap_or_default();
    (payload.metadata.unwrap_or_default(), body)
}

/// An answer: its metadata has the type alone.
pub(crate) fn answer(kind: &str, json: Object) -> Payload {
    envelope(kind, String::new(), json)
}

/// A push: its metadata names this server's address, too.
pub(crate) fn push(kind: &str, server_ip: &str, json: Object) -> Payload {
    envelope(kind, server_ip.to_owned(), json)
}

fn envelope(kind: &str, client_ip: String, json: Object) -> Payload {
    let metadata = Metadata { r#type: kind.to_owned(), client_ip, headers: Default::default() };
    let body = Any { type_url: String::new(), value: json.finish() };
    Payload { metadata: Some(metadata), body: Some(body) }
}

/// A JSON object as clients expect it: fields in the reference's order, nulls left out.
#[derive(Debug)]
pub(crate) struct Object {
    text: Vec<u8>,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { text: vec![b'{'] }
    }

    /// What every request begins with.
    pub(crate) fn request(id: Option<u64>) -> Self {
        let object = Self::new().raw("headers", b"{}");
        match id {
            Some(id) => object.text("requestId", &id.to_string()),
            None => object,
        }
    }

    /// What every answer begins with.
    pub(crate) fn response(outcome: &Result<(), Refusal>) -> Self {
        match outcome {
            Ok(()) => Self::new().number("resultCode", 200).number("errorCode", 0),
            Err(Refusal { result, error, message }) => {
                let object = Self::new().number("resultCode", *result).number("errorCode", *error);
                if message.is_empty() { object } else { object.text("message", message) }
            }
        }
    }

    fn name(&mut self, name: &str) {
        if self.text.len() > 1 {
            self.text.push(b',');
        }
        self.value(name);
        self.text.push(b':');
    }

    fn value(&mut self, value: impl serde::Serialize) {
        // Into memory, of texts and numbers: it cannot fail.
        drop(serde_json::to_writer(&mut self.text, &value));
    }

    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        self.value(value);
        self
    }

    pub(crate) fn number(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        self.value(value);
        self
    }

    pub(crate) fn flag(mut self, name: &str, value: bool) -> Self {
        self.name(name);
        self.value(value);
        self
    }

    /// JSON as it is.
    pub(crate) fn raw(mut self, name: &str, json: &[u8]) -> Self {
        self.name(name);
        self.text.extend_from_slice(json);
        self
    }

    /// Objects in a list.
    pub(crate) fn list(mut self, name: &str, items: impl IntoIterator<Item = Self>) -> Self {
        self.name(name);
        self.text.push(b'[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.text.push(b',');
            }
            self.text.extend_from_slice(&item.finish());
        }
        self.text.push(b']');
        self
    }

    pub(crate) fn finish(mut self) -> Bytes {
        self.text.push(b'}');
        self.text.into()
    }
}

/// Why a request was not done, in the codes of grpc.md §4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) result: u64,
    pub(crate) error: u64,
    pub(crate) message: String,
}

impl Refusal {
    /// 500 with a code of its own.
    pub(crate) fn new(error: u64, message: impl Into<String>) -> Self {
        Self { result: 500, error, message: message.into() }
    }

    /// The answer of no particular request.
    pub(crate) fn error_response(self) -> Payload {
        let json = Object::response(&Err(self)).flag("success", false);
        answer("ErrorResponse", json)
    }
}
