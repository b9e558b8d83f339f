//! gRPC beside listening to keys: watching patterns, asking clients for their figures, sending them
//! elsewhere, and limits.

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::{Cluster, GrpcClient, Key, Options, Told, payload, wait_until, within};
use crate::poll::SOON;

const SYNC: &str = "ConfigFuzzyWatchSyncRequest";
const CHANGE: &str = "ConfigFuzzyWatchChangeNotifyRequest";

async fn client(cluster: &Cluster, at: usize) -> GrpcClient {
    GrpcClient::set_up(cluster.nodes()[at].grpc()).await.expect("a set up connection")
}

async fn watch(client: &mut GrpcClient, pattern: &str, first: bool, known: &[String]) -> Told {
    let body = json!({"groupKeyPattern": pattern, "watchType": "WATCH", "initializing": first,
        "receivedGroupKeys": known});
    client.ask("ConfigFuzzyWatchRequest", &body).await.expect("an answer")
}

/// What a synchronisation says: its type, numbers of its batch, and keys with their change.
async fn synchronised(client: &mut GrpcClient) -> (String, Value, Value, Vec<String>) {
    let told = within("a batch", SOON, client.pushed(SYNC)).await.expect("a batch").body;
    let contexts = told["contexts"].as_array().expect("contexts").iter();
    let keys = contexts.map(|it| {
        let text = |name: &str| it[name].as_str().expect("a text").to_owned();
        format!("{} {}", text("changedType"), text("groupKey"))
    });
    let kind = told["syncType"].as_str().expect("a type").to_owned();
    (kind, told["totalBatch"].clone(), told["currentBatch"].clone(), keys.collect())
}

async fn changed(client: &mut GrpcClient) -> (Value, Value) {
    let told = within("a change", SOON, client.pushed(CHANGE)).await.expect("a change").body;
    (told["groupKey"].clone(), told["changeType"].clone())
}

#[tokio::test]
async fn a_pattern_is_told_in_batches_and_then_by_changes() {
    let cluster = Cluster::start(3).await;
    let key = |number: usize| Key::new(format!("fz{number:02}"));
    let written = |number: usize| format!("fz{number:02}+G+public");
    for number in 0..45 {
        cluster.client(0).publish(&key(number), "x").await.acknowledged();
    }
    cluster.client(0).publish(&Key::new("other"), "x").await.acknowledged();
    cluster.agree().await;
    let mut grpc = client(&cluster, 1).await;
    let pattern = "public>>G>>fz*";
    // It knows one that is there and one that is gone.
    let known = [written(0), "fz99+G+public".to_owned()];
    assert!(watch(&mut grpc, pattern, true, &known).await.is_success());
    let mut all = Vec::new();
    for batch in 1..=3 {
        let (kind, total, current, keys) = synchronised(&mut grpc).await;
        assert_eq!(
            (kind.as_str(), total, current),
            ("FUZZY_WATCH_INIT_NOTIFY", json!(3), json!(batch))
        );
        all.extend(keys);
    }
    let mut want: Vec<String> =
        (1..45).map(|number| format!("ADD_CONFIG {}", written(number))).collect();
    want.push("DELETE_CONFIG fz99+G+public".to_owned());
    assert_eq!(all, want);
    let finish = synchronised(&mut grpc).await;
    assert_eq!(finish, ("FINISH_FUZZY_WATCH_INIT_NOTIFY".to_owned(), json!(0), json!(0), vec![]));

    // By writes at other nodes; contents of known keys are none of its affair.
    cluster.client(0).publish(&key(3), "changed").await.acknowledged();
    cluster.client(2).publish(&Key::new("other2"), "x").await.acknowledged();
    cluster.client(2).publish(&key(60), "new").await.acknowledged();
    assert_eq!(changed(&mut grpc).await, (json!(written(60)), json!("CONFIG_CHANGED")));
    cluster.client(0).remove(&key(3)).await.acknowledged();
    assert_eq!(changed(&mut grpc).await, (json!(written(3)), json!("DELETE_CONFIG")));

    // Away, and back with what it knows: told of what it missed.
    drop(grpc);
    cluster.client(0).remove(&key(4)).await.acknowledged();
    cluster.client(0).publish(&key(61), "new").await.acknowledged();
    cluster.agree().await;
    let mut grpc = client(&cluster, 2).await;
    let known: Vec<String> = (0..45).filter(|it| *it != 3).chain([60]).map(written).collect();
    assert!(watch(&mut grpc, pattern, false, &known).await.is_success());
    let keys = vec![format!("ADD_CONFIG {}", written(61)), format!("DELETE_CONFIG {}", written(4))];
    let missed = ("FUZZY_WATCH_DIFF_SYNC_NOTIFY".to_owned(), json!(1), json!(1), keys);
    assert_eq!(synchronised(&mut grpc).await, missed);

    // Watched no longer; one that is watched after it is told first.
    let body = json!({"groupKeyPattern": pattern, "watchType": "CANCEL_WATCH"});
    assert!(grpc.ask("ConfigFuzzyWatchRequest", &body).await.unwrap().is_success());
    assert!(watch(&mut grpc, "public>>*>>*end", false, &[]).await.is_success());
    cluster.client(0).publish(&key(62), "new").await.acknowledged();
    cluster.client(0).publish(&Key::new("the-end"), "new").await.acknowledged();
    assert_eq!(changed(&mut grpc).await.0, json!("the-end+G+public"));
}

