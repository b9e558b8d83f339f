//! Query strings, url-encoded forms and multipart forms → pairs in the order they were sent.
//!
//! Decoding is strict: a name or a used value that is not percent-encoded UTF-8 is refused, never
//! guessed. Values are decoded when they are asked for, each once, into an allocation of exactly
//! their size. Depends on nothing of this crate, so that the fuzz targets can include it.

use std::borrow::Cow;

/// Most parameters of one request, as the reference's container counts.
pub(crate) const MAX_PAIRS: usize = 10_000;

/// Why parameters cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A text that is not percent-encoded UTF-8.
    Encoding,
    /// A multipart form without its boundaries.
    Multipart,
    /// More than [`MAX_PAIRS`].
    Count,
}

/// A request body that holds parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'a> {
    /// No body, or one of another kind.
    None,
    /// `application/x-www-form-urlencoded`
    UrlEncoded(&'a [u8]),
    /// `multipart/form-data`
    Multipart {
        /// From the `Content-Type`.
        boundary: &'a str,
        /// The body.
        body: &'a [u8],
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Percent,
    Plain,
}

#[derive(Debug)]
struct Pair<'a> {
    name: Cow<'a, str>,
    value: &'a [u8],
    coding: Coding,
}

/// The parameters of one request, those of the query first.
#[derive(Debug)]
pub(crate) struct Pairs<'a> {
    pairs: Vec<Pair<'a>>,
    /// The first part of a multipart form that is a file, as it came.
    file: Option<&'a [u8]>,
}

impl<'a> Pairs<'a> {
    /// Splits query and form and decodes the names.
    ///
    /// # Errors
    /// [`Malformed`] says how.
    pub(crate) fn parse(query: &'a str, form: Form<'a>) -> Result<Self, Malformed> {
        let mut parsed = Self { pairs: Vec::with_capacity(8), file: None };
        parsed.url_encoded(query.as_bytes())?;
        match form {
            Form::None => {}
            Form::UrlEncoded(body) => parsed.url_encoded(body)?,
            Form::Multipart { boundary, body } => parsed.multipart(boundary, body)?,
        }
        Ok(parsed)
    }

    /// The first value of a parameter, decoded; `None` when it was not sent.
    ///
    /// # Errors
    /// [`Malformed::Encoding`] when that value is not percent-encoded UTF-8.
    pub(crate) fn first(&self, name: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
        let Some(pair) = self.pairs.iter().find(|pair| pair.name == name) else {
            return Ok(None);
        };
        match pair.coding {
            Coding::Percent => decode(pair.value).map(Some),
            Coding::Plain => text(pair.value).map(Some),
        }
    }

    /// The first of these parameters whose value is more than white space; empty when none is.
    ///
    /// # Errors
    /// As [`Pairs::first`].
    pub(crate) fn first_filled(&self, names: &[&str]) -> Result<Cow<'a, str>, Malformed> {
        for name in names {
            if let Some(value) = self.first(name)?
                && !value.trim().is_empty()
            {
                return Ok(value);
            }
        }
        Ok(Cow::Borrowed(""))
    }

    /// Whether the parameter was sent with exactly this value, of plain letters.
    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.pairs.iter().any(|pair| pair.name == name && pair.value == value.as_bytes())
    }

    /// The uploaded file, if there is one.
    pub(crate) const fn file(&self) -> Option<&'a [u8]> {
        self.file
    }

    fn push(
        &mut self,
        name: Cow<'a, str>,
        value: &'a [u8],
        coding: Coding,
    ) -> Result<(), Malformed> {
        if self.pairs.len() == MAX_PAIRS {
            return Err(Malformed::Count);
        }
        self.pairs.push(Pair { name, value, coding });
        Ok(())
    }

    fn url_encoded(&mut self, text: &'a [u8]) -> Result<(), Malformed> {
        for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
            let (name, value) = split_once(part, b"=").unwrap_or((part, b""));
            self.push(decode(name)?, value, Coding::Percent)?;
        }
        Ok(())
    }

    fn multipart(&mut self, boundary: &str, body: &'a [u8]) -> Result<(), Malformed> {
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first delimiter may stand at the very start, without a line end before it.
        let opening = delimiter.get(2..).ok_or(Malformed::Multipart)?;
        let mut rest = match body.strip_prefix(opening) {
            Some(rest) => rest,
            None => split_once(body, &delimiter).ok_or(Malformed::Multipart)?.1,
        };
        while !rest.starts_with(b"--") {
            let (_, part) = split_once(rest, b"\r\n").ok_or(Malformed::Multipart)?;
            // The search starts at the line end before the headers, for a part without data.
            let (head, _) = split_once(part, b"\r\n\r\n").ok_or(Malformed::Multipart)?;
            let data = part.get(head.len() + 2..).ok_or(Malformed::Multipart)?;
            let (data, next) = split_once(data, &delimiter).ok_or(Malformed::Multipart)?;
            let data = data.strip_prefix(b"\r\n").unwrap_or(b"");
            match part_of(&text(head)?) {
                Some(Part::Field(name)) => self.push(Cow::Owned(name), data, Coding::Plain)?,
                Some(Part::File) => self.file = self.file.or(Some(data)),
                None => {}
            }
            rest = next;
        }
        Ok(())
    }
}

