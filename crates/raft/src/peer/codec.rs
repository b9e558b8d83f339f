//! Raft's messages as `peer.proto` has them, both ways.

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::vote::RaftLeaderId;

use super::wire;
use crate::types::{Entry, LogId, Member, Record, TypeConfig, Vote, log_id, term_of};

/// A peer sent something that is not Raft.
#[derive(Debug, thiserror::Error)]
#[error("peer message lacks or garbles {0}")]
pub(crate) struct Garbled(pub(crate) &'static str);

impl From<Garbled> for tonic::Status {
    fn from(garbled: Garbled) -> Self {
        Self::invalid_argument(garbled.to_string())
    }
}

pub(crate) fn id_out(id: &LogId) -> wire::LogId {
    wire::LogId { term: term_of(id), index: id.index }
}

pub(crate) fn id_in(id: wire::LogId) -> LogId {
    log_id(id.term, id.index)
}

pub(crate) fn vote_out(vote: &Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: Option<wire::Vote>) -> Result<Vote, Garbled> {
    let vote = vote.ok_or(Garbled("vote"))?;
    Ok(Vote { leader_id: RaftLeaderId::new(vote.term, vote.node_id), committed: vote.committed })
}

pub(crate) fn member_out(member: &Member) -> wire::Member {
    let Member { peer, http, grpc, stays_learner } = member.clone();
    wire::Member { peer, http, grpc, stays_learner }
}

pub(crate) fn member_in(member: Option<wire::Member>) -> Member {
    let wire::Member { peer, http, grpc, stays_learner } = member.unwrap_or_default();
    Member { peer, http, grpc, stays_learner }
}

fn entry_out(entry: Entry) -> wire::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => wire::entry::Payload::Blank(true),
        EntryPayload::Normal(Record(bytes)) => wire::entry::Payload::Record(bytes),
        // Members are plain data: their JSON cannot fail.
        EntryPayload::Membership(members) => wire::entry::Payload::Membership(
            serde_json::to_vec(&members).unwrap_or_default().into(),
        ),
    };
    wire::Entry { id: Some(id_out(&entry.log_id)), payload: Some(payload) }
}

fn entry_in(entry: wire::Entry) -> Result<Entry, Garbled> {
    let log_id = id_in(entry.id.ok_or(Garbled("entry id"))?);
    let payload = match entry.payload.ok_or(Garbled("entry payload"))? {
        wire::entry::Payload::Blank(_) => EntryPayload::Blank,
        // The bytes are a slice of the receive buffer: copied once, so that they do not pin it.
        wire::entry::Payload::Record(bytes) => {
            EntryPayload::Normal(Record(Bytes::copy_from_slice(&bytes)))
        }
        wire::entry::Payload::Membership(json) => EntryPayload::Membership(
            serde_json::from_slice(&json).map_err(|_| Garbled("membership"))?,
        ),
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn append_out(request: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
    wire::AppendRequest {
        vote: Some(vote_out(&vote)),
        prev: prev_log_id.as_ref().map(id_out),
        leader_commit: leader_commit.as_ref().map(id_out),
        entries: entries.into_iter().map(entry_out).collect(),
    }
}

pub(crate) fn append_in(
    request: wire::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Garbled> {
    let wire::AppendRequest { vote, prev, leader_commit, entries } = request;
    Ok(AppendEntriesRequest {
        vote: vote_in(vote)?,
        prev_log_id: prev.map(id_in),
        leader_commit: leader_commit.map(id_in),
        entries: entries.into_iter().map(entry_in).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn append_reply_out(result: &StreamAppendResult<TypeConfig>) -> wire::AppendReply {
    let result = match result {
        Ok(last) => {
            wire::append_reply::Result::Accepted(wire::Accepted { last: last.as_ref().map(id_out) })
        }
        Err(StreamAppendError::Conflict(id)) => wire::append_reply::Result::Conflict(id_out(id)),
        Err(StreamAppendError::HigherVote(vote)) => {
            wire::append_reply::Result::HigherVote(vote_out(vote))
        }
    };
    wire::AppendReply { result: Some(result) }
}

pub(crate) fn append_reply_in(
    reply: wire::AppendReply,
) -> Result<StreamAppendResult<TypeConfig>, Garbled> {
    Ok(match reply.result.ok_or(Garbled("append result"))? {
        wire::append_reply::Result::Accepted(accepted) => Ok(accepted.last.map(id_in)),
        wire::append_reply::Result::Conflict(id) => Err(StreamAppendError::Conflict(id_in(id))),
        wire::append_reply::Result::HigherVote(vote) => {
            Err(StreamAppendError::HigherVote(vote_in(Some(vote))?))
        }
    })
}

pub(crate) fn vote_request_out(
    request: &VoteRequest<TypeConfig>,
    is_pre_vote: bool,
) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(id_out),
        leadership_transfer: request.leadership_transfer,
        is_pre_vote,
    }
}

pub(crate) fn vote_request_in(
    request: wire::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, Garbled> {
    Ok(VoteRequest {
        vote: vote_in(request.vote)?,
        last_log_id: request.last_log_id.map(id_in),
        leadership_transfer: request.leadership_transfer,
    })
}

pub(crate) fn vote_reply_out(reply: &VoteResponse<TypeConfig>) -> wire::VoteReply {
    wire::VoteReply {
        vote: Some(vote_out(&reply.vote)),
        granted: reply.vote_granted,
        last_log_id: reply.last_log_id.as_ref().map(id_out),
    }
}

pub(crate) fn vote_reply_in(reply: wire::VoteReply) -> Result<VoteResponse<TypeConfig>, Garbled> {
    Ok(VoteResponse {
        vote: vote_in(reply.vote)?,
        vote_granted: reply.granted,
        last_log_id: reply.last_log_id.map(id_in),
    })
}

pub(crate) fn transfer_out(
    request: &TransferLeaderRequest<TypeConfig>,
) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        from_leader: Some(vote_out(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last_log_id: request.last_log_id().map(id_out),
    }
}

pub(crate) fn transfer_in(
    request: wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Garbled> {
    Ok(TransferLeaderRequest::new(
        vote_in(request.from_leader)?,
        request.to_node_id,
        request.last_log_id.map(id_in),
    ))
}
