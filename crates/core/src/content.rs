//! What a configuration holds: its bytes, their md5 and the declared type.

use std::fmt;

use md5::{Digest, Md5 as Hasher};

/// Largest content, in UTF-16 units as the reference counts (config.md §1.2, `maxContent`).
pub const MAX_CONTENT_UNITS: usize = 10 * 1024 * 1024;

/// An md5 digest. The wire form is 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Md5(pub [u8; 16]);

impl Md5 {
    /// The digest of these bytes. About 650 MB/s: never call it in apply.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hasher::digest(bytes).into())
    }

    /// Reads 32 hexadecimal digits, lower case only, as clients send them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 32 {
            return None;
        }
        let mut digest = [0; 16];
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = hex_value(*high)? << 4 | hex_value(*low)?;
        }
        Some(Self(digest))
    }
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Declared type of a content (config.md §1.1). The numbers are those of `record.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ContentType {
    /// `text`: also what an unknown or blank type becomes on publish.
    #[default]
    Text = 0,
    /// `properties`
    Properties = 1,
    /// `xml`
    Xml = 2,
    /// `json`
    Json = 3,
    /// `html`
    Html = 4,
    /// `yaml`
    Yaml = 5,
    /// `toml`
    Toml = 6,
    /// `unset`
    Unset = 7,
}

impl ContentType {
    const ALL: [Self; 8] = [
        Self::Text,
        Self::Properties,
        Self::Xml,
        Self::Json,
        Self::Html,
        Self::Yaml,
        Self::Toml,
        Self::Unset,
    ];

    /// The wire's name, case-sensitive; anything else is `text`.
    #[must_use]
    pub fn parse_or_text(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or_default()
    }

    /// The wire's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Properties => "properties",
            Self::Xml => "xml",
            Self::Json => "json",
            Self::Html => "html",
            Self::Yaml => "yaml",
            Self::Toml => "toml",
            Self::Unset => "unset",
        }
    }

    /// The number kept in records.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The type of a record's number; a number from a newer release is `text`.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        Self::ALL.into_iter().find(|kind| u32::from(kind.code()) == code).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_of_the_reference_samples() {
        for (content, digest) in [
            ("hello", "5d41402abc4b2a76b9719d911017c592"),
            ("测试", "db06c78d1e24cf708a14ce81c9b617ec"),
            ("a=1", "3872c9ae3f427af0be0ead09d07ae2cf"),
        ] {
            let md5 = Md5::of(content.as_bytes());
            assert_eq!(md5.to_string(), digest);
            assert_eq!(Md5::parse(digest), Some(md5));
        }
        for wrong in ["", "5d41", "5D41402ABC4B2A76B9719D911017C592", &"g".repeat(32)] {
            assert_eq!(Md5::parse(wrong), None);
        }
    }

    #[test]
    fn types_are_case_sensitive() {
        assert_eq!(ContentType::parse_or_text("yaml"), ContentType::Yaml);
        assert_eq!(ContentType::parse_or_text("YAML"), ContentType::Text);
        for kind in ContentType::ALL {
            assert_eq!(ContentType::from_code(u32::from(kind.code())), kind);
            assert_eq!(ContentType::parse_or_text(kind.as_str()), kind);
        }
    }
}
