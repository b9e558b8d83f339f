//! Settings that are good, settings that are not, and what is said about them.

use super::settings::SETTINGS;
use super::*;

/// Flags and values, as on a command line.
fn config(flags: &[(&str, &str)]) -> Result<Config, Mistakes> {
    Config::from_settings(gather(flags, &[], None))
}

fn gather(flags: &[(&str, &str)], environment: &[(&str, &str)], file: Option<&Path>) -> Settings {
    let find = |list: &[(&str, &str)], name: &str| {
        list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    };
    for (flag, _) in flags {
        assert!(SETTINGS.iter().any(|setting| setting.flag == *flag), "no flag {flag}");
    }
    Settings::gather(|setting| find(flags, setting.flag), |name| find(environment, name), file)
}

#[track_caller]
fn refused(flags: &[(&str, &str)], expected: &[&str]) {
    let mistakes = config(flags).map(|_| Vec::new()).unwrap_or_else(|Mistakes(lines)| lines);
    assert_eq!(mistakes, expected, "{flags:?}");
}

fn show(endpoints: &[&Endpoint]) -> String {
    let shown: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    shown.join(" ")
}

#[track_caller]
fn places(flags: &[(&str, &str)], expected: &str) {
    let config = config(flags).expect("good settings");
    let Config { http_listen, grpc_listen, peer_listen, .. } = &config;
    let Config { advertise, advertise_http, advertise_grpc, .. } = &config;
    let shown =
        show(&[http_listen, grpc_listen, peer_listen, advertise, advertise_http, advertise_grpc]);
    assert_eq!(shown, expected, "{flags:?}");
}

