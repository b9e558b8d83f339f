//! [`Settings`] (as written) → [`Config`] (as meant), or all mistakes at once.
//!
//! Runs before a socket opens or a directory is made. The only file read here is the cluster
//! secret. Nothing reads a setting after this.

pub(crate) mod endpoint;
mod quantity;
mod reader;
mod secret;
pub(crate) mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_raft::trim::HistoryBounds;

use self::endpoint::Endpoint;
use self::reader::Reader;
pub(crate) use self::secret::ClusterSecret;
use self::settings::Settings;

/// How this node was asked to run. Ports may be 0 until the listeners are bound.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where everything this node keeps lives.
    pub(crate) data_dir: PathBuf,
    /// Where HTTP clients are accepted.
    pub(crate) http_listen: Endpoint,
    /// Where gRPC clients are accepted.
    pub(crate) grpc_listen: Endpoint,
    /// Where the other nodes are accepted.
    pub(crate) peer_listen: Endpoint,
    /// Where the other nodes find this one. Port 0 stands for the bound peer port
    /// ([`Endpoint::or_bound`]); never 0 with [`Config::peers`].
    pub(crate) advertise: Endpoint,
    /// HTTP address that clients are told; port 0 stands for the bound one.
    pub(crate) advertise_http: Endpoint,
    /// gRPC address that clients are told; port 0 stands for the bound one.
    pub(crate) advertise_grpc: Endpoint,
    /// All members, this one included; empty for a cluster of one.
    pub(crate) peers: Vec<Endpoint>,
    /// Never found a cluster.
    pub(crate) join_only: bool,
    /// Replace a voter whose disk was lost by the empty node at its address.
    pub(crate) auto_replace: bool,
    /// After so long a silence of the lost one.
    pub(crate) auto_replace_after: Duration,
    /// How much history is kept.
    pub(crate) history: HistoryBounds,
    /// What every call between nodes must carry.
    pub(crate) cluster_secret: Option<ClusterSecret>,
    /// Filter of the log, known to parse.
    pub(crate) log: String,
    /// Form of the log.
    pub(crate) log_format: LogFormat,
    /// Bounds on what clients may ask for.
    pub(crate) limits: Limits,
    /// Times and sizes of the agreement.
    pub(crate) raft: RaftSettings,
}

/// Bounds on what clients may ask for.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Long polls held at once; `None`: as many as the limit of open files leaves.
    pub(crate) max_held_polls: Option<usize>,
    /// gRPC connections at one time; `None`: as many as there may be sockets.
    pub(crate) max_grpc_connections: Option<usize>,
    /// Of them, of clients at one address; `None`: any number.
    pub(crate) max_grpc_connections_per_ip: Option<usize>,
    /// Keys that one poll may name.
    pub(crate) max_keys_per_poll: usize,
    /// Largest request body.
    pub(crate) form_body_max_bytes: usize,
    /// Request bodies held at once, in all.
    pub(crate) body_in_flight_max_bytes: usize,
    /// How long a write waits for its majority.
    pub(crate) proposal_deadline: Duration,
    /// Shortest time that a long poll is held.
    pub(crate) poll_hold_min: Duration,
    /// Whether v1's and v2's routes of the console are served.
    pub(crate) compatibility_console: bool,
    /// Whether v1's and v2's routes of administrators are served.
    pub(crate) compatibility_admin: bool,
}

