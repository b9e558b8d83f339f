//! [`Settings`]: what was written, by whom, before anybody judged it.
//!
//! [`SETTINGS`] is the one list: flags, environment variables, keys of the file, `--help` and the
//! check that `deploy/quorate.toml` explains each of them come from it. What a value means and
//! whether it is allowed is decided in `config.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One setting, under its three names.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its key in the file, and its name in the code.
    pub(crate) key: &'static str,
    /// Its flag, without the leading `--`.
    pub(crate) flag: &'static str,
    /// Its environment variable.
    pub(crate) env: &'static str,
    /// What stands for the value in `--help`; empty for a switch that needs none.
    pub(crate) value: &'static str,
    /// What it is when nobody sets it, as it would be written; or how it follows from others.
    pub(crate) default: &'static str,
    /// Effect and unit, in one or two sentences.
    pub(crate) help: &'static str,
}

macro_rules! settings {
    ($($key:literal $flag:literal $env:literal $value:literal $default:literal $help:literal;)*) => {
        /// All settings, in the order of `--help`.
        pub(crate) const SETTINGS: &[Setting] = &[$(Setting {
            key: $key, flag: $flag, env: $env, value: $value, default: $default, help: $help,
        }),*];
    };
}

settings! {
    "data_dir" "data-dir" "QUORATE_DATA_DIR" "DIR" "./quorate-data"
        "Directory of everything this node keeps: identity, log, snapshots, datum store. Created \
         when absent, used by one process at a time";
    "http_listen" "http-listen" "QUORATE_HTTP_LISTEN" "HOST:PORT" "127.0.0.1:8848"
        "Where clients reach the HTTP dialects. Port 0 takes any free port, here and for the \
         other two listeners; DATA_DIR/ports.json tells which";
    "grpc_listen" "grpc-listen" "QUORATE_GRPC_LISTEN" "HOST:PORT" "host of http_listen, its port + 1000"
        "Where clients reach the gRPC dialect: clients compute this port from the HTTP one";
    "peer_listen" "peer-listen" "QUORATE_PEER_LISTEN" "HOST:PORT" "host of http_listen, its port - 1000"
        "Where the other nodes reach this one. Beyond loopback it needs cluster_secret_file";
    "advertise" "advertise" "QUORATE_ADVERTISE" "HOST[:PORT]" "peer_listen"
        "Where the other nodes find this one; without a port, that of peer_listen. Required when \
         peer_listen is unspecified (0.0.0.0, [::]); one of peers when there are any, unless \
         join_only is set";
    "advertise_http" "advertise-http" "QUORATE_ADVERTISE_HTTP" "HOST[:PORT]" "http_listen, or the host of advertise when that is unspecified"
        "HTTP address that clients are told, in node lists";
    "advertise_grpc" "advertise-grpc" "QUORATE_ADVERTISE_GRPC" "HOST[:PORT]" "grpc_listen, or the host of advertise when that is unspecified"
        "gRPC address that clients are told, in node lists";
    "peers" "peers" "QUORATE_PEERS" "HOST:PORT,..." "none: a cluster of this node alone"
        "Peer addresses of all members, this one included, the same on each. Read only while the \
         data directory is empty";
    "join_only" "join-only" "QUORATE_JOIN_ONLY" "" "false"
        "true: never found a cluster, but join that of peers, or wait to be added. unlisted: so \
         only when advertise is not one of peers, which then are those that found the cluster";
    "auto_replace" "auto-replace" "QUORATE_AUTO_REPLACE" "" "true"
        "Let an empty node take the place of the voter at its address whose disk was lost, if \
         all other voters are well. Counts on the leader";
    "auto_replace_after" "auto-replace-after" "QUORATE_AUTO_REPLACE_AFTER" "DURATION" "30s"
        "How long the lost voter must have been silent before that";
    "history_keep" "history-keep" "QUORATE_HISTORY_KEEP" "DURATION" "720h"
        "Age up to which old versions of configurations are kept. Counts on the leader";
    "history_versions" "history-versions" "QUORATE_HISTORY_VERSIONS" "COUNT" "100"
        "Old versions of one configuration that are kept. Counts on the leader";
    "cluster_secret_file" "cluster-secret-file" "QUORATE_CLUSTER_SECRET_FILE" "FILE" "none"
        "File with the secret that all nodes share, at least 16 bytes; checked on every call \
         between nodes. Required when peer_listen is beyond loopback";
    "log" "log" "QUORATE_LOG" "FILTER" "info,openraft=error,config-client-request=off,config-trace=off"
        "What is logged: a level (error, warn, info, debug, trace), or target=level pairs \
         separated by commas";
    "log_format" "log-format" "QUORATE_LOG_FORMAT" "FORMAT" "text"
        "How it is logged: text or json, one line each, to the standard output";
    "max_held_polls" "max-held-polls" "QUORATE_MAX_HELD_POLLS" "COUNT" "0"
        "Long polls held at once; more are answered 503. 0 takes what the limit of open files \
         leaves";
    "max_grpc_connections" "max-grpc-connections" "QUORATE_MAX_GRPC_CONNECTIONS" "COUNT" "0"
        "gRPC connections at one time; more are closed at once. 0 takes what the limit of open \
         files leaves";
    "max_grpc_connections_per_ip" "max-grpc-connections-per-ip" "QUORATE_MAX_GRPC_CONNECTIONS_PER_IP" "COUNT" "0"
        "Of them, of clients that name the same address of theirs; more are closed when they set \
         up. 0: any number";
    "max_keys_per_poll" "max-keys-per-poll" "QUORATE_MAX_KEYS_PER_POLL" "COUNT" "10000"
        "Keys that one poll may name; a poll with more is refused";
    "form_body_max_bytes" "form-body-max-bytes" "QUORATE_FORM_BODY_MAX_BYTES" "SIZE" "32MiB"
        "Largest request body. Percent-encoding triples a content of 10 MiB";
    "body_in_flight_max_bytes" "body-in-flight-max-bytes" "QUORATE_BODY_IN_FLIGHT_MAX_BYTES" "SIZE" "256MiB"
        "Request bodies held at once, in all; a request past it is answered 503";
    "proposal_deadline" "proposal-deadline" "QUORATE_PROPOSAL_DEADLINE" "DURATION" "5s"
        "How long a write waits for its majority, elections included, before it is answered with \
         an error";
    "compatibility_console" "compatibility-console" "QUORATE_COMPATIBILITY_CONSOLE" "" "true"
        "Serve the routes of HTTP v1 and v2 that are the console's: false answers them 410";
    "compatibility_admin" "compatibility-admin" "QUORATE_COMPATIBILITY_ADMIN" "" "true"
        "Serve the routes of HTTP v1 and v2 that are administrators': false answers them 410";
    "poll_hold_min" "poll-hold-min" "QUORATE_POLL_HOLD_MIN" "DURATION" "10s"
        "Shortest time that a long poll is held, whatever the client asked for";
    "heartbeat" "heartbeat" "QUORATE_HEARTBEAT" "DURATION" "100ms"
        "How often a leader is heard. The same on each node";
    "election_min" "election-min" "QUORATE_ELECTION_MIN" "DURATION" "400ms"
        "Least time without a leader until a node stands for election; more than heartbeat";
    "election_max" "election-max" "QUORATE_ELECTION_MAX" "DURATION" "800ms"
        "Most of that time, before which no node forgets a leader either; more than election_min";
    "snapshot_every_bytes" "snapshot-every-bytes" "QUORATE_SNAPSHOT_EVERY_BYTES" "SIZE" "256MiB"
        "Log bytes after which the next snapshot is built";
    "snapshot_every_seconds" "snapshot-every-seconds" "QUORATE_SNAPSHOT_EVERY_SECONDS" "DURATION" "1h"
        "Time after which the next snapshot is built, if anything was written";
    "log_keep_bytes" "log-keep-bytes" "QUORATE_LOG_KEEP_BYTES" "SIZE" "64MiB"
        "Log kept behind the newest snapshot, for nodes that were away: past it they are sent \
         the snapshot";
    "segment_bytes" "segment-bytes" "QUORATE_SEGMENT_BYTES" "SIZE" "64MiB"
        "Size of one file of the log, allocated ahead; the log is deleted by whole files";
}

