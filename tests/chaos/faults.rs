//! What happens to the nodes, one thing after the other, as the seed has it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::harness::{Node, Role, Seed, signal};
use crate::net::{self, Cut};
use crate::world::{NODES, SMALL_DISK};

/// Longer than an election time-out.
const LONG_STOP: Duration = Duration::from_secs(6);

const KINDS: [&str; 13] = [
    "kill one",
    "kill the leader",
    "kill two",
    "kill all",
    "stop one",
    "stop the leader",
    "cut off",
    "cut off the leader",
    "mute",
    "deaf",
    "lossy",
    "reset",
    "disk full",
];

/// Faults until the time is over, each ended before the next; then none is left. How many of each.
pub(crate) async fn run(
    nodes: &mut [Node],
    seed: &mut Seed,
    length: Duration,
) -> BTreeMap<&'static str, u32> {
    let begun = Instant::now();
    let mut done = BTreeMap::new();
    let loses_some = net::loses_some();
    if !loses_some {
        println!("SKIP lossy: the kernel's iptables has no statistic match");
    }
    // Each once before any twice.
    let mut waiting: Vec<&str> = Vec::new();
    while begun.elapsed() < length {
        if waiting.is_empty() {
            waiting = seed.order(KINDS.len()).into_iter().map(|at| KINDS[at]).collect();
        }
        let Some(kind) = waiting.pop() else { continue };
        if kind == "lossy" && !loses_some {
            continue;
        }
        let leader = leader(nodes).await;
        let victim = match leader {
            Some(leader) if kind.ends_with("the leader") => leader,
            _ => seed.below(NODES),
        };
        println!("{:5.1} s: {kind}, n{victim}", begun.elapsed().as_secs_f64());
        let hold = Duration::from_millis(500 + u64::try_from(seed.below(3500)).expect("small"));
        one(nodes, kind, victim, hold).await;
        *done.entry(kind).or_insert(0) += 1;
        sleep(Duration::from_millis(300 + u64::try_from(seed.below(1500)).expect("small"))).await;
    }
    done
}

async fn leader(nodes: &[Node]) -> Option<usize> {
    for (number, node) in nodes.iter().enumerate() {
        let asked = tokio::time::timeout(Duration::from_secs(1), node.client().state());
        if asked.await.ok()?.is_ok_and(|state| state.role == Role::Leader) {
            return Some(number);
        }
    }
    None
}

async fn one(nodes: &mut [Node], kind: &str, victim: usize, hold: Duration) {
    match kind {
        "kill one" | "kill the leader" => killed(nodes, &[victim], hold).await,
        "kill two" => killed(nodes, &[victim, (victim + 1) % NODES], hold).await,
        "kill all" => killed(nodes, &[0, 1, 2], hold).await,
        "stop one" | "stop the leader" => {
            signal("STOP", [&nodes[victim]]);
            sleep(hold.max(if kind == "stop one" { hold } else { LONG_STOP })).await;
            signal("CONT", [&nodes[victim]]);
        }
        "cut off" | "cut off the leader" => cut(victim, Cut::Both, hold * 2).await,
        "mute" => cut(victim, Cut::Mute, hold * 2).await,
        "deaf" => cut(victim, Cut::Deaf, hold * 2).await,
        "lossy" => cut(victim, Cut::Lossy(20), hold * 2).await,
        "reset" => cut(victim, Cut::Reset, hold).await,
        "disk full" => disk_full(nodes, hold * 2).await,
        other => panic!("no fault {other}"),
    }
}

async fn killed(nodes: &mut [Node], victims: &[usize], hold: Duration) {
    // All are stopped first, so that none acts on the death of another.
    signal("STOP", victims.iter().map(|victim| &nodes[*victim]));
    victims.iter().for_each(|victim| nodes[*victim].kill());
    sleep(hold).await;
    victims.iter().for_each(|victim| nodes[*victim].start());
}

async fn cut(victim: usize, how: Cut, hold: Duration) {
    net::cut(victim, NODES, how);
    sleep(hold).await;
    net::heal(victim);
}

/// Takes all the space that the small disk has left.
async fn disk_full(nodes: &[Node], hold: Duration) {
    let path = nodes[SMALL_DISK].data().join("ballast");
    let block = vec![0x5a; 64 * 1024];
    let until = Instant::now() + hold;
    let mut file = fs::File::create(&path).expect("a file");
    while Instant::now() < until {
        // What was purged meanwhile is taken, too.
        while file.write_all(&block).is_ok() {}
        sleep(Duration::from_millis(50)).await;
    }
    drop(file);
    fs::remove_file(&path).expect("the ballast");
}
