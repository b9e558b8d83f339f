//! The network between the nodes: every call passes here as the HTTP request that the peers'
//! client made, and is answered by the peers' service of the other node.
//!
//! A call is what it is over TCP: in order and whole, or broken off. Packets that are lost come
//! later, a link that stays dead for as long as the keep-alive waits breaks its calls, and a call
//! that is asked once may be answered twice only where it is one message (see `DOUBLED`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_raft::host::Host;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{StdError, http};

use crate::random::Random;
use crate::stream::{Collected, Incoming, Part};
use crate::trace::{digest, trace};
use crate::world::World;

/// A dead connection is noticed after so long: the transport's keep-alive.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Longest that connecting takes.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Parts on their way at most, on each side of the wire.
const IN_FLIGHT: usize = 8;
/// Calls of one message, which a simulated network may deliver twice.
const DOUBLED: [&str; 3] = ["Vote", "Hello", "ReadIndex"];

/// One direction between two nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Faults that block it.
    pub(crate) blocks: i32,
    /// Milliseconds that a part takes, at least and at most.
    pub(crate) millis: (u64, u64),
    /// Parts of a thousand that are lost at first.
    pub(crate) lost: u64,
    /// Calls or parts of a thousand that come twice.
    pub(crate) doubled: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self { blocks: 0, millis: (1, 4), lost: 0, doubled: 0 }
    }
}

#[derive(Debug)]
struct Inner {
    links: Vec<Link>,
    /// Since when a pair of nodes cannot hear each other, by lower and higher index.
    mute_since: Vec<Option<Instant>>,
    /// Raised when all connections of a pair are reset.
    epochs: Vec<u64>,
    random: Random,
    calls: u64,
}

#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Network {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        let inner = Inner {
            links: vec![Link::default(); nodes * nodes],
            mute_since: vec![None; nodes * nodes],
            epochs: vec![0; nodes * nodes],
            random: Random::new(seed, "network"),
            calls: 0,
        };
        Self { nodes, inner: Mutex::new(inner), changed: Notify::new() }
    }

    fn pair(&self, one: usize, other: usize) -> usize {
        one.min(other) * self.nodes + one.max(other)
    }

    /// Changes links; `is_paused` says which nodes answer nothing.
    pub(crate) fn change(
        &self,
        is_paused: impl Fn(usize) -> bool,
        mut change: impl FnMut(usize, usize, &mut Link),
    ) {
        let mut inner = self.inner.lock();
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                change(from, to, &mut inner.links[from * self.nodes + to]);
            }
        }
        for one in 0..self.nodes {
            for other in one + 1..self.nodes {
                let is_mute = inner.links[one * self.nodes + other].blocks > 0
                    || inner.links[other * self.nodes + one].blocks > 0
                    || is_paused(one)
                    || is_paused(other);
                let pair = self.pair(one, other);
                let since = inner.mute_since[pair].unwrap_or_else(Instant::now);
                inner.mute_since[pair] = is_mute.then_some(since);
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Breaks all connections of a pair.
    pub(crate) fn reset(&self, one: usize, other: usize) {
        let pair = self.pair(one, other);
        self.inner.lock().epochs[pair] += 1;
        self.changed.notify_waiters();
    }

    fn next_call(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.calls += 1;
        inner.calls
    }

    fn link(&self, from: usize, to: usize) -> Link {
        self.inner.lock().links[from * self.nodes + to]
    }

    fn epoch(&self, from: usize, to: usize) -> u64 {
        self.inner.lock().epochs[self.pair(from, to)]
    }

    /// How long one part takes.
    fn delay(&self, from: usize, to: usize) -> Duration {
        let link = self.link(from, to);
        let random = &mut self.inner.lock().random;
        let mut delay = random.millis(link.millis.0..link.millis.1);
        while random.per_mille(link.lost) {
            // Sent again after a while, like TCP does.
            delay += random.millis(200..500);
        }
        delay
    }

    fn doubles(&self, from: usize, to: usize) -> bool {
        let doubled = self.link(from, to).doubled;
        self.inner.lock().random.per_mille(doubled)
    }

    fn random_millis(&self, range: std::ops::Range<u64>) -> Duration {
        self.inner.lock().random.millis(range)
    }

    /// Waits until `look` finds something; it is asked again at each change.
    async fn when<T>(&self, mut look: impl FnMut(&Inner) -> Result<T, Option<Instant>>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let again = match look(&self.inner.lock()) {
                Ok(found) => return found,
                Err(again) => again,
            };
            match again {
                None => changed.await,
                Some(at) => drop(timeout_at(at, changed).await),
            }
        }
    }

    /// Resolves when a connection of this epoch is noticed to be dead.
    async fn dead(&self, one: usize, other: usize, epoch: u64) {
        let pair = self.pair(one, other);
        self.when(|inner| {
            if inner.epochs[pair] != epoch {
                return Ok(());
            }
            match inner.mute_since[pair].map(|since| since + KEEP_ALIVE) {
                Some(end) if end <= Instant::now() => Ok(()),
                end => Err(end),
            }
        })
        .await;
    }

    /// Waits until the direction is open.
    async fn open(&self, from: usize, to: usize) {
        let link = from * self.nodes + to;
        self.when(|inner| if inner.links[link].blocks > 0 { Err(None) } else { Ok(()) }).await;
    }

    fn is_dead(&self, one: usize, other: usize) -> bool {
        let since = self.inner.lock().mute_since[self.pair(one, other)];
        since.is_some_and(|since| since.elapsed() >= KEEP_ALIVE)
    }
}

