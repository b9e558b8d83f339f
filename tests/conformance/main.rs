//! Do we speak the protocol? Requests as bytes, answers compared byte for byte with what the
//! reference gives (`vectors/*.json`, each vector with the number or section it comes from).
//!
//! A vector is a list of steps: `send`, then `expect`. In `form`, `path` and `body`, `<x*3>`
//! stands for `xxx` and `<k:y*3>` for `k0y k1y k2y` without the spaces. In `headers` and
//! `body_like`, `*` stands for anything and `?` for one character; `body` is exact. Expected
//! headers come in this order, others may stand between them, unless `any_order` is set.
//! `while_held` are steps sent once the server holds the poll, `beside` steps sent together with
//! it; `took_ms` is how long the answer may take.

#![cfg(test)]

mod exchange;
mod grpc;
#[path = "../harness/harness.rs"]
mod harness;
mod transfer;
mod vector;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::{Client, Cluster, Key, Options, Probe, wait_until};
use tokio::task::JoinSet;
use vector::{Step, Vector};

/// Longer than the server may take to stop.
const HOLD: Duration = Duration::from_secs(30);

/// Runs the vectors of one file one after the other against a node of its own.
async fn check(file: &str) {
    let cluster = Cluster::alone(&Options::default()).await;
    for vector in &Vector::load(file) {
        run(vector, cluster.client(0)).await;
    }
}

async fn run(vector: &Vector, client: &Client) {
    let named = format!("{} ({})", vector.source, vector.what);
    for (number, step) in vector.steps.iter().enumerate() {
        run_step(&format!("{named}, step {}", number + 1), step, client).await;
    }
}

async fn run_step(named: &str, step: &Step, client: &Client) {
    let started = Instant::now();
    let answer = exchange::exchange(client.address(), &step.send);
    let others = async {
        if !step.while_held.is_empty() {
            wait_until("a held poll", Duration::from_secs(5), async || {
                (client.held_polls().await > 0).then_some(())
            })
            .await;
        }
        for step in step.while_held.iter().chain(&step.beside) {
            Box::pin(run_step(named, step, client)).await;
        }
    };
    let (answer, ()) = tokio::join!(answer, others);
    step.expect.compare(named, &answer);
    if let Some([least, most]) = step.took_ms {
        let took = started.elapsed().as_millis();
        assert!((least..=most).contains(&took), "{named}: took {took} ms");
    }
}

/// An address is all that an exchange needs; a poll may be on its way while others are.
async fn at_once(vectors: Vec<Vector>, client: &Client) {
    let address: SocketAddr = client.address();
    let mut running = JoinSet::new();
    for vector in vectors {
        let client = Client::new(address);
        running.spawn(async move { run(&vector, &client).await });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a vector holds");
    }
}

#[tokio::test]
async fn publish_get_and_remove() {
    check("config").await;
}

#[tokio::test]
async fn routes_of_the_cluster() {
    check("cluster_routes").await;
}

#[tokio::test]
async fn administration() {
    check("administration").await;
}

#[tokio::test]
async fn validation_and_dry_runs() {
    check("validation").await;
}

#[tokio::test]
async fn routes_of_old_generations_that_are_switched_off() {
    let off = Options::default()
        .switch("--compatibility-console=false")
        .switch("--compatibility-admin=false");
    let cluster = Cluster::alone(&off).await;
    for vector in &Vector::load("switched_off") {
        run(vector, cluster.client(0)).await;
    }
}

#[tokio::test]
async fn polls_that_are_answered_early() {
    check("listener").await;
}

#[tokio::test]
async fn polls_that_are_held() {
    let cluster = Cluster::alone(&Options::default()).await;
    at_once(Vector::load("holds"), cluster.client(0)).await;
}

#[tokio::test]
async fn polls_beyond_the_capacity() {
    let cluster = Cluster::alone(&Options::default().with("--max-held-polls", "1")).await;
    for vector in &Vector::load("capacity") {
        run(vector, cluster.client(0)).await;
    }
}

#[tokio::test]
async fn held_polls_end_with_the_server() {
    let mut cluster = Cluster::alone(&Options::default()).await;
    let client = cluster.client(0).clone();
    let mut polls = JoinSet::new();
    for number in 0..3 {
        polls.spawn(client.poll(&[Probe::absent(&Key::new(format!("stop{number}")))], HOLD));
    }
    wait_until("held polls", Duration::from_secs(5), async || {
        (client.held_polls().await == polls.len()).then_some(())
    })
    .await;
    cluster.node(0).stop().await;
    while let Some(ended) = polls.join_next().await {
        let answer = ended.expect("a poll ends").expect("a poll is answered");
        assert_eq!((answer.status, answer.text()), (200, ""), "{answer:?}");
    }
}

#[tokio::test]
async fn switches_of_polling() {
    check("switches").await;
}
