//! Clients that publish or read over HTTP, for each system that speaks the paths of Nacos.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use crate::http::{Connection, Template};
use crate::load::{Client, Fleet, Pick};

/// What the clients of a fleet do.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Publish a new value of this many bytes.
    Publish(usize),
    /// Read a value of this many bytes.
    Get(usize),
}

/// Clients spread evenly over the nodes.
pub(crate) struct HttpFleet {
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) keys: u64,
    pub(crate) work: Work,
}

/// One keep-alive connection with one request under way at a time.
pub(crate) struct HttpClient {
    connection: Connection,
    template: Template,
    pick: Pick,
    work: Work,
}

impl Fleet for HttpFleet {
    type Client = HttpClient;

    async fn connect(
        &self,
        indices: &[usize],
        _drivers: &mut JoinSet<()>,
    ) -> anyhow::Result<Vec<HttpClient>> {
        let mut clients = Vec::new();
        for index in indices {
            let node = index % self.nodes.len().max(1);
            let address = *self.nodes.get(node).context("no node")?;
            let template = match self.work {
                Work::Publish(size) => Template::publish(address, size),
                Work::Get(_) => Template::get(address),
            };
            let mut connection = Connection::new(address);
            connection.open().await?;
            let pick = Pick::new(*index, self.keys);
            clients.push(HttpClient { connection, template, pick, work: self.work });
        }
        Ok(clients)
    }
}

impl Client for HttpClient {
    async fn call(&mut self) -> anyhow::Result<()> {
        let (key, stamp) = self.pick.next();
        self.connection.send(self.template.fill(key, stamp)).await?;
        let (answer, body) = self.connection.receive().await?;
        let expected = match self.work {
            Work::Publish(_) => body == b"true",
            Work::Get(size) => answer.length == size,
        };
        ensure!(answer.status == 200 && expected, "answered {}", answer.status);
        Ok(())
    }
}
