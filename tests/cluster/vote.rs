//! Elections, watched through the state that each node tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::harness::{Cluster, Key, Options, READY, RaftState, Role, signal, wait_until};

/// More than the longest election time-out and than a leader's lease.
const TIME_OUTS_PASSED: Duration = Duration::from_millis(700);

/// Whom the nodes called leader, by term.
#[derive(Debug, Default)]
struct Seen(Mutex<BTreeMap<u64, String>>);

impl Seen {
    /// Looks at every running node once. Gives the leader's term when all follow the same one.
    async fn look(&self, cluster: &Cluster) -> Option<u64> {
        let mut states = Vec::new();
        for node in cluster.nodes() {
            // One that has just been started does not listen yet.
            let Ok(state) = node.client().state().await else { continue };
            if state.role == Role::Leader {
                self.note(state.term, &node.peer(), &state);
            }
            if let Some(leader) = &state.leader {
                self.note(state.term, leader, &state);
            }
            states.push(state);
        }
        (states.len() == cluster.nodes().len()).then(|| common_term(&states)).flatten()
    }

    fn note(&self, term: u64, leader: &str, told: &RaftState) {
        let mut seen = self.0.lock();
        let known = seen.entry(term).or_insert_with(|| leader.to_owned());
        assert_eq!(known, leader, "two leaders in term {term}: {told:#?}");
    }

    /// Looks until all nodes follow one leader of a term above this.
    async fn one_leader(&self, cluster: &Cluster, above: u64) -> u64 {
        wait_until("one leader of all nodes", READY, async || {
            self.look(cluster).await.filter(|term| *term > above)
        })
        .await
    }
}

fn common_term(states: &[RaftState]) -> Option<u64> {
    let first = states.first()?;
    let same = |state: &RaftState| state.term == first.term && state.leader == first.leader;
    let leaders = states.iter().filter(|state| state.role == Role::Leader).count();
    (first.leader.is_some() && states.iter().all(same) && leaders == 1).then_some(first.term)
}

#[tokio::test]
async fn four_voters_end_with_one_leader_per_term() {
    // Time-outs so close together that nodes stand for election before they hear of each other.
    let options = Options::default()
        .with("--heartbeat", "100ms")
        .with("--election-min", "300ms")
        .with("--election-max", "310ms");
    let mut cluster = Cluster::start_with(4, &options).await;
    let seen = Seen::default();
    let mut term = seen.one_leader(&cluster, 0).await;
    let mut ties = 0;
    for round in 0.. {
        let leader = cluster.leader().await;
        // All time-outs pass while they stand still, so that the three stand for election at
        // the same moment. A leader needs three votes of four: each vote for oneself is a tie.
        signal("STOP", cluster.nodes());
        tokio::time::sleep(TIME_OUTS_PASSED).await;
        cluster.node(leader).kill();
        signal("CONT", cluster.nodes().iter().filter(|node| node.is_running()));
        wait_until("an election", READY, async || {
            let states = cluster.states().await?;
            states.iter().any(|state| state.term > term).then_some(())
        })
        .await;
        cluster.node(leader).start();
        let ended = seen.one_leader(&cluster, term).await;
        println!("round {round}: a leader after {} terms", ended - term);
        ties += ended - term - 1;
        term = ended;
        cluster.ready().await;
        let key = Key::new("elected");
        let content = format!("round {round}");
        cluster.client(round % 4).publish(&key, &content).await.acknowledged();
        if ties > 0 && round >= 2 {
            break;
        }
        assert!(round < 12, "no tie came up: {seen:?}");
    }
    println!("{ties} terms without a leader; leaders by term: {seen:?}");
    cluster.agree().await;
}

#[tokio::test]
async fn a_leader_that_was_stopped_follows_when_it_comes_back() {
    let cluster = Cluster::start(3).await;
    let stopped = cluster.leader().await;
    let seen = Seen::default();
    let before = seen.one_leader(&cluster, 0).await;
    cluster.nodes()[stopped].signal("STOP");
    wait_until("another leader", READY, async || {
        for at in (0..3).filter(|at| *at != stopped) {
            let state = cluster.client(at).state().await.ok()?;
            if state.role == Role::Leader && state.term > before {
                return Some(());
            }
        }
        None
    })
    .await;
    cluster.nodes()[stopped].signal("CONT");
    seen.one_leader(&cluster, before).await;
    cluster.client(stopped).publish(&Key::new("back"), "x").await.acknowledged();
    cluster.agree().await;
}
