//! Every key is a linearizable register: there is one order of all operations on it that respects
//! who returned before whom was called, and in which each one answers what it answered.
//!
//! The search is Wing and Gong's with Lowe's memory: one operation after the other is put into the
//! order, and a set of operations with the register they leave is tried once. An operation whose
//! outcome is unknown may be put anywhere after its call, or nowhere. Acknowledged writes carry
//! their revision and are only tried in its order: that is a promise too, and keeps the search
//! short.

use std::collections::HashSet;

use quorate_core::time::Revision;

use crate::history::{Action, History, Operation, Outcome, Value};

/// Configurations tried before the search gives up.
const LIMIT: usize = 4_000_000;

/// How a search ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    /// With the longest order that was found: its length, and what the register then held.
    Broken {
        placed: usize,
        register: Option<Value>,
    },
    Undecided,
}

/// Checks every key of the history, and says what is wrong.
pub(crate) fn check(history: &History, keys: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for key in 0..keys {
        let operations: Vec<_> =
            history.operations.iter().filter(|it| it.key == key && counts(it)).copied().collect();
        match search(&operations) {
            Verdict::Linearizable => {}
            verdict @ (Verdict::Broken { .. } | Verdict::Undecided) => {
                let around = operations.len().saturating_sub(40);
                let shown: Vec<_> =
                    operations[around..].iter().map(|it| format!("\n  {it:?}")).collect();
                let shown = shown.concat();
                wrong.push(format!("key{key} is not linearizable: {verdict:?}{shown}"));
            }
        }
    }
    wrong
}

/// A read without an answer says nothing, and a refused write must not have happened.
fn counts(operation: &Operation) -> bool {
    match operation.outcome {
        Outcome::Unknown => operation.action != Action::Read,
        Outcome::Refused => false,
        Outcome::Done(_)
        | Outcome::Gone(_)
        | Outcome::Mismatch(_)
        | Outcome::Differed
        | Outcome::Absent(_)
        | Outcome::Value(_) => true,
    }
}

/// What an operation leaves of the register; `None` when its answer does not fit.
fn step(operation: &Operation, register: Option<Value>) -> Option<Option<Value>> {
    let fits = |fits: bool, after: Option<Value>| fits.then_some(after);
    match (operation.action, operation.outcome) {
        (Action::Publish(value), Outcome::Done(_) | Outcome::Unknown) => Some(Some(value)),
        (Action::CompareAndSet { expected, value }, Outcome::Done(_) | Outcome::Unknown) => {
            fits(register.is_none_or(|stored| stored == expected), Some(value))
        }
        (Action::CompareAndSet { expected, .. }, Outcome::Mismatch(_) | Outcome::Differed) => {
            fits(register.is_some_and(|stored| stored != expected), register)
        }
        (Action::Remove, Outcome::Done(_) | Outcome::Unknown) => fits(register.is_some(), None),
        (Action::Remove, Outcome::Gone(_)) => Some(None),
        (Action::Remove, Outcome::Absent(_)) => fits(register.is_none(), None),
        (Action::Read, Outcome::Value(value)) => fits(register == value, register),
        _ => None,
    }
}

type Placed = Vec<u64>;

fn holds(placed: &Placed, at: usize) -> bool {
    placed[at / 64] & (1 << (at % 64)) != 0
}

