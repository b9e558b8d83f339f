//! Who listens, on this node and on all: by key, by address, and how many have heard of a change.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::command::{Cause, Describe, Presence, Writer};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::{Labels, Rule};
use quorate_core::subscribe::AllWaiters;
use quorate_core::watch::{ClientMd5, WaiterId};
use quorate_raft::node::Node;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::config::PublishRequest;
use crate::ask::{Question, ask_all};

/// Longest that other nodes may take to say who listens.
const PATIENCE: Duration = Duration::from_secs(3);

/// Longest that they may take to count them: a publish waits for that.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

/// First and longest pause between two looks at who has heard.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// The md5 that clients have, by address or by key: one for each, the last found.
pub(crate) type Claims = BTreeMap<String, String>;

/// Listeners of a key at one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    /// Have what they are to see.
    pub(crate) current: usize,
    pub(crate) all: usize,
}

/// Listeners of a key by the address of their client.
pub(crate) type Counts = BTreeMap<String, Count>;

fn waiters(node: &Node) -> AllWaiters<'_> {
    AllWaiters { polls: node.polls(), subscribers: node.subscribers() }
}

/// As answers have it: nothing for a client that has no such configuration.
fn claimed(claim: ClientMd5) -> String {
    match claim {
        ClientMd5::Digest(md5) => md5.to_string(),
        ClientMd5::Empty | ClientMd5::Other => String::new(),
    }
}

/// Who listens to a key at this node.
pub(crate) fn of_key_here(node: &Node, key: &GroupKey) -> Claims {
    let waiters = waiters(node);
    let mut claims = Claims::new();
    node.watch_index().listeners_of(key, &mut |waiter, claim| {
        let ip = waiters.with_labels(waiter, |labels| labels.ip().to_owned());
        claims.extend(ip.map(|ip| (ip, claimed(claim))));
    });
    claims
}

/// What clients of an address listen to at this node.
pub(crate) fn of_ip_here(node: &Node, ip: &str) -> Claims {
    let waiters = waiters(node);
    let mut claims = Claims::new();
    node.watch_index().all_listeners(&mut |key, waiter, claim| {
        if waiters.with_labels(waiter, |labels| labels.ip() == ip) == Some(true) {
            claims.insert(key.as_str().to_owned(), claimed(claim));
        }
    });
    claims
}

/// How many listen to a key at this node, and have what they are to see.
pub(crate) fn count_here(node: &Node, key: &GroupKey) -> Counts {
    let (waiters, standing) = (waiters(node), node.store().standing(key));
    counted(node, key, |waiter, claim, labels| {
        waiters.is_current(waiter, key, claim, standing.md5_for(labels))
    })
}

/// Counts the listeners of a key at this node, and those that `is_current` says are so.
fn counted(
    node: &Node,
    key: &GroupKey,
    is_current: impl Fn(WaiterId, ClientMd5, &Labels) -> bool,
) -> Counts {
    let waiters = waiters(node);
    let mut counts = Counts::new();
    node.watch_index().listeners_of(key, &mut |waiter, claim| {
        // Copied: what is asked about it may want the waiter's lock.
        let Some(labels) = waiters.with_labels(waiter, Labels::clone) else { return };
        let count = counts.entry(labels.ip().to_owned()).or_default();
        count.all += 1;
        count.current += usize::from(is_current(waiter, claim, &labels));
    });
    counts
}

/// Who listens to a key at any node; nodes that do not answer are left out.
pub(crate) async fn of_key(node: &Node, key: &GroupKey, is_everywhere: bool) -> Claims {
    merged(node, Question::ListenersOfKey(key.as_str().to_owned()), is_everywhere).await
}

/// What clients of an address listen to at any node.
pub(crate) async fn of_ip(node: &Node, ip: &str, is_everywhere: bool) -> Claims {
    merged(node, Question::ListenersOfIp(ip.to_owned()), is_everywhere).await
}

async fn merged(node: &Node, question: Question, is_everywhere: bool) -> Claims {
    let deadline = is_everywhere.then(|| Instant::now() + PATIENCE);
    let answers: Vec<Claims> = ask_all(node, question, deadline).await;
    answers.into_iter().flatten().collect()
}

/// The listeners of each key at all nodes that answer.
async fn count(node: &Node, keys: &[GroupKey], deadline: Instant) -> Vec<Counts> {
    let question = Question::CountListeners(keys.iter().map(|it| it.as_str().to_owned()).collect());
    let deadline = deadline.min(Instant::now() + COUNTED_WITHIN);
    let mut of_keys = vec![Vec::new(); keys.len()];
    let answers: Vec<Vec<Counts>> = ask_all(node, question, Some(deadline)).await;
    for (of_key, counts) in answers.into_iter().flat_map(|answer| (0..).zip(answer)) {
        if let Some(all) = of_keys.get_mut::<usize>(of_key) {
            all.push(counts);
        }
    }
    of_keys.into_iter().map(sum).collect()
}

