//! The queue to the disk thread: bounded by count and bytes, awaited by the one that submits,
//! lingered over by the one that takes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Batch, DiskError, DiskOptions, Lag};
use crate::store::State;

/// What the disk thread is asked to do, in order.
pub(super) enum Message {
    Batch(Batch, Ticket),
    Sync(oneshot::Sender<Result<Option<u64>, DiskError>>, Ticket),
    Rebuild(Box<State>, Ticket),
    Close(oneshot::Sender<()>),
}

impl Message {
    /// Whether somebody may be waiting for it.
    const fn is_urgent(&self) -> bool {
        !matches!(self, Self::Batch(..))
    }
}

/// Submitted and not yet written.
#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// A message's place in the queue: given back when it is dropped, which is when its batch is
/// written or given up.
pub(super) struct Ticket {
    permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    counters: Arc<Counters>,
    lag: Lag,
}

impl Ticket {
    /// Lets the next one in while this one still counts as unwritten.
    pub(super) fn give_way(&mut self) {
        self.permits = None;
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.lag.bytes
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Lag { batches, entries, bytes } = self.lag;
        self.counters.batches.fetch_sub(batches, Ordering::Relaxed);
        self.counters.entries.fetch_sub(entries, Ordering::Relaxed);
        self.counters.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Inner {
    messages: VecDeque<Message>,
    bytes: u64,
    urgent: bool,
    closed: bool,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
    room_bytes: u32,
    counters: Arc<Counters>,
    options: DiskOptions,
}

impl Queue {
    pub(super) fn new(options: DiskOptions) -> Self {
        // A permit is a byte, and permits are counted in u32.
        let room_bytes = u32::try_from(options.queue_bytes).unwrap_or(u32::MAX);
        Self {
            inner: Mutex::default(),
            wake: Condvar::new(),
            places: Arc::new(Semaphore::new(options.queue_batches)),
            room: Arc::new(Semaphore::new(room_bytes as usize)),
            room_bytes,
            counters: Arc::default(),
            options,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is left half done under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. A message larger than the whole queue takes all of it. `None` when the
    /// queue is closed.
    pub(super) async fn place(&self, lag: Lag) -> Option<Ticket> {
        let bytes = u32::try_from(lag.bytes).unwrap_or(u32::MAX).min(self.room_bytes);
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.ok()?;
        let counters = Arc::clone(&self.counters);
        counters.batches.fetch_add(lag.batches, Ordering::Relaxed);
        counters.entries.fetch_add(lag.entries, Ordering::Relaxed);
        counters.bytes.fetch_add(lag.bytes, Ordering::Relaxed);
        Some(Ticket { permits: Some((place, room)), counters, lag })
    }

    /// Appends. A closed queue drops the message.
    pub(super) fn push(&self, message: Message) {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            return drop(message);
        }
        if let Message::Batch(_, ticket) = &message {
            inner.bytes = inner.bytes.saturating_add(ticket.bytes());
        }
        inner.urgent |= message.is_urgent();
        inner.messages.push_back(message);
        // The thread waits for the first one, then for more; nothing in between concerns it.
        let due = inner.messages.len() == 1 || self.is_due(&inner);
        drop(inner);
        if due {
            self.wake.notify_one();
        }
    }

    fn is_due(&self, inner: &Inner) -> bool {
        inner.urgent
            || inner.closed
            || inner.bytes >= self.options.merge_bytes
            // Half of the places: the other half fills while these are written.
            || inner.messages.len() >= self.options.queue_batches.div_ceil(2)
    }

    /// Waits for messages, then lingers for more. `None` when the queue is closed and empty.
    pub(super) fn take(&self) -> Option<VecDeque<Message>> {
        let inner = self.lock();
        let inner = self
            .wake
            .wait_while(inner, |inner| inner.messages.is_empty() && !inner.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let (mut inner, _) = self
            .wake
            .wait_timeout_while(inner, self.options.linger, |inner| !self.is_due(inner))
            .unwrap_or_else(PoisonError::into_inner);
        let messages = Self::empty(&mut inner);
        (!messages.is_empty()).then_some(messages)
    }

    /// Whatever is there.
    pub(super) fn take_now(&self) -> VecDeque<Message> {
        Self::empty(&mut self.lock())
    }

    fn empty(inner: &mut Inner) -> VecDeque<Message> {
        inner.bytes = 0;
        inner.urgent = false;
        std::mem::take(&mut inner.messages)
    }

    /// Lets nothing more in and wakes both sides.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.places.close();
        self.room.close();
        self.wake.notify_all();
    }

    pub(super) fn lag(&self) -> Lag {
        Lag {
            batches: self.counters.batches.load(Ordering::Relaxed),
            entries: self.counters.entries.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }
}
