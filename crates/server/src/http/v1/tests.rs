//! Reading of requests and the answer of a get, without a node. What needs one is in
//! `tests/conformance`.

use quorate_core::command::{
    Cause, Command, Describe, ExpectedMd5, Presence, Proposal, ProposalId, Publish,
};
use quorate_core::content::Md5;
use quorate_core::store::Store;
use quorate_core::time::LogTime;

use super::super::response::tests::seen;
use super::*;

const PATH: &str = "/nacos/v1/cs/configs";

fn peer() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

fn refusal<T>(result: Result<T, Refused>) -> (u16, String) {
    result.err().map_or((0, String::new()), |refused| {
        let (status, _, body) = seen(*refused);
        (status, body)
    })
}

#[test]
fn gets_are_read_or_refused() {
    for (query, status, body) in [
        ("dataId=d&group=G", 0, ""),
        ("dataId=d&group=G&tenant=&tag=&consistency=local", 0, ""),
        ("group=G", 400, "Required parameter 'dataId' is not present."),
        ("dataId=d", 400, "Required parameter 'group' is not present."),
        ("dataId=&group=G", 400, "caused: invalid dataId : ;"),
        ("dataId=a%20b&group=", 400, "Param 'dataId' is illegal, illegal characters"),
        ("dataId=d&group=G&tag=a@b", 400, "caused: invalid tag : a@b;"),
        (
            "dataId=d&group=G&consistency=x",
            400,
            "caused: invalid consistency : x, allowed are local",
        ),
        ("dataId=d&group=G&min-revision=-1", 400, "caused: invalid min-revision : -1;"),
        ("dataId=%zz&group=G", 400, "caused: a parameter is not percent-encoded UTF-8;"),
    ] {
        let (got, text) = refusal(read_get(query, PATH));
        assert_eq!(got, status, "{query}: {text}");
        assert!(text.contains(body), "{query}: {text}");
    }
}

#[test]
fn gets_name_key_and_freshness() {
    let at = Revision(7);
    for (query, key, freshness) in [
        ("dataId=d&group=G", "d+G+public", Freshness::Local),
        ("dataId=d&group=G&tenant=dev", "d+G+dev", Freshness::Local),
        ("tenant=dev&dataId=d&group=G&namespaceId=x", "d+G+x", Freshness::Local),
        ("dataId=d&group=G&tenant=+", "d+G+public", Freshness::Local),
        ("dataId=d&group=G&consistency=linearizable", "d+G+public", Freshness::Linearizable),
        ("dataId=d&group=G&min-revision=7", "d+G+public", Freshness::AtLeast(at)),
        (
            "dataId=d&group=G&min-revision=7&consistency=linearizable",
            "d+G+public",
            Freshness::LinearizableAtLeast(at),
        ),
    ] {
        let Ok(get) = read_get(query, PATH) else { panic!("{query}") };
        assert_eq!(
            (get.named.key.to_string().as_str(), get.freshness),
            (key, freshness),
            "{query}"
        );
    }
}

#[test]
fn a_found_config_has_the_headers_of_the_reference_in_order() {
    let store = Store::default();
    let Ok(get) = read_get("dataId=d&group=G", PATH) else { panic!("valid") };
    let content = Bytes::from_static("测试".as_bytes());
    let publish = Publish {
        key: get.named.key.clone(),
        md5: Md5::of(&content),
        content,
        content_type: ContentType::Yaml,
        describe: Describe::default(),
        writer: Writer::default(),
        expected: None,
        presence: Presence::Any,
        cause: Cause::Publish,
    };
    let time = LogTime(1_700_000_000_123);
    let command = Command::Publish(publish);
    store.apply().proposal(Revision(3), &Proposal { id: ProposalId::default(), time, command });
    let (datum, _) = store.config(&get.named.key);
    let found_one = Seen::Formal(datum.expect("published"));
    let (status, headers, body) = seen(found(&found_one));
    assert_eq!((status, body.as_str()), (200, "测试"));
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        headers,
        [
            ("config-type", "yaml"),
            ("content-md5", "db06c78d1e24cf708a14ce81c9b617ec"),
            ("pragma", "no-cache"),
            ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("cache-control", "no-cache,no-store"),
            ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
            ("encrypted-data-key", ""),
            ("content-type", "text/plain;charset=UTF-8"),
        ]
    );
}

