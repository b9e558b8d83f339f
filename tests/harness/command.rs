//! `quorate` as an operator runs it.

use std::process::Stdio;

use super::client::Client;
use super::node::QUORATE;

/// What a command printed, and whether it worked.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Printed {
    /// What it printed, if it worked.
    pub(crate) fn done(self) -> String {
        assert!(self.success, "{self:#?}");
        self.out
    }

    /// What it complained of, if it did not work.
    pub(crate) fn refused(self) -> String {
        assert!(!self.success, "{self:#?}");
        self.err
    }
}

/// Runs `quorate` with these words.
pub(crate) async fn quorate(words: &[&str]) -> Printed {
    let run = tokio::process::Command::new(QUORATE)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = run.await.expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Printed {
        success: output.status.success(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// `quorate cluster …` at one node.
pub(crate) async fn cluster(client: &Client, words: &[&str]) -> Printed {
    let server = format!("http://{}", client.address());
    quorate(&[&["cluster", "--server", &server], words].concat()).await
}

/// The status that a node gives as JSON.
pub(crate) async fn cluster_status(client: &Client) -> serde_json::Value {
    let printed = cluster(client, &["--json", "status"]).await;
    serde_json::from_str(&printed.done()).expect("JSON")
}
