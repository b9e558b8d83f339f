//! Changes of the members and of the leader: checked and made by the leader, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::Precondition;
use quorate_core::command::Command;
use tokio::time::Instant;

use crate::leader::Leader;
use crate::node::{Inner, Node};
use crate::peer::codec::member_in;
use crate::peer::{client, wire};
use crate::types::{Member, NodeId, StoredMembership};

/// Longest that one change may wait to be committed. Beyond, it may still be.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// Longest that a change waits for another one.
const TURN_LIMIT: Duration = Duration::from_secs(10);
/// A member that has not answered its leader for so long is not counted on.
pub(super) const SILENT: Duration = Duration::from_millis(1500);
/// Until a change is tried again when no other leader appears before.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A change of the members or of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds the running node at an address, which belongs to no cluster yet: as a learner, which
    /// becomes a voter when it has caught up, unless it is to stay a learner.
    Add {
        /// Its peer address.
        address: String,
        /// Not to be promoted.
        stays_learner: bool,
    },
    /// The same for a node that asked for itself.
    Admit {
        /// The node.
        id: NodeId,
        /// Its addresses.
        member: Member,
    },
    /// Removes members for good.
    Remove {
        /// Their ids.
        ids: BTreeSet<NodeId>,
    },
    /// Puts a learner in the place of a voter, in one joint change.
    Replace {
        /// The voter that goes, for good.
        old: NodeId,
        /// The learner that becomes a voter.
        new: NodeId,
    },
    /// Hands leadership over.
    Transfer {
        /// To this voter; `None`: to the one with the longest log.
        to: Option<NodeId>,
    },
}

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MembershipError {
    /// No leader took it until the deadline. Nothing was changed.
    #[error("no leader")]
    NoLeader,
    /// As things are it will not be made. Says what to do.
    #[error("{0}")]
    Refused(String),
    /// It was begun and may have been made: look at the status.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// What became of a change at one node.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Made; what was done.
    Made(String),
    /// Not made.
    Refused(String),
    /// Another node leads, or is about to.
    Moved,
    /// Begun.
    Failed(String),
}

impl Node {
    /// Has the leader make a change. Says what was done.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn administer(
        &self,
        change: Change,
        deadline: Instant,
    ) -> Result<String, MembershipError> {
        let inner = &self.inner;
        let mut leaders = inner.leader.subscribe();
        loop {
            let leader = leaders.borrow_and_update().clone();
            let done = match leader {
                Some(leader) if leader.id == inner.id => inner.change(change.clone()).await,
                Some(leader) => inner.change_at(&leader, change.clone()).await,
                None => Outcome::Moved,
            };
            match done {
                Outcome::Made(what) => return Ok(what),
                Outcome::Refused(why) => return Err(MembershipError::Refused(why)),
                Outcome::Failed(why) => return Err(MembershipError::Unknown(why)),
                Outcome::Moved => {}
            }
            if Instant::now() + RETRY_PAUSE > deadline {
                return Err(MembershipError::NoLeader);
            }
            // Another leader, or the same one once it is ready.
            drop(tokio::time::timeout(RETRY_PAUSE, leaders.changed()).await);
        }
    }
}

fn name(id: NodeId) -> String {
    format!("{id:016x}")
}

fn names<'a>(ids: impl IntoIterator<Item = &'a NodeId>) -> String {
    ids.into_iter().map(|id| name(*id)).collect::<Vec<_>>().join(", ")
}