#[tokio::test]
async fn patterns_are_limited_and_checked() {
    let cluster = Cluster::start(1).await;
    let mut grpc = client(&cluster, 0).await;
    for number in 0..20 {
        let told = watch(&mut grpc, &format!("public>>G>>p{number}*"), true, &[]).await;
        assert!(told.is_success(), "{told:?}");
    }
    let told = watch(&mut grpc, "public>>G>>one-more", true, &[]).await;
    assert_eq!(
        (told.error_code(), &told.body["message"]),
        (50310, &json!("fuzzy watch pattern over limit"))
    );
    // A connection that ends gives its patterns back.
    drop(grpc);
    let mut grpc = client(&cluster, 0).await;
    let room = async {
        while !watch(&mut grpc, "public>>G>>one-more", false, &[]).await.is_success() {
            tokio::task::yield_now().await;
        }
    };
    within("room for a pattern", SOON, room).await;
    for pattern in ["", "public", "public>>G", "public>>G>>d>>e", "a b>>G>>d"] {
        assert_eq!(watch(&mut grpc, pattern, true, &[]).await.error_code(), 400, "{pattern}");
    }
    let body = json!({"groupKeyPattern": "public>>G>>d", "watchType": "PEEP"});
    assert_eq!(grpc.ask("ConfigFuzzyWatchRequest", &body).await.unwrap().error_code(), 400);
    // More keys than are told: those that fit, and a code that says so.
    for number in 0..501 {
        cluster.client(0).publish(&Key::new(format!("many{number}")), "x").await.acknowledged();
    }
    let told = watch(&mut grpc, "public>>G>>many*", false, &[]).await;
    assert_eq!(told.error_code(), 50311);
    let (_, total, current, keys) = synchronised(&mut grpc).await;
    assert_eq!((total, current, keys.len()), (json!(25), json!(1), 20));
}

/// Answers one question for figures.
async fn answers_with(client: &mut GrpcClient, metrics: Value) -> Value {
    loop {
        let told = within("a question", SOON, client.next()).await.unwrap().expect("a push");
        if told.kind == "ClientConfigMetricRequest" {
            let body = json!({"resultCode": 200, "requestId": told.body["requestId"],
                "metrics": metrics});
            client.say(payload("ClientConfigMetricResponse", body.to_string())).await.unwrap();
            return told.body["metricsKeys"].clone();
        }
        client.acknowledge(&told).await.unwrap();
    }
}

#[tokio::test]
async fn clients_are_asked_for_their_figures_at_all_nodes() {
    let cluster = Cluster::start(3).await;
    let (mut one, mut other) = (client(&cluster, 1).await, client(&cluster, 2).await);
    let mut silent = client(&cluster, 2).await;
    let http = cluster.client(0);
    let v3 = "/nacos/v3/admin/cs/metrics/cluster?ip=192.0.2.10&dataId=d&groupName=G";
    let (asked, keys, _) = tokio::join!(
        http.get_path(v3),
        answers_with(&mut one, json!({"one": "{\"a\":1}"})),
        answers_with(&mut other, json!({"other": "{}"})),
    );
    let body: Value = serde_json::from_str(asked.unwrap().text()).unwrap();
    assert_eq!(body["data"], json!({"one": "{\"a\":1}", "other": "{}"}), "{body}");
    let key = |kind: &str| json!({"type": kind, "key": "d+G+public"});
    assert_eq!(keys, json!([key("cacheData"), key("snapshotData")]));
    // Of the node that is asked only, in the form of v1; one that does not answer is left out.
    let (asked, _) = tokio::join!(
        cluster.client(1).get_path("/nacos/v1/cs/metrics/current?ip=192.0.2.10"),
        answers_with(&mut one, json!({"one": "1"})),
    );
    assert_eq!(asked.unwrap().text(), "{\"one\":\"1\"}");
    let nobody = cluster.client(0).get_path("/nacos/v1/cs/metrics/current?ip=192.0.2.10").await;
    assert_eq!(nobody.unwrap().text(), "{}");
    assert!(silent.ask("HealthCheckRequest", &json!({})).await.unwrap().is_success());
}

