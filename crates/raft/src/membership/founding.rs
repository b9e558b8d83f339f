//! Founding a cluster from a list of peers, once, without an operator.
//!
//! An empty node never founds alone (raft-storage.md §6.9): it asks every configured peer, and
//! only when all of them answered, all are empty and all have the same list does the one with the
//! lowest id initialise the cluster with all of them as voters. A peer that belongs to a cluster
//! means: join that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};

use super::Myself;
use crate::identity::IdentityError;
use crate::node::Inner;
use crate::peer::codec::member_in;
use crate::types::{Member, NodeId};

const FOUNDING_PAUSE: Duration = Duration::from_millis(200);

/// What one round of questions showed.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// These peers did not answer.
    Silent(Vec<String>),
    /// This peer has other peers configured, or only joins.
    Differs(String),
    /// This peer belongs to a cluster.
    Exists(String),
    /// Another node has the lowest id: it founds.
    Other(NodeId),
    /// This node only joins, and none of its peers belongs to a cluster yet.
    Waits,
    /// This node founds with these members.
    Found(BTreeMap<NodeId, Member>),
}

impl Inner {
    /// Runs until this node belongs to a cluster.
    pub(crate) async fn found_or_wait(self: Arc<Self>) {
        let mut told = None;
        while !self.is_initialized().await {
            let pause = tokio::time::sleep(FOUNDING_PAUSE);
            let round = self.round().await;
            if told.as_ref() != Some(&round) {
                tell(&round);
            }
            match &round {
                Round::Found(members) => {
                    if let Err(error) = self.found(members.clone()).await {
                        tracing::error!(%error, "founding the cluster failed");
                    }
                }
                Round::Exists(peer) => self.ask_to_join(peer).await,
                Round::Silent(_) | Round::Differs(_) | Round::Other(_) | Round::Waits => {}
            }
            told = Some(round);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = pause => {}
            }
        }
    }

    async fn round(&self) -> Round {
        let Myself { peers, join_only, me, .. } = &*self.myself;
        match (peers.is_empty(), join_only) {
            (true, false) => Round::Found(BTreeMap::from([(self.id, me.clone())])),
            (true, true) => Round::Waits,
            (false, true) => self.find_cluster().await,
            (false, false) => self.ask_all().await,
        }
    }

    /// The first configured peer that belongs to a cluster.
    async fn find_cluster(&self) -> Round {
        let others = self.myself.peers.iter().filter(|peer| **peer != self.myself.me.peer);
        let asked = others.map(|peer| async move { (peer, self.hello(peer).await) });
        let replies = futures_util::future::join_all(asked).await;
        let is_member = |reply: &Result<crate::peer::wire::HelloReply, tonic::Status>| {
            reply.as_ref().is_ok_and(|reply| reply.cluster_id.is_some())
        };
        match replies.into_iter().find(|(_, reply)| is_member(reply)) {
            Some((peer, _)) => Round::Exists(peer.clone()),
            None => Round::Waits,
        }
    }

    async fn ask_all(&self) -> Round {
        let mut members = BTreeMap::from([(self.id, self.myself.me.clone())]);
        let mut silent = Vec::new();
        let others = self.myself.peers.iter().filter(|peer| **peer != self.myself.me.peer);
        let asked = others.map(|peer| async move { (peer, self.hello(peer).await) });
        for (peer, reply) in futures_util::future::join_all(asked).await {
            let reply = match reply {
                Ok(reply) => reply,
                Err(status) => {
                    tracing::debug!(%peer, %status, "hello failed");
                    silent.push(peer.clone());
                    continue;
                }
            };
            if reply.cluster_id.is_some() {
                return Round::Exists(peer.clone());
            }
            let member = member_in(reply.member);
            if reply.join_only
                || reply.peers != self.myself.peers
                || member.peer != *peer
                || members.contains_key(&reply.node_id)
            {
                return Round::Differs(peer.clone());
            }
            members.insert(reply.node_id, member);
        }
        if !silent.is_empty() {
            return Round::Silent(silent);
        }
        match members.first_key_value() {
            Some((lowest, _)) if *lowest != self.id => Round::Other(*lowest),
            _ => Round::Found(members),
        }
    }

    async fn found(&self, members: BTreeMap<NodeId, Member>) -> Result<(), FoundError> {
        // Kept before anything is written to the log: a crash in between founds the same cluster.
        let cluster = match self.cluster.get() {
            Some(cluster) => *cluster,
            None => {
                let drawn = self.host().random()?.max(1);
                self.join_cluster(drawn).await?
            }
        };
        let voters: BTreeSet<_> = members.keys().copied().collect();
        match self.raft.initialize(members).await {
            Ok(()) => {
                tracing::info!(
                    cluster = format!("{cluster:016x}"),
                    voters = voters.len(),
                    "founded the cluster"
                );
                Ok(())
            }
            // It was founded meanwhile, by an earlier try or by a call that reached us.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(FoundError::Refused(error.to_string())),
        }
    }

    /// Takes a cluster id, once, durably. Returns the one that holds.
    pub(crate) async fn join_cluster(&self, cluster: u64) -> Result<u64, IdentityError> {
        let mut identity = self.identity.lock().await;
        if let Some(held) = self.cluster.get() {
            return Ok(*held);
        }
        let mut fresh = identity.clone();
        let written = self.host().blocking(move || {
            fresh.set_cluster(cluster)?;
            Ok(fresh)
        });
        let written = written.await.map_err(|error| IdentityError::Io {
            op: "write",
            path: std::path::PathBuf::from("node.json"),
            source: std::io::Error::other(error),
        })?;
        *identity = written?;
        Ok(*self.cluster.get_or_init(|| cluster))
    }

    pub(crate) async fn is_initialized(&self) -> bool {
        // An error means that Raft has stopped: there is nothing left to found.
        self.raft.is_initialized().await.unwrap_or(true)
    }
}

fn tell(round: &Round) {
    match round {
        Round::Silent(peers) => tracing::info!(?peers, "waiting for peers to found the cluster"),
        Round::Differs(peer) => {
            tracing::error!(%peer,
                "peer has another --peers list, another --advertise, or only joins")
        }
        Round::Exists(peer) => {
            tracing::warn!(%peer, "a cluster exists: this empty node joins it and founds none");
        }
        Round::Waits => tracing::info!("waiting for a cluster to join"),
        Round::Other(id) => {
            tracing::info!(founder = format!("{id:016x}"), "another node founds the cluster");
        }
        Round::Found(members) => tracing::info!(members = members.len(), "founding the cluster"),
    }
}

#[derive(Debug, thiserror::Error)]
enum FoundError {
    #[error("the cluster id cannot be kept")]
    Identity(#[from] IdentityError),
    #[error("no random number")]
    Random(#[from] std::io::Error),
    #[error("raft refused: {0}")]
    Refused(String),
}
