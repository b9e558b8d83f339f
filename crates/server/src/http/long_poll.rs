//! The text of a long poll: `Listening-Configs` → words of each line, and changed keys → answer
//! (config.md §3.2, §3.5).
//!
//! Only text: what the words mean is decided in `v1/listen.rs`. Depends on `pairs` alone, so that
//! the fuzz targets can include it.

use std::borrow::Cow;

use super::pairs::{decode, encode};

/// Ends a word.
const WORD: char = '\u{2}';
/// Ends a line.
const LINE: char = '\u{1}';

/// What one line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// First word.
    pub(crate) data_id: &'a str,
    /// Second word.
    pub(crate) group: &'a str,
    /// Third word: the md5 that the client has, empty when it has none.
    pub(crate) md5: &'a str,
    /// Fourth word, empty when there is none.
    pub(crate) tenant: &'a str,
}

/// The words of a line as the parameter check reads it: any but the first two may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckedLine<'a> {
    /// First word.
    pub(crate) data_id: &'a str,
    /// Second word.
    pub(crate) group: &'a str,
    /// Fourth word of exactly four.
    pub(crate) tenant: Option<&'a str>,
}

/// A text that is no list of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidProbe;

/// The second decoding of the parameter: the form was decoded once already. A client may encode
/// once or twice.
///
/// # Errors
/// [`InvalidProbe`] when it is not percent-encoded UTF-8.
pub(crate) fn decode_again(parameter: &str) -> Result<Cow<'_, str>, InvalidProbe> {
    decode(parameter.as_bytes()).map_err(|_| InvalidProbe)
}

/// The lines as the parameter check in front of the controller sees them: empty pieces at the end
/// do not count, a line without end does. Not collected, for a large text may have millions.
pub(crate) fn checked_lines(
    text: &str,
) -> impl Iterator<Item = Result<CheckedLine<'_>, InvalidProbe>> {
    let text = text.trim_end_matches(LINE);
    let pieces = (!text.is_empty()).then(|| text.split(LINE));
    pieces.into_iter().flatten().map(checked_line)
}

fn checked_line(text: &str) -> Result<CheckedLine<'_>, InvalidProbe> {
    let mut words = text.trim_end_matches(WORD).split(WORD);
    let (Some(data_id), Some(group)) = (words.next(), words.next()) else {
        return Err(InvalidProbe);
    };
    let (_md5, tenant) = (words.next(), words.next());
    if words.next().is_some() {
        return Err(InvalidProbe);
    }
    Ok(CheckedLine { data_id, group, tenant })
}

/// The lines as the controller reads them. Text after the last line end is ignored.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Result<Line<'_>, InvalidProbe>> {
    let ended = text.rsplit_once(LINE).map(|(ended, _)| ended.split(LINE));
    ended.into_iter().flatten().map(line)
}

fn line(text: &str) -> Result<Line<'_>, InvalidProbe> {
    let mut words = text.split(WORD);
    let (Some(data_id), Some(group), Some(md5)) = (words.next(), words.next(), words.next()) else {
        return Err(InvalidProbe);
    };
    let tenant = words.next().unwrap_or_default();
    if words.next().is_some() {
        return Err(InvalidProbe);
    }
    Ok(Line { data_id, group, md5, tenant })
}

/// Appends one changed key to an answer. `tenant` is there when the client named one.
pub(crate) fn write_changed(data_id: &str, group: &str, tenant: Option<&str>, into: &mut String) {
    encode(data_id, into);
    into.push_str("%02");
    encode(group, into);
    if let Some(tenant) = tenant {
        into.push_str("%02");
        encode(tenant, into);
    }
    into.push_str("%01");
}

