//! Vectors as they are written, and the comparison of an answer with one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// One case, with where it comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vector {
    /// Number of the vector or section of the reference.
    pub(crate) source: String,
    pub(crate) what: String,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) send: Send,
    pub(crate) expect: Expect,
    #[serde(default)]
    pub(crate) while_held: Vec<Step>,
    #[serde(default)]
    pub(crate) beside: Vec<Step>,
    pub(crate) took_ms: Option<[u128; 2]>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// A url-encoded body, with its media type.
    pub(crate) form: Option<String>,
    /// A body of the media type in the headers.
    pub(crate) body: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    status: u16,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    any_order: bool,
    /// Headers that must not be there.
    #[serde(default)]
    absent: Vec<String>,
    body: Option<String>,
    body_like: Option<String>,
}

/// Headers in the order they are written in.
#[derive(Debug, Clone, Default)]
struct Headers(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Headers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of headers")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    headers.push(entry);
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl Vector {
    pub(crate) fn load(file: &str) -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/vectors");
        let text = fs::read_to_string(folder.join(format!("{file}.json"))).expect("a vector file");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}.json: {error}"))
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The server closed the connection after it.
    pub(crate) closed: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.headers.iter().position(|(found, _)| found.eq_ignore_ascii_case(name))
    }

    /// For messages: contents may be megabytes.
    fn short_body(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(600).collect()
    }
}

impl Expect {
    pub(crate) fn compare(&self, named: &str, answer: &Answer) {
        let body = answer.short_body();
        assert_eq!(answer.status, self.status, "{named}: {:?} {body}", answer.headers);
        let mut last = None;
        for (name, like) in &self.headers.0 {
            let value = answer.header(name);
            let value = value.unwrap_or_else(|| panic!("{named}: no {name}: {:?}", answer.headers));
            assert!(is_like(value, like), "{named}: {name} is {value:?}, not {like:?}");
            let place = answer.place(name);
            assert!(self.any_order || place > last, "{named}: order of {:?}", answer.headers);
            last = place;
        }
        for name in &self.absent {
            assert_eq!(answer.header(name), None, "{named}: {name}");
        }
        if let Some(want) = &self.body {
            assert!(answer.body == want.as_bytes(), "{named}: {body:?}, not {want:?}");
        }
        if let Some(like) = &self.body_like {
            let text = String::from_utf8_lossy(&answer.body);
            assert!(is_like(&text, like), "{named}: {text:?}, not like {like:?}");
        }
        let says_close = answer.header("Connection") == Some("close");
        assert_eq!(says_close, answer.closed, "{named}: the connection does what the header says");
    }
}

/// `*` is anything, `?` one character.
pub(crate) fn is_like(text: &str, like: &str) -> bool {
    let (text, like): (Vec<char>, Vec<char>) = (text.chars().collect(), like.chars().collect());
    let (mut at, mut in_like) = (0, 0);
    let mut retry = None;
    while at < text.len() {
        match like.get(in_like) {
            Some('*') => {
                retry = Some((at, in_like + 1));
                in_like += 1;
            }
            Some(c) if *c == '?' || *c == text[at] => {
                at += 1;
                in_like += 1;
            }
            Some(_) | None => {
                let Some((from, after)) = retry else { return false };
                retry = Some((from + 1, after));
                (at, in_like) = (from + 1, after);
            }
        }
    }
    like[in_like..].iter().all(|c| *c == '*')
}

#[test]
fn likeness() {
    for (text, like, want) in [
        ("abc", "abc", true),
        ("abc", "a*", true),
        ("abc", "*c", true),
        ("abc", "a?c", true),
        ("abc", "a*d", false),
        ("abcabd", "*abd", true),
        ("", "*", true),
        ("", "", true),
        ("a", "", false),
        ("ab", "?", false),
    ] {
        assert_eq!(is_like(text, like), want, "{text} {like}");
    }
}
