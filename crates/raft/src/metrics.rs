//! Raft's figures for `/metrics`, read when they are asked for.

use std::sync::{Arc, Weak};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::node::Inner;

/// Reads a node when the metrics are scraped.
#[derive(Debug)]
pub(crate) struct NodeMetrics(Weak<Inner>);

impl NodeMetrics {
    /// Adds the node's, its log's and its refusals' figures.
    pub(crate) fn register(inner: &Arc<Inner>, registry: &mut Registry) {
        inner.log.metrics().register(registry);
        registry.register(
            "quorate_peer_calls_refused",
            "Calls between nodes that had a wrong secret",
            inner.refused_calls.clone(),
        );
        registry.register_collector(Box::new(Self(Arc::downgrade(inner))));
    }
}

impl Collector for NodeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(inner) = self.0.upgrade() else { return Ok(()) };
        for (name, help, value) in figures(&inner) {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

fn figures(inner: &Inner) -> Vec<(&'static str, &'static str, i64)> {
    let metrics = inner.raft.metrics().borrow_watched().clone();
    let int = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let index = |id: &Option<crate::types::LogId>| id.as_ref().map_or(-1, |id| int(id.index));
    let commit = index(&metrics.local_committed);
    let applied = index(&metrics.last_applied);
    let last = metrics.last_log_index.map_or(-1, int);
    let lag = inner.applied.disk.lag();
    let members = inner.members();
    // Before the list: a borrow that lives through it would meet another one in it.
    let leader = inner.leader.borrow().as_ref().map(|leader| leader.id);
    let has_majority = inner.has_majority();
    let has_leader = leader.is_some_and(|leader| leader != inner.id || has_majority);
    let is_leader = metrics.state == ServerState::Leader && has_majority;
    vec![
        ("quorate_raft_is_leader", "1 on the leader, 0 elsewhere", i64::from(is_leader)),
        ("quorate_raft_has_leader", "1 while this node knows a leader", i64::from(has_leader)),
        ("quorate_raft_term", "Current term", int(metrics.current_term)),
        ("quorate_raft_last_index", "Last entry of the log, -1 when empty", last),
        ("quorate_raft_commit_index", "Last entry known to be committed, -1 for none", commit),
        ("quorate_raft_applied_index", "Last applied entry, -1 for none", applied),
        ("quorate_raft_log_lag_entries", "Entries of the log not yet applied here", last - applied),
        (
            "quorate_raft_snapshot_index",
            "Last entry of the newest snapshot, -1 for none",
            index(&metrics.snapshot),
        ),
        (
            "quorate_raft_purged_index",
            "Last entry that the log no longer has, -1 for none",
            index(&metrics.purged),
        ),
        (
            "quorate_raft_voters",
            "Members that vote",
            int(members.iter().filter(|(_, _, votes)| *votes).count() as u64),
        ),
        (
            "quorate_proposals_open",
            "Proposals of this node without an answer",
            int(inner.applied.pending.len() as u64),
        ),
        (
            "quorate_store_configs",
            "Configurations",
            int(inner.applied.store.freeze().config_count() as u64),
        ),
        ("quorate_store_revision", "Last applied revision", int(inner.applied.store.revision().0)),
        (
            "quorate_disk_lag_entries",
            "Changes applied and not yet in the store on disk",
            int(lag.entries),
        ),
        ("quorate_disk_lag_bytes", "Their bytes", int(lag.bytes)),
        (
            "quorate_disk_suspended",
            "1 while the store on disk failed and waits to be rebuilt",
            i64::from(inner.applied.disk.is_suspended()),
        ),
        ("quorate_ready", "1 while this node serves", i64::from(inner.is_ready())),
    ]
}
