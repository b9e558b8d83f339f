//! The gRPC dialect on three nodes: listening at each, publishing at another, and clients that do
//! not behave.

use std::time::{Duration, Instant};

use quorate_core::content::Md5;
use serde_json::json;

use crate::harness::{Cluster, GrpcClient, Key, Options, READY, Told, payload, stays, within};
use crate::poll::SOON;

const CHANGED: &str = "ConfigChangeNotifyRequest";

/// A client of each node.
async fn clients(cluster: &Cluster) -> Vec<GrpcClient> {
    let mut clients = Vec::new();
    for node in cluster.nodes() {
        clients.push(GrpcClient::set_up(node.grpc()).await.expect("a set up connection"));
    }
    clients
}

async fn told(client: &mut GrpcClient, key: &Key) -> Told {
    let told = within("a push", SOON, client.pushed(CHANGED)).await.expect("a push");
    assert_eq!(told.body["dataId"], json!(key.data_id), "{told:?}");
    assert_eq!(told.body.get("tenant"), None, "the client named no namespace");
    told
}

fn md5(content: &str) -> String {
    Md5::of(content.as_bytes()).to_string()
}

#[tokio::test]
async fn a_listener_at_each_node_hears_of_a_publish_at_each() {
    let cluster = Cluster::start(3).await;
    let key = Key::new("heard-by-grpc");
    let mut clients = clients(&cluster).await;
    for client in &mut clients {
        assert_eq!(client.listen(&[(&key, "")]).await.unwrap(), Vec::<String>::new());
    }
    let mut content = String::new();
    for publisher in 0..3 {
        content = format!("published at {publisher}");
        let done = clients[publisher].publish(&key, &content).await.unwrap();
        assert!(done.is_success(), "{done:?}");
        for client in &mut clients {
            told(client, &key).await;
            // Who is told reads the new value.
            assert_eq!(client.query(&key).await.unwrap().as_ref(), Some(&content));
            let differs = client.listen(&[(&key, &md5(&content))]).await.unwrap();
            assert_eq!(differs, Vec::<String>::new());
        }
    }
    // The same content is no change; one that was not fetched is told when listening again.
    clients[0].publish(&key, &content).await.unwrap();
    let differs = clients[1].listen(&[(&key, &md5("other"))]).await.unwrap();
    assert_eq!(differs, std::slice::from_ref(&key.data_id));
    cluster.client(2).remove(&key).await.acknowledged();
    for client in &mut clients {
        told(client, &key).await;
        assert_eq!(client.query(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_listener_hears_on_while_the_leader_is_killed() {
    let mut cluster = Cluster::start(3).await;
    let key = Key::new("through-an-election");
    let leader = cluster.leader().await;
    let mut clients = clients(&cluster).await;
    for client in &mut clients {
        client.listen(&[(&key, "")]).await.unwrap();
    }
    cluster.node(leader).kill();
    let gone = within("the end of the stream", SOON, clients[leader].next()).await;
    assert!(!matches!(gone, Ok(Some(_))), "{gone:?}");
    let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let done = clients[one].publish(&key, "by the new leader").await.unwrap();
    assert!(done.is_success(), "{done:?}");
    for at in [one, other] {
        told(&mut clients[at], &key).await;
    }
    // The client of the dead node goes to another one and misses nothing.
    let mut moved = GrpcClient::set_up(cluster.nodes()[other].grpc()).await.unwrap();
    let differs = moved.listen(&[(&key, "")]).await.unwrap();
    assert_eq!(differs, std::slice::from_ref(&key.data_id));
}

#[tokio::test]
async fn a_node_that_was_away_tells_what_a_snapshot_brought() {
    let mut cluster = Cluster::start_with(3, &Options::small_log()).await;
    let key = Key::new("in-a-snapshot");
    let away = cluster.followers().await[0];
    cluster.node(away).signal("STOP");
    let (one, content) = (cluster.client((away + 1) % 3).clone(), "x".repeat(4000));
    for number in 0..300 {
        one.publish(&Key::new(format!("fill{}", number % 10)), &format!("{number}{content}"))
            .await
            .acknowledged();
    }
    cluster.node(away).signal("CONT");
    let mut client = GrpcClient::set_up(cluster.nodes()[away].grpc()).await.unwrap();
    client.listen(&[(&key, "")]).await.unwrap();
    one.publish(&key, "after").await.acknowledged();
    let told = within("a push", READY, client.pushed(CHANGED)).await.unwrap();
    assert_eq!(told.body["dataId"], json!(key.data_id));
}

#[tokio::test]
async fn a_lost_acknowledgement_is_retried() {
    let cluster = Cluster::start(1).await;
    let key = Key::new("unheard");
    let mut client = clients(&cluster).await.remove(0);
    client.listen(&[(&key, "")]).await.unwrap();
    cluster.client(0).publish(&key, "1").await.acknowledged();
    let first = within("a push", SOON, client.next()).await.unwrap().unwrap();
    let start = Instant::now();
    // While it is under way, no other is sent for the key.
    cluster.client(0).publish(&key, "2").await.acknowledged();
    let again = within("the repeated push", 2 * SOON, client.next()).await.unwrap().unwrap();
    let took = start.elapsed().as_millis();
    assert!((4000..8500).contains(&took), "3 s and 2 s, repeated after {took} ms");
    assert_eq!((&again.kind, &again.body["dataId"]), (&first.kind, &first.body["dataId"]));
    assert_ne!(again.body["requestId"], first.body["requestId"]);
    client.acknowledge(&again).await.unwrap();
    let lost = cluster.client(0).metric("quorate_grpc_pushes_lost_total").await.unwrap();
    assert!(lost >= 1.0, "{lost}");
}

#[tokio::test]
async fn a_slow_reader_costs_only_itself() {
    let cluster = Cluster::start(1).await;
    let keys: Vec<Key> = (0..2000).map(|number| Key::new(format!("slow-{number}"))).collect();
    let pairs: Vec<(&Key, &str)> = keys.iter().map(|key| (key, "")).collect();
    let mut slow = GrpcClient::set_up(cluster.nodes()[0].grpc()).await.unwrap();
    let mut other = GrpcClient::set_up(cluster.nodes()[0].grpc()).await.unwrap();
    for client in [&mut slow, &mut other] {
        assert_eq!(client.listen(&pairs).await.unwrap(), Vec::<String>::new());
    }
    // `slow` reads nothing while each key changes several times.
    for round in 0..3 {
        for key in keys.iter().step_by(10) {
            cluster.client(0).publish(key, &format!("{round}")).await.acknowledged();
        }
    }
    let last = &keys[1990];
    loop {
        let told = within("a push for the last key", READY, other.pushed(CHANGED)).await.unwrap();
        if told.body["dataId"] == json!(last.data_id) {
            break;
        }
    }
    // One notice for each key, however often it changed.
    let waiting = cluster.client(0).metric("quorate_grpc_pushes_waiting").await.unwrap();
    assert!(waiting <= 2.0 * 200.0, "{waiting} notices wait");
}

#[tokio::test]
async fn silence_is_asked_about_and_ends_the_connection() {
    let cluster = Cluster::start(1).await;
    let mut client = clients(&cluster).await.remove(0);
    let asked = within("a question", Duration::from_secs(25), client.next()).await;
    let asked = asked.unwrap().unwrap();
    assert_eq!(asked.kind, "ClientDetectionRequest");
    let ended = within("the end", Duration::from_secs(10), client.next()).await;
    assert_eq!(ended.unwrap(), None, "the stream ends well");
    let told = client.ask("HealthCheckRequest", &json!({})).await;
    // Either the connection is gone, or a new one was made, which is not set up.
    assert!(told.as_ref().map_or(true, |told| told.error_code() == 301), "{told:?}");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_well() {
    let mut cluster = Cluster::start(1).await;
    let mut client = clients(&cluster).await.remove(0);
    cluster.node(0).signal("TERM");
    // Clients go to another server when their stream ends.
    let ended = within("the end of the stream", SOON, client.next()).await;
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    let status = cluster.node(0).exit(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn malformed_input_changes_nothing() {
    let cluster = Cluster::start(1).await;
    let mut client = clients(&cluster).await.remove(0);
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 5] = [b"\xff\xfe", b"{", b"", deep.as_bytes(), b"{\"dataId\":{}}"];
    for body in bodies {
        for kind in ["ConfigPublishRequest", "ConfigRemoveRequest", "ConfigQueryRequest"] {
            let told = client.ask_bytes(kind, body).await.unwrap();
            assert!(!told.is_success(), "{kind} {told:?}");
        }
    }
    for stray in ["ConfigChangeNotifyResponse", "NoSuchRequest", ""] {
        client.say(payload(stray, "{bad")).await.unwrap();
    }
    let told = client.ask("HealthCheckRequest", &json!({})).await.unwrap();
    assert!(told.is_success(), "{told:?}");
    stays("the node", Duration::from_millis(200), async || cluster.client(0).is_ready().await)
        .await;
}
