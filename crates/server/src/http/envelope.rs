//! The envelopes of the administration routes (config.md §0.5) and their failures (§0.6): one
//! refusal, written as each generation writes it.

use hyper::StatusCode;
use serde::Serialize;

use super::response::{JSON, PLAIN_JSON, Response, caused, failed, json, respond, retry_soon};
use crate::failure::Failure;

/// Which generation of routes is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `/v1`
    V1,
    /// `/v2`
    V2,
    /// `/v3/admin`
    Admin,
    /// `/v3/console`
    Console,
}

impl Dialect {
    /// Whether it is one of the third generation.
    pub(crate) const fn is_v3(self) -> bool {
        matches!(self, Self::Admin | Self::Console)
    }

    /// The parameter that names the group.
    pub(crate) const fn group(self) -> &'static str {
        if self.is_v3() { "groupName" } else { "group" }
    }

    /// The parameter that names the namespace.
    pub(crate) const fn namespace(self) -> &'static str {
        if matches!(self, Self::V1) { "tenant" } else { "namespaceId" }
    }
}

/// A code of the second envelope with its text (config.md §0.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u32, pub(crate) &'static str);

impl Code {
    pub(crate) const SUCCESS: Self = Self(0, "success");
    pub(crate) const MISSING: Self = Self(10000, "parameter missing");
    pub(crate) const DENIED: Self = Self(10001, "access denied");
    pub(crate) const INVALID: Self = Self(20002, "parameter validate error");
    pub(crate) const NOT_FOUND: Self = Self(20004, "resource not found");
    pub(crate) const CONFLICT: Self = Self(20005, "resource conflict");
    pub(crate) const TOO_MANY_RELEASES: Self =
        Self(20010, "config gray version version over max count");
    pub(crate) const ILLEGAL_NAMESPACE: Self = Self(22000, "illegal namespace");
    pub(crate) const NO_NAMESPACE: Self = Self(22001, "namespace not exist");
    pub(crate) const NAMESPACE_EXISTS: Self = Self(22002, "namespace already exist");
    pub(crate) const SERVER: Self = Self(30000, "server error");
    pub(crate) const DISABLED: Self = Self(40001, "API function disabled.");
}

/// Why a request of the administration is not done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A status, a code and a text of our own.
    Known(StatusCode, Code, String),
    /// A failed operation.
    Failed(Failure),
    /// An answer that is written already: what came before the operation.
    Written(Box<Response>),
}

impl From<Box<Response>> for Trouble {
    fn from(written: Box<Response>) -> Self {
        Self::Written(written)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Trouble {
    /// 400, a parameter that may not be so.
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::Known(StatusCode::BAD_REQUEST, Code::INVALID, text.into())
    }

    /// 400, a parameter that is not there.
    pub(crate) fn missing(text: impl Into<String>) -> Self {
        Self::Known(StatusCode::BAD_REQUEST, Code::MISSING, text.into())
    }

    /// 404.
    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::Known(StatusCode::NOT_FOUND, Code::NOT_FOUND, text.into())
    }

    /// The answer.
    pub(crate) fn write(self, dialect: Dialect) -> Response {
        match self {
            Self::Written(response) => *response,
            Self::Known(status, _, text) if dialect == Dialect::V1 => caused(status, &text),
            Self::Known(status, code, text) => result(status, code, &text),
            Self::Failed(failure) if dialect == Dialect::V1 => failed(&failure),
            Self::Failed(failure) => write_failed(&failure),
        }
    }
}

fn write_failed(failure: &Failure) -> Response {
    let (code, text) = match failure {
        Failure::CasMismatch { .. } => {
            (Code::CONFLICT, "Cas publish fail, server md5 may have changed.".to_owned())
        }
        Failure::TooManyReleases => (Code::TOO_MANY_RELEASES, failure.to_string()),
        Failure::FieldTooLong | Failure::Invalid { .. } => (Code::INVALID, failure.to_string()),
        Failure::FieldDoesNotFit => (Code::SERVER, failure.to_string()),
        Failure::Exists { .. } | Failure::InUse => (Code::CONFLICT, failure.to_string()),
        Failure::Absent { .. } => (Code::NOT_FOUND, failure.to_string()),
        Failure::FeatureLevel { .. }
        | Failure::Superseded { .. }
        | Failure::Propose { .. }
        | Failure::Read(_)
        | Failure::BodiesInFlight => (Code::SERVER, failure.text().unwrap_or_default()),
    };
    let mut response = result(failure.status(), code, &text);
    if failure.status() == StatusCode::SERVICE_UNAVAILABLE {
        retry_soon(&mut response);
    }
    response
}

#[derive(Serialize)]
struct Rest<'a, T> {
    code: u32,
    message: Option<&'a str>,
    data: T,
    #[serde(rename = "noRight")]
    no_right: bool,
}

/// The first envelope, of v1.
pub(crate) fn rest(code: u32, message: Option<&str>, data: impl Serialize) -> Response {
    let no_right = matches!(code, 401 | 403);
    json(StatusCode::OK, &JSON, &Rest { code, message, data, no_right })
}

#[derive(Serialize)]
struct Enveloped<T> {
    code: u32,
    message: &'static str,
    data: T,
}

/// The second envelope, of v2 and v3.
pub(crate) fn result(status: StatusCode, code: Code, data: impl Serialize) -> Response {
    let Code(code, message) = code;
    json(status, &PLAIN_JSON, &Enveloped { code, message, data })
}

/// Success in the second envelope.
pub(crate) fn success(data: impl Serialize) -> Response {
    result(StatusCode::OK, Code::SUCCESS, data)
}

/// A bare value, as v1 answers many things.
pub(crate) fn bare(data: impl Serialize) -> Response {
    json(StatusCode::OK, &JSON, &data)
}

/// Nothing at all, as v1 answers what is not there.
pub(crate) fn nothing() -> Response {
    respond(StatusCode::OK, &JSON, "")
}
