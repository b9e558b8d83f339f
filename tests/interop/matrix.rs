//! The table of clients and cases. Each client must do each case, or lack it for a reason that it
//! says; the table is printed when the last client is through.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// The cases, as clients print them, and their columns.
const CASES: [(&str, &str); 11] = [
    ("publish, get", "get"),
    ("unicode", "unicode"),
    ("1 MiB", "1 MiB"),
    ("remove", "remove"),
    ("namespaces are apart", "spaces"),
    ("compare and set", "cas"),
    ("a listener hears of creation, change and removal", "listen"),
    ("the same content is silent", "silent"),
    ("500 keys", "500"),
    ("publish, get with a node killed", "killed"),
    ("a listener hears with a node killed", "relisten"),
];
/// The last two need more than one node.
const AT_ONE_NODE: usize = CASES.len() - 2;
const CLIENTS: usize = 9;

/// What a client's row says: a cell for each case, or why there is none; and reasons.
#[derive(Debug, Default)]
struct Row {
    cells: Vec<&'static str>,
    notes: Vec<String>,
}

static ROWS: Mutex<BTreeMap<&str, Row>> = Mutex::new(BTreeMap::new());

/// Enters what a client printed; a case that is missing fails the test.
pub(crate) fn enter(client: &'static str, said: &[String], with_kill: bool) {
    let cases = if with_kill { &CASES[..] } else { &CASES[..AT_ONE_NODE] };
    let mut row = Row::default();
    let mut missing = Vec::new();
    for (case, _) in cases {
        let lack = format!("lacks {case}: ");
        if said.contains(&format!("ok   {case}")) {
            row.cells.push("ok");
        } else if let Some(why) = said.iter().find_map(|line| line.strip_prefix(&lack)) {
            row.cells.push("-");
            row.notes.push(format!("{case}: {why}"));
        } else {
            row.cells.push("FAIL");
            missing.push(case);
        }
    }
    if with_kill {
        put(client, row);
    }
    assert!(missing.is_empty(), "{client} did not do {missing:?}: {said:#?}");
}

/// Enters that a client could not be had.
pub(crate) fn skip(client: &'static str, why: &str) {
    let why = why.lines().next().unwrap_or_default();
    put(client, Row { cells: Vec::new(), notes: vec![format!("SKIP: {why}")] });
}

fn put(client: &'static str, row: Row) {
    let mut rows = ROWS.lock().unwrap();
    rows.insert(client, row);
    if rows.len() == CLIENTS {
        println!("{}", table(&rows));
    }
}

fn table(rows: &BTreeMap<&str, Row>) -> String {
    let mut table = format!("{:<36}", "client");
    CASES.iter().for_each(|(_, column)| table.push_str(&format!(" {column:>8}")));
    for (client, row) in rows {
        table.push_str(&format!("\n{client:<36}"));
        row.cells.iter().for_each(|cell| table.push_str(&format!(" {cell:>8}")));
        row.notes.iter().for_each(|note| table.push_str(&format!("\n    {note}")));
    }
    table
}
