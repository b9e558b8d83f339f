//! An empty node becomes a member: it asks, the leader adds it as a learner, and the leader's
//! [`super::tend`] makes it a voter once it has caught up.

use std::time::Duration;

use super::change::Outcome;
use super::hello::introduction;
use super::{Change, FEATURE_LEVEL};
use crate::node::Inner;
use crate::peer::codec::{member_in, member_out};
use crate::peer::{client, wire};

const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    /// Asks the cluster of a peer to become a member, at most one hop on from it.
    pub(crate) async fn ask_to_join(&self, peer: &str) {
        let mut address = peer.to_owned();
        for _ in 0..2 {
            match self.join_at(&address).await {
                Ok(wire::JoinReply { accepted: true, .. }) => {
                    tracing::info!("accepted as a member");
                    // The leader calls now; until it has, there is nothing to ask again.
                    let _founded_or_late = tokio::time::timeout(JOIN_TIMEOUT, async {
                        while !self.is_initialized().await {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    })
                    .await;
                    return;
                }
                Ok(reply) if !reply.refused.is_empty() => {
                    tracing::error!(%address, why = reply.refused, "refused as a member");
                    return;
                }
                Ok(wire::JoinReply { leader: Some(leader), .. }) => address = leader.peer,
                Ok(_) => return,
                Err(status) => {
                    tracing::debug!(%address, %status, "asking to join failed");
                    return;
                }
            }
        }
    }

    async fn join_at(&self, address: &str) -> Result<wire::JoinReply, tonic::Status> {
        let request = wire::JoinRequest {
            node_id: self.id,
            member: Some(member_out(&self.myself.me)),
            run: Some(self.myself.run_out()),
            feature_level: FEATURE_LEVEL,
        };
        let mut client = client(address, &self.myself.credentials, None, None)
            .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?;
        let asked = tokio::time::timeout(JOIN_TIMEOUT, client.join(request)).await;
        Ok(asked.map_err(|_| tonic::Status::deadline_exceeded("no answer"))??.into_inner())
    }

    /// Answers an empty node.
    pub(crate) async fn join_reply(&self, request: wire::JoinRequest) -> wire::JoinReply {
        let refused = |why| wire::JoinReply { refused: why, ..wire::JoinReply::default() };
        let wire::JoinRequest { node_id, member, run, feature_level } = request;
        let who = introduction(node_id, member.clone(), run, feature_level);
        if let Err(why) = self.admit(&who).await {
            return refused(why);
        }
        let level = self.feature_level();
        if who.feature_level < level {
            return refused(format!("this cluster is at feature level {level}: upgrade the node"));
        }
        let leader = self.leader.borrow().clone();
        match leader {
            Some(leader) if leader.id == self.id => {}
            Some(leader) => {
                let leader = Some(member_out(&leader.member));
                return wire::JoinReply { leader, ..wire::JoinReply::default() };
            }
            None => return wire::JoinReply::default(),
        }
        let change = Change::Admit { id: node_id, member: member_in(member) };
        match self.change(change).await {
            Outcome::Made(_) => wire::JoinReply { accepted: true, ..wire::JoinReply::default() },
            Outcome::Refused(why) => refused(why),
            Outcome::Moved | Outcome::Failed(_) => wire::JoinReply::default(),
        }
    }
}