impl Inner {
    async fn change_at(&self, leader: &Leader, change: Change) -> Outcome {
        let address = self.address_of(leader.id, &leader.member.peer);
        let cluster = self.cluster.get().copied();
        let Ok(mut client) = client(&address, &self.myself.credentials, cluster, Some(leader.id))
        else {
            return Outcome::Moved;
        };
        let request = wire::AdministerRequest { change: Some(change_out(change)) };
        let limit = COMMIT_LIMIT + TURN_LIMIT;
        match tokio::time::timeout(limit, client.administer(request)).await {
            Ok(Ok(reply)) => match reply.into_inner().result {
                Some(wire::administer_reply::Result::Done(what)) => Outcome::Made(what),
                Some(wire::administer_reply::Result::Refused(why)) => Outcome::Refused(why),
                Some(wire::administer_reply::Result::Failed(why)) => Outcome::Failed(why),
                Some(wire::administer_reply::Result::Moved(_)) | None => Outcome::Moved,
            },
            Ok(Err(status)) => {
                use tonic::Code::{FailedPrecondition, Unauthenticated, Unimplemented};
                let code = status.code();
                if matches!(code, FailedPrecondition | Unauthenticated) {
                    // It was never taken.
                    Outcome::Moved
                } else if code == Unimplemented {
                    Outcome::Refused("the leader is of release 0.1: upgrade it first".to_owned())
                } else {
                    Outcome::Failed(status.message().to_owned())
                }
            }
            Err(_) => Outcome::Failed("the leader did not answer in time".to_owned()),
        }
    }

