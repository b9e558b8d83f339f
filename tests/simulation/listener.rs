//! Listeners: long polls that are asked again for ever, at another node when theirs is gone.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use quorate_core::content::Md5;
use quorate_core::kind::gray::Labels;
use quorate_core::poll::{PollEnd, PolledKey};
use quorate_core::watch::ClientMd5;
use quorate_raft::node::Node;
use tokio::time::{Instant, sleep};

use crate::invariant::held::HeldPoll;
use crate::random::Random;
use crate::trace::trace;
use crate::world::World;

/// How long a poll is held at most: longer than the end of a run waits, so that a listener that
/// was forgotten is not saved by its next poll.
const HOLD: Duration = Duration::from_secs(30);

/// What a listener believes: the keys it follows and the md5 of each.
pub(crate) type Claims = Vec<(usize, Option<Md5>)>;

/// Listens until the world ends.
pub(crate) async fn listen(world: Arc<World>, number: usize) {
    let mut random = world.random(&format!("listener {number}"));
    let mut claims: Claims = (0..world.keys.len()).map(|key| (key, None)).collect();
    while claims.len() > 1 && random.per_mille(600) {
        claims.remove(random.below(claims.len()));
    }
    let mut home = random.below(world.nodes());
    loop {
        // The way to the node and back.
        sleep(random.millis(1..20)).await;
        let moves = random.per_mille(20) && !world.is_over.load(Ordering::Relaxed);
        if moves || !world.is_up(home) {
            home = random.below(world.nodes());
        }
        let Some(running) = world.running(home) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let hold = (random.millis(0..4), Instant::now() + hold(&world, &mut random));
        let place = (home, running.incarnation);
        let poll = poll(Arc::downgrade(&world), number, place, running.node, claims.clone(), hold);
        let polled = world.host(home).run(poll).expect("a simulated host");
        match polled.await {
            Ok(Some(news)) => {
                for (key, md5) in news {
                    trace!(world, "l{number} hears of key{key} at n{home}");
                    claims.iter_mut().filter(|claim| claim.0 == key).for_each(|it| it.1 = md5);
                }
                world.held.lock().claims.insert(number, (home, claims.clone()));
            }
            // It stops.
            Ok(None) => home = random.below(world.nodes()),
            // It was killed.
            Err(_) => home = random.below(world.nodes()),
        }
    }
}

fn hold(world: &World, random: &mut Random) -> Duration {
    // Short ones too, for their ends meet changes; but none near the end of the run.
    if random.per_mille(300) && !world.is_over.load(Ordering::Relaxed) {
        random.millis(1..2000)
    } else {
        HOLD
    }
}

/// Takes a poll off the list of those held when it ends, however it ends.
struct Holding(Weak<World>, usize);

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(world) = self.0.upgrade() {
            world.held.lock().polls.remove(&self.1);
        }
    }
}

/// One long poll at a node: what it tells, `None` when the node stops.
async fn poll(
    world: Weak<World>,
    number: usize,
    (home, incarnation): (usize, u64),
    node: Node,
    claims: Claims,
    (interrupted, deadline): (Duration, Instant),
) -> Option<Claims> {
    let (keys, polled) = {
        let world = world.upgrade()?;
        let keys: Vec<_> = world.keys.clone();
        let polled = claims.iter().map(|(key, md5)| PolledKey {
            key: keys[*key].clone(),
            md5: md5.map_or(ClientMd5::Empty, ClientMd5::Digest),
            tag: u8::try_from(*key).unwrap_or_default(),
        });
        let polled: Vec<_> = polled.collect();
        (keys, polled)
    };
    let store = Arc::clone(node.store());
    let poll = node.polls().open(polled, Labels::default()).ok()?;
    drop(node);
    let holding = Holding(Weak::clone(&world), number);
    world
        .upgrade()?
        .held
        .lock()
        .polls
        .insert(number, HeldPoll { home, incarnation, claims: claims.clone(), stale_since: None });
    let changed = poll.changed(|key| store.md5(key));
    if !changed.is_empty() {
        drop((poll, holding));
        let news = changed.into_iter().map(|at| {
            let key = claims[at].0;
            (key, store.md5(&keys[key]))
        });
        return Some(news.collect());
    }
    // Threads of a server are interrupted anywhere.
    sleep(interrupted).await;
    let end = poll.wait(deadline).await;
    drop(holding);
    match end {
        // The client then reads what it was told of.
        PollEnd::Changed { tag, .. } => {
            let key = usize::from(tag);
            Some(vec![(key, store.md5(&keys[key]))])
        }
        PollEnd::TimedOut => Some(Vec::new()),
        PollEnd::Closed => None,
    }
}