/// Times and sizes of the agreement.
#[derive(Debug, Clone)]
pub(crate) struct RaftSettings {
    /// How often a leader is heard.
    pub(crate) heartbeat: Duration,
    /// Least election time-out; more than `heartbeat`.
    pub(crate) election_min: Duration,
    /// Most election time-out; more than `election_min`.
    pub(crate) election_max: Duration,
    /// Log bytes after which the next snapshot is built.
    pub(crate) snapshot_every_bytes: u64,
    /// Time after which the next snapshot is built, if anything was written.
    pub(crate) snapshot_every: Duration,
    /// Log kept behind the newest snapshot.
    pub(crate) log_keep_bytes: u64,
    /// Size of one file of the log.
    pub(crate) segment_bytes: u64,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(crate) struct Mistakes(pub(crate) Vec<String>);

impl Config {
    /// Judges `settings` as a whole.
    ///
    /// # Errors
    /// [`Mistakes`] of all settings and sources together.
    pub(crate) fn from_settings(settings: Settings) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(settings);
        let config = Self::read(&mut reader);
        if reader.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(reader.mistakes)) }
    }

    fn read(reader: &mut Reader) -> Self {
        let data_dir = reader
            .value("data_dir", data_directory)
            .unwrap_or_else(|| PathBuf::from("./quorate-data"));
        let http_listen = reader
            .value("http_listen", Endpoint::parse)
            .unwrap_or_else(|| Endpoint::loopback(8848));
        let grpc_listen = reader.derived_listen("grpc_listen", &http_listen, 1000);
        let peer_listen = reader.derived_listen("peer_listen", &http_listen, -1000);
        reader.refuse_collisions(&[
            ("http_listen", &http_listen),
            ("grpc_listen", &grpc_listen),
            ("peer_listen", &peer_listen),
        ]);
        let advertise = reader.advertise(&peer_listen);
        let advertise_http = reader.client_address("advertise_http", &http_listen, &advertise);
        let advertise_grpc = reader.client_address("advertise_grpc", &grpc_listen, &advertise);
        let peers = reader.value("peers", peer_list).unwrap_or_default();
        let join_only = reader.value("join_only", join_only).unwrap_or(JoinOnly::No);
        // `peers` founds; a node that has an identity may have moved away from it.
        if !data_dir.join("node.json").exists() {
            reader.check_membership(&peers, &advertise, join_only);
        }
        let join_only = match join_only {
            JoinOnly::No => false,
            JoinOnly::Yes => true,
            JoinOnly::Unlisted => !peers.contains(&advertise),
        };
        let auto_replace = reader.value("auto_replace", quantity::truth).unwrap_or(true);
        let auto_replace_after = reader.time("auto_replace_after", 1_000..=86_400_000, 30_000);
        let history = reader.history();
        let cluster_secret = reader.value("cluster_secret_file", ClusterSecret::read);
        reader.require_secret(&peer_listen, cluster_secret.as_ref());
        let log = reader
            .value("log", log_filter)
            .unwrap_or_else(|| settings::default_of("log").to_owned());
        let log_format = reader.value("log_format", log_form).unwrap_or(LogFormat::Text);
        let limits = Limits::read(reader);
        let raft = RaftSettings::read(reader);
        Self {
            data_dir,
            http_listen,
            grpc_listen,
            peer_listen,
            advertise,
            advertise_http,
            advertise_grpc,
            peers,
            join_only,
            auto_replace,
            auto_replace_after,
            history,
            cluster_secret,
            log,
            log_format,
            limits,
            raft,
        }
    }

    /// Somebody beyond this machine can reach a client listener, and client authorisation does
    /// not exist yet: worth a warning.
    pub(crate) fn clients_beyond_loopback(&self) -> bool {
        !self.http_listen.is_loopback() || !self.grpc_listen.is_loopback()
    }
}

const MIB: u64 = 1024 * 1024;

