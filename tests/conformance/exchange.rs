//! One request and its answer over a connection of their own, as bytes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::vector::{Answer, Send};

/// Longer than any vector may be held.
const PATIENCE: Duration = Duration::from_secs(40);

/// Sends and reads the whole answer.
pub(crate) async fn exchange(address: SocketAddr, send: &Send) -> Answer {
    exchange_bytes(address, &request(address, send)).await
}

/// The same with a request that is no text.
pub(crate) async fn exchange_bytes(address: SocketAddr, request: &[u8]) -> Answer {
    let exchanged = timeout(PATIENCE, send_and_read(address, request)).await;
    exchanged.unwrap_or_else(|_| {
        let line = String::from_utf8_lossy(request).lines().next().unwrap_or_default().to_owned();
        panic!("no answer to {line}")
    })
}

async fn send_and_read(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("the request is taken");
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let read = stream.read_buf(&mut bytes).await.expect("an answer");
        assert_ne!(read, 0, "the answer breaks off: {:?}", String::from_utf8_lossy(&bytes));
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("a head of text");
    let mut answer = read_head(&head);
    let length: usize =
        answer.header("Content-Length").expect("a length").parse().expect("a number");
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        let read = stream.read_buf(&mut body).await.expect("the body");
        assert_ne!(read, 0, "the body breaks off after {} of {length} bytes", body.len());
    }
    assert_eq!(body.len(), length, "nothing follows the body");
    answer.body = body;
    answer.closed = closes(&mut stream, &answer).await;
    answer
}

/// Whether the server ends the connection; one that is to stay open answers a probe.
async fn closes(stream: &mut TcpStream, answer: &Answer) -> bool {
    if answer.header("Connection") != Some("close") {
        let probe = b"GET /nacos/v1/console/health/liveness HTTP/1.1\r\nHost: probe\r\n\r\n";
        if stream.write_all(probe).await.is_err() {
            return true;
        }
    }
    stream.read_u8().await.is_err()
}

fn request(address: SocketAddr, send: &Send) -> Vec<u8> {
    let body = send.form.as_deref().or(send.body.as_deref()).map(expand);
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", send.method, expand(&send.path));
    if send.form.is_some() {
        head.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
    }
    for (name, value) in &send.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = &body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default().as_bytes());
    bytes
}

/// `<x*3>` → `xxx`, `<k:y*3>` → `k0yk1yk2y`.
fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once('<') else { return text.to_owned() };
    let (pattern, after) = rest.split_once('>').expect("a closed pattern");
    let (unit, count) = pattern.rsplit_once('*').expect("a count");
    let count: usize = count.parse().expect("a number");
    let repeated = match unit.split_once(':') {
        Some((name, end)) => (0..count).map(|number| format!("{name}{number}{end}")).collect(),
        None => unit.repeat(count),
    };
    format!("{before}{repeated}{}", expand(after))
}

fn read_head(head: &str) -> Answer {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    Answer { status: status.parse().expect("a status"), headers, body: Vec::new(), closed: false }
}
