//! What a namespace demands of the contents that are published into it: to be well-formed by their
//! type, to hold to a JSON Schema. Off until the namespace has a configuration
//! [`RULES_DATA_ID`] in the group [`RULES_GROUP`], which says it:
//!
//! ```json
//! {
//!   "wellFormed": ["json", "yaml", "toml", "xml", "properties"],
//!   "schemas": [{"dataId": "limits*.json", "group": "*", "schema": {"type": "object"}}]
//! }
//! ```
//!
//! The rules are a configuration like any other: replicated, with a history, applied from the
//! publish after the one that this node has applied them at.

mod wellformed;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jsonschema::{PatternOptions, Validator};
use parking_lot::Mutex;
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId};
use quorate_raft::node::Node;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::search::Match;
use crate::failure::Failure;

/// The group of a namespace's rules.
pub(crate) const RULES_GROUP: &str = "QUORATE";
/// The data id of a namespace's rules.
pub(crate) const RULES_DATA_ID: &str = "validation.json";

/// Rules that are kept ready for use; more are read again each time.
const KEPT: usize = 64;

/// Above this a check leaves the request threads.
const LARGE_BYTES: usize = 64 * 1024;

/// Mistakes that a refusal names.
const NAMED_MISTAKES: usize = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    well_formed: Vec<String>,
    #[serde(default)]
    schemas: Vec<Attached>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Attached {
    data_id: String,
    #[serde(default = "any")]
    group: String,
    schema: Value,
}

fn any() -> String {
    "*".to_owned()
}

/// The rules of a namespace, ready for use.
#[derive(Debug)]
struct Rules {
    well_formed: Vec<ContentType>,
    schemas: Vec<(Match, Match, Validator)>,
}

