//! What a publish may be asked beside what the reference knows, in all generations: to wait for the
//! listeners, or to only tell what it would do.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::pairs::{Malformed, Pairs};
use crate::operations::listeners::{Reached, Share, Wait};

static LISTENERS: HeaderName = HeaderName::from_static("quorate-listeners");
static REACHED: HeaderName = HeaderName::from_static("quorate-listeners-reached");

/// How long a publish waits unless told otherwise, and at most.
pub(crate) const WAIT_MS: (u64, u64) = (5000, 60_000);

/// The options of one publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `wait-for-listeners=all|N%`, `wait-timeout-ms`
    pub(crate) wait: Option<Wait>,
    /// `dry-run=true`
    pub(crate) is_dry_run: bool,
}

/// Why options cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Malformed(Malformed),
    Value(String),
}

impl From<Malformed> for Unreadable {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Options {
    pub(crate) fn read(pairs: &Pairs<'_>) -> Result<Self, Unreadable> {
        let wrong =
            |name: &str, value: &str| Unreadable::Value(format!("invalid {name} : {value}"));
        let wait = match pairs.first("wait-for-listeners")? {
            None => None,
            Some(text) => {
                let share = Share::parse(text.trim());
                let share = share.ok_or_else(|| wrong("wait-for-listeners", &text))?;
                let (default, most) = WAIT_MS;
                let at_most = match pairs.first("wait-timeout-ms")? {
                    None => default,
                    Some(text) => {
                        let number = text.trim().parse().ok().filter(|ms| (1..=most).contains(ms));
                        number.ok_or_else(|| wrong("wait-timeout-ms", &text))?
                    }
                };
                Some(Wait { share, at_most: Duration::from_millis(at_most) })
            }
        };
        let is_dry_run = match pairs.first("dry-run")?.as_deref().map(str::trim) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(wrong("dry-run", other)),
        };
        Ok(Self { wait, is_dry_run })
    }
}

/// Tells in an answer's headers how many listeners there were, and how many of them have heard.
pub(crate) fn tell(headers: &mut HeaderMap, reached: Option<Reached>) {
    if let Some(Reached { total, reached }) = reached {
        headers.insert(&LISTENERS, HeaderValue::from(total));
        headers.insert(&REACHED, HeaderValue::from(reached));
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairs::Form;
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let read = |query| Options::read(&Pairs::parse(query, Form::None).unwrap());
        let wait = |text, ms| {
            Some(Wait { share: Share::parse(text).unwrap(), at_most: Duration::from_millis(ms) })
        };
        for (query, want) in [
            ("", Options::default()),
            ("dry-run=true", Options { wait: None, is_dry_run: true }),
            ("wait-for-listeners=all", Options { wait: wait("100%", 5000), is_dry_run: false }),
            (
                "wait-for-listeners=50%25&wait-timeout-ms=60000&dry-run=false",
                Options { wait: wait("50%", 60_000), is_dry_run: false },
            ),
        ] {
            assert_eq!(read(query), Ok(want), "{query}");
        }
        for query in [
            "dry-run=yes",
            "wait-for-listeners=",
            "wait-for-listeners=0%25",
            "wait-for-listeners=101%25",
            "wait-for-listeners=3",
            "wait-for-listeners=all&wait-timeout-ms=0",
            "wait-for-listeners=all&wait-timeout-ms=60001",
        ] {
            assert!(matches!(read(query), Err(Unreadable::Value(_))), "{query}");
        }
    }
}