    /// Makes a change here, if this node leads.
    pub(crate) async fn change(&self, change: Change) -> Outcome {
        let Ok(_turn) = tokio::time::timeout(TURN_LIMIT, self.changing.lock()).await else {
            return Outcome::Refused("another change of the members is under way".to_owned());
        };
        if !self.leads() {
            return Outcome::Moved;
        }
        match change {
            Change::Add { address, stays_learner } => self.add(&address, stays_learner).await,
            Change::Admit { id, member } => self.add_learner(id, member).await,
            Change::Remove { ids } => self.remove(ids).await,
            Change::Replace { old, new } => self.replace(old, new).await,
            Change::Transfer { to } => self.transfer(to).await,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.leader.borrow().as_ref().is_some_and(|leader| leader.id == self.id)
            && self.has_majority()
    }

    async fn add(&self, address: &str, stays_learner: bool) -> Outcome {
        let reply = match self.hello(address).await {
            Ok(reply) => reply,
            Err(status) => {
                return Outcome::Refused(format!(
                    "no node answers at {address} ({}): start it there first, with an empty data \
                     directory and --join-only",
                    status.message()
                ));
            }
        };
        if let Some(cluster) = reply.cluster_id {
            if Some(cluster) == self.cluster.get().copied() {
                return Outcome::Made(format!("{} is a member already", name(reply.node_id)));
            }
            return Outcome::Refused(format!(
                "the node at {address} belongs to another cluster, {cluster:016x}: stop it, move \
                 its data directory away, and start it with --join-only"
            ));
        }
        let member = Member { stays_learner, ..member_in(reply.member) };
        self.add_learner(reply.node_id, member).await
    }

    async fn add_learner(&self, id: NodeId, member: Member) -> Outcome {
        if self.applied.store.is_retired(id) {
            return Outcome::Refused(format!(
                "node {} was removed from this cluster: delete its data directory first",
                name(id)
            ));
        }
        let members = self.stored_membership();
        if members.membership().get_node(&id).is_some() {
            return Outcome::Made(format!("{} is a member already", name(id)));
        }
        let text = format!("added {} at {member} as a learner", name(id));
        let nodes = BTreeMap::from([(id, member)]);
        self.commit(ChangeMembers::AddNodes(nodes), true, &members, text).await
    }

    async fn remove(&self, ids: BTreeSet<NodeId>) -> Outcome {
        let members = self.stored_membership();
        let known: BTreeSet<_> = members.membership().nodes().map(|(id, _)| *id).collect();
        if let Some(unknown) = ids.iter().find(|id| !known.contains(id)) {
            return Outcome::Refused(format!("{} is no member", name(*unknown)));
        }
        let voters: BTreeSet<_> = members.membership().voter_ids().collect();
        let rest: BTreeSet<_> = voters.difference(&ids).copied().collect();
        if rest.is_empty() {
            return Outcome::Refused("the last voter cannot be removed".to_owned());
        }
        if let Some(why) = self.lacks_majority(&rest, &members).await {
            return Outcome::Refused(why);
        }
        if ids.contains(&self.id) {
            // Whoever leads next removes this node.
            self.hand_over_leadership(None).await;
            return Outcome::Moved;
        }
        let going: BTreeSet<_> = voters.intersection(&ids).copied().collect();
        let text = format!("removed {}", names(&ids));
        let learners: BTreeSet<_> = ids.difference(&voters).copied().collect();
        // Voters that go are no members any more, because they are not retained.
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::RemoveNodes(learners),
            ChangeMembers::RemoveVoters(going),
        ]);
        let done = self.commit(change, false, &members, text).await;
        self.retire(&done, ids).await;
        done
    }

    async fn replace(&self, old: NodeId, new: NodeId) -> Outcome {
        let members = self.stored_membership();
        let voters: BTreeSet<_> = members.membership().voter_ids().collect();
        if !voters.contains(&old) {
            return Outcome::Refused(format!("{} is no voter", name(old)));
        }
        if voters.contains(&new) || members.membership().get_node(&new).is_none() {
            return Outcome::Refused(format!("{} is no learner: add it first", name(new)));
        }
        if !self.is_caught_up(new) {
            return Outcome::Refused(format!("learner {} has not caught up yet", name(new)));
        }
        let rest: BTreeSet<_> =
            voters.iter().copied().filter(|id| *id != old).chain([new]).collect();
        if let Some(why) = self.lacks_majority(&rest, &members).await {
            return Outcome::Refused(why);
        }
        if old == self.id {
            self.hand_over_leadership(None).await;
            return Outcome::Moved;
        }
        let text = format!("replaced {} by {}", name(old), name(new));
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::AddVoterIds(BTreeSet::from([new])),
            ChangeMembers::RemoveVoters(BTreeSet::from([old])),
        ]);
        let done = self.commit(change, false, &members, text).await;
        self.retire(&done, BTreeSet::from([old])).await;
        done
    }

    async fn transfer(&self, to: Option<NodeId>) -> Outcome {
        let members = self.stored_membership();
        let voters: BTreeSet<_> = members.membership().voter_ids().collect();
        if let Some(to) = to {
            if to == self.id {
                return Outcome::Made(format!("{} leads already", name(to)));
            }
            if !voters.contains(&to) {
                return Outcome::Refused(format!("{} is no voter", name(to)));
            }
        } else if voters.len() == 1 {
            return Outcome::Refused("there is no other voter".to_owned());
        }
        self.hand_over_leadership(to).await;
        match self.leader.borrow().as_ref() {
            Some(leader) if leader.id != self.id => {
                Outcome::Made(format!("{} at {} leads now", name(leader.id), leader.member))
            }
            _ => Outcome::Failed("nobody has taken over in time".to_owned()),
        }
    }

    /// Commits a change of the members that was decided upon `base`.
    pub(super) async fn commit(
        &self,
        change: ChangeMembers<NodeId, Member>,
        retain: bool,
        base: &StoredMembership,
        text: String,
    ) -> Outcome {
        let condition =
            Precondition::LastMembershipLogId { last_membership_log_id: *base.log_id() };
        let changed = self.raft.change_membership_if(change, retain, [condition]);
        match tokio::time::timeout(COMMIT_LIMIT, changed).await {
            Ok(Ok(_)) => {
                tracing::info!(members = %self.stored_membership(), "{text}");
                Outcome::Made(text)
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Outcome::Moved,
            Ok(Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            ))) => Outcome::Refused(error.to_string()),
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed(format!("not committed within {COMMIT_LIMIT:?}")),
        }
    }

    /// Has the cluster remember that ids are gone for good. A hint for people, not for safety:
    /// who is no member has no vote.
    pub(super) async fn retire(&self, done: &Outcome, ids: BTreeSet<NodeId>) {
        let is_done = matches!(done, Outcome::Made(_)) && !ids.is_empty();
        if !is_done || self.feature_level() < super::FEATURE_LEVEL {
            return;
        }
        let command = Command::Retire { nodes: ids.into_iter().collect() };
        if let Err(error) = self.propose(command, Instant::now() + COMMIT_LIMIT).await {
            tracing::warn!(%error, "removed ids were not kept");
        }
    }

    pub(super) fn stored_membership(&self) -> Arc<StoredMembership> {
        Arc::clone(&self.raft.server_metrics().borrow_watched().membership_config)
    }

    /// Why these voters could not go on by themselves. They are asked now: members that could not
    /// commit their own change would leave the cluster between two sets of members.
    async fn lacks_majority(
        &self,
        voters: &BTreeSet<NodeId>,
        members: &StoredMembership,
    ) -> Option<String> {
        let asked = voters.iter().map(|id| async move {
            let member = members.membership().get_node(id)?;
            let address = self.address_of(*id, &member.peer);
            let answers = *id == self.id
                || (self.silence(*id) <= SILENT
                    && self.hello(&address).await.is_ok_and(|reply| reply.node_id == *id));
            (!answers).then_some(*id)
        });
        let silent: BTreeSet<_> =
            futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        let live = voters.len() - silent.len();
        (live <= voters.len() / 2).then(|| {
            format!(
                "of the {} voters that would be left only {live} answer (not {}): the cluster \
                 could not write; start them first",
                voters.len(),
                names(&silent)
            )
        })
    }

    /// How long a member has not answered this leader.
    pub(super) fn silence(&self, id: NodeId) -> Duration {
        if id == self.id {
            return Duration::ZERO;
        }
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.as_ref().and_then(|all| *all.get(&id)?);
        heard.map_or(Duration::MAX, |at| at.elapsed())
    }

    /// Whether a member's log is as long as this leader's, but for what is on its way.
    pub(super) fn is_caught_up(&self, id: NodeId) -> bool {
        const LAG_ENTRIES: u64 = 1000;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matching = metrics.replication.as_ref().and_then(|all| *all.get(&id)?);
        let last = metrics.last_log_index.unwrap_or(0);
        matching.is_some_and(|matching| matching.index + LAG_ENTRIES >= last)
    }
}

