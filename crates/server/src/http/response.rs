//! Answers as they are put together: bodies, the headers that many answers share, and the error
//! forms of the reference (config.md §0.6).
//!
//! Known differences: the reason phrase of the status line is the standard one instead of none,
//! header names are in lower case, and a body always has its `Content-Length`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, EXPIRES, HeaderMap, HeaderName, HeaderValue, PRAGMA,
    RETRY_AFTER,
};
use quorate_core::time::Revision;
use serde::Serialize;

use super::date::iso8601;
use super::pairs::{MAX_PAIRS, Malformed};
use crate::clock;
use crate::failure::Failure;

/// What every handler ends with.
pub(crate) type Response = hyper::Response<Full<Bytes>>;

/// An answer that ends a request early. Boxed: it is the rare way out.
pub(crate) type Refused = Box<Response>;

/// The preset of `/v1/cs/*` (config.md §0.2).
pub(crate) static JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");
/// Of JSON elsewhere.
pub(crate) static PLAIN_JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Of texts, contents among them.
pub(crate) static TEXT: HeaderValue = HeaderValue::from_static("text/plain;charset=UTF-8");

static REVISION: HeaderName = HeaderName::from_static("quorate-revision");
static NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
static LONG_AGO: HeaderValue = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
static NO_STORE: HeaderValue = HeaderValue::from_static("no-cache,no-store");
static CLOSE: HeaderValue = HeaderValue::from_static("close");
static SOON: HeaderValue = HeaderValue::from_static("1");

/// An answer of this status, type and body.
pub(crate) fn respond(
    status: StatusCode,
    content_type: &HeaderValue,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().reserve(8);
    response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    close_as_the_reference(&mut response);
    response
}

/// The reference's container closes the connection after these.
fn close_as_the_reference(response: &mut Response) {
    if matches!(response.status().as_u16(), 400 | 408 | 411 | 413 | 414 | 500 | 501 | 503) {
        response.headers_mut().insert(CONNECTION, CLOSE.clone());
    }
}

/// `Pragma`, `Expires` and `Cache-Control`, in the reference's order.
pub(crate) fn forbid_caching(headers: &mut HeaderMap) {
    headers.insert(PRAGMA, NO_CACHE.clone());
    headers.insert(EXPIRES, LONG_AGO.clone());
    headers.insert(CACHE_CONTROL, NO_STORE.clone());
}

/// Names the revision that an answer was given at.
pub(crate) fn stamp(headers: &mut HeaderMap, revision: Revision) {
    headers.insert(&REVISION, HeaderValue::from(revision.0));
}

/// A header value made of a text; empty when a header cannot carry it.
pub(crate) fn value(text: impl Into<Bytes>) -> HeaderValue {
    HeaderValue::from_maybe_shared(text.into()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// JSON in the form of `/v1/cs/*` or elsewhere.
pub(crate) fn json(
    status: StatusCode,
    content_type: &HeaderValue,
    body: &impl Serialize,
) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => respond(status, content_type, body),
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, &TEXT, ""),
    }
}

/// The v1 error text: `caused: …;`.
pub(crate) fn caused(status: StatusCode, message: &str) -> Response {
    respond(status, &TEXT, format!("caused: {message};"))
}

/// A refused parameter of v1.
pub(crate) fn invalid(message: &str) -> Refused {
    Box::new(caused(StatusCode::BAD_REQUEST, message))
}

/// Parameters that cannot be read.
pub(crate) fn malformed(why: Malformed) -> Refused {
    match why {
        Malformed::Encoding => invalid("a parameter is not percent-encoded UTF-8"),
        Malformed::Multipart => invalid("the multipart form is broken"),
        Malformed::Count => invalid(&format!("more than {MAX_PAIRS} parameters")),
    }
}

/// What the parameter check in front of the controllers answers (config.md §1.2, layer A).
pub(crate) fn check_failed(message: &str) -> Refused {
    let mut response = respond(StatusCode::BAD_REQUEST, &JSON, format!("{message}\r\n"));
    forbid_caching(response.headers_mut());
    Box::new(response)
}

#[derive(Serialize)]
struct ErrorPage<'a> {
    timestamp: String,
    status: u16,
    error: &'a str,
    message: &'a str,
    path: &'a str,
}

/// The container's error page (config.md §0.6).
pub(crate) fn error_page(status: StatusCode, message: &str, path: &str) -> Response {
    let page = ErrorPage {
        timestamp: iso8601(clock::unix_ms()),
        status: status.as_u16(),
        error: status.canonical_reason().unwrap_or_default(),
        message,
        path,
    };
    let preset = path.starts_with("/nacos/v1/cs/");
    json(status, if preset { &JSON } else { &PLAIN_JSON }, &page)
}

/// A required parameter that was not sent.
pub(crate) fn missing(parameter: &str, path: &str) -> Refused {
    let message = format!("Required parameter '{parameter}' is not present.");
    Box::new(error_page(StatusCode::BAD_REQUEST, &message, path))
}

/// A failure of an operation as v1 renders it: a text, or `false` for what is found out after
/// the parameters were accepted (config.md §2.1.1).
pub(crate) fn failed(failure: &Failure) -> Response {
    let status = failure.status();
    let mut response = match failure.text() {
        Some(text) => caused(status, &text),
        None => respond(status, &JSON, "false"),
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        retry_soon(&mut response);
    }
    response
}

/// Tells the client to come back in a second.
pub(crate) fn retry_soon(response: &mut Response) {
    response.headers_mut().insert(RETRY_AFTER, SOON.clone());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use http_body_util::BodyExt;

    /// Status, headers in order, body.
    pub(crate) fn seen(response: Response) -> (u16, Vec<(String, String)>, String) {
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let body = response.into_body().collect();
        let body = std::pin::pin!(body);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Ok(body)) = body.poll(&mut context) else {
            panic!("a full body is ready")
        };
        (status, headers, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[test]
    fn errors_close_the_connection() {
        for (status, closes) in [(400, true), (404, false), (500, true), (503, true), (410, false)]
        {
            let (_, headers, body) = seen(caused(StatusCode::from_u16(status).unwrap(), "why"));
            assert_eq!(headers.iter().any(|(name, _)| name == "connection"), closes, "{status}");
            assert_eq!(body, "caused: why;");
        }
    }

    #[test]
    fn the_check_ends_with_cr_lf() {
        let (status, headers, body) = seen(*check_failed("no"));
        assert_eq!((status, body.as_str()), (400, "no\r\n"));
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type", "connection", "pragma", "expires", "cache-control"]);
    }

    #[test]
    fn error_pages_are_json() {
        let (status, _, body) = seen(*missing("dataId", "/nacos/v1/cs/configs"));
        assert_eq!(status, 400);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["message"], "Required parameter 'dataId' is not present.");
        assert_eq!(
            (&body["error"], &body["path"]),
            (&"Bad Request".into(), &"/nacos/v1/cs/configs".into())
        );
    }
}
