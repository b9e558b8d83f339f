//! Long and short polls: `POST /nacos/v1/cs/configs/listener` (config.md §3).
//!
//! While a poll is held nothing of its request is alive: header values are slices of the
//! connection's 8 KiB read buffer and would keep it. What reading needs lives in a box of its
//! own, so that the future which waits is small.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId};
use quorate_core::kind::gray::Labels;
use quorate_core::poll::{Poll, PollEnd, PolledKey};
use quorate_core::watch::{Change, ClientMd5};
use tokio::time::{Instant, sleep};

use super::super::long_poll::{self, Line, write_changed};
use super::super::pairs::{Form, Pairs};
use super::super::response::{
    JSON, Refused, Response, error_page, forbid_caching, invalid, malformed, respond, retry_soon,
    stamp, value,
};
use super::super::{App, body, caller, check};
use crate::client_log::{self, PollLine};
use crate::metrics::PollAnswer;
use crate::operations::listen::{self, Registered};

static TIMEOUT: HeaderName = HeaderName::from_static("long-pulling-timeout");
static NO_HANG_UP: HeaderName = HeaderName::from_static("long-pulling-timeout-no-hangup");
static CLIENT_VERSION: HeaderName = HeaderName::from_static("client-version");
static PROBE: HeaderName = HeaderName::from_static("probe-modify-response");
static PROBE_NEW: HeaderName = HeaderName::from_static("probe-modify-response-new");

/// [`PolledKey::tag`] of a line without namespace: the answer has none either.
const UNNAMED: u8 = 0;
/// [`PolledKey::tag`] of a line that named its namespace.
const NAMED: u8 = 1;

/// Longest hold, whatever the client asks for.
const MAX_HOLD: Duration = Duration::from_hours(1);

/// Clients from this version on are told nothing by a short poll.
const SILENT_VERSION: u64 = 204;

/// What a request says.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    keys: Vec<PolledKey>,
    /// The answer's part for keys that no configuration can have and that the client yet claims
    /// to have: changed for ever.
    impossible: String,
    /// Distinct keys, those too that no configuration can have.
    count: usize,
    /// UTF-16 units of the decoded list.
    length: usize,
    /// The timeout header as it was sent; `None` for a short poll.
    timeout: Option<String>,
    no_hang_up: bool,
    /// Of `Client-Version`, for short polls.
    version: u64,
}

/// What comes after reading.
enum Next {
    Answer(Box<Response>),
    Hold(Held),
    Deny,
}

/// Long-polls or short-polls. Reads, answers what can be answered, holds the rest.
pub(crate) fn listen<B>(
    app: App,
    peer: IpAddr,
    request: Request<B>,
) -> impl Future<Output = Response> + Send
where
    B: Body<Data = Bytes, Error: Send> + Send + Unpin + 'static,
{
    let (head, body) = request.into_parts();
    let reading = Box::pin(read(app.clone(), peer, head, body));
    async move {
        let next = reading.await;
        match next {
            Next::Answer(response) => *response,
            Next::Hold(held) => held.wait(&app).await,
            Next::Deny => Box::pin(deny(app)).await,
        }
    }
}

async fn read<B>(app: App, peer: IpAddr, head: Parts, body: B) -> Next
where
    B: Body<Data = Bytes> + Unpin,
{
    let start = Instant::now();
    let labels = caller::labels(&head.headers, peer, None);
    let ip = client_log::is_on().then(|| labels.ip().to_owned());
    let whole = match app.bodies.read(body, head.uri.path()).await {
        Ok(whole) => whole,
        Err(refused) => return Next::Answer(refused),
    };
    let limit = app.limits.keys_per_poll;
    let large = whole.bytes.len() > body::LARGE_BYTES;
    let asked = body::off_thread(large, move || {
        let form = body::form(&head.headers, &whole.bytes);
        let query = head.uri.query().unwrap_or_default();
        parse(query, form, head.uri.path(), &head.headers, limit)
    });
    let asked = match asked.await {
        Ok(asked) => asked,
        Err(refused) => return Next::Answer(refused),
    };
    let line = ip.map(|ip| {
        let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let (keys, length) = (number(asked.count), number(asked.length));
        Box::new(Arrived { line: PollLine { ip: ip.into_boxed_str(), keys, length }, start })
    });
    decide(&app, asked, &labels, line)
}

