//! Comparing replicas: all members' state hashes at one revision.

use std::time::Duration;

use quorate_core::command::Command;
use quorate_core::time::Revision;
use tokio::time::Instant;

use crate::error::ProposeError;
use crate::node::{Inner, Node};
use crate::peer::{client, wire};
use crate::types::{Member, NodeId};

/// Longest that a member may take to apply what is compared.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

/// What one member has at the revision that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Its state hash.
    Hash([u8; 16]),
    /// It has not applied the revision in time: what it has.
    Behind(Revision),
    /// It passed the revision without remembering it: it installed a snapshot, or was restarted.
    Skipped,
    /// It did not answer, and why.
    Silent(String),
}

/// All members' states at one revision.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The revision.
    pub revision: Revision,
    /// The members.
    pub members: Vec<(NodeId, Member, Compared)>,
}

impl Node {
    /// Compares the state of all members at one revision, whatever is written meanwhile.
    ///
    /// # Errors
    /// [`ProposeError`] when the checkpoint was not written.
    pub async fn compare(&self, deadline: Instant) -> Result<Comparison, ProposeError> {
        let inner = &self.inner;
        let revision = inner.propose(Command::Checkpoint, deadline).await?.revision;
        let asked = inner.members().into_iter().map(|(id, member, _)| async move {
            let compared = inner.compared(id, &member, revision).await;
            (id, member, compared)
        });
        let members = futures_util::future::join_all(asked).await;
        Ok(Comparison { revision, members })
    }

    /// Whether the cluster's members can all compare: feature level 2.
    #[must_use]
    pub fn can_compare(&self) -> bool {
        self.inner.feature_level() >= 2
    }
}

impl Inner {
    async fn compared(&self, id: NodeId, member: &Member, revision: Revision) -> Compared {
        let reply = if id == self.id {
            Ok(self.fingerprint_at(revision).await)
        } else {
            self.fingerprint_of(id, member, revision).await
        };
        match reply {
            Err(why) => Compared::Silent(why),
            Ok(reply) => match <[u8; 16]>::try_from(&*reply.hash) {
                Ok(hash) => Compared::Hash(hash),
                Err(_) if reply.applied < revision.0 => Compared::Behind(Revision(reply.applied)),
                Err(_) => Compared::Skipped,
            },
        }
    }

    async fn fingerprint_of(
        &self,
        id: NodeId,
        member: &Member,
        revision: Revision,
    ) -> Result<wire::FingerprintReply, String> {
        let address = self.address_of(id, &member.peer);
        let cluster = self.cluster.get().copied();
        let mut client = client(&address, &self.myself.credentials, cluster, Some(id))
            .map_err(|error| error.to_string())?;
        let asked = client.fingerprint(wire::FingerprintRequest { revision: revision.0 });
        match tokio::time::timeout(CATCH_UP_LIMIT * 2, asked).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    /// This node's state hash at a checkpoint, once it has applied it.
    pub(crate) async fn fingerprint_at(&self, revision: Revision) -> wire::FingerprintReply {
        let progress = &self.applied.progress;
        let reached = tokio::time::timeout(CATCH_UP_LIMIT, progress.reached(revision)).await;
        let hash = reached.ok().and_then(|()| self.applied.checkpoints.at(revision));
        wire::FingerprintReply {
            revision: revision.0,
            hash: hash.map_or_else(Default::default, |hash| hash.to_vec().into()),
            applied: progress.applied().0,
        }
    }
}
