//! Nodes tell each other who they are: when they start, every two seconds, and when a call came
//! too early.
//!
//! A node takes no entries, snapshots or votes from a process that it has not said hello to: only
//! then had that one the chance to refuse it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;

use super::FEATURE_LEVEL;
use crate::met::{Introduction, Run, Verdict, copied};
use crate::node::Inner;
use crate::peer::codec::{id_in, id_out, member_in, member_out};
use crate::peer::{Credentials, client, wire};
use crate::types::{LogId, Member, NodeId};

const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// Callers that wait to be said hello to.
const MAX_CALLERS: usize = 64;
/// The same while it looks for the process of before.
const LOOK_TIMEOUT: Duration = Duration::from_millis(600);
/// How often members are asked whether they are there.
const PROBE_PAUSE: Duration = Duration::from_secs(2);
/// Before it is told again to one that does not know it.
const STRANGER_PAUSE: Duration = Duration::from_millis(50);

/// What this node says of itself.
#[derive(Debug)]
pub(crate) struct Myself {
    pub(crate) me: Member,
    /// `--peers`, sorted.
    pub(crate) peers: Vec<String>,
    pub(crate) join_only: bool,
    pub(crate) credentials: Credentials,
    /// The last entry that the log had at the start.
    pub(crate) last: Option<LogId>,
}

impl Myself {
    pub(crate) fn run_out(&self) -> wire::Run {
        let run = self.credentials.run;
        wire::Run { starts: run.starts, nonce: run.nonce, last: self.last.as_ref().map(id_out) }
    }

    /// Asks who is at an address.
    pub(crate) async fn hello(
        &self,
        cluster_id: Option<u64>,
        address: &str,
    ) -> Result<wire::HelloReply, tonic::Status> {
        let request = wire::HelloRequest {
            node_id: self.credentials.node_id,
            cluster_id,
            member: Some(member_out(&self.me)),
            peers: self.peers.clone(),
            join_only: self.join_only,
            run: Some(self.run_out()),
            feature_level: FEATURE_LEVEL,
        };
        let mut client = client(address, &self.credentials, None, None)
            .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?;
        match tokio::time::timeout(HELLO_TIMEOUT, client.hello(request)).await {
            Ok(reply) => Ok(reply?.into_inner()),
            Err(_) => Err(tonic::Status::deadline_exceeded("no answer")),
        }
    }
}

/// Why this node must not take part, when a member of its own cluster says so.
fn refusal(reply: &wire::HelloReply, cluster: u64) -> Option<String> {
    (reply.cluster_id == Some(cluster) && !reply.refused.is_empty()).then(|| reply.refused.clone())
}

pub(crate) fn introduction(
    id: NodeId,
    member: Option<wire::Member>,
    run: Option<wire::Run>,
    feature_level: u32,
) -> Introduction {
    let last = run.and_then(|run| run.last).map(id_in);
    let run = run.map(|run| Run { starts: run.starts, nonce: run.nonce });
    Introduction { id, run, last, member: member_in(member), feature_level: feature_level.max(1) }
}

impl Inner {
    pub(crate) async fn hello(&self, address: &str) -> Result<wire::HelloReply, tonic::Status> {
        self.myself.hello(self.cluster.get().copied(), address).await
    }

    /// Answers a hello.
    pub(crate) async fn hello_reply(&self, request: wire::HelloRequest) -> wire::HelloReply {
        let is_founded = self.is_initialized().await;
        // A cluster counts from its first entry: before that this node may still found it.
        let cluster_id = self.cluster.get().copied().filter(|_| is_founded);
        let wire::HelloRequest { node_id, member, run, feature_level, .. } = request;
        let refused = if cluster_id.is_some() && request.cluster_id == cluster_id {
            let who = introduction(node_id, member, run, feature_level);
            self.admit(&who).await.err()
        } else {
            None
        };
        wire::HelloReply {
            node_id: self.id,
            cluster_id,
            member: Some(member_out(&self.myself.me)),
            peers: self.myself.peers.clone(),
            join_only: self.myself.join_only,
            is_ready: self.is_ready(),
            run: Some(self.myself.run_out()),
            feature_level: FEATURE_LEVEL,
            refused: refused.unwrap_or_default(),
        }
    }