fn secret_file(content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn defaults_are_those_that_the_list_names() {
    let config = config(&[]).unwrap();
    let written = |key| SETTINGS.iter().find(|setting| setting.key == key).unwrap().default;
    let size = |key| quantity::size_bytes(written(key), &(0..=u64::MAX)).unwrap();
    let time = |key| quantity::duration(written(key), &(Duration::ZERO..=Duration::MAX)).unwrap();
    assert_eq!(config.data_dir.to_str(), Some(written("data_dir")));
    assert_eq!(config.http_listen.to_string(), written("http_listen"));
    assert_eq!((config.log.as_str(), config.log_format), (written("log"), LogFormat::Text));
    assert_eq!(written("log_format"), "text");
    assert_eq!(config.auto_replace.to_string(), written("auto_replace"));
    assert_eq!(config.auto_replace_after, time("auto_replace_after"));
    assert_eq!(config.history.keep, time("history_keep"));
    assert_eq!(config.history.versions.to_string(), written("history_versions"));
    assert!(!config.join_only && config.peers.is_empty() && config.cluster_secret.is_none());
    assert!(!config.clients_beyond_loopback());
    assert_eq!((config.limits.max_held_polls, written("max_held_polls")), (None, "0"));
    assert_eq!(config.limits.max_keys_per_poll.to_string(), written("max_keys_per_poll"));
    let bytes = |count: usize| u64::try_from(count).unwrap();
    assert_eq!(bytes(config.limits.form_body_max_bytes), size("form_body_max_bytes"));
    assert_eq!(bytes(config.limits.body_in_flight_max_bytes), size("body_in_flight_max_bytes"));
    assert_eq!(config.limits.proposal_deadline, time("proposal_deadline"));
    assert_eq!(config.limits.poll_hold_min, time("poll_hold_min"));
    let old = (config.limits.compatibility_console, config.limits.compatibility_admin);
    assert_eq!(old, (true, true));
    assert_eq!(
        (written("compatibility_console"), written("compatibility_admin")),
        ("true", "true")
    );
    assert_eq!(config.raft.heartbeat, time("heartbeat"));
    assert_eq!(config.raft.election_min, time("election_min"));
    assert_eq!(config.raft.election_max, time("election_max"));
    assert_eq!(config.raft.snapshot_every_bytes, size("snapshot_every_bytes"));
    assert_eq!(config.raft.snapshot_every, time("snapshot_every_seconds"));
    assert_eq!(config.raft.log_keep_bytes, size("log_keep_bytes"));
    assert_eq!(config.raft.segment_bytes, size("segment_bytes"));
}

#[test]
fn the_three_names_of_a_setting_belong_together() {
    for setting in SETTINGS {
        assert_eq!(setting.flag.replace('-', "_"), setting.key);
        assert_eq!(setting.env, format!("QUORATE_{}", setting.key.to_ascii_uppercase()));
    }
}

#[test]
fn every_setting_is_read() {
    let all: Vec<_> = SETTINGS.iter().map(|setting| (setting.flag, "?")).collect();
    let mut reader = Reader::new(gather(&all, &[], None));
    let _config = Config::read(&mut reader);
    assert_eq!(reader.settings.left(), Vec::<&str>::new());
    // "?" is no value of any but the directory and the secret, which does not exist.
    let named = |flag: &str| {
        let start = format!("--{flag}: ");
        reader.mistakes.iter().filter(|line| line.starts_with(&start)).count()
    };
    for setting in SETTINGS {
        let expected = usize::from(setting.key != "data_dir");
        assert_eq!(named(setting.flag), expected, "{}: {:?}", setting.key, reader.mistakes);
    }
}

#[test]
fn addresses_follow_from_one_another() {
    places(
        &[],
        "127.0.0.1:8848 127.0.0.1:9848 127.0.0.1:7848 127.0.0.1:7848 127.0.0.1:8848 127.0.0.1:9848",
    );
    places(
        &[("http-listen", "[::1]:2000")],
        "[::1]:2000 [::1]:3000 [::1]:1000 [::1]:1000 [::1]:2000 [::1]:3000",
    );
    places(
        &[("http-listen", "127.0.0.1:0")],
        "127.0.0.1:0 127.0.0.1:0 127.0.0.1:0 127.0.0.1:0 127.0.0.1:0 127.0.0.1:0",
    );
    places(
        &[("http-listen", "0.0.0.0:8848"), ("peer-listen", "127.0.0.1:7848")],
        "0.0.0.0:8848 0.0.0.0:9848 127.0.0.1:7848 127.0.0.1:7848 127.0.0.1:8848 127.0.0.1:9848",
    );
    places(
        &[
            ("advertise", "node-1"),
            ("advertise-http", "config.example:80"),
            ("advertise-grpc", "config.example"),
            ("grpc-listen", "127.0.0.1:1"),
        ],
        "127.0.0.1:8848 127.0.0.1:1 127.0.0.1:7848 node-1:7848 config.example:80 config.example:1",
    );
    let secret = secret_file(b"0123456789abcdef\r\n");
    let secret_path = secret.path().to_str().unwrap();
    places(
        &[
            ("http-listen", "0.0.0.0:8848"),
            ("advertise", "Node-1"),
            ("peers", "node-1:7848,node-2:7848"),
            ("cluster-secret-file", secret_path),
        ],
        "0.0.0.0:8848 0.0.0.0:9848 0.0.0.0:7848 node-1:7848 node-1:8848 node-1:9848",
    );
}

#[test]
fn derived_ports_must_be_ports() {
    refused(
        &[("http-listen", "127.0.0.1:64536")],
        &["--grpc-listen: not set, and 64536 (the port of http_listen) + 1000 is outside 1 to \
           65535: write HOST:PORT"],
    );
    refused(
        &[("http-listen", "127.0.0.1:1000")],
        &["--peer-listen: not set, and 1000 (the port of http_listen) - 1000 is outside 1 to \
           65535: write HOST:PORT"],
    );
    refused(&[("http-listen", "127.0.0.1:64535")], &[]);
    refused(&[("http-listen", "127.0.0.1:1001")], &[]);
    refused(&[("http-listen", "127.0.0.1:80"), ("peer-listen", "127.0.0.1:81")], &[]);
    refused(
        &[("grpc-listen", "0.0.0.0:8848")],
        &["--grpc-listen: 0.0.0.0:8848 is taken by http_listen (127.0.0.1:8848)"],
    );
}

#[test]
fn peers_are_a_list_that_holds_this_node() {
    refused(&[("peers", "127.0.0.1:7848,a:7848,[::1]:7848,")], &[]);
    refused(&[("peers", "")], &[]);
    refused(&[("peers", "127.0.0.1:7848 , b:7848")], &[]);
    refused(
        &[("peers", "a,b:7848,B:7848,0.0.0.0:7848,c:0")],
        &["--peers: \"a\" has no port: write HOST:PORT, such as 127.0.0.1:8848, [::1]:8848 or \
           node-1:8848; \"B:7848\" stands twice; \"0.0.0.0:7848\" cannot be dialled: write a HOST \
           and a port from 1 on; \"c:0\" cannot be dialled: write a HOST and a port from 1 on"],
    );
    refused(
        &[("peers", "a:7848,b:7848")],
        &["--advertise: 127.0.0.1:7848 is not one of peers (a:7848,b:7848): write this node's \
           entry"],
    );
    refused(
        &[("peers", "a:7848,b:7848"), ("peer-listen", "127.0.0.1:0")],
        &["--peer-listen: port 0 does not go with peers: the other nodes must know it beforehand"],
    );
    refused(&[("peers", "a:7848"), ("join-only", "true")], &[]);
    refused(&[("join-only", "true")], &[]);
    refused(
        &[("join-only", "unlisted")],
        &["--join-only: unlisted needs peers: write those that found the cluster"],
    );
    refused(
        &[("join-only", "never")],
        &["--join-only: \"never\": allowed are true, false and unlisted"],
    );
    for (peers, joins) in [("a:7848,127.0.0.1:7848", false), ("a:7848,b:7848", true)] {
        let config = config(&[("peers", peers), ("join-only", "unlisted")]).unwrap();
        assert_eq!(config.join_only, joins, "{peers}");
    }
}

#[test]
fn beyond_loopback_an_address_and_a_secret_are_needed() {
    let needs_secret = "--cluster-secret-file: required, because 0.0.0.0:7848 (peer_listen) is \
                        beyond loopback: write a FILE, or listen on 127.0.0.1 if this node is alone";
    refused(
        &[("peer-listen", "0.0.0.0:7848")],
        &[
            "--advertise: required, because nobody can dial 0.0.0.0:7848 (peer_listen): write the \
           HOST[:PORT] where the other nodes find this one",
            needs_secret,
        ],
    );
    refused(&[("peer-listen", "0.0.0.0:7848"), ("advertise", "a")], &[needs_secret]);
    refused(
        &[("advertise", "0.0.0.0:7848")],
        &["--advertise: \"0.0.0.0:7848\": others cannot dial an unspecified address"],
    );
    let http = config(&[("http-listen", "10.0.0.1:8848"), ("peer-listen", "[::1]:7848")]).unwrap();
    assert!(http.clients_beyond_loopback());
}

#[test]
fn a_secret_is_a_file_of_sixteen_bytes_or_more() {
    let read = |content: &[u8]| {
        let file = secret_file(content);
        let path = file.path().to_str().unwrap().to_owned();
        let result = config(&[("cluster-secret-file", &path)]);
        result
            .map(|config| config.cluster_secret.unwrap())
            .map_err(|mistakes| mistakes.to_string().replace(&path, "FILE"))
    };
    let secret = read(b"0123456789 abcdef\n\r\n").unwrap();
    assert_eq!(secret.header_text(), "3031323334353637383920616263646566");
    assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
    let short = "--cluster-secret-file: FILE has 15 bytes: allowed are 16 or more";
    assert_eq!(read(b"0123456789abcde\n").unwrap_err(), short);
    let empty = "--cluster-secret-file: FILE has 0 bytes: allowed are 16 or more";
    assert_eq!(read(b"\n").unwrap_err(), empty);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let line = format!("--cluster-secret-file: {path} is not a file");
    refused(&[("cluster-secret-file", path)], &[&line]);
    let absent = format!("{path}/absent");
    let line = format!("--cluster-secret-file: {absent}: No such file or directory (os error 2)");
    refused(&[("cluster-secret-file", &absent)], &[&line]);
}

#[test]
fn a_data_directory_is_a_directory() {
    let file = secret_file(b"");
    let path = file.path().to_str().unwrap();
    let line = format!("--data-dir: {path:?} exists and is not a directory");
    refused(&[("data-dir", path)], &[&line]);
    refused(&[("data-dir", "")], &["--data-dir: \"\": write a DIR"]);
    refused(&[("data-dir", "/")], &[]);
}

#[test]
fn values_have_bounds() {
    refused(
        &[("max-keys-per-poll", "0")],
        &["--max-keys-per-poll: \"0\": allowed is a whole number from 1 to 1000000"],
    );
    refused(
        &[("segment-bytes", "1KiB")],
        &["--segment-bytes: \"1KiB\": allowed is a size from 64KiB to 1GiB, such as 512KiB or \
           64MiB"],
    );
    refused(
        &[("proposal-deadline", "2m")],
        &["--proposal-deadline: \"2m\": allowed is a duration from 100ms to 1m, such as 100ms or \
           5s"],
    );
    refused(&[("log-format", "xml")], &["--log-format: \"xml\": allowed are text and json"]);
    refused(&[("log", "warn,quorate_raft=debug")], &[]);
    refused(
        &[("log", "quorate_raft=loud")],
        &["--log: \"quorate_raft=loud\": allowed is error, warn, info, debug, trace or off, or \
           target=level pairs separated by commas"],
    );
    let config = config(&[("max-held-polls", "7"), ("snapshot-every-seconds", "3")]).unwrap();
    assert_eq!(config.limits.max_held_polls, Some(7));
    assert_eq!(config.raft.snapshot_every, Duration::from_secs(3));
}

#[test]
fn rules_between_settings_are_told_at_the_one_that_was_written() {
    refused(&[("heartbeat", "400ms")], &["--heartbeat: election_min must be more than heartbeat"]);
    refused(
        &[("election-min", "1s"), ("election-max", "1s")],
        &["--election-max: election_max must be more than election_min"],
    );
    refused(
        &[("form-body-max-bytes", "512MiB")],
        &["--form-body-max-bytes: body_in_flight_max_bytes must have room for one body of \
           form_body_max_bytes"],
    );
    // Nobody knows what the wrong one was meant to be.
    refused(
        &[("heartbeat", "2s"), ("election-min", "?"), ("election-max", "9s")],
        &["--election-min: \"?\": allowed is a duration from 20ms to 1m, such as 100ms or 5s"],
    );
}

#[test]
fn all_mistakes_of_all_sources_are_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("q.toml");
    let shown = path.display().to_string();
    let file = "peers = [\"a:7848\", \"b\"]\nprot = 1\nheartbeat = 1.5\nmax_held_polls = -1\n\
                join_only = true\n[limits]\nx = 1\n";
    std::fs::write(&path, file).unwrap();
    let settings =
        gather(&[("http-listen", "8848")], &[("QUORATE_LOG_FORMAT", "yaml")], Some(&path));
    let Mistakes(lines) = Config::from_settings(settings).unwrap_err();
    let lines: Vec<_> = lines.iter().map(|line| line.replace(&shown, "q.toml")).collect();
    assert_eq!(
        lines,
        [
            "heartbeat in q.toml: allowed is a text, a whole number, true, false or a list of texts",
            "limits in q.toml: there is no such setting",
            "prot in q.toml: there is no such setting",
            "--http-listen: \"8848\": \"8848\" is neither an address nor a host name",
            "peers in q.toml: \"b\" has no port: write HOST:PORT, such as 127.0.0.1:8848, \
             [::1]:8848 or node-1:8848",
            "QUORATE_LOG_FORMAT: \"yaml\": allowed are text and json",
            "max_held_polls in q.toml: \"-1\": allowed is a whole number from 0 to 10000000",
        ]
    );
}