#[test]
fn removes_take_query_and_form_and_the_name_of_a_release() {
    let read = |query, form| {
        let mut headers = HeaderMap::new();
        headers.insert("x-real-ip", HeaderValue::from_static("10.0.0.1"));
        read_remove(query, form, PATH, &headers, peer()).map(|read| {
            let (named, release, writer) = read;
            format!("{} {release:?} {} {}", named.key, writer.user, writer.ip)
        })
    };
    for (form, want) in [
        (&b"group=G&src_user=u"[..], "d+G+public None u 10.0.0.1"),
        (b"group=G&tag=tag_v1", "d+G+public Some(\"tag_v1\")  10.0.0.1"),
    ] {
        let Ok(text) = read("dataId=d", Form::UrlEncoded(form)) else { panic!("valid") };
        assert_eq!(text, want);
    }
    let cases = [("dataId=d&group=G&tag=a@b", 400), ("dataId=d", 400)];
    for (query, status) in cases {
        assert_eq!(refusal(read(query, Form::None)).0, status, "{query}");
    }
}

mod publishing {
    use super::super::publish::{Read, read};
    use super::*;

    fn published(
        query: &str,
        form: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Read, Refused> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        read(query, Form::UrlEncoded(form.as_bytes()), PATH, &map, peer())
    }

    #[test]
    fn query_and_form_become_one_request() {
        let form = "group=G2&content=a%3D1%2B1+x&tenant=dev&appName=+&config_tags=&desc=why&use=u\
            &effect=e&type=json&schema=s&encryptedDataKey=k&username=me";
        let headers = [("casmd5", "xyz"), ("x-forwarded-for", "10.0.0.1, 10.0.0.2")];
        let Ok(Read { request, tenant, .. }) = published("dataId=d&group=G", form, &headers) else {
            panic!("valid")
        };
        assert_eq!((request.key.to_string().as_str(), tenant.as_str()), ("d+G+dev", "dev"));
        assert_eq!(
            (request.content.as_ref(), request.content_type),
            (&b"a=1+1 x"[..], ContentType::Json)
        );
        assert_eq!(request.md5, Md5::of(b"a=1+1 x"));
        assert_eq!(request.expected, Some(ExpectedMd5::NeverEqual));
        assert_eq!(request.rule, None);
        assert_eq!((request.writer.user.as_str(), request.writer.ip.as_str()), ("me", "10.0.0.1"));
        assert_eq!(
            request.describe,
            Describe {
                app: Some(String::new()),
                tags: Some(String::new()),
                description: "why".to_owned(),
                used_for: "u".to_owned(),
                effect: "e".to_owned(),
                schema: "s".to_owned(),
                encrypted_data_key: "k".to_owned(),
            }
        );
    }

    #[test]
    fn what_is_not_sent_is_kept_or_erased() {
        let Ok(Read { request, .. }) =
            published("dataId=d&group=G&content=%E6%B5%8B&type=YAML", "", &[])
        else {
            panic!("valid")
        };
        assert_eq!((request.content_type, request.expected), (ContentType::Text, None));
        assert_eq!(request.describe, Describe::default());
        assert_eq!(request.writer.ip, "127.0.0.1");
    }

    #[test]
    fn gray_releases_are_told_from_formal_ones() {
        for (query, headers, release) in [
            ("", &[][..], None),
            ("&tag=", &[("betaips", " ")], None),
            ("&tag=v1", &[], Some(Rule::Tag("v1".into()))),
            ("", &[("betaips", "10.0.0.1")], Some(Rule::Beta("10.0.0.1".into()))),
        ] {
            let query = format!("dataId=d&group=G&content=c{query}");
            let Ok(read) = published(&query, "", headers) else { panic!("valid") };
            assert_eq!(read.request.rule, release, "{query}");
        }
    }

    #[test]
    fn refusals_come_in_the_order_of_the_reference() {
        for (form, status, body) in [
            ("dataId=d&group=G", 400, "Required parameter 'content' is not present."),
            ("content=c&group=G", 400, "Required parameter 'dataId' is not present."),
            ("dataId=d&group=G&content=", 400, "caused: content is blank : ;"),
            ("dataId=+&group=G&content=", 400, "caused: invalid dataId :  ;"),
            ("dataId=d&group=+&content=", 400, "caused: invalid group :  ;"),
            ("dataId=&group=&content=&namespaceId=n&tenant=a.%2F", 400, "caused: invalid tenant;"),
            (
                "dataId=d&group=G&content=c&tag=xxxxxxxxxxxxxxxxx",
                400,
                "caused: too long tag, over 16;",
            ),
            (
                "dataId=d&group=G&content=%ff",
                400,
                "caused: a parameter is not percent-encoded UTF-8;",
            ),
        ] {
            let (got, text) = refusal(published("", form, &[]));
            assert_eq!(got, status, "{form}: {text}");
            assert!(text.contains(body), "{form}: {text}");
        }
    }
}
