//! Proposals of this node that are still open: numbered, bounded, completed by apply.
//!
//! A proposal is answered by this node's own apply, which sees every committed proposal with its
//! id. So an answer always means "a majority has it on disk and this node has applied it", whoever
//! led and however often it was sent.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use quorate_core::command::{ProposalId, Reply};
use quorate_core::kind::origin::MAX_REPLIES;
use tokio::sync::mpsc;

use crate::error::ProposeError;
use crate::types::NodeId;

/// Most proposals of one node that are open at once, and furthest a sequence may be from the
/// lowest open one: what apply remembers.
pub(crate) const MAX_OPEN: u64 = MAX_REPLIES as u64;

/// What the waiting proposer is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    /// Applied here; the end.
    Applied(Reply),
    /// The leader it was sent to did not take it: nothing was written by this attempt.
    NotTaken(NotTaken),
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Not a leader, or a leader that lost its majority.
    NotLeader,
    /// The leader's queue is full.
    Overloaded,
    /// The leader's disk is full.
    DiskFull,
    /// The connection broke: it may or may not have been taken.
    LinkLost,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    waiting: BTreeMap<u64, mpsc::Sender<Signal>>,
}

/// The open proposals of this run of this node.
#[derive(Debug)]
pub(crate) struct Pending {
    origin: NodeId,
    nonce: u64,
    open: Mutex<Open>,
}

impl Pending {
    pub(crate) fn new(origin: NodeId, nonce: u64) -> Self {
        Self { origin, nonce, open: Mutex::new(Open { next: 1, waiting: BTreeMap::new() }) }
    }

    /// Opens a proposal under a new sequence.
    pub(crate) fn open(&self) -> Result<Ticket<'_>, ProposeError> {
        // Two signals fit: one refusal that nobody has read yet, and the reply.
        let (sender, signals) = mpsc::channel(2);
        let mut open = self.open.lock();
        let sequence = open.next;
        let floor = open.waiting.first_key_value().map_or(sequence, |(lowest, _)| *lowest);
        if sequence - floor >= MAX_OPEN {
            return Err(ProposeError::Overloaded { limit: MAX_REPLIES });
        }
        open.next += 1;
        open.waiting.insert(sequence, sender);
        drop(open);
        Ok(Ticket { pending: self, sequence, signals })
    }

    /// The lowest open sequence: replies below it may be forgotten.
    fn floor(&self) -> u64 {
        let open = self.open.lock();
        open.waiting.first_key_value().map_or(open.next, |(lowest, _)| *lowest)
    }

    /// Called by apply for each proposal: completes it if it is one of ours.
    pub(crate) fn applied(&self, id: ProposalId, reply: Reply) {
        if id.origin == self.origin && id.nonce == self.nonce {
            self.signal(id.sequence, Signal::Applied(reply));
        }
    }

    pub(crate) fn not_taken(&self, sequence: u64, why: NotTaken) {
        self.signal(sequence, Signal::NotTaken(why));
    }

    fn signal(&self, sequence: u64, signal: Signal) {
        // Sent under the lock: two refusals at once must not take the place of the reply.
        let mut open = self.open.lock();
        let sent = match signal {
            Signal::Applied(_) => open.waiting.remove(&sequence).map(|it| it.try_send(signal)),
            Signal::NotTaken(_) => open
                .waiting
                .get(&sequence)
                .filter(|it| it.capacity() > 1)
                .map(|it| it.try_send(signal)),
        };
        if sent.is_some_and(|sent| sent.is_err()) {
            // The proposer has gone: there is nobody to tell.
            tracing::trace!(sequence, "signal not taken");
        }
    }

    /// Sequences that are open, for a snapshot install that skipped their entries.
    pub(crate) fn sequences(&self) -> Vec<u64> {
        self.open.lock().waiting.keys().copied().collect()
    }

    pub(crate) const fn origin(&self) -> NodeId {
        self.origin
    }

    pub(crate) const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().waiting.len()
    }
}

/// One open proposal. Dropping it closes the sequence.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    pending: &'a Pending,
    sequence: u64,
    signals: mpsc::Receiver<Signal>,
}

impl Ticket<'_> {
    /// Its name, with the floor as it is now.
    pub(crate) fn id(&self) -> ProposalId {
        ProposalId {
            origin: self.pending.origin,
            nonce: self.pending.nonce,
            sequence: self.sequence,
            floor: self.pending.floor(),
        }
    }

    /// The next thing that happened to it.
    pub(crate) async fn signal(&mut self) -> Option<Signal> {
        self.signals.recv().await
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pending.open.lock().waiting.remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn apply_completes_and_the_floor_rises() {
        let pending = Pending::new(7, 3);
        let mut first = pending.open().unwrap();
        let second = pending.open().unwrap();
        assert_eq!((first.id().sequence, second.id().sequence, second.id().floor), (1, 2, 1));
        for _ in 0..9 {
            pending.not_taken(1, NotTaken::NotLeader);
        }
        pending.applied(ProposalId { nonce: 2, ..first.id() }, Reply::default());
        pending.applied(first.id(), Reply { version: 4, ..Reply::default() });
        assert!(matches!(first.signal().await, Some(Signal::NotTaken(NotTaken::NotLeader))));
        assert!(matches!(first.signal().await, Some(Signal::Applied(Reply { version: 4, .. }))));
        assert_eq!(second.id().floor, 2);
        drop(second);
        assert_eq!((pending.len(), pending.floor()), (0, 3));
    }

    #[test]
    fn the_window_is_bounded() {
        let pending = Pending::new(1, 1);
        let oldest = pending.open().unwrap();
        let mut others: Vec<_> = (1..MAX_OPEN).map(|_| pending.open().unwrap()).collect();
        assert!(matches!(pending.open(), Err(ProposeError::Overloaded { .. })));
        others.truncate(10);
        assert!(matches!(pending.open(), Err(ProposeError::Overloaded { .. })));
        drop(oldest);
        assert!(pending.open().is_ok());
    }
}
