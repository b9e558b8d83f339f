//! Replies kept per proposing node, so that a proposal applied once is never applied again
//! (raft-storage.md §6.11).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::command::{Outcome, ProposalId, Reply};
use crate::record::{RecordError, exact, wire};
use crate::time::Revision;

/// Most replies kept for one origin. A node keeps fewer proposals than this open.
pub const MAX_REPLIES: usize = 4096;
/// Most origins kept. The one that proposed longest ago gives way.
pub const MAX_ORIGINS: usize = 64;

/// What one origin proposed and may still ask about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    nonce: u64,
    floor: u64,
    seen: Revision,
    replies: BTreeMap<u64, Reply>,
}

/// What to do with a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Apply it and keep the reply.
    Apply,
    /// It was applied: answer this.
    Repeat(Reply),
    /// Older than what its origin still has open: refuse.
    Superseded,
}

impl Origin {
    /// Looks a proposal up and forgets what its floor closes.
    pub(crate) fn admit(&mut self, id: ProposalId, revision: Revision) -> Verdict {
        if id.nonce < self.nonce {
            return Verdict::Superseded;
        }
        if id.nonce > self.nonce {
            *self = Self { nonce: id.nonce, ..Self::default() };
        }
        self.seen = revision;
        if id.floor > self.floor {
            self.floor = id.floor;
            self.replies = self.replies.split_off(&id.floor);
        }
        if id.sequence < self.floor {
            return Verdict::Superseded;
        }
        self.replies.get(&id.sequence).map_or(Verdict::Apply, |reply| Verdict::Repeat(*reply))
    }

    /// Keeps a reply. Past [`MAX_REPLIES`] the oldest are forgotten and the floor rises over them.
    pub(crate) fn keep(&mut self, sequence: u64, reply: Reply) {
        self.replies.insert(sequence, reply);
        while self.replies.len() > MAX_REPLIES {
            if let Some((oldest, _)) = self.replies.pop_first() {
                self.floor = self.floor.max(oldest + 1);
            }
        }
    }

    /// The reply to one proposal of one start.
    pub(crate) fn kept(&self, nonce: u64, sequence: u64) -> Option<Reply> {
        if nonce == self.nonce { self.replies.get(&sequence).copied() } else { None }
    }

    /// The revision of its last proposal.
    pub(crate) const fn seen(&self) -> Revision {
        self.seen
    }

    /// Replies kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.replies.len()
    }

    /// Whether no reply is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }
}

/// The answer to a superseded proposal.
pub(crate) const fn superseded(revision: Revision) -> Reply {
    Reply { revision, version: 0, outcome: Outcome::Superseded }
}

pub(crate) fn row(id: u64, origin: &Origin) -> Bytes {
    let Origin { nonce, floor, seen, replies } = origin;
    let replies = wire::OriginReplies {
        nonce: *nonce,
        floor: *floor,
        seen: seen.0,
        replies: replies
            .iter()
            .map(|(sequence, reply)| wire::KeptReply {
                sequence: *sequence,
                reply: Some((*reply).into()),
            })
            .collect(),
    };
    exact(&wire::Row {
        row: Some(wire::row::Row::Origin(wire::OriginRow { origin: id, replies: Some(replies) })),
    })
}

pub(crate) fn from_row(row: wire::OriginRow) -> Result<(u64, Origin), RecordError> {
    let kept = row.replies.ok_or(RecordError::Field("replies"))?;
    let mut replies = BTreeMap::new();
    for one in kept.replies {
        let reply = one.reply.ok_or(RecordError::Field("reply"))?;
        replies.insert(one.sequence, reply.try_into()?);
    }
    let origin =
        Origin { nonce: kept.nonce, floor: kept.floor, seen: Revision(kept.seen), replies };
    Ok((row.origin, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(nonce: u64, sequence: u64, floor: u64) -> ProposalId {
        ProposalId { origin: 1, nonce, sequence, floor }
    }

    #[test]
    fn repeats_are_answered_and_old_ones_refused() {
        let mut origin = Origin::default();
        let reply = Reply { revision: Revision(9), version: 1, outcome: Outcome::Done };
        assert_eq!(origin.admit(id(1, 1, 1), Revision(9)), Verdict::Apply);
        origin.keep(1, reply);
        assert_eq!(origin.admit(id(1, 1, 1), Revision(10)), Verdict::Repeat(reply));
        assert_eq!(origin.admit(id(1, 3, 2), Revision(11)), Verdict::Apply);
        assert!(origin.is_empty());
        assert_eq!(origin.admit(id(1, 1, 1), Revision(12)), Verdict::Superseded);
        assert_eq!(origin.admit(id(2, 1, 1), Revision(13)), Verdict::Apply);
        assert_eq!(origin.admit(id(1, 4, 1), Revision(14)), Verdict::Superseded);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut origin = Origin::default();
        for sequence in 1..=MAX_REPLIES as u64 + 10 {
            assert_eq!(origin.admit(id(1, sequence, 1), Revision(sequence)), Verdict::Apply);
            origin.keep(sequence, Reply::default());
        }
        assert_eq!(origin.len(), MAX_REPLIES);
        assert_eq!(origin.admit(id(1, 10, 1), Revision(1)), Verdict::Superseded);
        let row = row(7, &origin);
        let wire::Row { row: Some(wire::row::Row::Origin(row)) } =
            prost::Message::decode(row).unwrap()
        else {
            panic!("an origin row")
        };
        assert_eq!(from_row(row).unwrap(), (7, origin));
    }
}
