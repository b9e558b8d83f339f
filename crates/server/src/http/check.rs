//! The rules of parameters ([`crate::parameters`]) in the form of v1: layer A ends in a text with
//! no-cache headers, layer B in `caused: …;`.

use std::borrow::Cow;

use quorate_core::key::GroupKey;

use super::pairs::Pairs;
use super::response::{Refused, check_failed, invalid, malformed};
use crate::parameters::{self, DATA_ID, GROUP, IP, NAMESPACE, Rule};

/// Layer A of a request about one configuration.
pub(crate) fn parameters(pairs: &Pairs<'_>) -> Result<(), Refused> {
    for (rule, names) in SOURCES {
        let value = pairs.first_filled(names).map_err(malformed)?;
        rule.check(&value).map_err(|why| check_failed(&why))?;
    }
    Ok(())
}

/// A rule, and the parameters of which the first that is filled must obey it.
type Source = (&'static Rule, &'static [&'static str]);

const SOURCES: [Source; 4] = [
    (&NAMESPACE, &["namespaceId", "tenant", "namespace"]),
    (&DATA_ID, &["dataId"]),
    (&GROUP, &["groupName", "group"]),
    (&IP, &["ip"]),
];

/// Layer A of one line of a long poll.
pub(crate) fn listened(data_id: &str, group: &str, tenant: &str) -> Result<(), Refused> {
    parameters::parts(tenant, data_id, group).map_err(|why| check_failed(&why))
}

/// Layer B: the three parts of a key, the namespace first.
pub(crate) fn key(tenant: &str, data_id: &str, group: &str) -> Result<GroupKey, Refused> {
    parameters::key(tenant, data_id, group).map_err(|why| invalid(&why))
}

/// Layer B: a content is there and not too large.
pub(crate) fn content(content: &str) -> Result<(), Refused> {
    parameters::content(content).map_err(|why| invalid(&why))
}

/// Layer B: the tag of a release, `None` when blank.
pub(crate) fn tag(tag: Option<Cow<'_, str>>) -> Result<Option<Cow<'_, str>>, Refused> {
    let Some(tag) = tag.filter(|tag| !tag.trim().is_empty()) else {
        return Ok(None);
    };
    parameters::tag(&tag).map_err(|why| invalid(&why))?;
    Ok(Some(tag))
}

#[cfg(test)]
mod tests {
    use quorate_core::content::MAX_CONTENT_UNITS;

    use super::super::pairs::Form;
    use super::super::response::tests::seen;
    use super::*;
    use crate::parameters::is_longer;

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
