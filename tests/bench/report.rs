//! Tables, and the line that says on what machine they were made.

use std::process::Command;

use crate::cluster::Kind;
use crate::measure::Figures;
use crate::options::Options;
use crate::{etcd, nodes, rnacos};

/// A plain table with columns as wide as their widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, title: &str) {
        println!("\n{title}");
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // The first column is text, the others are mostly numbers.
                if index == 0 {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("  {cell:>width$}"));
                }
            }
            println!("{}", line.trim_end());
        }
    }
}

/// The columns of a load: [`load_row`] fills them.
pub(crate) const LOAD_HEADER: [&str; 11] = [
    "load",
    "system",
    "ops/s",
    "p50 ms",
    "p99 ms",
    "max ms",
    "CPU s/1000",
    "fsync/1000",
    "RSS MiB",
    "errors",
    "quorate is",
];

/// One system's row; `standing` says how Quorate compares, and is empty in its own row.
pub(crate) fn load_row(load: &str, kind: Kind, figures: &Figures, standing: String) -> Vec<String> {
    vec![
        load.to_owned(),
        kind.name().to_owned(),
        format!("{:.0}", figures.rate),
        format!("{:.2}", figures.p50_ms),
        format!("{:.2}", figures.p99_ms),
        format!("{:.1}", figures.max_ms),
        format!("{:.4}", figures.cpu_per_1000),
        figures.fsyncs_per_1000.map_or_else(|| "-".to_owned(), |count| format!("{count:.1}")),
        format!("{:.1}", figures.rss_mib),
        format!("{:.0}", figures.errors),
        standing,
    ]
}

/// A ratio of which more is better, and how it stands to its floor.
pub(crate) fn ratio(ratio: f64, floor: Option<f64>) -> String {
    match floor {
        Some(floor) if ratio >= floor => format!("{ratio:.2}x (floor {floor} met)"),
        Some(floor) => format!("{ratio:.2}x (floor {floor} MISSED)"),
        None => format!("{ratio:.2}x"),
    }
}

/// A figure of which less is better, and how it stands to its ceiling.
pub(crate) fn at_most(value: f64, digits: usize, ceiling: Option<f64>) -> String {
    match ceiling {
        Some(ceiling) if value <= ceiling => format!("{value:.digits$} (at most {ceiling}: met)"),
        Some(ceiling) => format!("{value:.digits$} (at most {ceiling}: MISSED)"),
        None => format!("{value:.digits$}"),
    }
}

/// Says that a system is left out of a table, and why.
pub(crate) fn skip(kind: Kind, why: &anyhow::Error) {
    println!("SKIP {}: {why:#}", kind.name());
}

/// Says what is going on, for the tables come late.
pub(crate) fn progress(what: &str) {
    println!("... {what}");
}

/// The machine and the versions of all that is measured.
pub(crate) fn machine(options: &Options, open_files: usize) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{cores} cores, Linux {}, {open_files} open files", kernel.trim());
    println!(
        "{} rounds of {:?} after {:?}, {} load threads on the same cores as the servers",
        options.rounds,
        options.window(),
        options.warm_up(),
        options.threads
    );
    let rnacos = rnacos::program().ok();
    let programs = [
        (Kind::Quorate, Some(nodes::program())),
        (Kind::Etcd, Some(etcd::program())),
        (Kind::Rnacos, rnacos),
    ];
    for (kind, program) in programs {
        let Some(program) = program.filter(|_| options.wants(kind)) else { continue };
        let output = Command::new(&program).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_else(|error| error.to_string());
        println!("{}: {}", kind.name(), text.lines().next().unwrap_or("no version"));
    }
}
