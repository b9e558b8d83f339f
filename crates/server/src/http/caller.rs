//! Who asks: the client's address and application as its headers say (config.md §0.3).

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::{HeaderMap, HeaderName};
use quorate_core::kind::gray::Labels;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
static VIPSERVER_TAG: HeaderName = HeaderName::from_static("vipserver-tag");
static APP_NAME: HeaderName = HeaderName::from_static("client-appname");

/// Longest address that is believed: it is stored with what is written.
const MAX_IP_BYTES: usize = 64;

/// A header as text; `None` when it was not sent or is no visible ASCII.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// First part of `X-Forwarded-For`, else `X-Real-IP`, else the peer of the connection.
pub(crate) fn ip(headers: &HeaderMap, peer: IpAddr) -> Cow<'_, str> {
    let first = |name| {
        let value = header(headers, name)?;
        let first = value.split(',').next().unwrap_or_default().trim();
        (!first.is_empty() && first.len() <= MAX_IP_BYTES).then_some(first)
    };
    first(&FORWARDED_FOR)
        .or_else(|| first(&REAL_IP))
        .map_or_else(|| Cow::Owned(peer.to_string()), Cow::Borrowed)
}

/// By what gray releases are chosen: the address, and the tag that was asked for or that the
/// client carries.
pub(crate) fn labels(headers: &HeaderMap, peer: IpAddr, tag: Option<&str>) -> Labels {
    let carried = || header(headers, &VIPSERVER_TAG).unwrap_or_default();
    Labels::new(&ip(headers, peer), tag.unwrap_or_else(carried))
}

/// The name of the client's application, as it was sent.
pub(crate) fn app(headers: &HeaderMap) -> Option<&str> {
    header(headers, &APP_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_before_the_connection() {
        let long = "1".repeat(65);
        for (forwarded, real, want) in [
            (None, None, "127.0.0.1"),
            (Some(" 10.0.0.1 , 10.0.0.2"), Some("10.0.0.3"), "10.0.0.1"),
            (Some(""), Some("10.0.0.3"), "10.0.0.3"),
            (Some(" ,10.0.0.2"), None, "127.0.0.1"),
            (Some(long.as_str()), None, "127.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(&FORWARDED_FOR, forwarded), (&REAL_IP, real)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(ip(&headers, IpAddr::from([127, 0, 0, 1])), want, "{forwarded:?}");
        }
    }
}
