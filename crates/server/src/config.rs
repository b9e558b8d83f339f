//! [`Settings`] (as written) → [`Config`] (as meant), or all mistakes at once.
//!
//! Runs before a socket opens or a directory is made. The only file read here is the cluster
//! secret. Nothing reads a setting after this.

pub(crate) mod endpoint;
mod quantity;
mod secret;
pub(crate) mod settings;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::endpoint::Endpoint;
pub(crate) use self::secret::ClusterSecret;
use self::settings::{Settings, name_of};

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

/// Takes values out of [`Settings`], remembers what was wrong and goes on with the default.
struct Reader {
    settings: Settings,
    mistakes: Vec<String>,
    /// Keys whose value was refused: rules between settings leave them alone, for a rule about a
    /// value that nobody meant would only mislead.
    wrong: BTreeSet<&'static str>,
    /// Names of the keys that were given, as their writer knows them.
    names: Vec<(&'static str, String)>,
}

impl Reader {
    fn new(mut settings: Settings) -> Self {
        let mistakes = settings.take_mistakes();
        Self { settings, mistakes, wrong: BTreeSet::new(), names: Vec::new() }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (name, text) = self.settings.take(key)?;
        self.names.push((key, name.clone()));
        match parse(&text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.wrong.insert(key);
                self.mistakes.push(format!("{name}: {reason}"));
                None
            }
        }
    }

    fn size(&mut self, key: &'static str, allowed: RangeInclusive<u64>, default: u64) -> u64 {
        self.value(key, |text| quantity::size_bytes(text, &allowed)).unwrap_or(default)
    }

    /// `allowed` and `default` in milliseconds.
    fn time(&mut self, key: &'static str, allowed: RangeInclusive<u64>, default: u64) -> Duration {
        let (least, most) = allowed.into_inner();
        let allowed = Duration::from_millis(least)..=Duration::from_millis(most);
        self.value(key, |text| quantity::duration(text, &allowed))
            .unwrap_or(Duration::from_millis(default))
    }

    fn name(&self, key: &'static str) -> String {
        let given = self.names.iter().find(|(named, _)| *named == key);
        given.map_or_else(|| name_of(key), |(_, name)| name.clone())
    }

    fn sound(&self, keys: &[&'static str]) -> bool {
        keys.iter().all(|key| !self.wrong.contains(key))
    }

    fn refuse(&mut self, key: &'static str, reason: &str) {
        self.wrong.insert(key);
        self.mistakes.push(format!("{}: {reason}", self.name(key)));
    }

    /// A rule between two settings; told at the one that somebody wrote, the later one if both.
    fn ordered(&mut self, keys: [&'static str; 2], holds: bool, rule: &str) {
        if holds || !self.sound(&keys) {
            return;
        }
        let [first, second] = keys;
        let wrote_second = self.names.iter().any(|(named, _)| *named == second);
        self.mistakes
            .push(format!("{}: {rule}", self.name(if wrote_second { second } else { first })));
    }

    fn derived_listen(&mut self, key: &'static str, http: &Endpoint, step: i32) -> Endpoint {
        if let Some(endpoint) = self.value(key, Endpoint::parse) {
            return endpoint;
        }
        if http.port() == 0 || !self.sound(&[key]) {
            return http.at_port(0);
        }
        let port = i32::from(http.port()) + step;
        match u16::try_from(port) {
            Ok(port) if port > 0 => http.at_port(port),
            Ok(_) | Err(_) => {
                let (taken, sign) = (http.port(), if step < 0 { '-' } else { '+' });
                let step = step.unsigned_abs();
                let reason = format!(
                    "not set, and {taken} (the port of http_listen) {sign} {step} is outside 1 \
                     to 65535: write HOST:PORT"
                );
                self.refuse(key, &reason);
                http.at_port(0)
            }
        }
    }

    fn refuse_collisions(&mut self, listeners: &[(&'static str, &Endpoint)]) {
        let mut seen: Vec<(&'static str, &Endpoint)> = Vec::new();
        for (key, endpoint) in listeners {
            let earlier = seen.iter().find(|(other_key, other)| {
                self.sound(&[key, other_key]) && endpoint.collides_with(other)
            });
            if let Some((other_key, other)) = earlier {
                let reason = format!("{endpoint} is taken by {other_key} ({other})");
                self.refuse(key, &reason);
            }
            seen.push((key, endpoint));
        }
    }

    fn advertise(&mut self, peer_listen: &Endpoint) -> Endpoint {
        let given =
            self.value("advertise", |text| Endpoint::parse_dialled(text, peer_listen.port()));
        if given.is_none() && peer_listen.is_unspecified() && self.sound(&["advertise"]) {
            let reason = format!(
                "required, because nobody can dial {peer_listen} (peer_listen): write the \
                 HOST[:PORT] where the other nodes find this one"
            );
            self.refuse("advertise", &reason);
        }
        given.unwrap_or_else(|| peer_listen.clone())
    }

    fn client_address(
        &mut self,
        key: &'static str,
        listen: &Endpoint,
        advertise: &Endpoint,
    ) -> Endpoint {
        self.value(key, |text| Endpoint::parse_dialled(text, listen.port())).unwrap_or_else(|| {
            if listen.is_unspecified() { advertise.at_port(listen.port()) } else { listen.clone() }
        })
    }

    fn check_membership(&mut self, peers: &[Endpoint], advertise: &Endpoint, join_only: JoinOnly) {
        if !self.sound(&["peers", "advertise", "peer_listen", "http_listen", "join_only"]) {
            return;
        }
        if join_only == JoinOnly::Unlisted && peers.is_empty() {
            self.refuse("join_only", "unlisted needs peers: write those that found the cluster");
            return;
        }
        if join_only != JoinOnly::No {
            return;
        }
        if peers.is_empty() || peers.contains(advertise) {
            return;
        }
        if advertise.port() == 0 {
            let reason = "port 0 does not go with peers: the other nodes must know it beforehand";
            self.refuse("peer_listen", reason);
            return;
        }
        let listed: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let listed = listed.join(",");
        let reason = format!("{advertise} is not one of peers ({listed}): write this node's entry");
        self.refuse("advertise", &reason);
    }

    fn require_secret(&mut self, peer_listen: &Endpoint, secret: Option<&ClusterSecret>) {
        let key = "cluster_secret_file";
        let sound = self.sound(&[key, "peer_listen", "http_listen"]);
        if secret.is_none() && sound && !peer_listen.is_loopback() {
            let reason = format!(
                "required, because {peer_listen} (peer_listen) is beyond loopback: write a FILE, \
                 or listen on 127.0.0.1 if this node is alone"
            );
            self.refuse(key, &reason);
        }
    }
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