/// The default of a setting, as it would be written.
pub(crate) fn default_of(key: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.key == key).map_or("", |setting| setting.default)
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Flag,
    Environment,
    File(String),
}

#[derive(Debug, Clone)]
struct Given {
    text: String,
    source: Source,
}

/// Values by key, as written: flag over environment over file; and what could not even be read.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    given: BTreeMap<&'static str, Given>,
    mistakes: Vec<String>,
}

impl Settings {
    /// Collects from all three sources. `flags` and `environment` answer for a setting's `flag`
    /// and `env`. An empty environment variable counts as unset; unknown `QUORATE_` variables are
    /// left alone, because Kubernetes invents some for a service of that name.
    pub(crate) fn gather(
        flags: impl Fn(&Setting) -> Option<String>,
        environment: impl Fn(&str) -> Option<String>,
        file: Option<&Path>,
    ) -> Self {
        let mut settings = Self::default();
        if let Some(path) = file {
            settings.read_file(path);
        }
        for setting in SETTINGS {
            let from_environment = environment(setting.env).filter(|text| !text.is_empty());
            if let Some(text) = from_environment {
                settings.given.insert(setting.key, Given { text, source: Source::Environment });
            }
            if let Some(text) = flags(setting) {
                settings.given.insert(setting.key, Given { text, source: Source::Flag });
            }
        }
        settings
    }

