//! The parameter check in front of the controllers (config.md §1.2, layer A), and what the v1
//! controllers check themselves (layer B).

use std::borrow::Cow;

use quorate_core::content::MAX_CONTENT_UNITS;
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId, is_key_character};

use super::pairs::Pairs;
use super::response::{Refused, check_failed, invalid, malformed};

/// A parameter of layer A: its name in the refusal, its limit in UTF-16 units, what it may hold.
struct Rule {
    name: &'static str,
    limit: usize,
    allows: fn(char) -> bool,
}

const NAMESPACE: Rule = Rule {
    name: "namespaceId/tenant",
    limit: 64,
    allows: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
};
const DATA_ID: Rule = Rule { name: "dataId", limit: 256, allows: is_plain };
const GROUP: Rule = Rule { name: "group", limit: 128, allows: is_plain };
const IP: Rule = Rule {
    name: "ip",
    limit: 128,
    allows: |c| !c.is_whitespace() && !('\u{4e00}'..='\u{9fa5}').contains(&c),
};

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

impl Rule {
    /// Blank values pass.
    fn check(&self, value: &str) -> Result<(), Refused> {
        if value.trim().is_empty() {
            return Ok(());
        }
        let Self { name, limit, allows } = self;
        if is_longer(value, *limit) {
            return Err(check_failed(&format!(
                "Param '{name}' is illegal, the param length should not exceed {limit}."
            )));
        }
        if !value.chars().all(allows) {
            return Err(check_failed(&format!(
                "Param '{name}' is illegal, illegal characters should not appear in the param."
            )));
        }
        Ok(())
    }
}

/// Lengths are counted as the reference's language does: in UTF-16 units, of which a text has at
/// most one for each byte.
pub(crate) fn is_longer(text: &str, limit: usize) -> bool {
    text.len() > limit && text.encode_utf16().nth(limit).is_some()
}

/// Layer A of a request about one configuration.
pub(crate) fn parameters(pairs: &Pairs<'_>) -> Result<(), Refused> {
    let sources: [(&Rule, &[&str]); 4] = [
        (&NAMESPACE, &["namespaceId", "tenant", "namespace"]),
        (&DATA_ID, &["dataId"]),
        (&GROUP, &["groupName", "group"]),
        (&IP, &["ip"]),
    ];
    for (rule, names) in sources {
        rule.check(&pairs.first_filled(names).map_err(malformed)?)?;
    }
    Ok(())
}

/// Layer A of one line of a long poll.
pub(crate) fn listened(data_id: &str, group: &str, tenant: &str) -> Result<(), Refused> {
    NAMESPACE.check(tenant)?;
    DATA_ID.check(data_id)?;
    GROUP.check(group)
}

/// Layer B: the three parts of a key, the namespace first.
pub(crate) fn key(tenant: &str, data_id: &str, group: &str) -> Result<GroupKey, Refused> {
    let tenant = tenant.trim();
    if !tenant.chars().all(is_key_character) {
        return Err(invalid("invalid tenant"));
    }
    let namespace = NamespaceId::parse_or_public(tenant)
        .map_err(|_| invalid(&format!("too long tenant, over {}", NamespaceId::MAX_CHARS)))?;
    let data_id = DataId::parse(data_id.trim())
        .map_err(|_| invalid(&format!("invalid dataId : {data_id}")))?;
    let group = Group::parse(group).map_err(|_| invalid(&format!("invalid group : {group}")))?;
    Ok(GroupKey::new(&namespace, &group, &data_id))
}

/// Layer B: a content is there and not too large.
pub(crate) fn content(content: &str) -> Result<(), Refused> {
    if content.trim().is_empty() {
        return Err(invalid(&format!("content is blank : {content}")));
    }
    if is_longer(content, MAX_CONTENT_UNITS) {
        return Err(invalid(&format!("invalid content, over {MAX_CONTENT_UNITS}")));
    }
    Ok(())
}

/// Layer B: the tag of a release, `None` when blank.
pub(crate) fn tag(tag: Option<Cow<'_, str>>) -> Result<Option<Cow<'_, str>>, Refused> {
    const LIMIT: usize = 16;
    let Some(tag) = tag.filter(|tag| !tag.trim().is_empty()) else {
        return Ok(None);
    };
    if !tag.trim().chars().all(is_key_character) {
        return Err(invalid(&format!("invalid tag : {tag}")));
    }
    if is_longer(&tag, LIMIT) {
        return Err(invalid(&format!("too long tag, over {LIMIT}")));
    }
    Ok(Some(tag))
}

#[cfg(test)]
mod tests {
    use super::super::pairs::Form;
    use super::super::response::tests::seen;
    use super::*;

    fn refused<T>(result: Result<T, Refused>) -> String {
        result.err().map_or_else(String::new, |refused| seen(*refused).2)
    }

    #[test]
    fn layer_a() {
        let long = |length| "x".repeat(length);
        for (query, want) in [
            (
                "dataId=a%20b".to_owned(),
                "Param 'dataId' is illegal, illegal characters should not appear in the param.\r\n",
            ),
            (
                format!("dataId={}", long(257)),
                "Param 'dataId' is illegal, the param length should not exceed 256.\r\n",
            ),
            (format!("dataId={}", long(256)), ""),
            (
                format!("group={}", long(129)),
                "Param 'group' is illegal, the param length should not exceed 128.\r\n",
            ),
            (
                format!("tenant={}", long(65)),
                "Param 'namespaceId/tenant' is illegal, the param length should not exceed 64.\r\n",
            ),
            (
                "tenant=a.b&dataId=$".to_owned(),
                "Param 'namespaceId/tenant' is illegal, illegal characters should not appear in the param.\r\n",
            ),
            (
                "namespaceId=+&tenant=%24".to_owned(),
                "Param 'namespaceId/tenant' is illegal, illegal characters should not appear in the param.\r\n",
            ),
            (
                "ip=1+2".to_owned(),
                "Param 'ip' is illegal, illegal characters should not appear in the param.\r\n",
            ),
            ("dataId=&group=+&tenant=".to_owned(), ""),
            ("dataId=%ff".to_owned(), "caused: a parameter is not percent-encoded UTF-8;"),
        ] {
            let pairs = Pairs::parse(&query, Form::None).expect("pairs");
            assert_eq!(refused(parameters(&pairs)), want, "{query}");
        }
    }

    #[test]
    fn layer_b() {
        for (got, want) in [
            (refused(key("", "", "G")), "caused: invalid dataId : ;"),
            (refused(key("", "d", " ")), "caused: invalid group :  ;"),
            (refused(key("a b", "", "")), "caused: invalid tenant;"),
            (refused(key(&"x".repeat(129), "d", "G")), "caused: too long tenant, over 128;"),
            (refused(content("")), "caused: content is blank : ;"),
            (refused(content(" \n")), "caused: content is blank :  \n;"),
            (refused(tag(Some("a@b".into()))), "caused: invalid tag : a@b;"),
            (refused(tag(Some("x".repeat(17).into()))), "caused: too long tag, over 16;"),
            (refused(tag(Some(" ".into()))), ""),
            (refused(key(" ", "测", "G")), ""),
        ] {
            assert_eq!(got, want);
        }
    }

    #[test]
    fn contents_are_counted_in_utf16_units() {
        let most = "测".repeat(MAX_CONTENT_UNITS);
        assert!(content(&most).is_ok());
        assert_eq!(
            refused(content(&format!("{most}a"))),
            "caused: invalid content, over 10485760;"
        );
        assert!(is_longer("\u{1f600}", 1) && !is_longer("\u{1f600}", 2));
    }
}
