//! Requests in JSON, read as leniently as the reference does (grpc.md §3): unknown fields are
//! ignored, numbers and texts stand for each other, null is absent, what follows the first value
//! does not count.

use serde_json::{Map, Value};

/// The fields of one object.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

/// Why a body is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not JSON, or a field of another kind.
    Malformed,
    /// `null`.
    Null,
}

impl Fields {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Unreadable> {
        let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
        let fields = match values.next() {
            Some(Ok(Value::Object(fields))) => Self(fields),
            Some(Ok(Value::Null)) => return Err(Unreadable::Null),
            _ => return Err(Unreadable::Malformed),
        };
        // Fields that all requests have.
        fields.text("requestId")?;
        Ok(fields)
    }

    /// A text; `None` when it is absent or null.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Unreadable> {
        self.0.get(name).map_or(Ok(None), |value| as_text(value.clone()))
    }

    /// A text that may be large: it is moved.
    pub(crate) fn take_text(&mut self, name: &str) -> Result<Option<String>, Unreadable> {
        self.0.remove(name).map_or(Ok(None), as_text)
    }

    /// A truth value, `default` when it is absent.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, Unreadable> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::Number(number)) => Ok(number.as_i64() != Some(0)),
            Some(Value::String(text)) => match text.trim() {
                "true" | "True" | "TRUE" => Ok(true),
                "false" | "False" | "FALSE" | "" => Ok(false),
                _ => Err(Unreadable::Malformed),
            },
            Some(Value::Array(_) | Value::Object(_)) => Err(Unreadable::Malformed),
        }
    }

    /// An object; `None` when it is absent or null.
    pub(crate) fn take_object(&mut self, name: &str) -> Result<Option<Self>, Unreadable> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self(fields))),
            Some(_) => Err(Unreadable::Malformed),
        }
    }

    /// A list of objects, empty when it is absent.
    pub(crate) fn take_objects(&mut self, name: &str) -> Result<Vec<Self>, Unreadable> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| {
                    let Value::Object(fields) = item else { return Err(Unreadable::Malformed) };
                    Ok(Self(fields))
                })
                .collect(),
            Some(_) => Err(Unreadable::Malformed),
        }
    }

    /// A list of texts, empty when it is absent.
    pub(crate) fn take_texts(&mut self, name: &str) -> Result<Vec<String>, Unreadable> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.into_iter().filter_map(|item| as_text(item).transpose()).collect()
            }
            Some(_) => Err(Unreadable::Malformed),
        }
    }

    /// All fields as texts: labels. Those of another kind are left out.
    pub(crate) fn texts(self) -> impl Iterator<Item = (String, String)> {
        let pairs = self.0.into_iter();
        pairs.filter_map(|(name, value)| Some((name, as_text(value).ok()??)))
    }
}

fn as_text(value: Value) -> Result<Option<String>, Unreadable> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(value) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => Err(Unreadable::Malformed),
    }
}

/// Entry point of the fuzz target `fields`: whatever the bytes, reading ends without a panic.
#[cfg_attr(not(test), expect(dead_code, reason = "called by tests/fuzz, which includes this file"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(mut fields) = Fields::parse(bytes) else { return };
    let names: Vec<String> = fields.0.keys().take(8).cloned().collect();
    for name in names {
        drop((fields.text(&name), fields.flag(&name, true)));
        let copy = fields.0.get(&name).cloned().unwrap_or_default();
        drop(fields.take_texts(&name));
        fields.0.insert(name.clone(), copy.clone());
        drop(fields.take_objects(&name));
        fields.0.insert(name.clone(), copy.clone());
        if let Ok(Some(inner)) = fields.take_object(&name) {
            inner.texts().for_each(drop);
        }
        fields.0.insert(name.clone(), copy);
        drop(fields.take_text(&name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_not() {
        for good in [
            "{}",
            "{\"requestId\":5}",
            "{\"headers\":null}",
            "{} trailing",
            "{\"module\":{\"a\":1}}",
            "{\"zzz\":1}",
            " {\"a\":1,\"a\":2}",
        ] {
            assert!(Fields::parse(good.as_bytes()).is_ok(), "{good}");
        }
        let bad: [&[u8]; 8] =
            [b"{bad", b"[]", b"5", b"\"abc\"", b"", b"{'a':1}", b"{\"a\":1,}", b"\xff\xfe"];
        for body in bad {
            assert_eq!(Fields::parse(body).err(), Some(Unreadable::Malformed), "{body:?}");
        }
        assert_eq!(Fields::parse(b"null").err(), Some(Unreadable::Null));
        assert!(Fields::parse(b"{\"requestId\":{\"a\":1}}").is_err());
    }

    #[test]
    fn anything_is_survived() {
        for bytes in [&b"{\"a\":[1,{}],\"b\":{\"c\":null}}"[..], b"\xff", b"[]", b"{}"] {
            fuzz(bytes);
        }
    }

    #[test]
    fn kinds_stand_for_each_other() {
        let json = br#"{"ts":["a",null,5],"tx":[{}],"n":5,"t":"x","b":true,"z":null,"o":{"k":1,"l":[]},"f":"false","l":[{}]}"#;
        let mut fields = Fields::parse(json).unwrap();
        assert_eq!(fields.text("n").unwrap().as_deref(), Some("5"));
        assert_eq!(fields.take_text("t").unwrap().as_deref(), Some("x"));
        assert_eq!(fields.take_texts("ts").unwrap(), ["a", "5"]);
        assert_eq!(fields.take_texts("tx"), Err(Unreadable::Malformed));
        assert_eq!(fields.take_texts("absent").unwrap(), Vec::<String>::new());
        assert_eq!(fields.text("z"), Ok(None));
        assert_eq!(fields.text("o"), Err(Unreadable::Malformed));
        assert_eq!((fields.flag("b", false), fields.flag("f", true)), (Ok(true), Ok(false)));
        assert_eq!((fields.flag("absent", true), fields.flag("n", false)), (Ok(true), Ok(true)));
        assert_eq!(fields.take_objects("l").unwrap().len(), 1);
        let labels: Vec<_> = fields.take_object("o").unwrap().unwrap().texts().collect();
        assert_eq!(labels, [("k".to_owned(), "1".to_owned())]);
    }
}
