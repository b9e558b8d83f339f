//! An HTTP/1.1 client that costs as little as possible, so that the servers and not the load
//! generator use the cores: requests are byte templates whose changing parts are overwritten in
//! place, answers are scanned for their status and length alone.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context as _, bail};
use md5::{Digest as _, Md5};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// The group of every key the benchmark writes.
pub(crate) const GROUP: &str = "DEFAULT_GROUP";
/// Digits of the number at the end of a data id.
const KEY_DIGITS: usize = 8;
/// Digits of the stamp at the head of a value, which makes every value a new one.
pub(crate) const STAMP_DIGITS: usize = 16;

/// The data id of a numbered key.
pub(crate) fn data_id(key: u64) -> String {
    format!("bench-{key:0KEY_DIGITS$}")
}

/// A value of `size` bytes that begins with a stamp.
pub(crate) fn value(stamp: u64, size: usize) -> String {
    let mut text = format!("{stamp:0STAMP_DIGITS$}");
    text.push_str(&"v".repeat(size.saturating_sub(STAMP_DIGITS)));
    text
}

/// A request whose key and stamp are overwritten before each use.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    key: Range<usize>,
    stamp: Range<usize>,
}

impl Template {
    /// A publish of a value of `size` bytes under a numbered key.
    pub(crate) fn publish(host: SocketAddr, size: usize) -> Self {
        let body = format!("dataId={}&group={GROUP}&content={}", data_id(0), value(0, size));
        let bytes = post(host, "/nacos/v1/cs/configs", "", &body);
        let at = bytes.len() - body.len();
        let key = at + "dataId=bench-".len();
        let stamp = at + body.len() - size.max(STAMP_DIGITS);
        Self { bytes, key: key..key + KEY_DIGITS, stamp: stamp..stamp + STAMP_DIGITS }
    }

    /// A read of a numbered key.
    pub(crate) fn get(host: SocketAddr) -> Self {
        let bytes = get(host, &config_path(&data_id(0)));
        let key = "GET /nacos/v1/cs/configs?dataId=bench-".len();
        Self { bytes, key: key..key + KEY_DIGITS, stamp: 0..0 }
    }

    /// The bytes to send for this key and stamp.
    pub(crate) fn fill(&mut self, key: u64, stamp: u64) -> &[u8] {
        write_digits(self.bytes.get_mut(self.key.clone()), key);
        write_digits(self.bytes.get_mut(self.stamp.clone()), stamp);
        &self.bytes
    }
}

fn write_digits(slot: Option<&mut [u8]>, mut number: u64) {
    for digit in slot.into_iter().flatten().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// The path that reads a config.
pub(crate) fn config_path(data_id: &str) -> String {
    format!("/nacos/v1/cs/configs?dataId={data_id}&group={GROUP}")
}

/// A GET as bytes.
pub(crate) fn get(host: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// A form POST as bytes; `headers` are whole lines.
pub(crate) fn post(host: SocketAddr, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let mut text = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}");
    text.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
    text.push_str(&format!("Content-Length: {length}\r\n\r\n{body}"));
    text.into_bytes()
}

/// A publish as bytes.
pub(crate) fn publish(host: SocketAddr, data_id: &str, content: &str) -> Vec<u8> {
    let body = format!("dataId={data_id}&group={GROUP}&content={content}");
    post(host, "/nacos/v1/cs/configs", "", &body)
}

/// A long poll of one key with a time-out of two minutes; an empty md5 stands for "absent".
pub(crate) fn listen(host: SocketAddr, data_id: &str, content: Option<&str>) -> Vec<u8> {
    let md5 = content.map(hex_md5).unwrap_or_default();
    let body = format!("Listening-Configs={data_id}%02{GROUP}%02{md5}%01");
    let headers = "Long-Pulling-Timeout: 120000\r\n";
    post(host, "/nacos/v1/cs/configs/listener", headers, &body)
}

fn hex_md5(content: &str) -> String {
    Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the body of an answer lies in the bytes read so far.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Empty for a chunked answer, whose pieces the benchmark does not put together.
    pub(crate) body: Range<usize>,
    /// Bytes of content, also of a chunked answer.
    pub(crate) length: usize,
}

/// Scans the bytes read so far; `None` when the answer is not complete yet.
///
/// # Errors
/// When this is no HTTP/1.x answer with a length or chunks.
pub(crate) fn scan(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(head) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = bytes.split_at_checked(head + 4).context("split")?;
    let digits = head.get(9..12).context("short status line")?;
    let status = std::str::from_utf8(digits)?.parse()?;
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let Some((name, value)) = line.split_at_checked(colon) else { continue };
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let length: usize = std::str::from_utf8(value)?.parse()?;
            let at = head.len();
            let answer = Answer { status, body: at..at + length, length };
            return Ok((body.len() >= length).then_some(answer));
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let length = chunked_length(body)?;
            return Ok(length.map(|length| Answer { status, body: 0..0, length }));
        }
    }
    if status == 204 {
        return Ok(Some(Answer { status, body: 0..0, length: 0 }));
    }
    bail!("an answer without a length")
}

/// Content bytes of a complete chunked body; `None` while the last chunk is missing.
fn chunked_length(mut body: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut total = 0;
    loop {
        let Some(end) = find(body, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(body.get(..end).unwrap_or_default())?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        let Some(rest) = body.get(end + 2 + size + 2..) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(total));
        }
        total += size;
        body = rest;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// One keep-alive connection, opened on first use and again after a failure.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Opens the connection now.
    pub(crate) async fn open(&mut self) -> anyhow::Result<()> {
        let socket = TcpSocket::new_v4()?;
        // Closing with a reset leaves no TIME_WAIT: thousands of polls are opened again and again,
        // and there are only some 28 000 ports for one destination.
        socket.set_zero_linger()?;
        socket.set_nodelay(true)?;
        self.stream = Some(socket.connect(self.address).await?);
        Ok(())
    }

    /// Sends a request, opening the connection if need be.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        if self.stream.is_none() {
            self.open().await?;
        }
        let stream = self.stream.as_mut().context("opened above")?;
        let sent = stream.write_all(request).await;
        if sent.is_err() {
            self.stream = None;
        }
        Ok(sent?)
    }

    /// Waits for the answer to the request sent last; the bytes are its body.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<(Answer, &[u8])> {
        let answer = self.read_answer().await;
        if answer.is_err() {
            self.stream = None;
        }
        let answer = answer?;
        let body = self.buffer.get(answer.body.clone()).unwrap_or_default();
        Ok((answer, body))
    }

    async fn read_answer(&mut self) -> anyhow::Result<Answer> {
        let stream = self.stream.as_mut().context("not connected")?;
        self.buffer.clear();
        loop {
            self.buffer.reserve(1024);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some(answer) = scan(&self.buffer)? {
                return Ok(answer);
            }
        }
    }
}
