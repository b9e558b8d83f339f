//! Reading of polls, and how small a held one is. What needs a node is in `tests/conformance`.

use http_body_util::Full;

use super::super::super::response::tests::seen;
use super::*;

const PATH: &str = "/nacos/v1/cs/configs/listener";

fn parsed(
    listening: &str,
    headers: &[(&'static str, &str)],
    limit: usize,
) -> Result<Asked, (u16, String)> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().expect("a header value"));
    }
    let listening = listening.replace("^1", "%01").replace("^2", "%02");
    let form = format!("Listening-Configs={listening}");
    parse("", Form::UrlEncoded(form.as_bytes()), PATH, &map, limit).map_err(|refused| {
        let (status, _, body) = seen(*refused);
        (status, body)
    })
}

fn keys_of(asked: &Asked) -> Vec<String> {
    asked.keys.iter().map(|it| format!("{} {:?} {}", it.key, it.md5, it.tag)).collect()
}

#[test]
fn lines_become_keys() {
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    for (listening, keys, impossible, count, length) in [
        ("d^2G^2^1", vec!["d+G+public Empty 0"], "", 1, 5),
        ("d^2G^2x^2^1", vec!["d+G+public Other 0"], "", 1, 7),
        ("d^2G^2x^2public^1", vec!["d+G+public Other 1"], "", 1, 13),
        (
            &format!("d^2G^2{md5}^2dev^1e^2G^2^1"),
            vec![&format!("d+G+dev Digest({md5}) 1"), "e+G+public Empty 0"],
            "",
            2,
            46,
        ),
        ("d^2G^2x^1d^2G^2^2public^1", vec!["d+G+public Empty 1"], "", 1, 18),
        ("d^2G^2x", vec![], "", 0, 5),
        ("^2G^2^1d^2+^2x^1", vec![], "d%02+%01", 2, 10),
    ] {
        let asked = parsed(listening, &[], 10).unwrap_or_else(|why| panic!("{listening}: {why:?}"));
        assert_eq!(keys_of(&asked), keys, "{listening}");
        assert_eq!(
            (asked.impossible.as_str(), asked.count, asked.length),
            (impossible, count, length)
        );
    }
}

#[test]
fn refusals_are_those_of_the_reference() {
    for (listening, status, body) in [
        ("", 400, "caused: invalid probeModify;"),
        ("+", 400, "caused: invalid probeModify;"),
        ("d^2G^1", 400, "caused: invalid probeModify;"),
        ("d%2502G%2502m%25", 400, "caused: invalid probeModify;"),
        ("d^1", 500, "\"message\":\"invalid probeModify\""),
        ("d^2G^2m^2t^2x^1", 500, "\"message\":\"invalid probeModify\""),
        (
            "a%2520b^2G^2^1",
            400,
            "Param 'dataId' is illegal, illegal characters should not appear in the param.\r\n",
        ),
        ("d^2G^2^2a.b^1", 400, "Param 'namespaceId/tenant' is illegal, illegal characters"),
        ("a^2G^2^1b^2G^2^1c^2G^2^1", 400, "caused: invalid probeModify;"),
    ] {
        let (got, text) = parsed(listening, &[], 2).expect_err(listening);
        assert_eq!(got, status, "{listening}: {text}");
        assert!(text.contains(body), "{listening}: {text}");
    }
    assert_eq!(parsed("a^2G^2^1b^2G^2^1a^2G^2x^1", &[], 2).map(|asked| asked.count), Ok(2));
    let nothing = parse("", Form::None, PATH, &HeaderMap::new(), 1).expect_err("no parameter");
    assert_eq!(seen(*nothing).2, "caused: invalid probeModify;");
}

#[test]
fn encoding_once_or_twice_is_the_same() {
    let twice = parsed("d%2502G%2502x%2501", &[], 10).unwrap();
    assert_eq!(twice, parsed("d^2G^2x^1", &[], 10).unwrap());
}

#[test]
fn headers_are_read() {
    let asked = |headers: &[(&'static str, &str)]| {
        let asked = parsed("d^2G^2^1", headers, 10).unwrap();
        (asked.timeout, asked.no_hang_up, asked.version)
    };
    assert_eq!(asked(&[]), (None, false, 200));
    assert_eq!(
        asked(&[
            ("long-pulling-timeout", "30000"),
            ("long-pulling-timeout-no-hangup", "TRUE"),
            ("client-version", "2.0.4"),
        ]),
        (Some("30000".to_owned()), true, 204)
    );
}

#[test]
fn versions_are_numbers() {
    for (text, number) in [
        ("2.0.0", 200),
        ("2.0.3", 203),
        ("1.4.10", 150),
        ("2.0.4-SNAPSHOT", 20),
        ("Nacos-Java-Client:v2.0.3", 3),
        ("", 0),
        ("99999999999999999999.1", 1),
        ("9999999999999999999.1", u64::MAX),
    ] {
        assert_eq!(version(text), number, "{text}");
    }
}

fn output_bytes<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_held_poll_is_small() {
    let bytes = output_bytes(listen::<Full<Bytes>>);
    assert!(bytes < 768, "{bytes}");
}
