//! One TCP connection of a client: what it said of itself, what it listens to, when it last gave
//! a sign of life (grpc.md §5). Everything of it ends with the connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::Labels;
use quorate_core::subscribe::Subscriber;
use quorate_core::watch::{Change, ClientMd5, ListenerId, WaiterId};
use quorate_raft::node::Node;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use crate::clock;

/// Keys that one connection may listen to; clients divide more than 3000 among connections.
pub(super) const MAX_WATCHES: usize = 10_000;

/// What a client says when it sets a connection up.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// Its own idea of its address: what audits and gray releases go by.
    pub(super) client_ip: String,
    pub(super) version: String,
    /// The namespace that it works in; it may be none.
    pub(super) namespace: String,
    pub(super) labels: Vec<(String, String)>,
    /// By which gray releases are chosen: its address, and the tag of `app_Vipserver-Tag`.
    pub(super) gray: Labels,
}

impl Setup {
    pub(super) fn app(&self) -> Option<&str> {
        let app = self.labels.iter().find(|(name, _)| name == "AppName");
        app.map(|(_, value)| value.as_str())
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// `<epoch ms>_<ip>_<port>`
    pub(super) id: String,
    pub(super) peer: SocketAddr,
    pub(super) local_port: u16,
    /// Milliseconds since 1970.
    pub(super) created_ms: u64,
    node: Node,
    setup: OnceLock<Setup>,
    no_labels: Labels,
    waiter: OnceLock<WaiterId>,
    /// The address among whose connections it is counted.
    counted_as: OnceLock<String>,
    /// Taken before a shard of the index, never by the announcer.
    watches: Mutex<HashMap<GroupKey, ListenerId>>,
    /// Taken under a shard of the index, by the announcer.
    pub(super) outbox: Mutex<Outbox>,
    begun: Instant,
    /// Milliseconds after `begun`.
    active_ms: AtomicU64,
    streams: AtomicU32,
    /// The stream that pushes go to; 0: none.
    pushes_to: AtomicU32,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
}

impl Connection {
    pub(super) fn new(
        node: Node,
        (peer, local_port): (SocketAddr, u16),
        closing: CancellationToken,
    ) -> Self {
        let created_ms = clock::unix_ms();
        Self {
            id: format!("{created_ms}_{}_{}", peer.ip(), peer.port()),
            peer,
            local_port,
            created_ms,
            node,
            setup: OnceLock::new(),
            no_labels: Labels::default(),
            waiter: OnceLock::new(),
            counted_as: OnceLock::new(),
            watches: Mutex::default(),
            outbox: Mutex::default(),
            begun: Instant::now(),
            active_ms: AtomicU64::new(0),
            streams: AtomicU32::new(0),
            pushes_to: AtomicU32::new(0),
            closing,
        }
    }

    /// Registers it; a second setup changes nothing. False when it cannot be registered.
    pub(super) fn set_up(self: &Arc<Self>, setup: Setup) -> bool {
        self.touch();
        if self.setup.set(setup).is_err() {
            return true;
        }
        let subscriber = Arc::<Self>::clone(self);
        match self.node.subscribers().enter(subscriber) {
            Some(waiter) => self.waiter.set(waiter).is_ok(),
            None => false,
        }
    }

    /// What was said at the setup; `None` before.
    pub(super) fn setup(&self) -> Option<&Setup> {
        self.waiter.get().and_then(|_| self.setup.get())
    }

    /// Notes among whose connections it is counted; false when it is counted already.
    pub(super) fn counts_as(&self, ip: &str) -> bool {
        self.counted_as.set(ip.to_owned()).is_ok()
    }

    pub(super) fn counted_as(&self) -> Option<&str> {
        self.counted_as.get().map(String::as_str)
    }

    /// A sign of life.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.fetch_max(now, Ordering::Relaxed);
    }

    /// When it last gave a sign of life, in milliseconds since 1970.
    pub(super) fn active_ms(&self) -> u64 {
        self.created_ms.saturating_add(self.active_ms.load(Ordering::Relaxed))
    }

    pub(super) fn active(&self) -> Instant {
        self.begun + Duration::from_millis(self.active_ms.load(Ordering::Relaxed))
    }

    /// A number for a stream.
    pub(super) fn open_stream(&self) -> u32 {
        self.streams.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether pushes go to this stream: to the first, and to the next when that one is gone.
    pub(super) fn takes_pushes(&self, number: u32) -> bool {
        let taken = self.pushes_to.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst);
        taken.is_ok() || taken == Err(number)
    }

    pub(super) fn close_stream(&self, number: u32) {
        let left = self.pushes_to.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst);
        if left.is_ok() {
            self.outbox.lock().wake();
        }
    }

    /// Listens to a key, or says anew what the client has of it. Compare after this. False when it
    /// is too much.
    pub(super) fn listen(&self, key: &GroupKey, md5: ClientMd5, tag: u8) -> bool {
        let Some(waiter) = self.waiter.get() else { return false };
        let index = self.node.watch_index();
        let mut watches = self.watches.lock();
        if let Some(listener) = watches.get(key) {
            index.claim(listener, md5, tag);
            return true;
        }
        if watches.len() >= MAX_WATCHES {
            return false;
        }
        let Some(listener) = index.listen(key.clone(), md5, tag, *waiter) else { return false };
        watches.insert(key.clone(), listener);
        true
    }

    /// Listens to a key no longer.
    pub(super) fn unlisten(&self, key: &GroupKey) {
        let old = self.watches.lock().remove(key);
        if let Some(old) = old {
            self.node.watch_index().unlisten(old);
            self.outbox.lock().forget(key);
        }
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.lock().len()
    }

    /// Frees all that it holds, when the connection is gone.
    pub(super) fn end(&self) {
        let watches = std::mem::take(&mut *self.watches.lock());
        for listener in watches.into_values() {
            self.node.watch_index().unlisten(listener);
        }
        if let Some(waiter) = self.waiter.get() {
            self.node.subscribers().leave(*waiter);
        }
        self.closing.cancel();
    }
}

impl Subscriber for Connection {
    fn changed(&self, change: &Arc<Change>, tag: u8) -> Option<Waker> {
        self.outbox.lock().changed(&change.key, tag)
    }

    fn has_heard(&self, key: &GroupKey) -> bool {
        !self.outbox.lock().is_waiting(key)
    }

    fn labels(&self) -> &Labels {
        self.setup.get().map_or(&self.no_labels, |setup| &setup.gray)
    }
}