impl Limits {
    fn read(reader: &mut Reader) -> Self {
        let limits = Self {
            max_held_polls: reader
                .value("max_held_polls", |text| quantity::count(text, &(0..=10_000_000)))
                .filter(|count| *count > 0),
            max_grpc_connections: reader
                .value("max_grpc_connections", |text| quantity::count(text, &(0..=10_000_000)))
                .filter(|count| *count > 0),
            max_grpc_connections_per_ip: reader
                .value("max_grpc_connections_per_ip", |text| {
                    quantity::count(text, &(0..=10_000_000))
                })
                .filter(|count| *count > 0),
            max_keys_per_poll: reader
                .value("max_keys_per_poll", |text| quantity::count(text, &(1..=1_000_000)))
                .unwrap_or(10_000),
            form_body_max_bytes: in_memory(reader.size(
                "form_body_max_bytes",
                1024..=1024 * MIB,
                32 * MIB,
            )),
            body_in_flight_max_bytes: in_memory(reader.size(
                "body_in_flight_max_bytes",
                1024..=64 * 1024 * MIB,
                256 * MIB,
            )),
            proposal_deadline: reader.time("proposal_deadline", 100..=60_000, 5000),
            poll_hold_min: reader.time("poll_hold_min", 1..=60_000, 10_000),
            compatibility_console: reader
                .value("compatibility_console", quantity::truth)
                .unwrap_or(true),
            compatibility_admin: reader
                .value("compatibility_admin", quantity::truth)
                .unwrap_or(true),
        };
        reader.ordered(
            ["form_body_max_bytes", "body_in_flight_max_bytes"],
            limits.form_body_max_bytes <= limits.body_in_flight_max_bytes,
            "body_in_flight_max_bytes must have room for one body of form_body_max_bytes",
        );
        limits
    }
}

/// More than can be addressed is as good as all that can.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl RaftSettings {
    fn read(reader: &mut Reader) -> Self {
        let raft = Self {
            heartbeat: reader.time("heartbeat", 10..=10_000, 100),
            election_min: reader.time("election_min", 20..=60_000, 400),
            election_max: reader.time("election_max", 30..=120_000, 800),
            snapshot_every_bytes: reader.size(
                "snapshot_every_bytes",
                4096..=1024 * 1024 * MIB,
                256 * MIB,
            ),
            snapshot_every: reader.time("snapshot_every_seconds", 1000..=604_800_000, 3_600_000),
            log_keep_bytes: reader.size("log_keep_bytes", 0..=1024 * 1024 * MIB, 64 * MIB),
            segment_bytes: reader.size("segment_bytes", 64 * 1024..=1024 * MIB, 64 * MIB),
        };
        reader.ordered(
            ["heartbeat", "election_min"],
            raft.heartbeat < raft.election_min,
            "election_min must be more than heartbeat",
        );
        reader.ordered(
            ["election_min", "election_max"],
            raft.election_min < raft.election_max,
            "election_max must be more than election_min",
        );
        raft
    }
}

/// Reads the time-out of `quorate health`.
///
/// # Errors
/// A text that says what is allowed.
pub(crate) fn probe_timeout(text: &str) -> Result<Duration, String> {
    quantity::duration(text, &(Duration::from_millis(1)..=Duration::from_hours(1)))
}

/// When a node never founds a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinOnly {
    No,
    Yes,
    /// When its address is not one of the founding ones.
    Unlisted,
}

fn join_only(text: &str) -> Result<JoinOnly, String> {
    if text.trim() == "unlisted" {
        return Ok(JoinOnly::Unlisted);
    }
    let truth = quantity::truth(text)
        .map_err(|_| format!("{text:?}: allowed are true, false and unlisted"))?;
    Ok(if truth { JoinOnly::Yes } else { JoinOnly::No })
}

fn data_directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("\"\": write a DIR".to_owned());
    }
    let path = Path::new(text);
    if path.exists() && !path.is_dir() {
        return Err(format!("{text:?} exists and is not a directory"));
    }
    Ok(path.to_owned())
}

fn peer_list(text: &str) -> Result<Vec<Endpoint>, String> {
    let mut peers = Vec::new();
    let mut wrong = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match Endpoint::parse(part) {
            Err(reason) => wrong.push(reason),
            Ok(peer) if peer.port() == 0 || peer.is_unspecified() => {
                wrong
                    .push(format!("{part:?} cannot be dialled: write a HOST and a port from 1 on"));
            }
            Ok(peer) if peers.contains(&peer) => wrong.push(format!("{part:?} stands twice")),
            Ok(peer) => peers.push(peer),
        }
    }
    if wrong.is_empty() { Ok(peers) } else { Err(wrong.join("; ")) }
}

fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(format!(
            "{text:?}: allowed is error, warn, info, debug, trace or off, or target=level pairs \
             separated by commas"
        )),
    }
}

fn log_form(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?}: allowed are text and json")),
    }
}

#[cfg(test)]
mod tests;
