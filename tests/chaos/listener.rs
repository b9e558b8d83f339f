//! Listeners: long polls for the lasting keys, asked again for ever, at another node when theirs
//! does not answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::harness::{Client, Probe, Read, Seed};
use crate::world::{LASTING, NODES, World, key};

/// Longer than the end of a run waits, so that a listener that was forgotten is not saved by its
/// next poll.
const HOLD: Duration = Duration::from_secs(60);
/// A real client notices a dead node by its keep-alive; these ask whether it is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The content of each key it follows, as it last read it.
#[derive(Debug, Clone)]
pub(crate) struct Belief {
    pub(crate) node: usize,
    pub(crate) contents: BTreeMap<usize, Option<String>>,
}

/// Listens for ever.
pub(crate) async fn listen(world: Arc<World>, number: usize, seed: u64) {
    let mut seed = Seed::of(seed);
    let followed = 1 + seed.below(LASTING);
    let contents = (0..followed).map(|key| (key, None)).collect();
    let mut belief = Belief { node: seed.below(NODES), contents };
    loop {
        let client = world.clients[belief.node].clone();
        let probes = belief.contents.iter().map(|(number, content)| match content {
            Some(content) => Probe::of(&key(*number), content),
            None => Probe::absent(&key(*number)),
        });
        let probes: Vec<_> = probes.collect();
        let answer = tokio::select! {
            answer = client.poll(&probes, HOLD) => answer.ok().filter(|it| it.status == 200),
            () = gone(&client) => None,
        };
        let heard = match answer {
            Some(answer) => news(&world, &client, answer.text(), &mut belief).await,
            None => None,
        };
        match heard {
            Some(count) => drop(world.news.fetch_add(count, Ordering::Relaxed)),
            None => {
                belief.node = seed.below(NODES);
                sleep(Duration::from_millis(50)).await;
            }
        }
        world.beliefs.lock().insert(number, belief.clone());
    }
}

/// Until the node does not answer.
async fn gone(client: &Client) {
    loop {
        sleep(LOOK_EVERY).await;
        let path = "/nacos/v1/console/health/liveness";
        if !matches!(timeout(LOOK_EVERY * 3, client.get_path(path)).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// Reads the keys that an answer names; nothing when the node is gone.
async fn news(world: &World, client: &Client, text: &str, belief: &mut Belief) -> Option<u64> {
    let mut count = 0;
    let numbers: Vec<usize> = belief.contents.keys().copied().collect();
    for number in numbers {
        if !text.contains(key(number).changed().trim_end()) {
            continue;
        }
        let read = timeout(LOOK_EVERY * 3, client.get(&key(number), Read::Local)).await;
        let answer = read.ok()?.ok().filter(|it| matches!(it.status, 200 | 404))?;
        let content = answer.content().map(str::to_owned);
        if let Some(content) = &content {
            world.history.lock().see(number, content.as_bytes());
        }
        belief.contents.insert(number, content);
        count += 1;
    }
    Some(count)
}
