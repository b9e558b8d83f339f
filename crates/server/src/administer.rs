//! `quorate cluster …`: asks a running node over HTTP and shows its answer, as a table or as JSON.
#![expect(clippy::indexing_slicing, reason = "what a JSON value has not is null there")]

mod client;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use self::client::{Answer, Server};

/// Pause between two looks at a node that is catching up.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What to do, at which node.
#[derive(Debug)]
pub(crate) struct Administration {
    /// `http://HOST:PORT` of any node.
    pub(crate) server: String,
    /// File with the cluster's secret, for a node of another machine.
    pub(crate) secret_file: Option<String>,
    /// JSON as it came instead of a table.
    pub(crate) json: bool,
    /// What to do.
    pub(crate) task: Task,
}

/// What to do. Members are named by id or by peer address.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    Status,
    Add { address: String, learner: bool, timeout: Duration },
    Remove { members: Vec<String>, if_present: bool },
    Replace { old: String, new: String },
    TransferLeader { to: Option<String>, from_self: bool },
    Snapshot,
    Check,
}

impl Administration {
    /// Asks, prints, and makes the answer an exit code: 0 done, 1 not.
    pub(crate) fn run(&self) -> ExitCode {
        let done = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
            .and_then(|runtime| runtime.block_on(self.perform()));
        match done {
            Ok(Shown { text, healthy }) => {
                show::print(&text);
                if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(why) => {
                show::complain(&why);
                ExitCode::FAILURE
            }
        }
    }

    async fn perform(&self) -> Result<Shown, String> {
        let server = Server::new(&self.server, self.secret_file.as_deref())?;
        match &self.task {
            Task::Status => {
                let status = self.best_status(&server).await?;
                Ok(self.shown(&status, show::status))
            }
            Task::Add { address, learner, timeout } => {
                let wanted = json!({"add": {"address": address, "staysLearner": learner}});
                let done = change(&server, &wanted).await?;
                if !learner {
                    wait_until_votes(&server, address, *timeout).await?;
                }
                Ok(self.shown(&done, show::done))
            }
            Task::Remove { members, if_present } => {
                let status = status(&server).await?;
                let mut ids = Vec::new();
                for member in members {
                    match find(&status, member) {
                        Ok(id) => ids.push(id),
                        Err(_) if *if_present => {}
                        Err(why) => return Err(why),
                    }
                }
                if ids.is_empty() {
                    let done = json!({"done": "nothing: none of them is a member"});
                    return Ok(self.shown(&done, show::done));
                }
                let done = change(&server, &json!({"remove": ids})).await?;
                Ok(self.shown(&done, show::done))
            }
            Task::Replace { old, new } => {
                let status = status(&server).await?;
                let wanted = json!({"old": find(&status, old)?, "new": find(&status, new)?});
                let done = change(&server, &json!({"replace": wanted})).await?;
                Ok(self.shown(&done, show::done))
            }
            Task::TransferLeader { to, from_self } => {
                let status = status(&server).await?;
                if *from_self && status["leader"] != status["nodeId"] {
                    let done = json!({"done": "nothing: this node does not lead"});
                    return Ok(self.shown(&done, show::done));
                }
                let to = to.as_deref().map(|to| find(&status, to)).transpose()?;
                let done = change(&server, &json!({"transfer": {"to": to}})).await?;
                Ok(self.shown(&done, show::done))
            }
            Task::Snapshot => {
                let done = post(&server, "/quorate/v1/cluster/snapshot", &Value::Null).await?;
                Ok(self.shown(&done, show::snapshot))
            }
            Task::Check => {
                let checked = post(&server, "/quorate/v1/cluster/check", &Value::Null).await?;
                let healthy = checked["healthy"] == true;
                Ok(Shown { healthy, ..self.shown(&checked, show::check) })
            }
        }
    }

    /// The leader's view says how far each member is; that of the node asked will do.
    async fn best_status(&self, server: &Server) -> Result<Value, String> {
        let mine = status(server).await?;
        if mine["leader"] != mine["nodeId"]
            && let Some(address) = mine["leaderHttp"].as_str()
            && let Ok(leader) = server.at(address)
            && let Ok(theirs) = status(&leader).await
            && theirs["clusterId"] == mine["clusterId"]
        {
            return Ok(theirs);
        }
        Ok(mine)
    }

    fn shown(&self, answer: &Value, table: impl FnOnce(&Value) -> String) -> Shown {
        let text = if self.json { format!("{answer:#}\n") } else { table(answer) };
        Shown { text, healthy: true }
    }
}

struct Shown {
    text: String,
    healthy: bool,
}

async fn status(server: &Server) -> Result<Value, String> {
    good(&server.get("/quorate/v1/cluster").await?)
}

async fn post(server: &Server, path: &str, body: &Value) -> Result<Value, String> {
    good(&server.post(path, body).await?)
}

async fn change(server: &Server, wanted: &Value) -> Result<Value, String> {
    post(server, "/quorate/v1/cluster/change", wanted).await
}

/// What was answered, or the message of the error page.
fn good(answer: &Answer) -> Result<Value, String> {
    let body: Value = serde_json::from_slice(&answer.body).map_err(|_| {
        format!("the server answered {} and no JSON: is this Quorate's HTTP port?", answer.status)
    })?;
    if answer.status == 200 {
        return Ok(body);
    }
    let message = body["message"].as_str().unwrap_or_default();
    Err(format!("{message} ({})", answer.status))
}

/// The id of a member that is named by id or by address.
fn find(status: &Value, name: &str) -> Result<String, String> {
    let members = status["members"].as_array().into_iter().flatten();
    let named: Vec<_> = members
        .filter(|member| member["id"] == name || member["peer"] == name)
        .filter_map(|member| member["id"].as_str())
        .collect();
    match named[..] {
        [id] => Ok(id.to_owned()),
        [] => Err(format!("{name} is no member: write an id or a peer address of the status")),
        _ => Err(format!("several members have the address {name}: write the id")),
    }
}

/// Waits until the node at an address is a voter.
async fn wait_until_votes(server: &Server, address: &str, timeout: Duration) -> Result<(), String> {
    let waited = tokio::time::timeout(timeout, async {
        loop {
            // While it is in doubt, so is the status: the next look tells.
            if let Ok(status) = status(server).await {
                let members = status["members"].as_array().into_iter().flatten();
                let votes =
                    |member: &&Value| member["peer"] == address && member["isVoter"] == true;
                if members.clone().find(votes).is_some() {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    waited.await.map_err(|_| {
        format!("{address} was added, but is no voter after {timeout:?}: see the status")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_id_and_by_address() {
        let status = json!({"members": [
            {"id": "000000000000000a", "peer": "a:1"},
            {"id": "000000000000000b", "peer": "b:1"},
            {"id": "000000000000000c", "peer": "b:1"},
        ]});
        assert_eq!(find(&status, "a:1").as_deref(), Ok("000000000000000a"));
        assert_eq!(find(&status, "000000000000000c").as_deref(), Ok("000000000000000c"));
        assert!(find(&status, "b:1").unwrap_err().contains("several"));
        assert!(find(&status, "c:1").unwrap_err().contains("no member"));
    }

    #[test]
    fn an_error_page_becomes_its_message() {
        let page = Answer { status: 409, body: br#"{"message":"no"}"#.as_slice().into() };
        assert_eq!(good(&page), Err("no (409)".to_owned()));
        let other = Answer { status: 200, body: b"<html>".as_slice().into() };
        assert!(good(&other).unwrap_err().contains("no JSON"));
    }
}
