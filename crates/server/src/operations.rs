//! What clients can do, one function each, whatever the dialect they speak: a typed request in,
//! a typed answer or a [`Failure`](crate::failure::Failure) out.

pub(crate) mod changes;
pub(crate) mod config;
pub(crate) mod dry_run;
pub(crate) mod history;
pub(crate) mod listen;
pub(crate) mod listeners;
pub(crate) mod namespace;
pub(crate) mod search;
pub(crate) mod validation;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page<T> {
    /// Of the whole list.
    pub(crate) total: usize,
    /// From 1.
    pub(crate) number: usize,
    /// Most items of a page.
    pub(crate) size: usize,
    pub(crate) items: Vec<T>,
}

impl<T> Page<T> {
    /// One page of a list.
    pub(crate) fn of(all: Vec<T>, number: usize, size: usize) -> Self {
        let (total, first) = (all.len(), number.saturating_sub(1).saturating_mul(size));
        let items = all.into_iter().skip(first).take(size).collect();
        Self { total, number, size, items }
    }

    /// How many pages the list has.
    pub(crate) const fn pages(&self) -> usize {
        self.total.div_ceil(if self.size == 0 { 1 } else { self.size })
    }
}
