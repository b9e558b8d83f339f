//! Identity of a configuration: namespace, group and data id, and the group key made of them.
//!
//! Only the character sets and lengths that no dialect may exceed live here. The texts of the
//! refusals belong to the dialects, which match on [`InvalidKey`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The namespace that a blank name means (config.md §1.3, base release 3.x).
pub const PUBLIC_NAMESPACE: &str = "public";

/// Separates the parts inside a [`GroupKey`]; no part can hold it.
const SEPARATOR: char = '\u{2}';

/// Which part of a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart {
    /// The namespace (`tenant`, `namespaceId`).
    Namespace,
    /// The group.
    Group,
    /// The data id.
    DataId,
}

/// Why a part of a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing but white space.
    #[error("{0:?} is blank")]
    Blank(KeyPart),
    /// A character outside letters, digits and `_-.:`.
    #[error("{0:?} has an illegal character")]
    Character(KeyPart),
    /// Longer than the limit, in characters.
    #[error("{part:?} is longer than {limit} characters")]
    TooLong {
        /// The part.
        part: KeyPart,
        /// Its limit in characters.
        limit: usize,
    },
}

fn parse_part(part: KeyPart, text: &str, limit: usize) -> Result<Arc<str>, InvalidKey> {
    if text.trim().is_empty() {
        return Err(InvalidKey::Blank(part));
    }
    if text.chars().count() > limit {
        return Err(InvalidKey::TooLong { part, limit });
    }
    if !text.chars().all(is_key_character) {
        return Err(InvalidKey::Character(part));
    }
    Ok(Arc::from(text))
}

/// Whether a key may hold this character: a Unicode letter or digit, or one of `_-.:`
/// (config.md §1.2, layer B).
#[must_use]
pub fn is_key_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

macro_rules! display_str {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident, $part:expr, $limit:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest accepted text, in characters.
            pub const MAX_CHARS: usize = $limit;

            /// Checks and keeps a text.
            ///
            /// # Errors
            /// [`InvalidKey`] says which part is wrong and how.
            pub fn parse(text: &str) -> Result<Self, InvalidKey> {
                parse_part($part, text, Self::MAX_CHARS).map(Self)
            }

            /// The text as given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        display_str!($name);
    };
}

key_type!(
    /// Namespace: 1 to 128 characters; blank means [`PUBLIC_NAMESPACE`], which the edge maps.
    NamespaceId, KeyPart::Namespace, 128
);
key_type!(
    /// Group: 1 to 128 characters (config.md §1.1).
    Group, KeyPart::Group, 128
);
key_type!(
    /// Data id: 1 to 256 characters (config.md §1.2).
    DataId, KeyPart::DataId, 256
);

impl NamespaceId {
    /// The namespace of clients that name none.
    #[must_use]
    pub fn public() -> Self {
        Self(Arc::from(PUBLIC_NAMESPACE))
    }

    /// Blank text is the public namespace; anything else is trimmed and parsed
    /// (config.md §1.3, 3.x).
    ///
    /// # Errors
    /// [`InvalidKey`] as [`NamespaceId::parse`].
    pub fn parse_or_public(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim();
        if text.is_empty() { Ok(Self::public()) } else { Self::parse(text) }
    }
}

/// Identity of a configuration. One shared allocation, ordered by namespace, group, data id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(Arc<str>);

impl GroupKey {
    /// Joins the three parts.
    #[must_use]
    pub fn new(namespace: &NamespaceId, group: &Group, data_id: &DataId) -> Self {
        Self(Arc::from(format!("{namespace}{SEPARATOR}{group}{SEPARATOR}{data_id}")))
    }

    /// Before every key of a namespace and after those of namespaces before it, for ranges.
    #[must_use]
    pub fn first_of(namespace: &NamespaceId) -> Self {
        Self(Arc::from(format!("{namespace}{SEPARATOR}")))
    }

