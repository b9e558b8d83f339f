//! A loop under load: some node is killed every few seconds, and at the end every acknowledged
//! write is there, on every node, and nothing that was refused is.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, Options, Seed, Writers};

const WRITERS: usize = 12;
/// Between a cluster that is whole and the next kill.
const WRITES_BETWEEN: u64 = 200;
/// For an election, a restart and the writes above, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Fewer acknowledged writes than this a second says that the test tested little.
const WRITES_PER_SECOND: u64 = 20;

/// Which nodes die next.
fn victims(seed: &mut Seed, leader: usize) -> Vec<usize> {
    match seed.below(8) {
        0..3 => vec![leader],
        3..5 => vec![(leader + 1) % 3],
        5 => vec![(leader + 2) % 3],
        6 => vec![leader, (leader + 1) % 3],
        _ => vec![0, 1, 2],
    }
}

#[tokio::test]
async fn kills_of_any_role_under_load_lose_nothing() {
    let seconds = std::env::var("QUORATE_ENDURANCE_SECONDS").ok();
    let seconds = seconds.map_or(60, |text| text.parse().expect("a number of seconds"));
    let mut seed = Seed::new("endurance");
    let mut cluster = Cluster::start_with(3, &Options::small_log()).await;
    let writers = Writers::start(&cluster.clients(), WRITERS);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    while Instant::now() < end {
        writers.progress(WRITES_BETWEEN, PATIENCE).await;
        let leader = cluster.leader().await;
        let victims = victims(&mut seed, leader);
        println!("kill {victims:?}, leader {leader}, {} acknowledged", writers.acknowledged());
        if victims.len() == 3 {
            cluster.kill_all();
        }
        victims.iter().for_each(|at| cluster.node(*at).kill());
        kills += victims.len();
        if victims.len() == 1 && seed.below(2) == 0 {
            // The two others go on for a while before it comes back.
            writers.progress(WRITES_BETWEEN, PATIENCE).await;
        }
        for at in seed.order(victims.len()) {
            cluster.node(victims[at]).start();
        }
        cluster.ready().await;
    }
    let history = writers.stop().await;
    println!("{kills} kills");
    cluster.ready().await;
    cluster.agree().await;
    for client in cluster.clients() {
        history.check(&client).await;
    }
    // What the nodes have in memory is what they find on their disks.
    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    cluster.agree().await;
    for client in cluster.clients() {
        history.check(&client).await;
    }
    let enough = seconds * WRITES_PER_SECOND;
    assert!(history.acknowledged >= enough, "{} of {enough} writes", history.acknowledged);
    assert!(kills > 0, "nobody was killed");
}
