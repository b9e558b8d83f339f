//! The gRPC dialect's vectors: JSON bytes in, type and JSON bytes out.
//!
//! Each vector is a connection of its own. A step is one of: `call` (a request type, with `body`,
//! or `hex` for bytes that are no text) whose answer has `type` and `answer`; `setup` (the body of
//! a setup on a new stream); `say` (a type, with `body`, on the stream); `told` (the type of the
//! next push, whose body is like `answer`); `path` (a call elsewhere) and `ends` with their status
//! and text. In `answer`, `*` stands for anything and `?` for one character; in `body`, `<x*3>`
//! stands for `xxx`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;

use crate::harness::{Cluster, GrpcClient, Options, payload, within};
use crate::vector::is_like;

const SOON: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    source: String,
    what: String,
    /// Set up before the first step, as clients do it.
    #[serde(default = "yes")]
    registered: bool,
    steps: Vec<Step>,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Step {
    call: Option<String>,
    body: String,
    hex: Option<String>,
    r#type: String,
    answer: String,
    setup: Option<String>,
    say: Option<String>,
    told: Option<String>,
    path: Option<String>,
    half_close: bool,
    /// The stream ends with this status.
    ends: Option<i32>,
    status: i32,
    text: String,
}

impl Step {
    fn bytes(&self) -> Vec<u8> {
        if let Some(hex) = &self.hex {
            let digit = |byte: &u8| char::from(*byte).to_digit(16).expect("a digit");
            let pairs = hex.as_bytes().chunks(2);
            let byte = |pair: &[u8]| pair.iter().fold(0, |sum, it| sum * 16 + digit(it));
            return pairs.map(|pair| u8::try_from(byte(pair)).expect("two digits")).collect();
        }
        let mut body = self.body.clone();
        while let Some((from, rest)) = body.split_once('<') {
            let (pattern, after) = rest.split_once('>').expect("an end");
            let (text, count) = pattern.split_once('*').expect("a count");
            body = format!("{from}{}{after}", text.repeat(count.parse().expect("a number")));
        }
        body.into_bytes()
    }
}

async fn run(vector: &Vector, address: SocketAddr) {
    let client = if vector.registered {
        GrpcClient::set_up(address).await
    } else {
        GrpcClient::connect(address).await
    };
    let mut client = client.expect("a connection");
    for (number, step) in vector.steps.iter().enumerate() {
        let named = format!("{} ({}), step {}", vector.source, vector.what, number + 1);
        run_step(&named, step, &mut client).await;
    }
}

async fn run_step(named: &str, step: &Step, client: &mut GrpcClient) {
    if let Some(kind) = &step.call {
        let told = client.ask_bytes(kind, &step.bytes()).await;
        let told = told.unwrap_or_else(|error| panic!("{named}: {error:#}"));
        assert_eq!(told.kind, step.r#type, "{named}: {}", told.text);
        let short: String = told.text.chars().take(600).collect();
        assert!(is_like(&told.text, &step.answer), "{named}: {short}, not {}", step.answer);
    }
    if let Some(setup) = &step.setup {
        let setup = payload("ConnectionSetupRequest", setup.as_str());
        client.open_stream(setup).await.unwrap_or_else(|error| panic!("{named}: {error:#}"));
    }
    if let Some(kind) = &step.say {
        client.say(payload(kind, step.bytes())).await.expect("a stream");
    }
    if step.half_close {
        client.close_half();
    }
    if let Some(kind) = &step.told {
        let told = within(named, SOON, client.next()).await.expect("a push").expect("a push");
        assert_eq!(&told.kind, kind, "{named}: {}", told.text);
        assert!(is_like(&told.text, &step.answer), "{named}: {}, not {}", told.text, step.answer);
        client.acknowledge(&told).await.expect("a stream");
    }
    if let Some(path) = &step.path {
        let answer = client.call(path.clone().leak(), payload("", "{}")).await;
        let (code, text) = answer.expect_err(named);
        assert_eq!((code as i32, text.as_str()), (step.status, step.text.as_str()), "{named}");
    }
    if let Some(status) = step.ends {
        let ended = within(named, SOON, client.next()).await;
        let code = match ended {
            Ok(None) => 0,
            Ok(Some(told)) => panic!("{named}: {told:?}"),
            Err(error) => error.downcast_ref::<tonic::Status>().expect("a status").code() as i32,
        };
        assert_eq!(code, status, "{named}");
    }
}

#[tokio::test]
async fn grpc_requests_and_pushes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/vectors");
    let text = fs::read_to_string(folder.join("grpc.json")).expect("a vector file");
    let vectors: Vec<Vector> = serde_json::from_str(&text).expect("vectors");
    let cluster = Cluster::alone(&Options::default()).await;
    let address = cluster.nodes()[0].grpc();
    let (mut running, mut failed) = (JoinSet::new(), 0);
    for vector in vectors {
        // In a task of its own, so that one that fails does not hide those after it.
        running.spawn(async move { run(&vector, address).await });
        failed += usize::from(running.join_next().await.is_some_and(|ended| ended.is_err()));
    }
    assert_eq!(failed, 0, "vectors that failed");
}