/// Entry point of the fuzz target `probe`: whatever the bytes, decoding ends, and what it accepts
/// is what was sent.
#[cfg_attr(not(test), expect(dead_code, reason = "called by tests/fuzz, which includes this file"))]
pub(crate) fn fuzz_probe(bytes: &[u8]) {
    let Ok(parameter) = std::str::from_utf8(bytes) else { return };
    let Ok(text) = decode_again(parameter) else { return };
    let checked: Result<Vec<_>, _> = checked_lines(&text).collect();
    let Ok(lines) = lines(&text).collect::<Result<Vec<_>, _>>() else { return };
    let words = |line: &Line<'_>| {
        let tenant =
            if line.tenant.is_empty() { String::new() } else { format!("{WORD}{}", line.tenant) };
        format!("{}{WORD}{}{WORD}{}{tenant}", line.data_id, line.group, line.md5)
    };
    let again: String = lines.iter().map(|line| format!("{}{LINE}", words(line))).collect();
    let kept: Result<Vec<_>, _> = self::lines(&again).collect();
    assert_eq!(kept.as_deref(), Ok(&*lines), "accepted lines are kept");
    if let Ok(checked) = checked {
        assert!(
            checked.len() + 1 >= lines.len() || text.contains("\u{1}\u{1}"),
            "no line escapes the check"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(text: &str) -> String {
        text.replace("^1", "\u{1}").replace("^2", "\u{2}")
    }

    fn check(text: &str, want: Result<&[(&str, &str, &str, &str)], InvalidProbe>) {
        let text = seen(text);
        let words = |Line { data_id, group, md5, tenant }| (data_id, group, md5, tenant);
        let got: Result<Vec<_>, _> = lines(&text).map(|line| line.map(words)).collect();
        assert_eq!(got, want.map(<[_]>::to_vec), "{text:?}");
    }

    #[test]
    fn lines_as_in_the_table_of_the_reference() {
        check("d^2g^2m^1", Ok(&[("d", "g", "m", "")]));
        check("d^2g^2m^2^1", Ok(&[("d", "g", "m", "")]));
        check("d^2g^2^1", Ok(&[("d", "g", "", "")]));
        check("d^2g^2^2^1", Ok(&[("d", "g", "", "")]));
        check("d^2g^2m^2public^1", Ok(&[("d", "g", "m", "public")]));
        check("d^2g^2m", Ok(&[]));
        check("d^2g^2m^1e^2g^2n^2t^1rest", Ok(&[("d", "g", "m", ""), ("e", "g", "n", "t")]));
        for wrong in ["d^2g^1", "d^1", "^1", "d^2g^2m^2t^2x^1", "d^2g^2m^1^1"] {
            check(wrong, Err(InvalidProbe));
        }
    }

    #[test]
    fn the_check_sees_other_lines_than_the_controller() {
        let plain = |tenant| CheckedLine { data_id: "d", group: "g", tenant };
        let refused = || Err(InvalidProbe);
        for (text, want) in [
            ("d^2g^1", Ok(vec![plain(None)])),
            ("d^2g^2m^2^1", Ok(vec![plain(None)])),
            ("d^2g^2^2t^1^1", Ok(vec![plain(Some("t"))])),
            ("d^2g^2m", Ok(vec![plain(None)])),
            ("^1", Ok(vec![])),
            ("d^1", refused()),
            ("d", refused()),
            ("^1d^2g^2m^1", refused()),
            ("d^2^2^1", refused()),
            ("d^2g^2m^2t^2x^1", refused()),
        ] {
            let text = seen(text);
            let got: Result<Vec<_>, _> = checked_lines(&text).collect();
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn encoded_once_or_twice_is_the_same() {
        for parameter in ["d\u{2}g\u{2}m\u{1}", "d%02g%02m%01"] {
            assert_eq!(decode_again(parameter).as_deref(), Ok("d\u{2}g\u{2}m\u{1}"));
        }
        assert_eq!(decode_again("100%"), Err(InvalidProbe));
    }

    #[test]
    fn changed_keys_are_encoded() {
        let mut text = String::new();
        write_changed("example", "DEFAULT_GROUP", None, &mut text);
        write_changed("a:b", "G", Some("dev"), &mut text);
        assert_eq!(text, "example%02DEFAULT_GROUP%01a%3Ab%02G%02dev%01");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([a-c%+]|\u{1}|\u{2}){0,24}") {
            fuzz_probe(text.as_bytes());
        }
    }
}