impl Rules {
    fn read(content: &[u8]) -> Result<Self, String> {
        // An object it must be: a list of fields in their order would do, too.
        let object: Map<String, Value> =
            serde_json::from_slice(content).map_err(|error| error.to_string())?;
        let Written { well_formed, schemas } =
            serde_json::from_value(object.into()).map_err(|error| error.to_string())?;
        let well_formed = well_formed
            .into_iter()
            .map(|name| {
                let known = ContentType::parse_or_text(&name);
                let can_be_checked = wellformed::can_check(known) && known.as_str() == name;
                can_be_checked.then_some(known).ok_or(format!("wellFormed: unknown type {name}"))
            })
            .collect::<Result<_, _>>()?;
        let schemas = schemas
            .into_iter()
            .map(|Attached { data_id, group, schema }| {
                // Patterns without look-around take time linear in the text; references are to the
                // schema itself, for nothing is fetched.
                let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
                let validator = options
                    .build(&schema)
                    .map_err(|error| format!("the schema of {data_id}: {error}"))?;
                Ok((Match::like(&data_id), Match::like(&group), validator))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { well_formed, schemas })
    }

    /// # Errors
    /// What is wrong with the content.
    fn check(&self, key: &GroupKey, kind: ContentType, content: &[u8]) -> Result<(), String> {
        let covers = |(data_id, group, _): &&(Match, Match, Validator)| {
            data_id.matches(key.data_id()) && group.matches(key.group())
        };
        let mut schemas = self.schemas.iter().filter(covers).peekable();
        if schemas.peek().is_none() {
            return match self.well_formed.contains(&kind) {
                true => wellformed::check(kind, content),
                false => Ok(()),
            };
        }
        let documents = wellformed::values(kind, content)?;
        for (_, _, validator) in schemas {
            for document in &documents {
                let mistakes: Vec<String> = validator
                    .iter_errors(document)
                    .take(NAMED_MISTAKES)
                    .map(|error| format!("{}: {error}", at(&error.instance_path().to_string())))
                    .collect();
                if !mistakes.is_empty() {
                    return Err(format!("not as its schema wants it: {}", mistakes.join("; ")));
                }
            }
        }
        Ok(())
    }
}

/// Where in a document.
fn at(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// Rules by the md5 of their text: reading one text twice gives the same.
static READY: Mutex<BTreeMap<[u8; 16], Arc<Rules>>> = Mutex::new(BTreeMap::new());

fn ready(md5: Md5, content: &[u8]) -> Result<Arc<Rules>, String> {
    if let Some(rules) = READY.lock().get(&md5.0) {
        return Ok(Arc::clone(rules));
    }
    let rules = Arc::new(Rules::read(content)?);
    let mut ready = READY.lock();
    if ready.len() == KEPT {
        ready.clear();
    }
    ready.insert(md5.0, Arc::clone(&rules));
    Ok(rules)
}

fn key_of_rules(of: &GroupKey) -> Option<GroupKey> {
    let namespace = NamespaceId::parse(of.namespace()).ok()?;
    let (group, data_id) = (Group::parse(RULES_GROUP).ok()?, DataId::parse(RULES_DATA_ID).ok()?);
    Some(GroupKey::new(&namespace, &group, &data_id))
}

/// Checks a content by the rules of its namespace; rules, by what rules are.
///
/// # Errors
/// [`Failure::Invalid`] says what is wrong.
pub(crate) async fn check(
    node: &Node,
    key: &GroupKey,
    kind: ContentType,
    content: &Bytes,
) -> Result<(), Failure> {
    let Some(of_rules) = key_of_rules(key) else { return Ok(()) };
    let refused = |text| Failure::Invalid { part: 0, text };
    let copy = content.clone();
    if of_rules == *key {
        let read = off_thread(content.len(), move || Rules::read(&copy).map(drop)).await;
        return read.map_err(|why| refused(format!("invalid rules of validation : {why}")));
    }
    let (Some(rules), _) = node.store().config(&of_rules) else { return Ok(()) };
    let rules = match ready(rules.md5(), &rules.content()) {
        Ok(rules) => rules,
        // They came before this release knew the form: no reason to refuse everything.
        Err(why) => {
            tracing::warn!(key = %of_rules, why, "the rules of validation cannot be read");
            return Ok(());
        }
    };
    let of = key.clone();
    let checked = off_thread(content.len(), move || rules.check(&of, kind, &copy)).await;
    checked.map_err(|why| refused(format!("invalid content of {} : {why}", key.data_id())))
}

/// Checks so many bytes here, or on a thread of their own when they are many.
async fn off_thread(
    bytes: usize,
    check: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    if bytes <= LARGE_BYTES {
        return check();
    }
    tokio::task::spawn_blocking(check).await.unwrap_or_else(|error| Err(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, data_id: &str, kind: &str, content: &str) -> Result<(), String> {
        let (group, data_id) = (Group::parse("G").unwrap(), DataId::parse(data_id).unwrap());
        let key = GroupKey::new(&NamespaceId::public(), &group, &data_id);
        let kind = ContentType::parse_or_text(kind);
        Rules::read(rules.as_bytes())?.check(&key, kind, content.as_bytes())
    }

    #[test]
    fn rules_are_checked() {
        for wrong in [
            "",
            "[]",
            "{\"other\": 1}",
            "{\"wellFormed\": [\"text\"]}",
            "{\"wellFormed\": [\"JSON\"]}",
            "{\"schemas\": [{\"dataId\": \"a\", \"schema\": {\"type\": 1}}]}",
            "{\"schemas\": [{\"dataId\": \"a\", \"schema\": {\"pattern\": \"(?=a)\"}}]}",
            "{\"schemas\": [{\"dataId\": \"a\", \"schema\": {\"$ref\": \"http://x.invalid/y\"}}]}",
        ] {
            assert!(Rules::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(check("{}", "d", "json", "{"), Ok(()));
    }

    #[test]
    fn contents_are_checked_by_their_type() {
        let rules = "{\"wellFormed\": [\"json\", \"yaml\", \"toml\", \"xml\", \"properties\"]}";
        for (kind, good, bad) in [
            ("json", "{\"a\": [1, null]} ", "{\"a\": 1,}"),
            ("json", "1", "{} {}"),
            ("yaml", "a: 1\n---\nb: [x]\n", "a: 1\na: 2\n"),
            ("yaml", "", "a: [1"),
            ("yaml", "a: &x 1\nb: *x", "a: *nobody"),
            ("toml", "[a]\nb = 1", "a = 1\na = 2"),
            ("xml", "<a><b x='1'/></a>", "<a><b></a>"),
            ("xml", "<!DOCTYPE a SYSTEM 'a.dtd'><a/>", "<a/><b/>"),
            ("properties", "a=\\u00e9\n#\\uzz\n! \\u\nb", "a=\\u00g9"),
            ("text", "{", ""),
        ] {
            assert_eq!(check(rules, "d", kind, good), Ok(()), "{kind} {good}");
            let refused = check(rules, "d", kind, bad);
            assert_eq!(refused.is_err(), kind != "text", "{kind} {bad}: {refused:?}");
        }
    }

    #[test]
    fn schemas_hold_for_what_they_are_attached_to() {
        let rules = "{\"schemas\": [{\"dataId\": \"limits*\", \"group\": \"G\", \"schema\": \
            {\"type\": \"object\", \"properties\": {\"max\": {\"type\": \"integer\", \
            \"maximum\": 10}}, \"required\": [\"max\"]}}]}";
        for (data_id, kind, content, is_good) in [
            ("limits", "json", "{\"max\": 3}", true),
            ("limits", "json", "{\"max\": 11}", false),
            ("limits.yaml", "yaml", "max: 3", true),
            ("limits.yaml", "yaml", "max: 3\n---\nmin: 3", false),
            ("limits.toml", "toml", "max = 3", true),
            ("limits.toml", "toml", "max = '3'", false),
            ("limits", "text", "{\"max\": 3}", false),
            ("others", "json", "no json", true),
        ] {
            let checked = check(rules, data_id, kind, content);
            assert_eq!(checked.is_ok(), is_good, "{data_id} {content}: {checked:?}");
        }
        let text = check(rules, "limits", "json", "{\"max\": 11}").unwrap_err();
        assert!(text.contains("/max") && text.contains("10"), "{text}");
    }
}
