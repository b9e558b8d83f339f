//! Wall-clock milliseconds → the two written forms that answers carry. UTC only, no parsing.

/// A moment split into its parts.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    second_of_day: u64,
}

/// Days of the proleptic Gregorian calendar, counted in eras of 400 years that begin in March.
const fn civil(unix_ms: u64) -> Civil {
    let days = unix_ms / 86_400_000;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let (month, carried) =
        if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    Civil {
        year: era * 400 + year_of_era + carried,
        month,
        day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        weekday: (days + 4) % 7,
        second_of_day: unix_ms % 86_400_000 / 1000,
    }
}

fn digits(number: u64, width: u32, into: &mut String) {
    for place in (0..width).rev() {
        let digit = number / 10_u64.pow(place) % 10;
        into.push(
            u32::try_from(digit).ok().and_then(|digit| char::from_digit(digit, 10)).unwrap_or('0'),
        );
    }
}

fn clock(second_of_day: u64, into: &mut String) {
    digits(second_of_day / 3600, 2, into);
    into.push(':');
    digits(second_of_day / 60 % 60, 2, into);
    into.push(':');
    digits(second_of_day % 60, 2, into);
}

/// `Tue, 14 Nov 2023 22:13:20 GMT`, as `Last-Modified` wants it.
pub(crate) fn rfc1123(unix_ms: u64) -> String {
    const DAYS: &str = "SunMonTueWedThuFriSat";
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let name = |names: &'static str, index: u64| {
        let at = usize::try_from(index).unwrap_or_default() * 3;
        names.get(at..at + 3).unwrap_or_default()
    };
    let Civil { year, month, day, weekday, second_of_day } = civil(unix_ms);
    let mut text = String::with_capacity(29);
    text.push_str(name(DAYS, weekday));
    text.push_str(", ");
    digits(day, 2, &mut text);
    text.push(' ');
    text.push_str(name(MONTHS, month - 1));
    text.push(' ');
    digits(year, 4, &mut text);
    text.push(' ');
    clock(second_of_day, &mut text);
    text.push_str(" GMT");
    text
}

/// `2023-11-14T22:13:20.123+00:00`, as the reference's JSON has it (config.md §0.4).
pub(crate) fn iso8601(unix_ms: u64) -> String {
    let Civil { year, month, day, weekday: _, second_of_day } = civil(unix_ms);
    let mut text = String::with_capacity(29);
    digits(year, 4, &mut text);
    text.push('-');
    digits(month, 2, &mut text);
    text.push('-');
    digits(day, 2, &mut text);
    text.push('T');
    clock(second_of_day, &mut text);
    text.push('.');
    digits(unix_ms % 1000, 3, &mut text);
    text.push_str("+00:00");
    text
}

/// `20231114221320`, as names of files have it.
pub(crate) fn compact(unix_ms: u64) -> String {
    let Civil { year, month, day, weekday: _, second_of_day } = civil(unix_ms);
    let mut text = String::with_capacity(14);
    digits(year, 4, &mut text);
    for part in [month, day, second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60] {
        digits(part, 2, &mut text);
    }
    text
}

/// As an archive has it; the earliest that it can have when it cannot have this one.
pub(crate) fn zip_time(unix_ms: u64) -> zip::DateTime {
    let Civil { year, month, day, weekday: _, second_of_day } = civil(unix_ms);
    let small = |number: u64| u8::try_from(number).unwrap_or_default();
    let (hour, minute) = (second_of_day / 3600, second_of_day / 60 % 60);
    zip::DateTime::from_date_and_time(
        u16::try_from(year).unwrap_or_default(),
        small(month),
        small(day),
        small(hour),
        small(minute),
        small(second_of_day % 60),
    )
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (unix_ms, header, json) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000+00:00"),
            (951_782_399_999, "Mon, 28 Feb 2000 23:59:59 GMT", "2000-02-28T23:59:59.999+00:00"),
            (951_782_400_000, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00.000+00:00"),
            (1_700_000_000_123, "Tue, 14 Nov 2023 22:13:20 GMT", "2023-11-14T22:13:20.123+00:00"),
            (1_735_689_599_000, "Tue, 31 Dec 2024 23:59:59 GMT", "2024-12-31T23:59:59.000+00:00"),
            (4_107_542_400_000, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00.000+00:00"),
        ] {
            assert_eq!(rfc1123(unix_ms), header);
            assert_eq!(iso8601(unix_ms), json);
        }
    }
}