fn change_out(change: Change) -> wire::administer_request::Change {
    use wire::administer_request::Change as Out;
    match change {
        Change::Add { address, stays_learner } => Out::Add(wire::Add { address, stays_learner }),
        // A node asks for itself at the leader: this form never travels.
        Change::Admit { member, .. } => {
            Out::Add(wire::Add { address: member.peer, stays_learner: false })
        }
        Change::Remove { ids } => Out::Remove(wire::Remove { ids: ids.into_iter().collect() }),
        Change::Replace { old, new } => Out::Replace(wire::Replace { old, new }),
        Change::Transfer { to } => Out::Transfer(wire::Transfer { to }),
    }
}

impl From<wire::administer_request::Change> for Change {
    fn from(change: wire::administer_request::Change) -> Self {
        use wire::administer_request::Change as In;
        match change {
            In::Add(wire::Add { address, stays_learner }) => Self::Add { address, stays_learner },
            In::Remove(wire::Remove { ids }) => Self::Remove { ids: ids.into_iter().collect() },
            In::Replace(wire::Replace { old, new }) => Self::Replace { old, new },
            In::Transfer(wire::Transfer { to }) => Self::Transfer { to },
        }
    }
}

impl From<Outcome> for wire::AdministerReply {
    fn from(done: Outcome) -> Self {
        use wire::administer_reply::Result as Out;
        let result = match done {
            Outcome::Made(what) => Out::Done(what),
            Outcome::Refused(why) => Out::Refused(why),
            Outcome::Moved => Out::Moved(true),
            Outcome::Failed(why) => Out::Failed(why),
        };
        Self { result: Some(result) }
    }
}
