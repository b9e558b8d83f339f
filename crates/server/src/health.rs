//! `quorate health`: one readiness request over a plain blocking socket, for container probes.
//!
//! No runtime and no HTTP library: a probe runs every few seconds beside the node and should
//! cost nothing. It reads the status line and no more.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Which node to ask, and how long to wait.
#[derive(Debug)]
pub(crate) struct HealthQuestion {
    /// `HOST:PORT` of its HTTP listener; `None`: this machine, at the port in `data_dir`.
    pub(crate) http: Option<String>,
    /// Where `ports.json` is, when `http` is `None`.
    pub(crate) data_dir: PathBuf,
    /// For all of it together: resolving aside, which the system bounds.
    pub(crate) timeout: Duration,
}

impl HealthQuestion {
    /// Asks, says the answer in one line on the standard error, and makes it an exit code.
    pub(crate) fn run(&self) -> ExitCode {
        let (line, code) = match self.ask() {
            Ok(line) => (line, ExitCode::SUCCESS),
            Err(reason) => (format!("not ready: {reason}"), ExitCode::FAILURE),
        };
        // The exit code is the answer; nobody may be left to read the line.
        drop(writeln!(io::stderr().lock(), "{line}"));
        code
    }

    fn ask(&self) -> Result<String, String> {
        let targets = self.targets()?;
        let started = Instant::now();
        let mut failure = "no address to ask".to_owned();
        for target in targets {
            match self.status(target, started) {
                Ok(200) => return Ok(format!("ready: {target}")),
                Ok(status) => return Err(format!("{target} answered {status}")),
                Err(error) => failure = format!("{target}: {error}"),
            }
        }
        Err(failure)
    }

    fn targets(&self) -> Result<Vec<SocketAddr>, String> {
        if let Some(http) = &self.http {
            let found = http.to_socket_addrs().map_err(|error| format!("{http}: {error}"))?;
            return Ok(found.collect());
        }
        let path = self.data_dir.join("ports.json");
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
        let ports: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
        let address = ports.get("httpAddress").and_then(serde_json::Value::as_str);
        if let Some(address) = address.and_then(|address| address.parse().ok()) {
            return Ok(vec![address]);
        }
        let port = ports.get("http").and_then(serde_json::Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| format!("{shown} names no http port"))?;
        Ok(vec![
            SocketAddr::from(([127, 0, 0, 1], port)),
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
        ])
    }

    fn status(&self, target: SocketAddr, started: Instant) -> io::Result<u16> {
        let left = || -> io::Result<Duration> {
            let left = self.timeout.saturating_sub(started.elapsed());
            if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
        };
        let mut stream = TcpStream::connect_timeout(&target, left()?)?;
        stream.set_write_timeout(Some(left()?))?;
        let request = format!(
            "GET /nacos/v1/console/health/readiness HTTP/1.1\r\nHost: {target}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        // "HTTP/1.1 200": read until these twelve bytes are there, whatever packets they come in.
        let mut head = [0; 12];
        let mut rest = head.as_mut_slice();
        while !rest.is_empty() {
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What an expired time-out is called on Unix.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
        let status =
            std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP/1.1 answer"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with `pieces`, each in a packet of its own if the system likes; then
    /// closes, or keeps the connection open until the asker leaves.
    fn serve_once(pieces: &'static [&'static str], close: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert!(request.starts_with(b"GET /nacos/v1/console/health/readiness HTTP/1.1\r\n"));
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
            }
            if !close {
                drop(stream.read(&mut [0]));
            }
        });
        address
    }

    fn ask(http: Option<String>, data_dir: &str) -> Result<String, String> {
        let timeout = Duration::from_millis(500);
        HealthQuestion { http, data_dir: data_dir.into(), timeout }.ask()
    }

    #[test]
    fn takes_the_status_for_the_answer() {
        let cases: &[(&'static [&'static str], Result<&str, &str>)] = &[
            (&["HTTP/1.1 200 OK\r\n\r\nOK"], Ok("ready: AT")),
            (&["HTTP", "/1.1 2", "00 "], Ok("ready: AT")),
            (&["HTTP/1.1 503 \r\n\r\nno leader"], Err("AT answered 503")),
            (&["SSH-2.0-OpenSSH_9"], Err("AT: no HTTP/1.1 answer")),
            (&["HTTP/1.1"], Err("AT: unexpected end of file")),
        ];
        for (pieces, expected) in cases {
            let address = serve_once(pieces, true);
            let answer = ask(Some(address.to_string()), "");
            let place = |text: &str| text.replace("AT", &address.to_string());
            assert_eq!(answer, expected.map(place).map_err(place));
        }
    }

    #[test]
    fn waits_no_longer_than_told() {
        let address = serve_once(&["HTTP/1.1 "], false);
        let started = Instant::now();
        let answer = ask(Some(address.to_string()), "");
        assert_eq!(answer, Err(format!("{address}: timed out")));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn finds_the_port_in_the_data_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        assert!(ask(None, path).unwrap_err().contains("ports.json"));
        let address = serve_once(&["HTTP/1.1 200 \r\n\r\n"], true);
        let ports = format!("{{\"http\":{},\"grpc\":1,\"peer\":1}}", address.port());
        std::fs::write(directory.path().join("ports.json"), ports).unwrap();
        assert_eq!(ask(None, path), Ok(format!("ready: {address}")));
        std::fs::write(directory.path().join("ports.json"), "{}").unwrap();
        assert!(ask(None, path).unwrap_err().ends_with("names no http port"));
    }
}
