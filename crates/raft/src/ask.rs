//! Questions from node to node that are no part of the agreement, such as who listens at a node.
//! What they mean is the edge's affair ([`Answerer`]); here they are carried.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::node::{Inner, Node};
use crate::peer::{Client, client, wire};
use crate::types::{Member, NodeId};

/// Answers what other nodes ask.
pub trait Answerer: Send + Sync {
    /// The answer to a question; the error says why there is none.
    fn answer(&self, question: Bytes) -> Answering;
}

/// An answer that is being made.
pub type Answering = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// Who answers here, and the connections to those that are asked.
#[derive(Default)]
pub(crate) struct Asking {
    answerer: OnceLock<Arc<dyn Answerer>>,
    /// With the address that each connection goes to.
    clients: Mutex<BTreeMap<NodeId, (String, Client)>>,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}

impl Node {
    /// Sets who answers what other nodes ask this one. Once; a second call changes nothing.
    pub fn answer_with(&self, answerer: Arc<dyn Answerer>) {
        drop(self.inner.asking.answerer.set(answerer));
    }

    /// Asks this node itself.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask_here(&self, question: Bytes) -> Result<Bytes, String> {
        self.inner.answer(question).await
    }

    /// Asks all other members the same, and waits for each until the deadline.
    pub async fn ask_others(
        &self,
        question: &Bytes,
        deadline: Instant,
    ) -> Vec<(NodeId, Result<Bytes, String>)> {
        let inner = &self.inner;
        let mut others = inner.members();
        others.retain(|(id, _, _)| *id != inner.id);
        // Connections to those who are members no longer are not kept.
        inner.asking.clients.lock().retain(|id, _| others.iter().any(|(other, ..)| other == id));
        let asked = others.into_iter().map(|(id, member, _)| async move {
            (id, inner.ask(id, &member, question.clone(), deadline).await)
        });
        join_all(asked).await
    }
}

impl Inner {
    pub(crate) async fn answer(&self, question: Bytes) -> Result<Bytes, String> {
        match self.asking.answerer.get() {
            Some(answerer) => answerer.answer(question).await,
            None => Err("nobody answers here".to_owned()),
        }
    }

    async fn ask(
        &self,
        id: NodeId,
        member: &Member,
        question: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, String> {
        let address = self.address_of(id, &member.peer);
        let held = self.asking.clients.lock().get(&id).cloned();
        let mut client = match held.filter(|(held, _)| *held == address) {
            Some((_, client)) => client,
            None => {
                let (credentials, cluster) = (&self.myself.credentials, self.cluster.get());
                let made = client(&address, credentials, cluster.copied(), Some(id))
                    .map_err(|error| error.to_string())?;
                self.asking.clients.lock().insert(id, (address, made.clone()));
                made
            }
        };
        let mut request = tonic::Request::new(wire::AskRequest { question });
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match timeout_at(deadline, client.ask(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner().answer),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}
