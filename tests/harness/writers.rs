//! Writers that keep book of what was acknowledged, and the comparison with what is there.
//!
//! Each key has one writer, and a key whose write had an unknown outcome is not written again:
//! such a write may still take effect later, so a further one would leave two right answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::client::{Client, Key, Outcome};
use super::wait::wait_until;

const WRITES_PER_KEY: u64 = 25;
/// Each so many-th write removes its key.
const REMOVE_EVERY: u64 = 10;
/// A writer that was refused asks the next node after this, as a client would.
const BACK_OFF: Duration = Duration::from_millis(20);

/// Tasks that write over all nodes until they are told to stop.
#[derive(Debug)]
pub(crate) struct Writers {
    book: Arc<Book>,
    tasks: JoinSet<Vec<Written>>,
}

#[derive(Debug)]
struct Book {
    stopped: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    last: Instant,
    longest: Duration,
}

/// A value, or `None` for a key that is not there.
type Value = Option<String>;

/// What a key's writer knows.
#[derive(Debug)]
struct Written {
    key: Key,
    acknowledged: Value,
    /// A last write whose outcome is unknown.
    perhaps: Option<Value>,
}

/// What all writers know.
#[derive(Debug)]
pub(crate) struct History {
    keys: Vec<Written>,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// The longest time without an acknowledged write.
    pub(crate) longest_gap: Duration,
}

impl Writers {
    pub(crate) fn start(clients: &[Client], count: usize) -> Self {
        let book = Arc::new(Book {
            stopped: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            progress: Mutex::new(Progress { last: Instant::now(), longest: Duration::ZERO }),
        });
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            tasks.spawn(write(writer, clients.to_vec(), Arc::clone(&book)));
        }
        Self { book, tasks }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.book.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for so many more acknowledged writes.
    pub(crate) async fn progress(&self, writes: u64, deadline: Duration) {
        let goal = self.acknowledged() + writes;
        let what = format!("{writes} more acknowledged writes");
        wait_until(&what, deadline, async || (self.acknowledged() >= goal).then_some(())).await;
    }

    pub(crate) async fn stop(self) -> History {
        self.book.stopped.store(true, Ordering::Relaxed);
        let keys = self.tasks.join_all().await.into_iter().flatten().collect();
        let history = History {
            keys,
            acknowledged: self.book.acknowledged.load(Ordering::Relaxed),
            refused: self.book.refused.load(Ordering::Relaxed),
            unknown: self.book.unknown.load(Ordering::Relaxed),
            longest_gap: self.book.progress.lock().longest,
        };
        println!(
            "{} writes acknowledged, {} refused, {} unknown; longest gap {:?}",
            history.acknowledged, history.refused, history.unknown, history.longest_gap
        );
        history
    }
}

impl History {
    /// Reads every key back at this node.
    pub(crate) async fn check(&self, client: &Client) {
        for Written { key, acknowledged, perhaps } in &self.keys {
            let found = client.read(key).await;
            let right = found == *acknowledged || perhaps.as_ref() == Some(&found);
            assert!(
                right,
                "{key:?} at {}: found {found:?}, acknowledged {acknowledged:?}, perhaps {perhaps:?}",
                client.address()
            );
        }
    }
}

async fn write(writer: usize, clients: Vec<Client>, book: Arc<Book>) -> Vec<Written> {
    let mut keys = Vec::new();
    let mut written = fresh(writer, keys.len());
    let (mut turn, mut writes) = (writer, 0);
    while !book.stopped.load(Ordering::Relaxed) {
        let client = &clients[turn % clients.len()];
        turn += 1;
        writes += 1;
        let removes = writes % REMOVE_EVERY == 0;
        let value = (!removes).then(|| format!("writer {writer} write {writes}"));
        let outcome = match &value {
            Some(content) => client.publish(&written.key, content).await,
            None => client.remove(&written.key).await,
        };
        book.note(&outcome);
        match outcome {
            Outcome::Acknowledged { .. } => written.acknowledged = value,
            Outcome::Refused(_) => tokio::time::sleep(BACK_OFF).await,
            Outcome::Unknown(_) => written.perhaps = Some(value),
        }
        if written.perhaps.is_some() || writes % WRITES_PER_KEY == 0 {
            keys.push(written);
            written = fresh(writer, keys.len());
        }
    }
    keys.push(written);
    keys
}

fn fresh(writer: usize, number: usize) -> Written {
    let key = Key::new(format!("writer-{writer}.key-{number}"));
    Written { key, acknowledged: None, perhaps: None }
}

impl Book {
    fn note(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Acknowledged { .. } => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                let mut progress = self.progress.lock();
                progress.longest = progress.longest.max(progress.last.elapsed());
                progress.last = Instant::now();
            }
            Outcome::Refused(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Unknown(why) => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                println!("unknown: {why}");
            }
        }
    }
}