    /// Reads the form that [`GroupKey::as_str`] gives, as stored in records.
    ///
    /// # Errors
    /// [`InvalidKey`] when a part is missing or refused.
    pub fn from_record(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.split(SEPARATOR);
        NamespaceId::parse(parts.next().unwrap_or_default())?;
        Group::parse(parts.next().unwrap_or_default())?;
        DataId::parse(parts.next().unwrap_or_default())?;
        if parts.next().is_some() {
            return Err(InvalidKey::Character(KeyPart::DataId));
        }
        Ok(Self(Arc::from(text)))
    }

    /// Namespace, group and data id as one text with separators; the form records keep.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn part(&self, index: usize) -> &str {
        self.0.split(SEPARATOR).nth(index).unwrap_or_default()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.part(0)
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.part(1)
    }

    /// The data id.
    #[must_use]
    pub fn data_id(&self) -> &str {
        self.part(2)
    }
}

impl FromStr for GroupKey {
    type Err = InvalidKey;

    /// Reads the wire's group key: `dataId+group`, in the public namespace, or
    /// `dataId+group+namespace`. Its escapes need no decoding: what they stand for cannot be in a
    /// key.
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.splitn(3, '+');
        let mut next = || parts.next().unwrap_or_default();
        let (data_id, group) = (DataId::parse(next())?, Group::parse(next())?);
        Ok(Self::new(&NamespaceId::parse_or_public(next())?, &group, &data_id))
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The wire's group key: `dataId+group+namespace` with `+` and `%` escaped (config.md §1.1).
impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |text: &str| text.replace('%', "%25").replace('+', "%2B");
        write!(
            f,
            "{}+{}+{}",
            escape(self.data_id()),
            escape(self.group()),
            escape(self.namespace())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, group: &str, data_id: &str) -> Result<GroupKey, InvalidKey> {
        Ok(GroupKey::new(
            &NamespaceId::parse_or_public(namespace)?,
            &Group::parse(group)?,
            &DataId::parse(data_id)?,
        ))
    }

    #[test]
    fn parts_survive_joining() {
        let made = key(" ", "G", "a:b-c_d.测").expect("valid");
        assert_eq!((made.namespace(), made.group(), made.data_id()), ("public", "G", "a:b-c_d.测"));
        assert_eq!(GroupKey::from_record(made.as_str()), Ok(made.clone()));
        assert_eq!(made.to_string(), "a:b-c_d.测+G+public");
        assert_eq!(made.to_string().parse(), Ok(made));
    }

    #[test]
    fn keys_of_the_wire_are_read() {
        for (text, want) in [
            ("d+G+dev", Ok(key("dev", "G", "d"))),
            ("d+G", Ok(key("", "G", "d"))),
            ("d+G+", Ok(key("", "G", "d"))),
            ("d", Err(InvalidKey::Blank(KeyPart::Group))),
            ("", Err(InvalidKey::Blank(KeyPart::DataId))),
            ("d+G+n+x", Err(InvalidKey::Character(KeyPart::Namespace))),
            ("d%25+G", Err(InvalidKey::Character(KeyPart::DataId))),
        ] {
            assert_eq!(text.parse::<GroupKey>(), want.and_then(|key| key), "{text}");
        }
    }

    #[test]
    fn refusals_name_the_part() {
        let long = "x".repeat(129);
        let cases = [
            (key("", "", "d"), InvalidKey::Blank(KeyPart::Group)),
            (key("", "G", " "), InvalidKey::Blank(KeyPart::DataId)),
            (key("", "G", "a b"), InvalidKey::Character(KeyPart::DataId)),
            (key("n/s", "G", "d"), InvalidKey::Character(KeyPart::Namespace)),
            (key("", &long, "d"), InvalidKey::TooLong { part: KeyPart::Group, limit: 128 }),
            (key("", "G", "a\u{2}b"), InvalidKey::Character(KeyPart::DataId)),
        ];
        for (got, want) in cases {
            assert_eq!(got, Err(want));
        }
        assert!(GroupKey::from_record("a\u{2}b").is_err());
        assert!(GroupKey::from_record("a\u{2}b\u{2}c\u{2}d").is_err());
    }
}
