//! What clients asked for and what they were promised, in the order in which it happened.
//! Shared with `tests/chaos`.

#![allow(dead_code, reason = "each of the two uses its own part")]

use std::collections::BTreeMap;

use quorate_core::time::Revision;

/// A content, unique in a run: the number of the write that made it.
pub(crate) type Value = u32;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Publish(Value),
    /// Publish if the config has this content, or does not exist.
    CompareAndSet {
        expected: Value,
        value: Value,
    },
    Remove,
    /// A linearizable read.
    Read,
}

impl Action {
    /// What it would write.
    pub(crate) const fn value(self) -> Option<Value> {
        match self {
            Self::Publish(value) | Self::CompareAndSet { value, .. } => Some(value),
            Self::Remove | Self::Read => None,
        }
    }
}

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing, or that nothing is known: it may have happened, or happen later.
    Unknown,
    /// That nothing was written, and will not be.
    Refused,
    /// Written, or removed.
    Done(Revision),
    /// Removed, if it was there: HTTP answers both alike.
    Gone(Revision),
    /// Compare-and-set found another content.
    Mismatch(Revision),
    /// The same, without word of when: HTTP names the revision that the node had then reached.
    Differed,
    /// Removed something that was not there.
    Absent(Revision),
    /// Read.
    Value(Option<Value>),
}

impl Outcome {
    /// The revision at which the write was applied.
    pub(crate) const fn revision(self) -> Option<Revision> {
        match self {
            Self::Done(revision)
            | Self::Gone(revision)
            | Self::Mismatch(revision)
            | Self::Absent(revision) => Some(revision),
            Self::Unknown | Self::Refused | Self::Differed | Self::Value(_) => None,
        }
    }
}

/// One operation of one client on one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) action: Action,
    /// Moments are counted, not measured: nothing happens at the same time.
    pub(crate) invoked: u64,
    pub(crate) returned: Option<u64>,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    /// Contents that anybody saw, by key, with the moment when it was first seen.
    pub(crate) seen: BTreeMap<(usize, String), u64>,
    moment: u64,
    values: Value,
}

impl History {
    fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// A content that nobody has written yet.
    pub(crate) fn fresh(&mut self) -> Value {
        self.values += 1;
        self.values
    }

    /// Gives the number of the operation.
    pub(crate) fn invoke(&mut self, client: usize, key: usize, action: Action) -> usize {
        let invoked = self.now();
        let (returned, outcome) = (None, Outcome::Unknown);
        self.operations.push(Operation { client, key, action, invoked, returned, outcome });
        self.operations.len() - 1
    }

    pub(crate) fn complete(&mut self, operation: usize, outcome: Outcome) {
        let returned = Some(self.now());
        let operation = &mut self.operations[operation];
        (operation.returned, operation.outcome) = (returned, outcome);
    }

    /// Notes a content that was read, and gives its number.
    pub(crate) fn see(&mut self, key: usize, content: &[u8]) -> Option<Value> {
        let now = self.now();
        let text = String::from_utf8_lossy(content).into_owned();
        let value = number(&text);
        self.seen.entry((key, text)).or_insert(now);
        value
    }

    /// The newest acknowledged write of any client.
    pub(crate) fn last_acknowledged(&self) -> Option<&Operation> {
        let written = |it: &&Operation| matches!(it.outcome, Outcome::Done(_));
        self.operations.iter().rev().take(50).find(written)
    }
}

/// The text of a value: some bytes more, so that logs and snapshots fill.
pub(crate) fn content(value: Value) -> String {
    format!("v{value} {}", "x".repeat(40 + value as usize % 120))
}

pub(crate) fn number(text: &str) -> Option<Value> {
    text.strip_prefix('v')?.split(' ').next()?.parse().ok()
}
