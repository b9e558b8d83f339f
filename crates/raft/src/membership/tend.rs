//! What a leader does by itself: finishes a change that was cut off, follows members that moved,
//! promotes learners that caught up, replaces a voter whose disk was lost, raises the cluster's
//! feature level. One step at a time, each decided upon what is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use quorate_core::command::Command;
use quorate_core::time::Revision;
use tokio::time::Instant;

use super::FEATURE_LEVEL;
use super::change::{Outcome, SILENT};
use crate::node::Inner;
use crate::types::{Member, NodeId, StoredMembership};

const LOOK_EVERY: Duration = Duration::from_millis(500);
const RAISE_LIMIT: Duration = Duration::from_secs(5);

/// Settings of [`Inner::tend`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tending {
    /// Replace a lost voter by the empty node at its address.
    pub(crate) auto_replace: bool,
    /// After so long a silence of the lost one.
    pub(crate) replace_after: Duration,
}

/// One step.
struct Step {
    change: ChangeMembers<NodeId, Member>,
    /// What it does, and why.
    text: String,
    /// The voter that goes for good.
    gone: Option<NodeId>,
}

impl Step {
    const fn new(change: ChangeMembers<NodeId, Member>, text: String) -> Self {
        Self { change, text, gone: None }
    }
}

impl Inner {
    /// Runs on every node, works on the leader.
    pub(crate) async fn tend(self: Arc<Self>, settings: Tending) {
        let mut led_since: Option<Instant> = None;
        let mut leaders = self.leader.subscribe();
        leaders.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                // A new leader looks at once: a new cluster gets its feature level by that.
                changed = leaders.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if !self.leads() {
                led_since = None;
                continue;
            }
            let led_since = *led_since.get_or_insert_with(Instant::now);
            // An operator's change goes first.
            let Ok(_turn) = self.changing.try_lock() else { continue };
            let members = self.stored_membership();
            match self.next_step(&members, settings, led_since).await {
                Some(step) => self.make(step, &members).await,
                None => self.raise_level(&members).await,
            }
        }
    }

    async fn make(&self, step: Step, members: &StoredMembership) {
        let Step { change, text, gone } = step;
        let done = self.commit(change, false, members, text.clone()).await;
        if let Outcome::Refused(why) | Outcome::Failed(why) = &done {
            tracing::warn!(step = text, %why, "a change of the members was not made");
        }
        self.retire(&done, gone.into_iter().collect()).await;
    }

    async fn next_step(
        &self,
        members: &StoredMembership,
        settings: Tending,
        led_since: Instant,
    ) -> Option<Step> {
        if members.membership().get_joint_config().len() > 1 {
            let nobody = ChangeMembers::AddVoterIds(BTreeSet::new());
            return Some(Step::new(nobody, "finished a change that was cut off".to_owned()));
        }
        if let Some(step) = self.follow_moved(members).await {
            return Some(step);
        }
        let voters: BTreeSet<_> = members.membership().voter_ids().collect();
        let learners = members.membership().nodes().filter(|(id, _)| !voters.contains(id));
        for (id, member) in learners {
            if member.stays_learner || !self.is_caught_up(*id) || self.silence(*id) > SILENT {
                continue;
            }
            let place = voters.iter().copied().find(|voter| {
                members.membership().get_node(voter).is_some_and(|held| held.peer == member.peer)
            });
            let step = match place {
                None => self.promotion(*id, &voters),
                Some(old) if settings.auto_replace => {
                    let silence = self.silence(old).min(led_since.elapsed());
                    if silence < settings.replace_after {
                        continue;
                    }
                    self.replacement(old, *id, &voters)
                }
                Some(_) => None,
            };
            if step.is_some() {
                return step;
            }
        }
        None
    }

    /// A member that said from another address who it is. It is asked there once more.
    async fn follow_moved(&self, members: &StoredMembership) -> Option<Step> {
        for (id, held) in members.membership().nodes() {
            let told = if *id == self.id {
                self.myself.me.clone()
            } else {
                match self.met.member(*id) {
                    Some((told, _)) if !told.peer.is_empty() => told,
                    _ => continue,
                }
            };
            let told = Member { stays_learner: held.stays_learner, ..told };
            if told == *held {
                continue;
            }
            let is_there = *id == self.id
                || self.hello(&told.peer).await.is_ok_and(|reply| reply.node_id == *id);
            if is_there {
                let text = format!("{id:016x} moved from {held} to {told}");
                let change = ChangeMembers::SetNodes(BTreeMap::from([(*id, told)]));
                return Some(Step::new(change, text));
            }
        }
        None
    }

    fn promotion(&self, id: NodeId, voters: &BTreeSet<NodeId>) -> Option<Step> {
        let live = voters.iter().filter(|voter| self.silence(**voter) <= SILENT).count() + 1;
        (live > voters.len().div_ceil(2)).then(|| {
            let text = format!("learner {id:016x} has caught up and votes now");
            Step::new(ChangeMembers::AddVoterIds(BTreeSet::from([id])), text)
        })
    }

    /// Only if all other voters are there and up to date: two of three are never replaced by
    /// themselves (raft-storage.md §6.8).
    fn replacement(&self, old: NodeId, new: NodeId, voters: &BTreeSet<NodeId>) -> Option<Step> {
        let others_are_well = voters.iter().filter(|voter| **voter != old).all(|voter| {
            *voter == self.id || (self.silence(*voter) <= SILENT && self.is_caught_up(*voter))
        });
        others_are_well.then(|| {
            let change = ChangeMembers::Batch(vec![
                ChangeMembers::AddVoterIds(BTreeSet::from([new])),
                ChangeMembers::RemoveVoters(BTreeSet::from([old])),
            ]);
            let text = format!("{new:016x} takes the place of {old:016x}, whose disk was lost");
            Step { change, text, gone: Some(old) }
        })
    }

    /// The cluster's feature level: what all its members can apply.
    async fn raise_level(&self, members: &StoredMembership) {
        let common = self.common_level(members.membership().nodes().map(|(id, _)| *id));
        if common > self.feature_level() {
            let raise = Command::Raise { level: common };
            match self.propose(raise, Instant::now() + RAISE_LIMIT).await {
                Ok(_) => tracing::info!(level = common, "raised the feature level"),
                Err(error) => tracing::warn!(%error, "the feature level was not raised"),
            }
        }
    }

    /// What all of these nodes can apply, as far as this one has met them.
    fn common_level(&self, nodes: impl Iterator<Item = NodeId>) -> u32 {
        let level = |id| {
            if id == self.id { FEATURE_LEVEL } else { self.met.member(id).map_or(1, |met| met.1) }
        };
        nodes.map(level).min().unwrap_or(1)
    }

    /// Waits until the cluster has agreed on a feature level, for as long as all members are known
    /// to be able to apply it: a new cluster raises its level a moment after it has a leader.
    pub(crate) async fn reach_level(&self, wanted: u32, deadline: Instant) -> bool {
        let progress = &self.applied.progress;
        while self.feature_level() < wanted {
            if self.common_level(self.members().into_iter().map(|(id, ..)| id)) < wanted {
                return false;
            }
            let next = Revision(progress.applied().0 + 1);
            if self.feature_level() < wanted
                && tokio::time::timeout_at(deadline, progress.reached(next)).await.is_err()
            {
                return false;
            }
        }
        true
    }

    /// What every member can apply, as the cluster has agreed; at least 1.
    pub(crate) fn feature_level(&self) -> u32 {
        self.applied.store.feature_level().max(1)
    }
}
