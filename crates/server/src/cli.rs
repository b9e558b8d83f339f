//! The command line: subcommands and flags → [`Invocation`]. Values are judged elsewhere
//! (`config.rs`), so that one wrong flag does not hide the next mistake.

mod cluster;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::administer::Administration;
use crate::config::settings::{self, SETTINGS, Setting, Settings};
use crate::health::HealthQuestion;

/// What the process was asked to do.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Run a node.
    Serve(Settings),
    /// Ask a running node whether it is ready.
    Health(HealthQuestion),
    /// Ask or change a running cluster.
    Cluster(Administration),
}

/// Reads the process's own arguments and environment. Prints and exits by itself for `--help`,
/// `--version`, and arguments that clap does not know.
pub(crate) fn invocation() -> Invocation {
    read(std::env::args_os(), variable).unwrap_or_else(|error| error.exit())
}

/// Bytes that are no UTF-8 are shown as such, so that the value is refused rather than ignored.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    match matches.subcommand() {
        Some(("serve", flags)) => Ok(Invocation::Serve(gather(flags, environment))),
        Some(("health", flags)) => Ok(Invocation::Health(question(flags, environment))),
        Some(("cluster", flags)) => {
            Ok(Invocation::Cluster(cluster::administration(flags, environment)))
        }
        Some(_) | None => {
            let text = "write serve, health or cluster";
            Err(command().error(clap::error::ErrorKind::MissingSubcommand, text))
        }
    }
}

fn gather(flags: &ArgMatches, environment: impl Fn(&str) -> Option<String>) -> Settings {
    let file = settings::file_path(flags.get_one::<String>("config").cloned(), &environment);
    let flag = |setting: &Setting| flags.get_one::<String>(setting.key).cloned();
    Settings::gather(flag, &environment, file.as_deref())
}

fn question(flags: &ArgMatches, environment: impl Fn(&str) -> Option<String>) -> HealthQuestion {
    let text = |key| flags.get_one::<String>(key).cloned();
    let variable = |name: &str| environment(name).filter(|text| !text.is_empty());
    HealthQuestion {
        http: text("http"),
        data_dir: text("data_dir")
            .or_else(|| variable("QUORATE_DATA_DIR"))
            .unwrap_or_else(|| "./quorate-data".to_owned())
            .into(),
        timeout: flags.get_one("timeout").copied().unwrap_or(Duration::from_secs(2)),
    }
}

fn command() -> Command {
    Command::new("quorate")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Configuration server: three nodes agree on every write, clients speak to any")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve())
        .subcommand(health())
        .subcommand(cluster::command())
}

fn serve() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("TOML file of settings, under their keys [env: QUORATE_CONFIG] [default: none]");
    Command::new("serve")
        .about("Runs a node")
        .after_help(
            "Each setting is a flag, an environment variable and a key of the file (its flag \
             with _ for -); a flag wins over the environment, the environment over the file.\n\
             SIZE: a number of bytes, or with B, KiB, MiB, GiB. DURATION: a number with ms, s, \
             m, h.",
        )
        .arg(config)
        .args(SETTINGS.iter().map(flag))
}

fn flag(setting: &Setting) -> Arg {
    let Setting { key, flag, env, value, default, help } = setting;
    let argument = Arg::new(*key)
        .long(*flag)
        .allow_hyphen_values(false)
        .help(format!("{help} [env: {env}] [default: {default}]"));
    if value.is_empty() {
        // `--switch` alone means true; a value needs `=`, so that it swallows no other word.
        return argument
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true");
    }
    argument.value_name(*value).action(ArgAction::Set)
}