fn sum(answers: Vec<Counts>) -> Counts {
    let mut all = Counts::new();
    for (ip, Count { current, all: more }) in answers.into_iter().flatten() {
        let count = all.entry(ip).or_default();
        count.current += current;
        count.all += more;
    }
    all
}

/// Listeners of a key at this node; as current count those who have already what they would see
/// after a publish of this content.
pub(crate) fn affected_here(node: &Node, key: &GroupKey, md5: Md5, rule: Option<Rule>) -> Counts {
    let publish = PublishRequest {
        key: key.clone(),
        content: Bytes::new(),
        md5,
        content_type: ContentType::default(),
        describe: Describe::default(),
        writer: Writer::default(),
        expected: None,
        rule,
        presence: Presence::Any,
        cause: Cause::Publish,
    };
    let (_, after) = node.store().freeze().foretell(&publish.into_command());
    let standing = after.standing(key);
    counted(node, key, |_, claim, labels| claim.matches(standing.md5_for(labels)))
}

/// The same of all nodes that answer.
pub(crate) async fn affected(
    node: &Node,
    key: &GroupKey,
    md5: Md5,
    rule: Option<Rule>,
    deadline: Instant,
) -> Counts {
    let rule = rule.map(|rule| (rule.kind().to_owned(), rule.expression().to_owned()));
    let (key, md5) = (key.as_str().to_owned(), md5.to_string());
    let question = Question::AffectedListeners { key, md5, rule };
    sum(ask_all(node, question, Some(deadline.min(Instant::now() + COUNTED_WITHIN))).await)
}

/// How many of the listeners a publish waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(u8);

impl Share {
    /// `all` or `N%`, 1 to 100.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("all") {
            return Some(Self(100));
        }
        let percent: u8 = text.strip_suffix('%')?.parse().ok()?;
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    /// So many of all, rounded up.
    fn of(self, all: usize) -> usize {
        (all.saturating_mul(usize::from(self.0))).div_ceil(100)
    }
}

/// A wish to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) share: Share,
    /// From when the publish is applied.
    pub(crate) at_most: Duration,
}

/// Those that a publish waits for: the listeners of its keys just before.
#[derive(Debug)]
pub(crate) struct Awaited {
    keys: Vec<GroupKey>,
    before: Vec<Counts>,
    share: Share,
}

/// How far a change got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Reached {
    /// Listened just before, on all nodes that answered.
    pub(crate) total: usize,
    /// Of those, have shown since that they have what they are to see.
    pub(crate) reached: usize,
}

impl Awaited {
    /// Counts who listens now.
    pub(crate) async fn begin(
        node: &Node,
        mut keys: Vec<GroupKey>,
        share: Share,
        deadline: Instant,
    ) -> Self {
        let mut before = count(node, &keys, deadline).await;
        // What nobody listens to is not asked about again.
        let mut watched = before.iter().map(|counts| !counts.is_empty());
        keys.retain(|_| watched.next().unwrap_or_default());
        before.retain(|counts| !counts.is_empty());
        Self { keys, before, share }
    }

    /// Waits until so many have what they are to see, or the deadline.
    ///
    /// A client is known by its address only: of those at one address as many count as there were.
    pub(crate) async fn wait(self, node: &Node, deadline: Instant) -> Reached {
        let total = self.before.iter().flat_map(BTreeMap::values).map(|count| count.all).sum();
        let wanted = self.share.of(total);
        if total == 0 {
            return Reached { total, reached: 0 };
        }
        let (mut pause, longest) = PAUSES;
        loop {
            let now = count(node, &self.keys, deadline).await;
            let reached =
                self.before.iter().zip(&now).map(|(before, now)| shown(before, now)).sum();
            if reached >= wanted || Instant::now() + pause >= deadline {
                return Reached { total, reached };
            }
            // What happens at other nodes is not told here: they are asked again.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// How many of those before have what they are to see now.
fn shown(before: &Counts, now: &Counts) -> usize {
    let of_ip =
        |(ip, before): (&String, &Count)| now.get(ip).map_or(0, |now| now.current.min(before.all));
    before.iter().map(of_ip).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up() {
        for (text, all, want) in [("all", 3, 3), ("50%", 3, 2), ("1%", 3, 1), ("100%", 0, 0)] {
            assert_eq!(Share::parse(text).unwrap().of(all), want, "{text} {all}");
        }
    }

    #[test]
    fn those_who_came_later_do_not_stand_for_others() {
        let counts = |rows: &[(&str, usize, usize)]| -> Counts {
            let row = |&(ip, current, all): &(&str, usize, usize)| {
                (ip.to_owned(), Count { current, all })
            };
            rows.iter().map(row).collect()
        };
        let before = counts(&[("a", 0, 2), ("b", 0, 1)]);
        for (now, want) in [
            (counts(&[]), 0),
            (counts(&[("a", 1, 2), ("b", 1, 1)]), 2),
            (counts(&[("a", 5, 5), ("c", 9, 9)]), 2),
        ] {
            assert_eq!(shown(&before, &now), want, "{now:?}");
        }
    }
}
