//! Answers as tables for people.

use std::io::Write as _;

use serde_json::Value;

pub(super) fn print(text: &str) {
    // A reader that left is told by the exit code alone.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

pub(super) fn complain(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "quorate: {text}"));
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<_> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

pub(super) fn status(status: &Value) -> String {
    let mut out = String::new();
    for (name, key) in [
        ("cluster", "clusterId"),
        ("asked", "nodeId"),
        ("leader", "leader"),
        ("term", "term"),
        ("applied", "appliedIndex"),
        ("revision", "revision"),
        ("snapshot", "snapshotIndex"),
        ("configs", "configs"),
        ("level", "featureLevel"),
    ] {
        out.push_str(&format!("{name:9} {}\n", text(&status[key])));
    }
    let header = ["id", "peer", "http", "role", "reachable", "log", "lag"].map(str::to_owned);
    let last = status["lastIndex"].as_u64();
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = vec![header.to_vec()];
    rows.extend(members.iter().map(|member| {
        let log = member["matchingIndex"].as_u64();
        let lag = last.zip(log).map(|(last, log)| last.saturating_sub(log).to_string());
        let reachable = if member["isReachable"] == true { "yes" } else { "no" };
        vec![
            text(&member["id"]),
            text(&member["peer"]),
            text(&member["http"]),
            text(&member["role"]),
            reachable.to_owned(),
            text(&member["matchingIndex"]),
            lag.unwrap_or_else(|| "-".to_owned()),
        ]
    }));
    out.push('\n');
    out.push_str(&table(&rows));
    for member in members {
        if let Some(waits) = member["waits"].as_str() {
            out.push_str(&format!("learner {}: {waits}\n", text(&member["id"])));
        }
    }
    out
}

pub(super) fn done(answer: &Value) -> String {
    format!("{}\n", text(&answer["done"]))
}

pub(super) fn snapshot(answer: &Value) -> String {
    format!("snapshot at index {}\n", text(&answer["index"]))
}

pub(super) fn check(answer: &Value) -> String {
    let mut rows = vec![["id", "peer", "state hash"].map(str::to_owned).to_vec()];
    let members = answer["members"].as_array().into_iter().flatten();
    rows.extend(members.map(|member| {
        let hash = if member["stateHash"].is_null() { "problem" } else { "stateHash" };
        vec![text(&member["id"]), text(&member["peer"]), text(&member[hash])]
    }));
    let mut out = format!("revision {}\n\n{}", text(&answer["revision"]), table(&rows));
    let problems = answer["problems"].as_array().into_iter().flatten();
    for problem in problems {
        out.push_str(&format!("PROBLEM: {}\n", text(problem)));
    }
    if answer["healthy"] == true {
        out.push_str("healthy: all members are there and their states are equal\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
    }

    #[test]
    fn a_status_shows_lag_and_what_learners_wait_for() {
        let shown = status(&json!({"lastIndex": 9, "members": [
            {"id": "a", "peer": "p:1", "role": "learner", "isReachable": true,
             "matchingIndex": 7, "waits": "votes once it has caught up"},
        ]}));
        assert!(shown.contains("learner  yes        7    2"), "{shown}");
        assert!(shown.contains("learner a: votes once"), "{shown}");
    }
}
