//! Sizes such as `64MiB`, durations such as `100ms` and counts, as settings write them.

use std::ops::RangeInclusive;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Bytes: a whole number followed by nothing, `B`, `KiB`, `MiB` or `GiB`, within `allowed`.
///
/// # Errors
/// A text that says what is allowed.
pub(crate) fn size_bytes(text: &str, allowed: &RangeInclusive<u64>) -> Result<u64, String> {
    let refused = || {
        let (least, most) = (show_size(*allowed.start()), show_size(*allowed.end()));
        format!("{text:?}: allowed is a size from {least} to {most}, such as 512KiB or 64MiB")
    };
    let (number, unit) = number_and_unit(text).ok_or_else(refused)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return Err(refused()),
    };
    number.checked_mul(factor).filter(|bytes| allowed.contains(bytes)).ok_or_else(refused)
}

/// A duration: a whole number followed by `ms`, `s`, `m` or `h`, within `allowed`. A number
/// alone is in seconds.
///
/// # Errors
/// A text that says what is allowed.
pub(crate) fn duration(text: &str, allowed: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let refused = || {
        let (least, most) = (show_duration(*allowed.start()), show_duration(*allowed.end()));
        format!("{text:?}: allowed is a duration from {least} to {most}, such as 100ms or 5s")
    };
    let (number, unit) = number_and_unit(text).ok_or_else(refused)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).filter(|it| allowed.contains(it)).ok_or_else(refused)
}

/// A whole number within `allowed`.
///
/// # Errors
/// A text that says what is allowed.
pub(crate) fn count(text: &str, allowed: &RangeInclusive<usize>) -> Result<usize, String> {
    let refused = || {
        let (least, most) = (allowed.start(), allowed.end());
        format!("{text:?}: allowed is a whole number from {least} to {most}")
    };
    let (number, unit) = number_and_unit(text).ok_or_else(refused)?;
    let number = usize::try_from(number).ok().filter(|_| unit.is_empty());
    number.filter(|it| allowed.contains(it)).ok_or_else(refused)
}

/// `true` or `false`, or 1 or 0 as environments like to have it.
///
/// # Errors
/// A text that says what is allowed.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?}: allowed are true and false")),
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

fn show_size(bytes: u64) -> String {
    for (factor, unit) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (factor, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if milliseconds >= factor && milliseconds.is_multiple_of(factor) {
            return format!("{}{unit}", milliseconds / factor);
        }
    }
    format!("{milliseconds}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let read = |text| size_bytes(text, &(KIB..=2 * GIB));
        assert_eq!(read("1024"), Ok(1024));
        assert_eq!(read("2048B"), Ok(2048));
        assert_eq!(read("64 MiB"), Ok(64 * MIB));
        assert_eq!(read("2GiB"), Ok(2 * GIB));
        for wrong in
            ["", "1", "3GiB", "64MB", "64mib", "-1", "1.5MiB", "MiB", "99999999999999GiB", "é"]
        {
            let expected =
                format!("{wrong:?}: allowed is a size from 1KiB to 2GiB, such as 512KiB or 64MiB");
            assert_eq!(read(wrong), Err(expected));
        }
    }

    #[test]
    fn durations() {
        let read = |text| duration(text, &(Duration::from_millis(5)..=Duration::from_hours(1)));
        assert_eq!(read("5"), Ok(Duration::from_secs(5)));
        assert_eq!(read("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(read("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(read("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(read("1h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "4ms", "61m", "5 seconds", "1.5s", "s", "-1s", "18446744073709551615h"] {
            let expected =
                format!("{wrong:?}: allowed is a duration from 5ms to 1h, such as 100ms or 5s");
            assert_eq!(read(wrong), Err(expected));
        }
    }

    #[test]
    fn counts_and_truths() {
        assert_eq!(count("7", &(0..=7)), Ok(7));
        for wrong in ["8", "", "-1", "7s"] {
            let expected = format!("{wrong:?}: allowed is a whole number from 0 to 7");
            assert_eq!(count(wrong, &(0..=7)), Err(expected));
        }
        assert_eq!((truth("true"), truth("1")), (Ok(true), Ok(true)));
        assert_eq!((truth("false"), truth("0")), (Ok(false), Ok(false)));
        assert_eq!(truth("yes"), Err("\"yes\": allowed are true and false".to_owned()));
    }
}