fn parse(
    query: &str,
    form: Form<'_>,
    path: &str,
    headers: &HeaderMap,
    limit: usize,
) -> Result<Asked, Refused> {
    let pairs = Pairs::parse(query, form).map_err(malformed)?;
    let parameter = pairs.first("Listening-Configs").map_err(malformed)?.unwrap_or_default();
    if parameter.trim().is_empty() {
        return Err(invalid_probe());
    }
    let text = long_poll::decode_again(&parameter).map_err(|_| invalid_probe())?;
    check_lines(&text, path)?;
    let (keys, impossible, count) = keys(&text, limit)?;
    Ok(Asked {
        keys,
        impossible,
        count,
        length: text.encode_utf16().count(),
        timeout: headers
            .get(&TIMEOUT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        no_hang_up: caller::header(headers, &NO_HANG_UP)
            .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        version: version(caller::header(headers, &CLIENT_VERSION).unwrap_or("2.0.0")),
    })
}

fn invalid_probe() -> Refused {
    invalid("invalid probeModify")
}

/// The parameter check, which sees all lines before it judges one and whose own complaint about
/// their form ends on the error page.
fn check_lines(text: &str, path: &str) -> Result<(), Refused> {
    if long_poll::checked_lines(text).any(|line| line.is_err()) {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return Err(Box::new(error_page(status, "invalid probeModify", path)));
    }
    for line in long_poll::checked_lines(text).flatten() {
        check::listened(line.data_id, line.group, line.tenant.unwrap_or_default())?;
    }
    Ok(())
}

/// The keys, the last line of each winning, at most `limit` of them.
fn keys(text: &str, limit: usize) -> Result<(Vec<PolledKey>, String, usize), Refused> {
    let mut keys: Vec<PolledKey> = Vec::new();
    let mut places: HashMap<GroupKey, usize> = HashMap::new();
    let (mut impossible, mut impossible_count) = (String::new(), 0);
    for line in long_poll::lines(text) {
        let line = line.map_err(|_| invalid_probe())?;
        let md5 = ClientMd5::parse(line.md5);
        let tag = if line.tenant.trim().is_empty() { UNNAMED } else { NAMED };
        if let Some(key) = key(&line) {
            let polled = PolledKey { key, md5, tag };
            match places.get(&polled.key).and_then(|place| keys.get_mut(*place)) {
                Some(earlier) => *earlier = polled,
                None => {
                    places.insert(polled.key.clone(), keys.len());
                    keys.push(polled);
                }
            }
        } else {
            impossible_count += 1;
            if md5 != ClientMd5::Empty {
                let tenant = (tag == NAMED).then_some(line.tenant);
                write_changed(line.data_id, line.group, tenant, &mut impossible);
            }
        }
        if keys.len() + impossible_count > limit {
            return Err(invalid_probe());
        }
    }
    let count = keys.len() + impossible_count;
    Ok((keys, impossible, count))
}

fn key(line: &Line<'_>) -> Option<GroupKey> {
    let namespace = NamespaceId::parse_or_public(line.tenant).ok()?;
    let group = Group::parse(line.group).ok()?;
    let data_id = DataId::parse(line.data_id).ok()?;
    Some(GroupKey::new(&namespace, &group, &data_id))
}

/// `2.0.3` is 203; parts that are no number do not count (config.md §3.6).
fn version(text: &str) -> u64 {
    let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.split('.').filter(is_number).filter_map(|part| part.parse::<u64>().ok());
    parts.fold(0, |sum, part| sum.saturating_mul(10).saturating_add(part))
}

/// A poll's line in the client log, begun.
struct Arrived {
    line: PollLine,
    start: Instant,
}

/// Answers, or says that the poll is to be held (config.md §3.4).
fn decide(app: &App, asked: Asked, labels: &Labels, arrived: Option<Box<Arrived>>) -> Next {
    let store = app.node.store();
    let Asked { keys, impossible, count: _, length: _, timeout, no_hang_up, version } = asked;
    let Some(timeout) = timeout else {
        app.metrics.polled(PollAnswer::Short);
        let changed = listen::compare(store, &keys, labels);
        let changed: Vec<_> = changed.iter().filter_map(|index| keys.get(*index)).collect();
        return Next::Answer(Box::new(short(app, &changed, impossible, version)));
    };
    let switches = app.switches.values(store);
    if let Some(interval) = switches.fixed {
        let fixed = Fixed { keys, impossible, labels: labels.clone() };
        return hold_fixed(app, fixed, interval, arrived);
    }
    let instant = |changed: &[PolledKey], impossible: String| {
        app.metrics.polled(PollAnswer::Instant);
        if let Some(arrived) = &arrived {
            // Those that no configuration can have are changed too, each with one line end.
            let impossible = impossible.matches("%01").count();
            arrived.line.instant(arrived.start.elapsed(), changed.len() + impossible);
        }
        Next::Answer(Box::new(changed_keys(app, changed, impossible)))
    };
    let empty_now = |answer| {
        app.metrics.polled(answer);
        Next::Answer(Box::new(unchanged(app)))
    };
    if !impossible.is_empty() || no_hang_up {
        let changed = listen::compare(store, &keys, labels);
        let changed: Vec<_> =
            changed.iter().filter_map(|index| keys.get(*index)).cloned().collect();
        if !changed.is_empty() || !impossible.is_empty() {
            return instant(&changed, impossible);
        }
        if let Some(arrived) = &arrived {
            arrived.line.no_hang_up(arrived.start.elapsed());
        }
        return empty_now(PollAnswer::NoHangup);
    }
    match listen::register(app.node.polls(), store, keys, labels) {
        Registered::Differs(changed) => instant(&changed, impossible),
        Registered::Full => Next::Deny,
        Registered::Closed => empty_now(PollAnswer::Closed),
        Registered::Same(poll) => {
            // Read as late as the reference does: a wrong number only matters to who is held.
            let Ok(asked_ms) = timeout.parse::<i64>() else {
                return Next::Answer(invalid(&format!("For input string: \"{timeout}\"")));
            };
            let asked = Duration::from_millis(u64::try_from(asked_ms).unwrap_or_default());
            let hold = switches.least_hold.max(asked.saturating_sub(switches.lead)).min(MAX_HOLD);
            Next::Hold(Held { poll, deadline: Instant::now() + hold, fixed: None, arrived })
        }
    }
}

fn hold_fixed(app: &App, fixed: Fixed, interval: Duration, arrived: Option<Box<Arrived>>) -> Next {
    // Held under no key: changes do not matter until the interval is over.
    match listen::register(app.node.polls(), app.node.store(), Vec::new(), &Labels::default()) {
        Registered::Same(poll) => {
            let fixed = Some(Box::new(fixed));
            let deadline = Instant::now() + interval.min(MAX_HOLD);
            Next::Hold(Held { poll, deadline, fixed, arrived })
        }
        Registered::Differs(_) | Registered::Full => Next::Deny,
        Registered::Closed => {
            app.metrics.polled(PollAnswer::Closed);
            Next::Answer(Box::new(unchanged(app)))
        }
    }
}

/// What is compared when a fixed interval is over.
struct Fixed {
    keys: Vec<PolledKey>,
    impossible: String,
    labels: Labels,
}

/// A held poll.
struct Held {
    poll: Poll,
    deadline: Instant,
    fixed: Option<Box<Fixed>>,
    arrived: Option<Box<Arrived>>,
}

impl Held {
    async fn wait(self, app: &App) -> Response {
        let Self { poll, deadline, fixed, arrived } = self;
        match poll.wait(deadline).await {
            PollEnd::Changed { change, tag } => {
                app.metrics.polled(PollAnswer::InAdvance);
                if let Some(arrived) = arrived {
                    arrived.line.in_advance(change.at.elapsed(), &change.key, tag == NAMED);
                }
                in_advance(app, &change, tag)
            }
            PollEnd::TimedOut => timed_out(app, fixed, arrived),
            PollEnd::Closed => {
                app.metrics.polled(PollAnswer::Closed);
                unchanged(app)
            }
        }
    }
}

fn timed_out(app: &App, fixed: Option<Box<Fixed>>, arrived: Option<Box<Arrived>>) -> Response {
    let Some(fixed) = fixed else {
        app.metrics.polled(PollAnswer::Timeout);
        if let Some(arrived) = arrived {
            arrived.line.timeout(arrived.start.elapsed());
        }
        return unchanged(app);
    };
    app.metrics.polled(PollAnswer::Fixed);
    if let Some(arrived) = arrived {
        arrived.line.fixed(arrived.start.elapsed());
    }
    let Fixed { keys, impossible, labels } = *fixed;
    let changed = listen::compare(app.node.store(), &keys, &labels);
    if changed.is_empty() && impossible.is_empty() {
        return unchanged(app);
    }
    let changed: Vec<_> = changed.iter().filter_map(|index| keys.get(*index)).cloned().collect();
    changed_keys(app, &changed, impossible)
}

fn write_key(key: &GroupKey, tag: u8, into: &mut String) {
    let tenant = (tag == NAMED).then(|| key.namespace());
    write_changed(key.data_id(), key.group(), tenant, into);
}

/// One changed key: its bytes are made once for all who wait for it in the same form.
fn in_advance(app: &App, change: &Change, tag: u8) -> Response {
    let body = change.rendered(usize::from(tag), |key| {
        let mut text = String::new();
        write_key(key, tag, &mut text);
        text.push('\n');
        Bytes::from(text)
    });
    answer(app, body)
}

/// All changed keys.
fn changed_keys(app: &App, changed: &[PolledKey], impossible: String) -> Response {
    let mut text = impossible;
    for PolledKey { key, md5: _, tag } in changed {
        write_key(key, *tag, &mut text);
    }
    text.push('\n');
    answer(app, text)
}

fn answer(app: &App, body: impl Into<Bytes>) -> Response {
    let mut response = unchanged(app);
    *response.body_mut() = body.into().into();
    forbid_caching(response.headers_mut());
    response
}

/// Nothing to tell: no body, and none of the cache headers.
fn unchanged(app: &App) -> Response {
    let mut response = respond(StatusCode::OK, &JSON, Bytes::new());
    stamp(response.headers_mut(), app.node.store().revision());
    response
}

/// A short poll: old clients read headers, newer ones are told nothing (config.md §3.6).
fn short(app: &App, changed: &[&PolledKey], impossible: String, version: u64) -> Response {
    let mut response = answer(app, Bytes::new());
    if version < SILENT_VERSION {
        let (mut old, mut new) = (String::new(), impossible);
        for PolledKey { key, md5: _, tag } in changed {
            old.extend([key.data_id(), ":", key.group(), ";"]);
            write_key(key, *tag, &mut new);
        }
        response.headers_mut().insert(&PROBE, value(old));
        response.headers_mut().insert(&PROBE_NEW, value(new));
    }
    response
}

/// As many polls are held as may be: the reference's connection control answers late, so that
/// the client does not come back at once.
async fn deny(app: App) -> Response {
    let random = RandomState::new().build_hasher().finish() % 2000;
    sleep(Duration::from_millis(1000 + random)).await;
    app.metrics.polled(PollAnswer::Refused);
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = respond(status, &JSON, "too many long polls are held\n");
    forbid_caching(response.headers_mut());
    retry_soon(&mut response);
    response
}

#[cfg(test)]
mod tests;
