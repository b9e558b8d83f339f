//! `quorate cluster …` on the command line.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::administer::{Administration, Task};

const SERVER: &str = "http://127.0.0.1:8848";

pub(super) fn administration(
    flags: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> Administration {
    let variable = |name: &str| environment(name).filter(|text| !text.is_empty());
    let given = |key: &str| flags.get_one::<String>(key).cloned();
    Administration {
        server: given("server")
            .or_else(|| variable("QUORATE_SERVER"))
            .unwrap_or_else(|| SERVER.to_owned()),
        secret_file: given("cluster_secret_file")
            .or_else(|| variable("QUORATE_CLUSTER_SECRET_FILE")),
        json: flags.get_flag("json"),
        task: task(flags),
    }
}

fn task(flags: &ArgMatches) -> Task {
    // clap has checked that one of them is there, with what it needs.
    let (name, flags) = flags.subcommand().unwrap_or(("status", flags));
    let text = |key: &str| flags.get_one::<String>(key).cloned().unwrap_or_default();
    match name {
        "add" => Task::Add {
            address: text("address"),
            learner: flags.get_flag("learner"),
            timeout: flags.get_one("timeout").copied().unwrap_or(Duration::from_secs(60)),
        },
        "remove" => Task::Remove {
            members: flags.get_many("members").into_iter().flatten().cloned().collect(),
            if_present: flags.get_flag("if_present"),
        },
        "replace" => Task::Replace { old: text("old"), new: text("new") },
        "transfer-leader" => Task::TransferLeader {
            to: flags.get_one::<String>("to").cloned(),
            from_self: flags.get_flag("from_self"),
        },
        "snapshot" => Task::Snapshot,
        "check" => Task::Check,
        _ => Task::Status,
    }
}

fn switch(key: &'static str, flag: &'static str, help: &'static str) -> Arg {
    Arg::new(key).long(flag).action(ArgAction::SetTrue).help(help)
}

fn member(key: &'static str, help: &'static str) -> Arg {
    Arg::new(key).value_name("ID|HOST:PORT").required(true).help(help)
}

pub(super) fn command() -> Command {
    let server =
        Arg::new("server").long("server").value_name("URL").global(true).help(
            "HTTP address of any node [env: QUORATE_SERVER] [default: http://127.0.0.1:8848]",
        );
    let secret = Arg::new("cluster_secret_file")
        .long("cluster-secret-file")
        .value_name("FILE")
        .global(true)
        .help(
            "The cluster's secret, for a node of another machine \
             [env: QUORATE_CLUSTER_SECRET_FILE]",
        );
    Command::new("cluster")
        .about("Shows and changes the members of a running cluster")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(server)
        .arg(secret)
        .arg(switch("json", "json", "JSON instead of a table").global(true))
        .subcommand(Command::new("status").about("Shows the members and how far each is"))
        .subcommand(add())
        .subcommand(
            Command::new("remove")
                .about("Removes members for good: their data directories are of no more use")
                .arg(member("members", "Node ids or peer addresses").num_args(1..))
                .arg(switch("if_present", "if-present", "Who is no member is removed already")),
        )
        .subcommand(
            Command::new("replace")
                .about("Puts a learner in the place of a voter, which goes for good")
                .arg(member("old", "The voter"))
                .arg(member("new", "The learner")),
        )
        .subcommand(
            Command::new("transfer-leader")
                .about("Hands leadership over")
                .arg(
                    member("to", "To this voter [default: the one with the longest log]")
                        .required(false),
                )
                .arg(switch("from_self", "from-self", "Only if the node asked leads")),
        )
        .subcommand(Command::new("snapshot").about("Builds a snapshot on the node asked"))
        .subcommand(
            Command::new("check")
                .about("Compares the states of all members at one revision; exits 1 on a problem"),
        )
}

fn add() -> Command {
    Command::new("add")
        .about("Adds a running node that belongs to no cluster, and waits until it votes")
        .arg(
            Arg::new("address").value_name("HOST:PORT").required(true).help(
                "Its peer address; it was started with an empty data directory and --join-only",
            ),
        )
        .arg(switch("learner", "learner", "It is to follow and never to vote"))
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .value_parser(crate::config::probe_timeout)
                .help("How long it may take to catch up, 1ms to 1h [default: 60s]"),
        )
}
