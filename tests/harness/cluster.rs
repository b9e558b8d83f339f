//! Several nodes that know each other.

use std::collections::BTreeMap;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::{free_addresses, free_nodes};
use super::client::Client;
use super::node::{Node, Options, signal};
use super::state::{RaftState, Role};
use super::wait::{READY, wait_until};

/// Clusters that run beside each other in one test process.
static SLOTS: Semaphore = Semaphore::const_new(2);

/// Nodes that were told of each other, running or not.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    /// None for a cluster that stands beside another in one test, which would wait for itself.
    _slot: Option<SemaphorePermit<'static>>,
}

impl Cluster {
    /// `count` nodes, formed and ready.
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, &Options::default()).await
    }

    pub(crate) async fn start_with(count: usize, options: &Options) -> Self {
        let mut cluster = Self::prepare(count, options).await;
        cluster.start_all();
        cluster.ready().await;
        cluster
    }

    /// `count` nodes that have not started yet.
    pub(crate) async fn prepare(count: usize, options: &Options) -> Self {
        let all = free_nodes(count);
        let peers: Vec<_> = all.iter().map(|own| own[0]).collect();
        let nodes = all.into_iter().map(|own| Node::new(own, &peers, options)).collect();
        Self { nodes, _slot: Some(SLOTS.acquire().await.expect("never closed")) }
    }

    /// One node that was told of no peers, ready.
    pub(crate) async fn alone(options: &Options) -> Self {
        let mut cluster = Self::prepare_alone(options).await;
        cluster.start_all();
        cluster.ready().await;
        cluster
    }

    /// One node that was told of no peers and has not started yet.
    pub(crate) async fn prepare_alone(options: &Options) -> Self {
        Self {
            nodes: one_alone(options),
            _slot: Some(SLOTS.acquire().await.expect("never closed")),
        }
    }

    /// A second cluster in a test that has one: one node that was told of no peers, not started.
    pub(crate) fn beside(&self, options: &Options) -> Self {
        Self { nodes: one_alone(options), _slot: None }
    }

    /// One more node, not started, which only joins.
    pub(crate) fn grow(&mut self, options: &Options) -> usize {
        let own = free_addresses(3).try_into().expect("three");
        let peers: Vec<_> = self.nodes.iter().map(|node| node.peer_address()).collect();
        self.nodes.push(Node::new(own, &peers, &options.clone().switch("--join-only")));
        self.nodes.len() - 1
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn node(&mut self, at: usize) -> &mut Node {
        &mut self.nodes[at]
    }

    pub(crate) fn client(&self, at: usize) -> &Client {
        self.nodes[at].client()
    }

    /// A client for each node, running or not.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.nodes.iter().map(|node| node.client().clone()).collect()
    }

    /// Starts each node that does not run.
    pub(crate) fn start_all(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| !node.is_running()) {
            node.start();
        }
    }

    pub(crate) fn kill_all(&mut self) {
        // All are stopped first, so that none acts on the death of another.
        if self.running().next().is_some() {
            signal("STOP", self.running());
        }
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// Until each running node is ready.
    pub(crate) async fn ready(&self) {
        for node in self.running() {
            node.ready().await;
        }
    }

    /// Waits until the running nodes agree on a leader among them, and says which.
    pub(crate) async fn leader(&self) -> usize {
        wait_until("one leader that all running nodes follow", READY, async || {
            let states = self.states().await?;
            let leader = states.first()?.leader.clone()?;
            let term = states.first()?.term;
            let agreed = states
                .iter()
                .all(|state| state.term == term && state.leader.as_ref() == Some(&leader));
            let at = self.nodes.iter().position(|node| node.peer() == leader)?;
            let leads = self.nodes[at].is_running()
                && self.client(at).state().await.is_ok_and(|state| state.role == Role::Leader);
            (agreed && leads).then_some(at)
        })
        .await
    }

    /// The running nodes that do not lead.
    pub(crate) async fn followers(&self) -> Vec<usize> {
        let leader = self.leader().await;
        let running = |at: &usize| self.nodes[*at].is_running();
        (0..self.nodes.len()).filter(|at| *at != leader).filter(running).collect()
    }

    /// Waits until the running nodes have applied the same revision; whenever two of them are
    /// at one revision their state hashes must be equal.
    pub(crate) async fn agree(&self) -> RaftState {
        wait_until("one revision on all running nodes", READY, async || {
            let states = self.states().await?;
            let mut hashes = BTreeMap::new();
            for state in &states {
                let first = hashes.entry(state.revision).or_insert(state);
                assert_eq!(first.state_hash, state.state_hash, "{first:#?}\n{state:#?}");
            }
            (hashes.len() == 1).then(|| states.first().cloned()).flatten()
        })
        .await
    }

    /// The states of the running nodes, or nothing when one does not answer.
    pub(crate) async fn states(&self) -> Option<Vec<RaftState>> {
        let mut states = Vec::new();
        for node in self.running() {
            states.push(node.client().state().await.ok()?);
        }
        Some(states)
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running())
    }
}

fn one_alone(options: &Options) -> Vec<Node> {
    let own = free_addresses(3).try_into().expect("three");
    vec![Node::new(own, &[], options)]
}
