//! The shared half of held polls: where their ends are written, and the table of their deadlines.
//!
//! Deadlines are counted in ticks of 100 ms. The polls of one tick form a list through their
//! slots, so that a deadline costs three numbers, arming and disarming are O(log of the ticks in
//! use), and nothing of an answered poll stays behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::kind::gray::Labels;
use crate::watch::{Change, NIL, Slab, slot_bytes};

/// No deadline. The last tick that can be used is the one before.
pub(super) const NEVER: u32 = u32::MAX;

const _: () = assert!(slot_bytes::<Slot>() <= 64);

/// How a poll ended, or that it did not yet. Whoever writes the first end wins.
#[derive(Debug)]
pub(super) enum Outcome {
    Waiting,
    Changed(Arc<Change>, u8),
    TimedOut,
    Closed,
}

#[derive(Debug)]
pub(super) struct Slot {
    waker: Option<Waker>,
    outcome: Outcome,
    tick: u32,
    /// Neighbours in the list of the tick.
    before: u32,
    after: u32,
    labels: Labels,
}

/// One shard of the held polls.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Slab<Slot>,
    /// First poll of each tick in use.
    ticks: BTreeMap<u32, u32>,
}

impl Slots {
    /// An empty shard whose ids stay below `limit`.
    pub(super) const fn new(limit: u32) -> Self {
        Self { slots: Slab::new(limit), ticks: BTreeMap::new() }
    }

    /// A new poll of a client with these labels, waiting without a deadline.
    pub(super) fn open(&mut self, labels: Labels) -> Option<u32> {
        self.slots.insert(Slot {
            waker: None,
            outcome: Outcome::Waiting,
            tick: NEVER,
            before: NIL,
            after: NIL,
            labels,
        })
    }

    /// The labels of a poll's client.
    pub(super) fn labels(&self, id: u32) -> Option<&Labels> {
        self.slots.get(id).map(|slot| &slot.labels)
    }

    /// Sets the deadline of a poll that has none.
    pub(super) fn arm(&mut self, id: u32, tick: u32) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if !matches!(slot.outcome, Outcome::Waiting) || slot.tick != NEVER {
            return;
        }
        slot.tick = tick;
        if let Some(second) = self.ticks.insert(tick, id) {
            slot.after = second;
            if let Some(second) = self.slots.get_mut(second) {
                second.before = id;
            }
        }
    }

    fn disarm(&mut self, tick: u32, before: u32, after: u32) {
        if tick == NEVER {
            return;
        }
        if let Some(slot) = self.slots.get_mut(after) {
            slot.before = before;
        }
        if let Some(slot) = self.slots.get_mut(before) {
            slot.after = after;
        } else if after == NIL {
            self.ticks.remove(&tick);
        } else {
            self.ticks.insert(tick, after);
        }
    }

    /// Ends a poll that still waits; true when it did. Its waker is for after the lock.
    pub(super) fn end(&mut self, id: u32, outcome: Outcome, wakers: &mut Vec<Waker>) -> bool {
        let Some(slot) = self.slots.get_mut(id) else { return false };
        if !matches!(slot.outcome, Outcome::Waiting) {
            return false;
        }
        slot.outcome = outcome;
        wakers.extend(slot.waker.take());
        let (tick, before, after) = (slot.tick, slot.before, slot.after);
        (slot.tick, slot.before, slot.after) = (NEVER, NIL, NIL);
        self.disarm(tick, before, after);
        true
    }

    /// The end of a poll, or a note of whom to wake. The second value is for after the lock.
    pub(super) fn poll(
        &mut self,
        id: u32,
        context: &Context<'_>,
    ) -> (Option<Outcome>, Option<Waker>) {
        let Some(slot) = self.slots.get_mut(id) else { return (Some(Outcome::Closed), None) };
        if !matches!(slot.outcome, Outcome::Waiting) {
            // A poll is used up by its end: what it finds on a second look does not matter.
            return (Some(std::mem::replace(&mut slot.outcome, Outcome::Closed)), None);
        }
        if slot.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return (None, None);
        }
        (None, slot.waker.replace(context.waker().clone()))
    }

    /// Forgets a poll. What is returned is to be dropped after the lock.
    pub(super) fn remove(&mut self, id: u32) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        self.disarm(slot.tick, slot.before, slot.after);
        Some(slot)
    }

    /// The earliest deadline.
    pub(super) fn first_tick(&self) -> Option<u32> {
        self.ticks.first_key_value().map(|(tick, _)| *tick)
    }

    /// Ends up to `limit` polls whose tick is `now` or earlier; true when there may be more.
    pub(super) fn expire(&mut self, now: u32, limit: usize, wakers: &mut Vec<Waker>) -> bool {
        for _ in 0..limit {
            let Some((&tick, &id)) = self.ticks.first_key_value() else { return false };
            if tick > now {
                return false;
            }
            if !self.end(id, Outcome::TimedOut, wakers) {
                self.ticks.remove(&tick);
            }
        }
        true
    }

    /// Ends all polls that wait.
    pub(super) fn close(&mut self, wakers: &mut Vec<Waker>) {
        let ids: Vec<u32> = self.slots.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.end(id, Outcome::Closed, wakers);
        }
    }

    /// Polls here, and how many of them have a deadline.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        let mut armed = 0;
        for first in self.ticks.values() {
            let mut at = *first;
            while let Some(slot) = self.slots.get(at) {
                armed += 1;
                at = slot.after;
            }
        }
        (self.slots.len(), armed)
    }
}