/// What a part of a multipart form is.
enum Part {
    Field(String),
    /// Something with a file name, which is no parameter.
    File,
}

fn part_of(head: &str) -> Option<Part> {
    let is_disposition = |line: &&str| {
        line.split_once(':')
            .is_some_and(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))
    };
    let mut field = None;
    for parameter in head.split("\r\n").find(is_disposition)?.split(';').skip(1) {
        let Some((key, value)) = parameter.split_once('=') else { continue };
        if key.trim().to_ascii_lowercase().starts_with("filename") {
            return Some(Part::File);
        }
        if key.trim().eq_ignore_ascii_case("name") {
            field = Some(Part::Field(value.trim().trim_matches('"').to_owned()));
        }
    }
    field
}

/// What stands before and after the first occurrence of a mark.
fn split_once<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let first = mark.first()?;
    let mut from = 0;
    loop {
        from += text.get(from..)?.iter().position(|byte| byte == first)?;
        let (before, found) = text.split_at_checked(from)?;
        if let Some(after) = found.strip_prefix(mark) {
            return Some((before, after));
        }
        from += 1;
    }
}

fn text(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Malformed::Encoding)
}

/// Decodes `%XX` and `+`, borrowing when there is nothing to decode.
///
/// # Errors
/// [`Malformed::Encoding`] for an incomplete escape or bytes that are no UTF-8.
pub(crate) fn decode(raw: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    if !raw.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return text(raw);
    }
    let escapes = raw.iter().filter(|byte| **byte == b'%').count();
    let length = raw.len().checked_sub(escapes * 2).ok_or(Malformed::Encoding)?;
    let mut decoded = Vec::with_capacity(length);
    let mut bytes = raw.iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(Malformed::Encoding),
            },
            b'+' => b' ',
            other => *other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Malformed::Encoding)
}

const fn hex(digit: &u8) -> Option<u8> {
    match *digit {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Encodes as the reference's answers are: letters, digits and `.*_-` stay, a space becomes `+`,
/// everything else `%XX` (config.md §3.5).
pub(crate) fn encoded(text: &str) -> String {
    let mut into = String::new();
    encode(text, &mut into);
    into
}

/// The same, at the end of a text.
pub(crate) fn encode(text: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().map_or('0', char::from);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'*' | b'_' | b'-' => {
                into.push(char::from(byte));
            }
            b' ' => into.push('+'),
            other => into.extend(['%', digit(other >> 4), digit(other)]),
        }
    }
}

