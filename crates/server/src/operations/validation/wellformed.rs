//! Contents by their type: whether they are well-formed, and as values where they have some.

use quorate_core::content::ContentType;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Whether there is something to check.
pub(super) fn can_check(kind: ContentType) -> bool {
    matches!(kind.as_str(), "json" | "yaml" | "toml" | "xml" | "properties")
}

/// Whether a content is well-formed; of other types every content is.
///
/// # Errors
/// What is wrong, with its place where the parser tells it.
pub(super) fn check(kind: ContentType, content: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    match kind.as_str() {
        "json" => serde_json::from_str::<IgnoredAny>(text)
            .map(drop)
            .map_err(|error| format!("no JSON: {error}")),
        "yaml" => yaml(text).map(drop),
        "toml" => text.parse::<toml::Table>().map(drop).map_err(|error| not_toml(&error)),
        "xml" => {
            // Entities outside the document are not fetched, and loops of them are refused.
            let options = roxmltree::ParsingOptions {
                allow_dtd: true,
                ..roxmltree::ParsingOptions::default()
            };
            roxmltree::Document::parse_with_options(text, options)
                .map(drop)
                .map_err(|error| format!("no XML: {error}"))
        }
        "properties" => properties(text),
        _ => Ok(()),
    }
}

/// The documents of a content, for a schema.
///
/// # Errors
/// As [`check`], and for types that have no values.
pub(super) fn values(kind: ContentType, content: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    match kind.as_str() {
        "json" => serde_json::from_str(text)
            .map(|value| vec![value])
            .map_err(|error| format!("no JSON: {error}")),
        "yaml" => yaml(text),
        "toml" => {
            let table: toml::Table = text.parse().map_err(|error| not_toml(&error))?;
            let value = serde_json::to_value(table).map_err(|error| error.to_string())?;
            Ok(vec![value])
        }
        other => {
            Err(format!("it has a schema and must be of type json, yaml or toml, not {other}"))
        }
    }
}

fn yaml(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple(text)
        .map_err(|error| format!("no YAML: {}", error.without_snippet()))
}

fn not_toml(error: &toml::de::Error) -> String {
    format!("no TOML: {}", error.message())
}

/// Of these everything is well-formed but a Unicode escape without its four digits.
fn properties(text: &str) -> Result<(), String> {
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with(['#', '!']) {
            continue;
        }
        let mut rest = line;
        while let Some((_, escaped)) = rest.split_once('\\') {
            let mut after = escaped.chars();
            rest = escaped.get(escaped.chars().next().map_or(0, char::len_utf8)..).unwrap_or("");
            let is_unicode = after.next() == Some('u');
            if is_unicode && after.by_ref().take(4).filter(char::is_ascii_hexdigit).count() < 4 {
                return Err(format!("no properties: malformed \\uxxxx in line {number}"));
            }
        }
    }
    Ok(())
}
