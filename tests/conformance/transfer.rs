//! Import and export: archives as other servers write them, policies, and a way there and back
//! (config.md §2.1.10, §2.1.11).

use std::io::{Cursor, Read, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::exchange::exchange_bytes;
use super::harness::{Client, Cluster, Key, Options};
use super::vector::Answer;

const V1: &str = "/nacos/v1/cs/configs?import=true";
const ADMIN: &str = "/nacos/v3/admin/cs/config/import";

fn packed(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn unpacked(archive: &[u8]) -> Vec<(String, String)> {
    let mut zip = ZipArchive::new(Cursor::new(archive)).expect("an archive");
    let count = zip.len();
    let read = |index| {
        let mut file = zip.by_index(index).unwrap();
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        (file.name().unwrap().into_owned(), content)
    };
    (0..count).map(read).collect()
}

async fn upload(address: SocketAddr, path: &str, file: Option<&[u8]>) -> Answer {
    let mut body =
        b"--B\r\nContent-Disposition: form-data; name=\"src_user\"\r\n\r\nme\r\n".to_vec();
    if let Some(file) = file {
        body.extend_from_slice(
            b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.zip\"\r\n\
              Content-Type: application/zip\r\n\r\n",
        );
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B--\r\n");
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    exchange_bytes(address, &request).await
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    exchange_bytes(address, request.as_bytes()).await
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| {
        panic!("{error}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))
    })
}

async fn publish(client: &Client, data_id: &str, content: &str) {
    client.publish(&Key::new(data_id), content).await.acknowledged();
}

const METADATA: &str = "metadata:\n- {dataId: a.json, group: G, type: json, desc: 'x: y'}\n\
    - {dataId: b, group: G, type: text, appName: shop}\n- {dataId: away, group: G, type: text}\n";

#[tokio::test]
async fn archives_are_imported_by_their_policy() {
    let cluster = Cluster::alone(&Options::default()).await;
    let client = cluster.client(0);
    let address = client.address();
    let archive = packed(&[
        ("G/a.json", "{}"),
        ("G/b", "new"),
        ("G/extra", "z"),
        (".metadata.yml", METADATA),
    ]);
    let lost = ["未在文件中找到: G/away", "未在元数据中找到: G/extra"];
    let rows = |names: &[&str]| names.iter().map(|it| json!({"itemName": it})).collect::<Vec<_>>();
    let answer = upload(address, V1, Some(&archive)).await;
    let want = json!({"code": 200, "message": "import success", "data": {
        "succCount": 2, "skipCount": 0, "unrecognizedCount": 2, "unrecognizedData": rows(&lost),
    }, "noRight": false});
    assert_eq!((answer.status, body(&answer)), (200, want));
    let found = body(&get(address, "/nacos/v1/cs/configs?show=all&dataId=a.json&group=G").await);
    let shown = (&found["content"], &found["type"], &found["desc"], &found["createUser"]);
    assert_eq!(shown, (&json!("{}"), &json!("json"), &json!("x: y"), &json!("me")));
    let list = "/nacos/v1/cs/history?search=accurate&dataId=a.json&group=G";
    let history = body(&get(address, list).await);
    assert_eq!(history["totalCount"], 1, "{history}");

    publish(client, "b", "old").await;
    let key = |data_id: &str| json!({"dataId": data_id, "group": "G"});
    let lost = ["Item not found in file: G/away", "Item not found in metadata: G/extra"];
    for (policy, content, counts) in [
        (
            "SKIP",
            "old",
            json!({"succCount": 0, "skipCount": 2,
            "skipData": [key("a.json"), key("b")]}),
        ),
        (
            "ABORT",
            "old",
            json!({"succCount": 0, "skipCount": 1,
            "failData": [key("a.json")], "skipData": [key("b")]}),
        ),
        ("OVERWRITE", "new", json!({"succCount": 2, "skipCount": 0})),
    ] {
        let answer = upload(address, &format!("{ADMIN}?policy={policy}"), Some(&archive)).await;
        let mut want = counts;
        want["unrecognizedCount"] = 2.into();
        want["unrecognizedData"] = rows(&lost).into();
        let want = json!({"code": 0, "message": "success", "data": want});
        assert_eq!((answer.status, body(&answer)), (200, want), "{policy}");
        assert_eq!(client.read(&Key::new("b")).await.as_deref(), Some(content), "{policy}");
    }
}

#[tokio::test]
async fn what_cannot_be_imported_changes_nothing() {
    let cluster = Cluster::alone(&Options::default()).await;
    let address = cluster.client(0).address();
    let good = packed(&[("G/a", "1")]);
    let metadata = |text: &str| packed(&[("G/a", "1"), (".metadata.yml", text)]);
    let spaced = packed(&[("G/a", "1"), ("G/a b", "1")]);
    let latin = {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("G/a", SimpleFileOptions::default()).unwrap();
        zip.write_all(b"\xff").unwrap();
        zip.finish().unwrap().into_inner()
    };
    for (file, query, v1, v3) in [
        (None, "", 100_005, 100_005),
        (Some(b"no zip".to_vec()), "", 100_005, 100_005),
        (Some(packed(&[("a/b/c", "1")])), "", 100_005, 100_005),
        (Some(metadata("metadata: []")), "", 100_002, 100_002),
        (Some(metadata("metadata: [{dataId: a}]")), "", 100_002, 100_002),
        (Some(packed(&[("G/a", "1"), (".meta.yml", "a=b=c")])), "", 100_002, 100_002),
        (Some(latin), "", 100_004, 100_004),
        (Some(good), "away", 100_001, 22_001),
    ] {
        let answer = upload(address, &format!("{V1}&namespace={query}"), file.as_deref()).await;
        assert_eq!((answer.status, &body(&answer)["code"]), (200, &json!(v1)), "{query} {v1}");
        let path = format!("{ADMIN}?namespaceId={query}");
        let answer = upload(address, &path, file.as_deref()).await;
        assert_eq!((answer.status, &body(&answer)["code"]), (200, &json!(v3)), "{query} {v3}");
    }
    // One entry that may not be so, and nothing is imported of all.
    let answer = upload(address, V1, Some(&spaced)).await;
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 400, "{text}");
    assert!(text.contains("G/a b") && text.contains("dataId"), "{text}");
    let answer = upload(address, &format!("{ADMIN}?policy=MAYBE"), Some(&spaced)).await;
    assert_eq!((answer.status, body(&answer)["code"].clone()), (400, json!(20_002)));
    let list = "/nacos/v3/admin/cs/config/list?dataId=&groupName=";
    assert_eq!(body(&get(address, list).await)["data"]["totalCount"], 0);
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    let cluster = Cluster::alone(&Options::default()).await;
    let client = cluster.client(0);
    let address = client.address();
    let archive = packed(&[
        ("G/a.json", "{\"测\": 1}"),
        ("G/b", "line\n"),
        (
            ".metadata.yml",
            "metadata:\n- {dataId: a.json, group: G, type: json, configTags: 't1,t2'}\n\
             - {dataId: b, group: G, type: text, appName: shop, desc: \"it's: #\"}\n",
        ),
    ]);
    assert_eq!(body(&upload(address, V1, Some(&archive)).await)["code"], 200);
    let with_tags = "metadata:\n- appName: ''\n  configTags: t1,t2\n  dataId: a.json\n  group: G\n  \
        type: json\n- appName: shop\n  dataId: b\n  desc: 'it''s: #'\n  group: G\n  type: text\n";
    let without = with_tags.replace("  configTags: t1,t2\n", "");
    let old = "G.b.app=shop\r\n";
    for (path, name, metadata) in [
        ("/nacos/v1/cs/configs?exportV2=true&tenant=&ids=", ".metadata.yml", with_tags),
        ("/nacos/v1/cs/configs?export=true&tenant=&group=G&ids=", ".meta.yml", old),
        ("/nacos/v3/admin/cs/config/export?ids=&groupName=G", ".metadata.yml", &without),
        ("/v3/console/cs/config/export2?ids=&dataId=*", ".metadata.yml", &without),
    ] {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        let disposition = answer.header("Content-Disposition").expect("a name");
        assert!(disposition.starts_with("attachment;filename=nacos_config_export_20"));
        assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
        let entry = |name: &str, content: &str| (name.to_owned(), content.to_owned());
        let want =
            [entry("G/a.json", "{\"测\": 1}"), entry("G/b", "line\n"), entry(name, metadata)];
        assert_eq!(unpacked(&answer.body), want, "{path}");
        client.remove(&Key::new("a.json")).await.acknowledged();
        let again = upload(address, &format!("{V1}&policy=OVERWRITE"), Some(&answer.body)).await;
        assert_eq!(body(&again)["data"]["succCount"], 2, "{path}");
        // The older form and the third generation leave the tags out: they are as they were.
        assert_eq!(
            body(&upload(address, &format!("{V1}&policy=OVERWRITE"), Some(&archive)).await)["code"],
            200
        );
    }
    let ids = "/nacos/v3/admin/cs/config/list?dataId=b&groupName=G";
    let id =
        body(&get(address, ids).await)["data"]["pageItems"][0]["id"].as_str().unwrap().to_owned();
    let answer =
        get(address, &format!("/nacos/v1/cs/configs?export=true&dataId=nothing&ids={id},x")).await;
    assert_eq!(unpacked(&answer.body)[0].0, "G/b");
    assert_eq!(get(address, "/nacos/v1/cs/configs?export=true").await.status, 500);
    let none = get(address, "/nacos/v1/cs/configs?exportV2=true&dataId=nothing&ids=").await;
    assert_eq!(unpacked(&none.body), [(".metadata.yml".to_owned(), "metadata: []\n".to_owned())]);
}
