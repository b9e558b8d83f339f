//! Who listens, over all nodes: by key, by address, and publishes that wait for them.

use std::time::Duration;

use quorate_core::content::Md5;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Client, Cluster, GrpcClient, Key, Probe, wait_until, within};
use crate::poll::SOON;

const HOLD: Duration = Duration::from_secs(30);

fn md5(content: &str) -> String {
    Md5::of(content.as_bytes()).to_string()
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(answer.text()).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

async fn asked(client: &Client, path: &str) -> Value {
    body(&client.get_path(path).await.expect("an answer"))
}

async fn publish(client: &Client, key: &Key, content: &str, options: &str) -> Answer {
    publish_for("", client, key, content, options).await
}

/// For clients at these addresses.
async fn publish_for(
    ips: &str,
    client: &Client,
    key: &Key,
    content: &str,
    options: &str,
) -> Answer {
    let path = format!(
        "/nacos/v1/cs/configs?dataId={}&group={}&content={content}&{options}",
        key.data_id, key.group
    );
    client.post_with(&path, &[("betaIps", ips)]).await.expect("an answer")
}

fn reached(answer: &Answer) -> (u32, u32) {
    assert_eq!((answer.status, answer.text()), (200, "true"), "{answer:?}");
    let number = |name| answer.header(name).expect("a header").parse().expect("a number");
    (number("Quorate-Listeners-Reached"), number("Quorate-Listeners"))
}

async fn until_held(client: &Client, polls: usize) {
    wait_until("held polls", SOON, async || (client.held_polls().await == polls).then_some(()))
        .await;
}

#[tokio::test]
async fn listeners_are_found_by_key_and_by_address_at_every_node() {
    let cluster = Cluster::start(3).await;
    let key = Key::new("listened.to");
    cluster.client(0).publish(&key, "now").await.acknowledged();
    cluster.agree().await;
    let mut polls = JoinSet::new();
    polls.spawn(cluster.client(1).poll(&[Probe::of(&key, "now")], HOLD));
    until_held(cluster.client(1), 1).await;
    let mut grpc = GrpcClient::set_up(cluster.nodes()[2].grpc()).await.unwrap();
    grpc.listen(&[(&key, &md5("now"))]).await.unwrap();

    // A client of gRPC says where it is.
    let (poll, stream) = ("127.0.0.1", "192.0.2.10");
    let claims = json!({ poll: md5("now"), stream: md5("now") });
    let here = [json!({}), json!({ poll: md5("now") }), json!({ stream: md5("now") })];
    let by_key = "dataId=listened.to&group=G&groupName=G";
    for (at, here) in here.iter().enumerate() {
        let client = cluster.client(at);
        let path = format!("/nacos/v1/cs/configs/listener?{by_key}");
        let want = json!({"collectStatus": 200, "lisentersGroupkeyStatus": claims});
        assert_eq!(asked(client, &path).await, want, "node {at}");
        for path in ["/nacos/v3/admin/cs/config/listener", "/v3/console/cs/config/listener"] {
            let found = asked(client, &format!("{path}?{by_key}")).await;
            let want = json!({"queryType": "config", "listenersStatus": claims});
            assert_eq!(found["data"], want, "node {at}");
            let found = asked(client, &format!("{path}?{by_key}&aggregation=false")).await;
            assert_eq!(found["data"]["listenersStatus"], *here, "node {at}");
        }
        let path = "/nacos/v1/cs/listener?ip=127.0.0.1";
        let want = json!({ "listened.to+G": md5("now") });
        assert_eq!(asked(client, path).await["lisentersGroupkeyStatus"], want, "node {at}");
        for path in ["/nacos/v3/admin/cs/listener", "/v3/console/cs/config/listener/ip"] {
            let found = asked(client, &format!("{path}?ip=127.0.0.1")).await;
            let want = json!({ "listened.to+G+public": md5("now") });
            assert_eq!(found["data"], json!({"queryType": "ip", "listenersStatus": want}));
            for other in ["ip=127.0.0.2", "ip=127.0.0.1&namespaceId=away"] {
                let found = asked(client, &format!("{path}?{other}")).await;
                assert_eq!(found["data"]["listenersStatus"], json!({}), "{other}");
            }
            let all =
                asked(client, &format!("{path}?ip=127.0.0.1&namespaceId=away&all=true")).await;
            assert_eq!(all["data"]["listenersStatus"], want);
        }
    }
    assert_eq!(
        cluster.client(0).get_path("/nacos/v3/admin/cs/listener").await.unwrap().status,
        400
    );
}

#[tokio::test]
async fn a_publish_waits_for_its_listeners_on_all_nodes() {
    let cluster = Cluster::start(3).await;
    let key = Key::new("awaited");
    let nobody = publish(cluster.client(0), &key, "one", "wait-for-listeners=all").await;
    assert_eq!(reached(&nobody), (0, 0));
    cluster.agree().await;
    // One at each node: two polls, and a stream that listens again when it is told to.
    let mut polls = JoinSet::new();
    for at in [0, 1] {
        let (client, key) = (cluster.client(at).clone(), key.clone());
        polls.spawn(async move {
            let told = client.poll(&[Probe::of(&key, "one")], HOLD).await.unwrap();
            assert_eq!(told.text(), key.changed());
            client.poll(&[Probe::of(&key, "two")], HOLD).await.unwrap()
        });
        until_held(cluster.client(at), 1).await;
    }
    let mut grpc = GrpcClient::set_up(cluster.nodes()[2].grpc()).await.unwrap();
    grpc.listen(&[(&key, &md5("one"))]).await.unwrap();
    let options = "wait-for-listeners=60%25&wait-timeout-ms=20000";
    let most = publish(cluster.client(0), &key, "two", options).await;
    assert_eq!(reached(&most), (2, 3));
    let options = "wait-for-listeners=all&wait-timeout-ms=200";
    let all_but_one = publish(cluster.client(1), &key, "two", options).await;
    assert_eq!(reached(&all_but_one), (2, 3));
    within("a push", SOON, grpc.pushed("ConfigChangeNotifyRequest")).await.unwrap();
    grpc.listen(&[(&key, &md5("two"))]).await.unwrap();
    let options = "wait-for-listeners=all&wait-timeout-ms=20000";
    assert_eq!(reached(&publish(cluster.client(2), &key, "two", options).await), (3, 3));
    polls.abort_all();
    for at in [0, 1] {
        until_held(cluster.client(at), 0).await;
    }

    // Several keys at once, and one listener that hears of both.
    let other = Key::new("awaited-too");
    grpc.listen(&[(&other, "")]).await.unwrap();
    let part =
        |key: &Key| json!({"publish": {"group": "G", "dataId": key.data_id, "content": "3"}});
    let changes = json!({"changes": [part(&key), part(&other)], "waitForListeners": "50%",
        "waitTimeoutMs": 20_000});
    let client = cluster.client(1).clone();
    let made = async {
        client.post_json("/quorate/v1/changes", &changes.to_string()).await.expect("an answer")
    };
    let listens_again = async {
        within("a push", SOON, grpc.pushed("ConfigChangeNotifyRequest")).await.unwrap();
        grpc.listen(&[(&key, &md5("3"))]).await.unwrap();
    };
    let (made, ()) = tokio::join!(made, listens_again);
    let made = body(&made);
    assert_eq!((&made["changes"], &made["listeners"]["total"]), (&json!(2), &json!(2)), "{made}");
    assert_ne!(made["listeners"]["reached"], json!(0), "{made}");
}

#[tokio::test]
async fn a_dry_run_tells_for_whom_and_changes_nothing() {
    let cluster = Cluster::start(3).await;
    let key = Key::new("foretold");
    let revision = cluster.client(0).publish(&key, "one").await.acknowledged();
    cluster.agree().await;
    let mut polls = JoinSet::new();
    polls.spawn(cluster.client(1).poll(&[Probe::of(&key, "one")], HOLD));
    until_held(cluster.client(1), 1).await;
    let mut ahead = GrpcClient::set_up(cluster.nodes()[2].grpc()).await.unwrap();
    ahead.listen(&[(&key, &md5("two"))]).await.unwrap();
    let foretold = publish(cluster.client(0), &key, "two", "dry-run=true").await;
    let want = json!({"dryRun": true, "outcome": "update", "reason": null, "md5": md5("two"),
        "currentMd5": md5("one"),
        "listeners": {"total": 2, "told": 1, "addresses": {"127.0.0.1": 1}}});
    assert_eq!(body(&foretold), want);
    assert_eq!(foretold.revision(), revision);
    let client = cluster.client(0);
    // The same content again is announced to nobody, not even to one that claims another.
    let again = body(&publish(client, &key, "one", "dry-run=true").await);
    let got = (&again["outcome"], &again["listeners"]["addresses"]);
    assert_eq!(got, (&json!("unchanged"), &json!({})));
    ahead.listen(&[(&key, &md5("one"))]).await.unwrap();
    for (ips, options, content, outcome, told) in [
        ("", "tag=v1&", "three", "create", json!({})),
        ("", "", "three", "update", json!({"127.0.0.1": 1, "192.0.2.10": 1})),
        ("127.0.0.1", "", "three", "create", json!({"127.0.0.1": 1})),
        ("10.0.0.9", "", "three", "create", json!({})),
    ] {
        let options = format!("{options}dry-run=true");
        let foretold = body(&publish_for(ips, client, &key, content, &options).await);
        let got = (&foretold["outcome"], &foretold["listeners"]["addresses"]);
        assert_eq!(got, (&json!(outcome), &told), "{ips} {options} {content}");
    }
    let away = body(&publish(client, &Key::new("new"), "x", "dry-run=true").await);
    assert_eq!((&away["outcome"], &away["currentMd5"]), (&json!("create"), &Value::Null));
    assert_eq!(client.read(&key).await.as_deref(), Some("one"));
    assert_eq!(client.state().await.unwrap().revision, revision);

    // Whom a release is no longer for, is told to read again.
    let revision = publish_for("127.0.0.1", client, &key, "beta", "").await.revision();
    polls.join_next().await.expect("a poll").expect("no panic").expect("an answer");
    cluster.agree().await;
    polls.spawn(cluster.client(1).poll(&[Probe::of(&key, "beta")], HOLD));
    until_held(cluster.client(1), 1).await;
    let moved = body(&publish_for("10.0.0.9", client, &key, "beta", "dry-run=true").await);
    let got = (&moved["outcome"], &moved["listeners"]["addresses"]);
    assert_eq!(got, (&json!("update"), &json!({"127.0.0.1": 1})));
    assert_eq!(client.state().await.unwrap().revision, revision);
}
