//! The rules of the house that no lint knows: file heads and lengths, names, dependencies,
//! documents that must keep up with the code. Each failure says where and what to do.
//!
//! Not here: that `deploy/quorate.toml` explains every setting with its default is a test beside
//! the settings (`crates/server/src/config/tests.rs`), because it needs their list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Direct dependencies that a crate may have, build dependencies included. A new one comes with a
/// sentence in its commit: what it saves, what it drags in. Core has no openraft, tonic or axum:
/// wire forms belong to the server.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    (
        "core",
        &[
            "bytes",
            "crc32c",
            "imbl",
            "md-5",
            "parking_lot",
            "prost",
            "prost-build",
            "protox",
            "serde",
            "sled",
            "thiserror",
            "tokio",
            "tracing",
            "triomphe",
            "zstd",
        ],
    ),
    (
        "raft",
        &[
            "bytes",
            "crc32c",
            "futures-util",
            "getrandom",
            "libc",
            "openraft",
            "parking_lot",
            "prometheus-client",
            "prost",
            "protox",
            "quorate-core",
            "rand_core",
            "rustix",
            "serde",
            "serde_json",
            "subtle",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tokio-util",
            "tonic",
            "tonic-prost",
            "tonic-prost-build",
            "tracing",
        ],
    ),
    (
        "server",
        &[
            "anyhow",
            "bytes",
            "clap",
            "http-body-util",
            "hyper",
            "hyper-util",
            "jsonschema",
            "parking_lot",
            "prometheus-client",
            "prost",
            "prost-build",
            "protox",
            "quorate-core",
            "quorate-raft",
            "roxmltree",
            "rustix",
            "serde",
            "serde-saphyr",
            "serde_json",
            "subtle",
            "thiserror",
            "tikv-jemallocator",
            "tokio",
            "tokio-stream",
            "tokio-util",
            "toml",
            "tonic",
            "tonic-prost",
            "tracing",
            "tracing-subscriber",
            "zip",
        ],
    ),
];

/// Lines of a source file without a `Long file:` reason in its head.
const LONGEST_FILE_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// A file of the repository: its path from the root, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_source(&self) -> bool {
        has_end(&self.path, &["rs"])
    }
}

/// Every text file that people write. Build output and what tests leave behind is passed over.
fn files() -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a readable directory") {
            let entry = entry.expect("a readable entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("a kind of file");
            if kind.is_dir() && !is_passed_over(&name) {
                open.push(entry.path());
            } else if kind.is_file() && is_text(&name) {
                let path = entry.path();
                let text = fs::read_to_string(&path).expect("UTF-8");
                let path = path.strip_prefix(&root).expect("below the root");
                found.push(File { path: path.to_string_lossy().into_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "only {} files: is this the repository?", found.len());
    found
}

fn is_passed_over(name: &str) -> bool {
    (name.starts_with('.') && name != ".ci")
        || name.ends_with("quorate-data")
        || ["target", "node_modules", "corpus", "artifacts", "stage"].contains(&name)
}

fn is_text(name: &str) -> bool {
    let ends = ["rs", "toml", "proto", "md", "sh", "yaml", "yml", "json", "txt", "py", "js"];
    name == "Dockerfile" || name == "justfile" || name == "run" || has_end(name, &ends)
}

fn has_end(name: &str, ends: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| ends.contains(&end))
}

/// Numbered lines that come under the rules of code: documents may talk about them.
fn code_lines(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let is_code = !has_end(&file.path, &["md", "json", "txt"]);
    file.text.lines().filter(move |_| is_code).enumerate().map(|(index, line)| (index + 1, line))
}

#[track_caller]
fn assert_none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}\n", findings.join("\n  "));
}

#[test]
fn source_files_are_short_or_say_why_not() {
    let long = |file: &File| {
        let lines = file.text.lines().count();
        let excused = file.text.lines().take(20).any(|line| line.contains("Long file:"));
        (lines > LONGEST_FILE_LINES && !excused).then(|| format!("{}: {lines} lines", file.path))
    };
    let findings: Vec<_> = files().iter().filter(|it| it.is_source()).filter_map(long).collect();
    assert_none("split by subject, or give a `Long file:` reason in the head", &findings);
}

#[test]
fn source_files_open_with_what_they_are_for() {
    let headless = |file: &File| !file.text.starts_with("//! ");
    let findings: Vec<_> = files()
        .iter()
        .filter(|file| file.is_source() && headless(file))
        .map(|file| file.path.clone())
        .collect();
    assert_none("open with `//!`: what the file is for, and what it leaves to others", &findings);
}

#[test]
fn file_names_are_nouns_of_the_subject() {
    let empty_words =
        ["manager", "util", "utils", "helper", "helpers", "common", "misc", "traits", "impls"];
    let bad = |path: &str| {
        let mut words = path.split(['/', '_', '-', '.']);
        path.ends_with("/mod.rs") || words.any(|word| empty_words.contains(&word))
    };
    let findings: Vec<_> =
        files().into_iter().map(|file| file.path).filter(|path| bad(path)).collect();
    assert_none("name the file after what it is about; modules are name.rs", &findings);
}