#[test]
fn a_file_that_is_none_hides_no_other_mistake() {
    let file = secret_file(b"a = \nb = 1");
    let shown = file.path().display().to_string();
    for (path, expected) in [
        (file.path(), "FILE is not TOML: TOML parse error at line 1, column 5"),
        (Path::new("/nowhere/q.toml"), "--config: /nowhere/q.toml is not readable: "),
    ] {
        let settings = gather(&[("heartbeat", "x")], &[], Some(path));
        let Mistakes(lines) = Config::from_settings(settings).unwrap_err();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].replace(&shown, "FILE").starts_with(expected), "{lines:?}");
        assert!(lines[1].starts_with("--heartbeat: \"x\""), "{lines:?}");
    }
}

#[test]
fn the_explained_file_sets_the_defaults() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/quorate.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    // As it stands every line is a comment; with the settings uncommented it must say the same.
    assert_eq!(text.parse::<toml::Table>().unwrap().len(), 0);
    for setting in SETTINGS {
        let line = text.lines().find(|line| line.starts_with(&format!("#{} = ", setting.key)));
        let line = line.unwrap_or_else(|| panic!("{} is not explained", setting.key));
        let table: toml::Table = line.trim_start_matches('#').parse().unwrap();
        let value = &table[setting.key];
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let derived =
            setting.default.contains(' ') || ["none", "peer_listen"].contains(&setting.default);
        assert!(derived || shown == setting.default, "{line}: {}", setting.default);
    }
    let known = text.lines().filter(|line| {
        line.strip_prefix('#').is_some_and(|rest| rest.contains(" = ") && !rest.starts_with(' '))
    });
    assert_eq!(known.count(), SETTINGS.len());
}
