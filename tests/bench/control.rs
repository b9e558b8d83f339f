//! Single blocking requests beside the load: readiness, metrics, the first read after a start.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::bail;

use crate::http::{self, scan};

/// Status and body of one request on a connection of its own.
///
/// # Errors
/// When the server does not listen, or does not answer within `patience`.
pub(crate) fn exchange(
    address: SocketAddr,
    request: &[u8],
    patience: Duration,
) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if let Some(answer) = scan(&bytes)? {
            let all = answer.body.is_empty() && answer.length > 0;
            let body = if all { bytes.get(..) } else { bytes.get(answer.body) };
            let text = String::from_utf8_lossy(body.unwrap_or_default()).into_owned();
            return Ok((answer.status, text));
        }
    }
}

/// Whether a publish at this node was acknowledged.
pub(crate) fn publish(address: SocketAddr, data_id: &str, content: &str) -> bool {
    let request = http::publish(address, data_id, content);
    let answer = exchange(address, &request, Duration::from_secs(5));
    answer.is_ok_and(|(status, body)| status == 200 && body == "true")
}

/// The sum of a metric over its label sets; `None` when the node does not have it.
pub(crate) fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let request = http::get(address, "/metrics");
    let (_, text) = exchange(address, &request, Duration::from_secs(5)).ok()?;
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if !rest.starts_with([' ', '{']) {
            continue;
        }
        let Some(number) = rest.rsplit(' ').next() else { continue };
        let Ok(number) = number.parse::<f64>() else { continue };
        *sum.get_or_insert(0.0) += number;
    }
    sum
}
