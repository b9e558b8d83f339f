//! The rules of parameters, in the reference's words and whatever the dialect: the check in front of
//! the operations (config.md §1.2, layer A), and what the operations check themselves (layer B).
//! Each refusal is the text that a dialect puts into its own form.

use quorate_core::content::MAX_CONTENT_UNITS;
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId, is_key_character};

/// A parameter of layer A: its name in the refusal, its limit in UTF-16 units, what it may hold.
pub(crate) struct Rule {
    name: &'static str,
    limit: usize,
    allows: fn(char) -> bool,
}

pub(crate) const NAMESPACE: Rule = Rule {
    name: "namespaceId/tenant",
    limit: 64,
    allows: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
};
pub(crate) const DATA_ID: Rule = Rule { name: "dataId", limit: 256, allows: is_plain };
pub(crate) const GROUP: Rule = Rule { name: "group", limit: 128, allows: is_plain };
pub(crate) const IP: Rule = Rule {
    name: "ip",
    limit: 128,
    allows: |c| !c.is_whitespace() && !('\u{4e00}'..='\u{9fa5}').contains(&c),
};

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

impl Rule {
    /// Blank values pass.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        if value.trim().is_empty() {
            return Ok(());
        }
        let Self { name, limit, allows } = self;
        if is_longer(value, *limit) {
            return Err(format!(
                "Param '{name}' is illegal, the param length should not exceed {limit}."
            ));
        }
        if !value.chars().all(allows) {
            return Err(format!(
                "Param '{name}' is illegal, illegal characters should not appear in the param."
            ));
        }
        Ok(())
    }
}

/// Lengths are counted as the reference's language does: in UTF-16 units, of which a text has at
/// most one for each byte.
pub(crate) fn is_longer(text: &str, limit: usize) -> bool {
    text.len() > limit && text.encode_utf16().nth(limit).is_some()
}

/// Layer A of the parts of one key.
pub(crate) fn parts(tenant: &str, data_id: &str, group: &str) -> Result<(), String> {
    NAMESPACE.check(tenant)?;
    DATA_ID.check(data_id)?;
    GROUP.check(group)
}

/// Layer B: the three parts of a key, the namespace first.
pub(crate) fn key(tenant: &str, data_id: &str, group: &str) -> Result<GroupKey, String> {
    let tenant = tenant.trim();
    if !tenant.chars().all(is_key_character) {
        return Err("invalid tenant".to_owned());
    }
    let namespace = NamespaceId::parse_or_public(tenant)
        .map_err(|_| format!("too long tenant, over {}", NamespaceId::MAX_CHARS))?;
    let data_id =
        DataId::parse(data_id.trim()).map_err(|_| format!("invalid dataId : {data_id}"))?;
    let group = Group::parse(group).map_err(|_| format!("invalid group : {group}"))?;
    Ok(GroupKey::new(&namespace, &group, &data_id))
}

/// Layer B: a content is there and not too large.
pub(crate) fn content(content: &str) -> Result<(), String> {
    if content.trim().is_empty() {
        return Err(format!("content is blank : {content}"));
    }
    if is_longer(content, MAX_CONTENT_UNITS) {
        return Err(format!("invalid content, over {MAX_CONTENT_UNITS}"));
    }
    Ok(())
}

/// Layer B: the tag of a release that is not blank.
pub(crate) fn tag(tag: &str) -> Result<(), String> {
    const LIMIT: usize = 16;
    if !tag.trim().chars().all(is_key_character) {
        return Err(format!("invalid tag : {tag}"));
    }
    if is_longer(tag, LIMIT) {
        return Err(format!("too long tag, over {LIMIT}"));
    }
    Ok(())
}