#[tokio::test]
async fn connections_are_listed_and_sent_elsewhere() {
    let cluster = Cluster::start(3).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(client(&cluster, 1).await);
    }
    let body = async |at: usize, path: &str| -> Value {
        let answer = cluster.client(at).get_path(path).await.unwrap();
        serde_json::from_str(answer.text()).unwrap_or_else(|_| json!(answer.text()))
    };
    let rows = body(1, "/nacos/v3/admin/core/loader/current").await["data"].clone();
    let rows = rows.as_object().unwrap();
    assert_eq!(rows.len(), 3);
    let (id, row) = rows.iter().next().unwrap();
    let info = &row["metaInfo"];
    assert_eq!((&info["connectionId"], &info["clientIp"]), (&json!(id), &json!("192.0.2.10")));
    assert_eq!((&info["appName"], &info["version"]), (&json!("test"), &json!("Test:v1")));
    assert_eq!(body(0, "/nacos/v2/core/loader/current").await, json!({}));
    let loads = body(0, "/nacos/v3/admin/core/loader/cluster").await["data"].clone();
    for (name, want) in [("total", 3), ("max", 3), ("min", 0), ("memberCount", 3), ("avg", 1)] {
        assert_eq!(loads[name], want, "{loads}");
    }
    assert_eq!((&loads["completed"], &loads["threshold"]), (&json!(true), &json!("1.1")));

    let path = "/nacos/v2/core/loader";
    let one = format!("{path}/reloadClient?connectionId={id}&redirectAddress=10.0.0.1:9848");
    assert_eq!(body(1, &one).await, json!("success"));
    // One of the three, and the two that are over the share of each node, which is one.
    assert_eq!(body(1, &format!("{path}/reloadCurrent?count=2")).await, json!("success"));
    assert_eq!(body(0, &format!("{path}/smartReloadCluster")).await, json!("Ok"));
    let (tell, mut told) = mpsc::channel(16);
    let mut listening = JoinSet::new();
    for mut client in clients {
        let tell = tell.clone();
        listening.spawn(async move {
            while let Ok(reset) = client.pushed("ConnectResetRequest").await {
                tell.send(reset.body).await.expect("somebody counts");
            }
        });
    }
    let mut redirects = Vec::new();
    for _ in 0..4 {
        let reset = within("a reset", SOON, told.recv()).await.expect("a reset");
        if reset.get("serverIp").is_some() {
            let text = |name: &str| reset[name].as_str().expect("a text").to_owned();
            redirects.push([text("serverIp"), text("serverPort"), text("connectionId")]);
        }
    }
    assert_eq!(redirects, [["10.0.0.1", "9848", id.as_str()]]);
    assert!(told.try_recv().is_err(), "four resets and no more");
    let bad = cluster.client(1).get_path("/nacos/v2/core/loader/reloadCurrent?count=x").await;
    assert_eq!(bad.unwrap().status, 400);
}

#[tokio::test]
async fn connections_beyond_the_limits_are_closed_at_once() {
    let options = Options::default()
        .with("--max-grpc-connections", "4")
        .with("--max-grpc-connections-per-ip", "2");
    let cluster = Cluster::alone(&options).await;
    let address = cluster.nodes()[0].grpc();
    let (first, second) = (client(&cluster, 0).await, client(&cluster, 0).await);
    // The third of its address is closed when it sets up.
    assert!(GrpcClient::set_up(address).await.is_err());
    let refused = async || cluster.client(0).metric("quorate_grpc_connections_refused_total").await;
    assert_eq!(refused().await.unwrap(), 1.0);
    drop(first);
    let third =
        wait_until("room for one more", SOON, async || GrpcClient::set_up(address).await.ok());
    let third = third.await;
    let mut all = vec![second, third];
    // One more of these than there is room for.
    for _ in 0..3 {
        let Ok(mut more) = GrpcClient::connect(address).await else { break };
        if more.ask("ServerCheckRequest", &json!({})).await.is_ok() {
            all.push(more);
        }
    }
    assert_eq!(all.len(), 4, "as many as there may be in all");
    assert!(all[0].ask("HealthCheckRequest", &json!({})).await.unwrap().is_success());
}