/// Entry point of the fuzz target `form`: whatever the bytes, decoding ends and agrees with itself.
#[cfg_attr(not(test), expect(dead_code, reason = "called by tests/fuzz, which includes this file"))]
pub(crate) fn fuzz_form(bytes: &[u8]) {
    let (boundary, body) = split_once(bytes, b"\n").unwrap_or((b"x", bytes));
    let boundary = std::str::from_utf8(boundary).unwrap_or("x");
    for form in [Form::UrlEncoded(body), Form::Multipart { boundary, body }] {
        let Ok(pairs) = Pairs::parse(boundary, form) else { continue };
        assert!(pairs.pairs.len() <= MAX_PAIRS, "the number of pairs is bounded");
        for name in pairs.pairs.iter().take(16).map(|pair| pair.name.clone()) {
            let Ok(Some(value)) = pairs.first(&name) else { continue };
            let mut encoded = String::new();
            encode(&value, &mut encoded);
            assert_eq!(
                decode(encoded.as_bytes()).as_deref(),
                Ok(&*value),
                "what is encoded decodes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(query: &str, form: Form<'_>, want: &[(&str, &str)]) {
        let pairs = Pairs::parse(query, form).expect("well formed");
        let got: Vec<_> = pairs
            .pairs
            .iter()
            .map(|pair| {
                (pair.name.to_string(), pairs.first(&pair.name).unwrap().unwrap().to_string())
            })
            .collect();
        let got: Vec<_> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn query_comes_before_the_form() {
        check("a=1&b=2", Form::UrlEncoded(b"c=3"), &[("a", "1"), ("b", "2"), ("c", "3")]);
        check("a=1", Form::UrlEncoded(b"a=2"), &[("a", "1"), ("a", "1")]);
        check("", Form::UrlEncoded(b"&a&&b=&=c&"), &[("a", ""), ("b", ""), ("", "c")]);
        check("x=a%3D1+%2B%25=", Form::None, &[("x", "a=1 +%=")]);
        check("x=%E6%B5%8B%e8%af%95&y=测", Form::None, &[("x", "测试"), ("y", "测")]);
        check("d%61taId=d", Form::None, &[("dataId", "d")]);
    }

    #[test]
    fn what_is_no_utf8_is_refused() {
        for wrong in ["%", "%4", "%zz", "a%f", "%ff", "%E6%B5", "%+1"] {
            assert_eq!(decode(wrong.as_bytes()), Err(Malformed::Encoding), "{wrong}");
            assert!(Pairs::parse(&format!("{wrong}=1"), Form::None).is_err(), "{wrong}");
            let query = format!("x={wrong}&y=1");
            let pairs = Pairs::parse(&query, Form::None).unwrap();
            assert_eq!(pairs.first("x"), Err(Malformed::Encoding), "{wrong}");
            assert_eq!(pairs.first("y").unwrap().as_deref(), Some("1"));
        }
        assert_eq!(decode(&[0xff]), Err(Malformed::Encoding));
    }

    #[test]
    fn decoded_values_have_exactly_their_size() {
        let Ok(Cow::Owned(value)) = decode(b"%e6%b5%8b+a%2B") else { panic!("owned") };
        assert_eq!((value.as_str(), value.capacity()), ("测 a+", value.len()));
        assert!(matches!(decode(b"plain"), Ok(Cow::Borrowed("plain"))));
    }

    #[test]
    fn the_number_of_pairs_is_bounded() {
        let enough = "a&".repeat(MAX_PAIRS);
        assert!(Pairs::parse(&enough, Form::None).is_ok());
        assert_eq!(Pairs::parse(&enough, Form::UrlEncoded(b"b")).err(), Some(Malformed::Count));
    }

    #[test]
    fn multipart_fields() {
        let body = "--B\r\nContent-Disposition: form-data; name=\"dataId\"\r\n\r\nd 1\r\n\
            --B\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name=content\r\n\r\n\
            a=%41\r\n--b\r\n--B\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n\
            --B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\nfile\r\n--B--\r\n";
        let form = |body| Form::Multipart { boundary: "B", body };
        check(
            "",
            form(body.as_bytes()),
            &[("dataId", "d 1"), ("content", "a=%41\r\n--b"), ("empty", "")],
        );
        check("", form(b"preamble\r\n--B--"), &[]);
        for broken in
            ["", "--B", "--B\r\n", "--B\r\nContent-Disposition: form-data; name=a\r\n\r\nx"]
        {
            let parsed = Pairs::parse("", form(broken.as_bytes()));
            assert_eq!(parsed.err(), Some(Malformed::Multipart), "{broken:?}");
        }
    }

    #[test]
    fn encoding_is_that_of_the_reference() {
        let mut encoded = String::new();
        encode("a:b\u{2}G\u{1} *~测", &mut encoded);
        assert_eq!(encoded, "a%3Ab%02G%01+*%7E%E6%B5%8B");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_form(&bytes);
        }

        #[test]
        fn any_text_survives_encoding(text in any::<String>()) {
            let mut encoded = String::new();
            encode(&text, &mut encoded);
            let decoded = decode(encoded.as_bytes());
            prop_assert_eq!(decoded.as_deref(), Ok(&*text));
        }
    }
}