#[test]
fn postponed_work_has_an_issue() {
    // In pieces, so that this file does not find itself.
    let (later, now) = (concat!("TO", "DO"), concat!("FIX", "ME"));
    let has_issue = |rest: &str| {
        let number = rest.strip_prefix("(#").and_then(|rest| rest.split_once(')'));
        number.is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let mut findings = Vec::new();
    for file in files() {
        for (number, line) in code_lines(&file) {
            let mut marks = line.split(later).skip(1);
            if line.contains(now) || marks.any(|rest| !has_issue(rest)) {
                findings.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    assert_none("name an issue, as in (#12) behind the mark, or do it now", &findings);
}

#[test]
fn crates_depend_on_what_they_may() {
    for (name, allowed) in DEPENDENCIES {
        let path = root().join("crates").join(name).join("Cargo.toml");
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let mut tables = vec![&manifest];
        let targets = manifest.get("target").and_then(toml::Value::as_table);
        tables
            .extend(targets.into_iter().flat_map(|it| it.values()).filter_map(|it| it.as_table()));
        let findings: Vec<_> = tables
            .iter()
            .flat_map(|table| ["dependencies", "build-dependencies"].map(|key| table.get(key)))
            .flatten()
            .filter_map(toml::Value::as_table)
            .flat_map(toml::Table::keys)
            .filter(|dependency| !allowed.contains(&dependency.as_str()))
            .cloned()
            .collect();
        assert_none(&format!("not in the list of crates/{name} (tests/tidy.rs)"), &findings);
    }
}

/// Metrics as the sources register them: literals behind `.register(`, whose prefix a registry may
/// add, and whole literals with the prefix wherever they stand. Crate names aside. A counter's
/// `_total` is added where they are written out.
fn registered_metrics() -> BTreeSet<String> {
    const PREFIX: &str = "quorate_";
    const CRATES: [&str; 3] = ["quorate_core", "quorate_raft", "quorate_server"];
    let mut metrics = BTreeSet::new();
    for file in files() {
        if !file.path.starts_with("crates/") || !file.path.contains("/src/") || !file.is_source() {
            continue;
        }
        let literals = file.text.split('"').filter(|text| text.starts_with(PREFIX));
        let is_name = |text: &&str| text.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
        // Tests look for what a histogram writes out.
        let family = |text: &str| {
            let ends = ["_bucket", "_sum", "_count"];
            ends.iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text).to_owned()
        };
        metrics.extend(literals.filter(is_name).map(family));
        let calls = file.text.split(".register(").skip(1);
        for name in calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next())
        {
            let bare = name.strip_prefix(PREFIX).unwrap_or(name);
            metrics.insert(format!("{PREFIX}{bare}"));
        }
    }
    metrics.retain(|name| !CRATES.contains(&name.as_str()));
    metrics
}

#[test]
fn documents_list_every_metric_and_no_other() {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let listed: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name))
        .collect();
    let registered = registered_metrics();
    let total = |name: &str| format!("{name}_total");
    let missing: Vec<_> = registered
        .iter()
        .filter(|name| !listed.contains(name.as_str()) && !listed.contains(total(name).as_str()))
        .cloned()
        .collect();
    assert_none("add a row to docs/metrics.md", &missing);
    let gone: Vec<_> = listed
        .iter()
        .filter(|name| {
            let base = name.strip_suffix("_total").unwrap_or(name);
            !registered.contains(**name) && !registered.contains(base)
        })
        .map(|name| (*name).to_owned())
        .collect();
    assert_none("docs/metrics.md lists what no source registers", &gone);
}

#[test]
fn documents_point_at_files_that_exist() {
    let root = root();
    let mut findings = Vec::new();
    for file in files().into_iter().filter(|file| has_end(&file.path, &["md"])) {
        let folder = root.join(&file.path);
        let folder = folder.parent().expect("a folder");
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                findings.push(format!("{}: link to {target}", file.path));
            }
        }
        for quoted in file.text.split('`').skip(1).step_by(2) {
            let starts = ["crates/", "tests/", "deploy/", "docs/", "proto/", ".ci/"];
            let is_path = starts.iter().any(|start| quoted.starts_with(start))
                && !quoted.contains(|letter: char| "{}*<>… \n".contains(letter));
            if is_path && !root.join(quoted).exists() {
                findings.push(format!("{}: `{quoted}`", file.path));
            }
        }
    }
    assert_none("the document names a file that is not there", &findings);
}

#[test]
fn decisions_have_context_decision_and_consequence() {
    let mut findings = Vec::new();
    for file in files().into_iter().filter(|file| file.path.starts_with("docs/decisions/")) {
        let headings: Vec<_> = file.text.lines().filter(|line| line.starts_with("## ")).collect();
        if headings != ["## Context", "## Decision", "## Consequence"] {
            findings.push(format!("{}: {headings:?}", file.path));
        }
    }
    assert_none("a decision has these three parts and no others", &findings);
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    // In pieces, so that this file does not find itself.
    let places = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    let home = concat!("/ho", "me/");
    let mut findings = Vec::new();
    for file in files() {
        for (number, line) in file.text.lines().enumerate() {
            let at_home =
                line.split(home).skip(1).any(|rest| rest.starts_with(char::is_alphabetic));
            if at_home || places.iter().any(|place| line.contains(place)) {
                findings.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("a path of one machine", &findings);
}