fn health() -> Command {
    Command::new("health")
        .about("Exits 0 when a node is ready to serve, else 1; for probes")
        .arg(
            Arg::new("http")
                .long("http")
                .value_name("HOST:PORT")
                .conflicts_with("data_dir")
                .help("Its HTTP address [default: 127.0.0.1 and the port in the data directory]"),
        )
        .arg(Arg::new("data_dir").long("data-dir").value_name("DIR").help(
            "Its data directory, whose ports.json is read [env: QUORATE_DATA_DIR] [default: \
             ./quorate-data]",
        ))
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .value_parser(crate::config::probe_timeout)
                .help("How long it may take to answer, 1ms to 1h [default: 2s]"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(words: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, clap::Error> {
        let words = std::iter::once("quorate").chain(words.iter().copied()).map(OsString::from);
        read(words, |name| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    use crate::config::settings::default_of;

    fn serve(words: &[&str], environment: &[(&str, &str)]) -> Config {
        match parse(&[&["serve"], words].concat(), environment).expect("known flags") {
            Invocation::Serve(settings) => Config::from_settings(settings).expect("good settings"),
            other @ (Invocation::Health(_) | Invocation::Cluster(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn flag_wins_over_environment_over_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("quorate.toml");
        std::fs::write(&file, "data_dir = \"f\"\nheartbeat = \"31ms\"\nlog = \"warn\"\n").unwrap();
        let file = file.to_str().unwrap();
        let environment =
            [("QUORATE_CONFIG", file), ("QUORATE_DATA_DIR", "e"), ("QUORATE_LOG", "error")];
        let config = serve(&["--data-dir", "c"], &environment);
        assert_eq!(config.data_dir.to_str(), Some("c"));
        assert_eq!(config.log, "error");
        assert_eq!(config.raft.heartbeat, Duration::from_millis(31));
        // --config wins over QUORATE_CONFIG; an empty variable is an unset one.
        let environment = [("QUORATE_CONFIG", "/nowhere"), ("QUORATE_LOG", "")];
        assert_eq!(serve(&["--config", file], &environment).log, "warn");
        assert_eq!(
            serve(&[], &[("QUORATE_CONFIG", ""), ("QUORATE_PEER", "?")]).log,
            default_of("log")
        );
    }

    #[test]
    fn a_switch_needs_no_value() {
        let peers = ["--peers", "127.0.0.1:7848,b:7848"];
        for (words, expected) in [
            (vec!["--join-only"], true),
            (vec!["--join-only=true"], true),
            (vec!["--join-only=false"], false),
            (vec![], false),
        ] {
            let words = [&words[..], &peers].concat();
            assert_eq!(serve(&words, &[]).join_only, expected, "{words:?}");
        }
        assert!(serve(&peers, &[("QUORATE_JOIN_ONLY", "1")]).join_only);
    }

    #[test]
    fn health_finds_its_node() {
        let question = |words: &[&str], environment: &[(&str, &str)]| match parse(
            &[&["health"], words].concat(),
            environment,
        )
        .expect("known flags")
        {
            Invocation::Health(question) => question,
            other @ (Invocation::Serve(_) | Invocation::Cluster(_)) => panic!("{other:?}"),
        };
        let asked = question(&["--http", "127.0.0.1:1", "--timeout", "300ms"], &[]);
        assert_eq!(asked.http.as_deref(), Some("127.0.0.1:1"));
        assert_eq!(asked.timeout, Duration::from_millis(300));
        assert_eq!(question(&[], &[]).data_dir.to_str(), Some("./quorate-data"));
        let environment = [("QUORATE_DATA_DIR", "e")];
        assert_eq!(question(&[], &environment).data_dir.to_str(), Some("e"));
        assert_eq!(question(&["--data-dir", "d"], &environment).data_dir.to_str(), Some("d"));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        use clap::error::ErrorKind;
        for (words, expected) in [
            (vec![], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (vec!["--help"], ErrorKind::DisplayHelp),
            (vec!["--version"], ErrorKind::DisplayVersion),
            (vec!["server"], ErrorKind::InvalidSubcommand),
            (vec!["serve", "--port", "1"], ErrorKind::UnknownArgument),
            (vec!["serve", "--peers"], ErrorKind::InvalidValue),
            (vec!["health", "--timeout", "soon"], ErrorKind::ValueValidation),
        ] {
            let error = parse(&words, &[]).expect_err("should be refused");
            assert_eq!(error.kind(), expected, "{words:?}: {error}");
        }
    }

    #[test]
    fn help_names_every_setting_with_its_unit_and_default() {
        let help = command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        for setting in SETTINGS {
            assert!(help.contains(&format!("--{}", setting.flag)), "{}", setting.key);
            assert!(help.contains(&format!("[env: {}]", setting.env)), "{}", setting.key);
            assert!(help.contains(&format!("[default: {}]", setting.default)), "{}", setting.key);
        }
        command().debug_assert();
    }
}