    /// Checks a node that introduces itself, and remembers it.
    ///
    /// # Errors
    /// Why it must not take part, and what to do.
    pub(crate) async fn admit(&self, who: &Introduction) -> Result<(), String> {
        if self.applied.store.is_retired(who.id) {
            return Err(format!(
                "node {:016x} was removed from this cluster: delete its data directory, and it \
                 may join under a new id",
                who.id
            ));
        }
        if who.id == self.id && who.run != Some(self.myself.credentials.run) {
            return Err(copied(who.id));
        }
        match self.met.judge(who) {
            Verdict::Welcome => Ok(()),
            Verdict::Refused(why) => Err(why),
            Verdict::After(before, address) => {
                // Whoever has the address of the one before is not beside it.
                if let Some(address) = address.filter(|address| *address != who.member.peer)
                    && let Ok(Ok(reply)) =
                        tokio::time::timeout(LOOK_TIMEOUT, self.hello(&address)).await
                    && reply.node_id == who.id
                    && reply.run.is_some_and(|run| run.nonce == before.nonce)
                {
                    return Err(copied(who.id));
                }
                self.check_position(who)?;
                self.met.succeed(who);
                Ok(())
            }
        }
    }

    /// A node that this leader knows to have committed entries must still have them.
    fn check_position(&self, who: &Introduction) -> Result<(), String> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matching = metrics.replication.as_ref().and_then(|all| *all.get(&who.id)?);
        let acknowledged = matching.min(metrics.local_committed);
        if acknowledged.is_none() || who.last >= acknowledged {
            return Ok(());
        }
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        Err(format!(
            "the data directory of node {:016x} is an old copy: its log ends at index {}, but it \
             has confirmed index {}; move it away and start empty",
            who.id,
            index(who.last),
            index(acknowledged),
        ))
    }

    /// Tells every other member now and then who this node is, and asks whether it is there.
    pub(crate) async fn probe_members(self: Arc<Self>) {
        loop {
            self.probe_once().await;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.introduce.notified() => tokio::time::sleep(STRANGER_PAUSE).await,
                () = tokio::time::sleep(PROBE_PAUSE) => {}
            }
        }
    }

    async fn probe_once(&self) {
        let members = self.members();
        let mut addresses: BTreeSet<String> =
            members.iter().map(|(id, member, _)| self.address_of(*id, &member.peer)).collect();
        // All may have moved: then only the configured names lead anywhere.
        addresses.extend(self.myself.peers.iter().cloned());
        addresses.append(&mut self.callers.lock());
        addresses.remove(&self.myself.me.peer);
        let Some(cluster) = self.cluster.get().copied() else { return };
        let asked = addresses.iter().map(|address| self.hello(address));
        let mut reachable = BTreeSet::new();
        for reply in futures_util::future::join_all(asked).await.into_iter().flatten() {
            if let Some(why) = refusal(&reply, cluster) {
                self.give_up(why);
                return;
            }
            if reply.cluster_id != Some(cluster) {
                continue;
            }
            let wire::HelloReply { node_id, member, run, feature_level, .. } = reply;
            let who = introduction(node_id, member, run, feature_level);
            match self.admit(&who).await {
                Ok(()) => {
                    reachable.insert(node_id);
                    if let Some(run) = who.run {
                        self.introduced.lock().insert(node_id, run);
                    }
                }
                Err(why) => tracing::error!(node = format!("{node_id:016x}"), %why, "refused"),
            }
        }
        *self.reachable.lock() = reachable;
        self.met.retain(|id| members.iter().any(|(member, _, _)| *member == id));
    }

    /// Whether a process that calls has had the chance to refuse this node.
    pub(crate) fn is_introduced_to(&self, id: NodeId, run: Option<Run>) -> bool {
        run.is_none_or(|run| self.introduced.lock().get(&id) == Some(&run))
    }

    /// Says hello soon, to a caller at this address too.
    pub(crate) fn introduce_to(&self, address: Option<&str>) {
        let mut callers = self.callers.lock();
        if let Some(address) = address.filter(|_| callers.len() < MAX_CALLERS) {
            callers.insert(address.to_owned());
        }
        self.introduce.notify_one();
    }

    /// Where a member is: as it said last, else as the members have it.
    pub(crate) fn address_of(&self, id: NodeId, known: &str) -> String {
        self.met.address_of(id).unwrap_or_else(|| known.to_owned())
    }

    /// This process must not go on as this node.
    fn give_up(&self, why: String) {
        tracing::error!(%why, "this node must not take part");
        self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert(why);
            is_first
        });
    }
}
