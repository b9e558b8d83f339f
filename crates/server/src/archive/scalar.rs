//! Scalars of YAML 1.1 in the style of the reference's writer: plain where that is read back as the
//! same text, else in quotes, and lines as a block.

use std::borrow::Cow;

use serde_json::Value;

/// A text as the value of a property of the metadata, which stands two spaces in.
pub(super) fn written(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| (c.is_control() && c != '\n') || is_unusual(c)) {
        // A string of JSON is one of YAML.
        return Value::from(text).to_string().into();
    }
    if text.contains('\n') {
        return block(text).into();
    }
    if is_plain(text) { text.into() } else { format!("'{}'", text.replace('\'', "''")).into() }
}

/// Line separators of Unicode and the byte order mark.
const fn is_unusual(c: char) -> bool {
    matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn block(text: &str) -> String {
    let begins_well = !text.starts_with([' ', '\n']);
    let ends_well = !text.ends_with("\n\n") && !text.lines().any(|line| line.ends_with(' '));
    if !begins_well || !ends_well {
        return Value::from(text).to_string();
    }
    let mut written = String::from(if text.ends_with('\n') { "|" } else { "|-" });
    for line in text.lines() {
        written.push('\n');
        if !line.is_empty() {
            written.extend(["    ", line]);
        }
    }
    written
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let followed_by_space = text.chars().nth(1).is_none_or(|c| c == ' ');
    let begins_well = match first {
        '-' | '?' | ':' => !followed_by_space,
        _ => !"#,[]{}&*!|>'\"%@` ".contains(first),
    };
    begins_well
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !is_of_another_type(text)
}

/// Whether a plain text would be read as something else than a text.
fn is_of_another_type(text: &str) -> bool {
    const WORDS: [&str; 9] = ["yes", "no", "true", "false", "on", "off", "null", "~", "<<"];
    if WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) || text == "=" {
        return true;
    }
    let digits = text.trim_start_matches(['-', '+']).replace('_', "");
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let all = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let of_base =
        |prefix: &str, radix| digits.strip_prefix(prefix).is_some_and(|it| all(it, radix));
    // A moment begins with a date; clock times count in sixties.
    let is_date = digits.split('-').count() == 3
        && digits.split('-').take(2).all(|part| all(part, 10))
        && digits
            .split('-')
            .nth(2)
            .is_some_and(|day| day.starts_with(|c: char| c.is_ascii_digit()));
    let in_sixties = digits.contains(':')
        && digits.split(':').all(|part| all(part.replace('.', "").as_str(), 10));
    digits.parse::<f64>().is_ok()
        || matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan")
        || of_base("0x", 16)
        || of_base("0b", 2)
        || is_date
        || in_sixties
}