fn unavailable(why: &'static str) -> StdError {
    Box::new(Status::unavailable(why))
}

/// The deadline that the caller put on the call.
fn time_limit(request: &http::Request<Body>) -> Option<Duration> {
    let text = request.headers().get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len() - 1)?;
    let number = number.parse().ok()?;
    match unit {
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Delivers one call.
pub(crate) async fn call(
    world: Arc<World>,
    from: usize,
    address: String,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, StdError> {
    let Some(to) = world.index_of(&address) else { return Err(unavailable("no such host")) };
    let limit = time_limit(&request);
    let number = world.network.next_call();
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    trace!(world, "call {number} n{from}>n{to} {method}");
    let wire = Wire { world, from, to, number, method };
    let exchange = wire.exchange(request);
    let ended = match limit {
        None => exchange.await,
        Some(limit) => match timeout(limit, exchange).await {
            Ok(ended) => ended,
            Err(_) => Err(Box::new(Status::cancelled("Timeout expired")) as StdError),
        },
    };
    if let Err(error) = &ended {
        trace!(wire.world, "call {number} failed: {error}");
    }
    ended
}

/// A part and when it arrives.
type Sent = (Instant, Part);
/// The head of an answer, and its body as it is sent.
type Answer = http::Response<mpsc::Receiver<Sent>>;

/// One call on its way.
#[derive(Clone)]
struct Wire {
    world: Arc<World>,
    from: usize,
    to: usize,
    number: u64,
    method: String,
}

impl Wire {
    async fn exchange(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, StdError> {
        let network = &self.world.network;
        let epoch = network.epoch(self.from, self.to);
        if network.is_dead(self.from, self.to) {
            sleep(CONNECT_LIMIT).await;
            return Err(unavailable("connect timeout"));
        }
        let stopped = CancellationToken::new();
        let guard = stopped.clone().drop_guard();
        let answer = self.deliver(request, epoch, &stopped);
        tokio::select! {
            biased;
            answer = answer => answer.map(|answer| answer.map(|incoming| hold(incoming, guard))),
            () = network.dead(self.from, self.to, epoch) => Err(unavailable("connection lost")),
        }
    }

    async fn deliver(
        &self,
        request: http::Request<Body>,
        epoch: u64,
        stopped: &CancellationToken,
    ) -> Result<http::Response<Incoming>, StdError> {
        let (parts, body) = request.into_parts();
        let body = if DOUBLED.contains(&self.method.as_str()) {
            let message = Collected::read(body).await?;
            if self.world.network.doubles(self.from, self.to) {
                self.again(http::Request::from_parts(parts.clone(), message.clone().into_body()));
            }
            message.into_body()
        } else {
            body
        };
        sleep(self.world.network.delay(self.from, self.to)).await;
        self.world.network.open(self.from, self.to).await;
        let (out, sent) = mpsc::channel(IN_FLIGHT);
        drop(self.host(self.from).run(pump(self.clone(), self.from, self.to, body, out)));
        let incoming = self.carry(self.from, self.to, sent, epoch, stopped);
        let answer = self.ask(http::Request::from_parts(parts, Body::new(incoming)))?;
        let answer = answer.await.map_err(|_| unavailable("connection reset"))?;
        let (parts, sent) = answer.into_parts();
        let incoming = self.carry(self.to, self.from, sent, epoch, stopped);
        sleep(self.world.network.delay(self.to, self.from)).await;
        self.world.network.open(self.to, self.from).await;
        Ok(http::Response::from_parts(parts, incoming))
    }

    /// Lets the other node answer, as a task of its own, which sends the body of its answer too.
    fn ask(&self, request: http::Request<Body>) -> Result<oneshot::Receiver<Answer>, StdError> {
        let Some(mut calls) = self.world.calls(self.to) else {
            return Err(unavailable("connection refused"));
        };
        let (answer, answered) = oneshot::channel();
        let wire = self.clone();
        let handle = async move {
            let (parts, body) = calls.call(request).await.into_parts();
            let (out, sent) = mpsc::channel(IN_FLIGHT);
            // The caller may have gone.
            if answer.send(http::Response::from_parts(parts, sent)).is_ok() {
                let (from, to) = (wire.to, wire.from);
                pump(wire, from, to, body, out).await;
            }
        };
        drop(self.host(self.to).run(handle));
        Ok(answered)
    }

    /// The same message once more, some time later; nobody waits for the answer.
    fn again(&self, request: http::Request<Body>) {
        let wire = self.clone();
        let later = wire.world.network.random_millis(1..1500);
        trace!(wire.world, "call {} comes twice", wire.number);
        self.world.spawn(async move {
            sleep(later).await;
            wire.world.network.open(wire.from, wire.to).await;
            if let Ok(answer) = wire.ask(request) {
                drop(answer.await);
            }
        });
    }

    fn host(&self, index: usize) -> Host {
        self.world.host(index)
    }

    /// Carries a body from one node to another.
    fn carry(
        &self,
        from: usize,
        to: usize,
        mut sent: mpsc::Receiver<Sent>,
        epoch: u64,
        stopped: &CancellationToken,
    ) -> Incoming {
        let (arrive, arrived) = mpsc::channel(IN_FLIGHT);
        let mut courier = Courier { wire: self.clone(), from, to, held: None };
        let (stopped, is_request) = (stopped.clone(), from == self.from);
        self.world.spawn(async move {
            let network = &courier.wire.world.clone().network;
            tokio::select! {
                biased;
                () = network.dead(from, to, epoch) => {}
                () = stopped.cancelled() => if is_request {
                    // The caller has gone, but what it sent is on its way.
                    sent.close();
                    tokio::select! {
                        biased;
                        () = network.dead(from, to, epoch) => {}
                        () = courier.run(&mut sent, &arrive) => {}
                    }
                },
                () = courier.run(&mut sent, &arrive) => {}
            }
            // Broken off, unless it had ended: who still reads is told, if there is room.
            drop(arrive.try_send(Err(Status::unavailable("connection reset"))));
        });
        Incoming::new(arrived)
    }
}

/// Sends a body, as a task of the node that it belongs to.
async fn pump(wire: Wire, from: usize, to: usize, body: Body, out: mpsc::Sender<Sent>) {
    let mut parts = Part::read(body);
    while let Some(part) = parts.next().await {
        let at = Instant::now() + wire.world.network.delay(from, to);
        if out.send((at, part)).await.is_err() {
            return;
        }
    }
}

/// Takes what was sent to its place, in order, each part in its time.
struct Courier {
    wire: Wire,
    from: usize,
    to: usize,
    held: Option<(Instant, Part)>,
}

impl Courier {
    async fn run(
        &mut self,
        sent: &mut mpsc::Receiver<Sent>,
        arrive: &mpsc::Sender<Result<Part, Status>>,
    ) {
        let (from, to) = (self.from, self.to);
        let wire = self.wire.clone();
        let network = &wire.world.network;
        loop {
            if self.held.is_none() {
                self.held = sent.recv().await;
            }
            let Some((at, _)) = &self.held else { break };
            sleep_until(*at).await;
            network.open(from, to).await;
            let Some((_, part)) = self.held.take() else { break };
            let bytes = part.data().map(Bytes::as_ref).unwrap_or_default();
            trace!(
                wire.world,
                "call {} n{from}>n{to} {} bytes {:08x}",
                wire.number,
                bytes.len(),
                digest(bytes)
            );
            let twice = wire.method == "Forward" && network.doubles(from, to);
            if twice && let Some(data) = part.data() {
                trace!(wire.world, "call {} comes twice", wire.number);
                if arrive.send(Ok(Part::of(data.clone()))).await.is_err() {
                    return;
                }
            }
            let is_end = part.is_end();
            if arrive.send(Ok(part)).await.is_err() || is_end {
                return;
            }
        }
        // The sender died or gave up in the middle of it.
        network.open(from, to).await;
    }
}

/// Keeps the call alive as long as its answer is read.
fn hold(incoming: Incoming, guard: DropGuard) -> Body {
    Body::new(incoming.holding(guard))
}