    fn read_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.mistakes.push(format!("--config: {shown} is not readable: {error}"));
                return;
            }
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let reason = error.to_string();
                let reason: Vec<_> = reason.lines().map(str::trim).collect();
                self.mistakes.push(format!("{shown} is not TOML: {}", reason.join(" ")));
                return;
            }
        };
        for (key, value) in table {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                self.mistakes.push(format!("{key} in {shown}: there is no such setting"));
                continue;
            };
            let source = Source::File(shown.to_string());
            match written(value) {
                Some(text) => {
                    self.given.insert(setting.key, Given { text, source });
                }
                None => self.mistakes.push(format!(
                    "{key} in {shown}: allowed is a text, a whole number, true, false or a list \
                     of texts"
                )),
            }
        }
    }

    /// Takes the value of `key`, with the name under which whoever wrote it knows it.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<(String, String)> {
        let Given { text, source } = self.given.remove(key)?;
        Some((name_at(key, &source), text))
    }

    /// Takes what went wrong while gathering.
    pub(crate) fn take_mistakes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.mistakes)
    }

    /// The keys nobody took: empty once every setting is understood.
    #[cfg(test)]
    pub(crate) fn left(&self) -> Vec<&'static str> {
        self.given.keys().copied().collect()
    }
}

/// The name of a setting that nobody wrote.
pub(crate) fn name_of(key: &str) -> String {
    name_at(key, &Source::Flag)
}

fn name_at(key: &str, source: &Source) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.key == key);
    match (setting, source) {
        (Some(setting), Source::Flag) => format!("--{}", setting.flag),
        (Some(setting), Source::Environment) => setting.env.to_owned(),
        (_, Source::File(path)) => format!("{key} in {path}"),
        (None, Source::Flag | Source::Environment) => key.to_owned(),
    }
}

fn written(value: toml::Value) -> Option<String> {
    use toml::Value;
    match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<_>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            Some(texts?.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// The file to read: `--config`, else `QUORATE_CONFIG`.
pub(crate) fn file_path(
    flag: Option<String>,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<PathBuf> {
    flag.or_else(|| environment("QUORATE_CONFIG").filter(|text| !text.is_empty()))
        .map(PathBuf::from)
}