/// Looks for an order.
pub(crate) fn search(operations: &[Operation]) -> Verdict {
    let words = operations.len().div_ceil(64).max(1);
    let mut tried: HashSet<(Placed, Option<Value>)> = HashSet::new();
    let mut open: Vec<(Placed, Option<Value>, usize)> = vec![(vec![0; words], None, 0)];
    let mut longest = (0, None);
    while let Some((placed, register, count)) = open.pop() {
        if count > longest.0 {
            longest = (count, register);
        }
        // Whoever returned first among those not yet placed: nothing called later may come before.
        let left = || (0..operations.len()).filter(|at| !holds(&placed, *at));
        let Some(bound) = left().filter_map(|at| operations[at].returned_surely()).min() else {
            return Verdict::Linearizable;
        };
        let least: Option<Revision> =
            left().filter_map(|at| operations[at].outcome.revision()).min();
        let mut next: Vec<usize> = left()
            .filter(|at| operations[*at].invoked < bound)
            .filter(|at| operations[*at].outcome.revision().is_none_or(|it| Some(it) == least))
            .collect();
        // The stack takes the last one first: those that surely happened, by their return.
        next.sort_by_key(|at| {
            std::cmp::Reverse(operations[*at].returned_surely().unwrap_or(u64::MAX))
        });
        for at in next {
            let Some(after) = step(&operations[at], register) else { continue };
            let mut more = placed.clone();
            more[at / 64] |= 1 << (at % 64);
            if tried.insert((more.clone(), after)) {
                open.push((more, after, count + 1));
            }
        }
        if tried.len() > LIMIT {
            return Verdict::Undecided;
        }
    }
    Verdict::Broken { placed: longest.0, register: longest.1 }
}

impl Operation {
    /// When it returned, if it then had surely happened.
    fn returned_surely(&self) -> Option<u64> {
        self.returned.filter(|_| self.outcome != Outcome::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(action: Action, invoked: u64, returned: u64, outcome: Outcome) -> Operation {
        Operation { client: 0, key: 0, action, invoked, returned: Some(returned), outcome }
    }

    #[test]
    fn good_histories_pass_and_bad_ones_do_not() {
        let done = |revision| Outcome::Done(Revision(revision));
        let publish = |value, invoked, returned, outcome| {
            operation(Action::Publish(value), invoked, returned, outcome)
        };
        let read = |value, invoked, returned| {
            operation(Action::Read, invoked, returned, Outcome::Value(value))
        };
        let compare = |expected, value, invoked, returned, outcome| {
            let action = Action::CompareAndSet { expected, value };
            operation(action, invoked, returned, outcome)
        };
        let mismatch = Outcome::Mismatch(Revision(2));
        let cases: Vec<(&str, Vec<Operation>, bool)> = vec![
            ("nothing", vec![], true),
            ("write, read", vec![publish(1, 1, 2, done(1)), read(Some(1), 3, 4)], true),
            ("stale read", vec![publish(1, 1, 2, done(1)), read(None, 3, 4)], false),
            ("read beside a write", vec![publish(1, 1, 9, done(1)), read(None, 2, 3)], true),
            (
                "seen, then unseen",
                vec![publish(1, 1, 9, done(1)), read(Some(1), 2, 3), read(None, 4, 5)],
                false,
            ),
            (
                "an unknown write appears late",
                vec![publish(1, 1, 2, Outcome::Unknown), read(None, 3, 4), read(Some(1), 5, 6)],
                true,
            ),
            (
                "an unknown write disappears",
                vec![publish(1, 1, 2, Outcome::Unknown), read(Some(1), 3, 4), read(None, 5, 6)],
                false,
            ),
            (
                "revisions against time",
                vec![publish(1, 1, 2, done(7)), publish(2, 3, 4, done(6))],
                false,
            ),
            (
                "compare and set",
                vec![publish(1, 1, 2, done(1)), compare(1, 2, 3, 4, done(2)), read(Some(2), 5, 6)],
                true,
            ),
            (
                "compare and set of another",
                vec![publish(1, 1, 2, done(1)), compare(9, 2, 3, 4, done(2))],
                false,
            ),
            (
                "a mismatch without cause",
                vec![publish(1, 1, 2, done(1)), compare(1, 2, 3, 4, mismatch)],
                false,
            ),
        ];
        for (name, operations, is_good) in cases {
            assert_eq!(search(&operations) == Verdict::Linearizable, is_good, "{name}");
        }
    }
}
