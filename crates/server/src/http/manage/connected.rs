//! Who is connected by gRPC, what clients say of themselves, and that they go elsewhere (core.md §9,
//! config.md §4.8).

use std::time::Duration;

use hyper::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::super::envelope::{Code, Dialect, Trouble, bare, result, success};
use super::super::response::{Response, TEXT, respond};
use super::{Request, What};
use crate::ask::{Load, Question, ask_all};

/// Clients answer within a second, and then there is the way back.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long other nodes may take to say how much they have to do.
const LOADS_WITHIN: Duration = Duration::from_secs(1);

async fn asked<T: DeserializeOwned>(
    request: &Request,
    question: Question,
    others_within: Option<Duration>,
) -> Vec<T> {
    ask_all(&request.app.node, question, others_within.map(|limit| Instant::now() + limit)).await
}

pub(super) async fn metrics(request: Request) -> Result<Response, Trouble> {
    let (ip, key) = {
        let pairs = request.checked()?;
        let ip = request.required(&pairs, "ip")?;
        let data_id = request.filled(&pairs, "dataId")?;
        let group = request.filled(&pairs, request.dialect.group())?;
        let key = match data_id.is_some() && group.is_some() {
            true => Some(request.key(&pairs)?.to_string()),
            false => None,
        };
        (ip.trim().to_owned(), key)
    };
    let others = (request.what == What::ClientMetrics).then_some(PATIENCE);
    let question = Question::ClientMetrics { ip, key };
    let answers: Vec<Map<String, Value>> = asked(&request, question, others).await;
    let merged: Map<String, Value> = answers.into_iter().flatten().collect();
    Ok(if request.dialect == Dialect::V1 { bare(merged) } else { success(merged) })
}

pub(super) async fn current(request: &Request) -> Result<Response, Trouble> {
    let mut rows: Vec<Map<String, Value>> = asked(request, Question::Connections, None).await;
    let rows = rows.pop().unwrap_or_default();
    Ok(if request.dialect == Dialect::V2 { bare(rows) } else { success(rows) })
}

/// The nodes that answered, and how many there are.
async fn loads(request: &Request) -> (Vec<Load>, usize) {
    let mut loads: Vec<Load> = asked(request, Question::Load, Some(LOADS_WITHIN)).await;
    loads.sort_by(|one, other| one.address.cmp(&other.address));
    (loads, request.app.node.status().members.len())
}

pub(super) async fn cluster(request: &Request) -> Result<Response, Trouble> {
    let (loads, members) = loads(request).await;
    let is_old = request.dialect == Dialect::V2;
    let detail: Vec<Value> = loads.iter().map(|load| row(load, is_old)).collect();
    let counts: Vec<usize> = loads.iter().map(|load| load.connections).collect();
    let total: usize = counts.iter().sum();
    let average = total.checked_div(counts.len()).unwrap_or_default();
    let answer = json!({
        "detail": detail,
        "memberCount": members,
        "metricsCount": loads.len(),
        "completed": loads.len() == members,
        "max": counts.iter().max(),
        "min": counts.iter().min(),
        "avg": average,
        "threshold": tenth_more(average),
        "total": total,
    });
    Ok(if is_old { bare(answer) } else { success(answer) })
}

/// A tenth more than a number, as the reference's language writes it.
fn tenth_more(number: usize) -> String {
    let tenths = number * 11;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn row(load: &Load, is_old: bool) -> Value {
    let Load { address, connections, load, .. } = load;
    // What a process uses of its machine is told by /metrics.
    let cpu = "-1.0";
    if is_old {
        let count = connections.to_string();
        return json!({"address": address, "metric":
            {"load": load, "sdkConCount": count, "cpu": cpu, "conCount": count}});
    }
    json!({"address": address, "sdkConCount": connections, "conCount": connections,
        "load": load, "cpu": cpu})
}

fn done(dialect: Dialect, text: &'static str) -> Response {
    if dialect == Dialect::V2 {
        return respond(StatusCode::OK, &TEXT, text);
    }
    success(Value::Null)
}

pub(super) async fn reload(request: Request) -> Result<Response, Trouble> {
    let (count, redirect) = {
        let pairs = request.pairs()?;
        let text = request.required(&pairs, "count")?;
        let count = text.trim().parse();
        let count = count.map_err(|_| Trouble::invalid(format!("invalid count : {text}")))?;
        (count, request.filled(&pairs, "redirectAddress")?)
    };
    let node = request.app.node.status().id;
    let question = Question::ReloadTo { node, count, redirect };
    let _told: Vec<()> = asked(&request, question, None).await;
    Ok(done(request.dialect, "success"))
}

pub(super) async fn reload_client(request: Request) -> Result<Response, Trouble> {
    let question = {
        let pairs = request.pairs()?;
        let id = request.required(&pairs, "connectionId")?;
        Question::Reset { id, redirect: request.filled(&pairs, "redirectAddress")? }
    };
    let _told: Vec<bool> = asked(&request, question, None).await;
    Ok(done(request.dialect, "success"))
}

pub(super) async fn reload_smart(request: Request) -> Result<Response, Trouble> {
    let factor = {
        let pairs = request.pairs()?;
        let text = request.filled(&pairs, "loaderFactor")?.unwrap_or_else(|| "0.1".to_owned());
        let number = text.trim().trim_end_matches(['f', 'F']).parse::<f64>().ok();
        let allowed = number.filter(|number| (0.0..=10.0).contains(number));
        allowed.ok_or_else(|| Trouble::invalid(format!("invalid loaderFactor : {text}")))?
    };
    let (loads, members) = loads(&request).await;
    if loads.len() < members {
        let text = "Smart reload failed, please try again later.";
        return Ok(match request.dialect {
            Dialect::V2 => respond(StatusCode::OK, &TEXT, "Fail"),
            Dialect::V1 | Dialect::Admin | Dialect::Console => {
                result(StatusCode::OK, Code::SERVER, text)
            }
        });
    }
    let total: usize = loads.iter().map(|load| load.connections).sum();
    let average = total.div_ceil(members.max(1));
    for load in &loads {
        if is_over(load.connections, average, factor) {
            let question = Question::ReloadTo { node: load.node, count: average, redirect: None };
            let _told: Vec<()> = asked(&request, question, Some(LOADS_WITHIN)).await;
        }
    }
    Ok(done(request.dialect, "Ok"))
}

/// Whether a number is over another by more than a share of that.
fn is_over(number: usize, other: usize, factor: f64) -> bool {
    let float = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    float(number) > float(other) * (1.0 + factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!(
            (tenth_more(0), tenth_more(1), tenth_more(10)),
            ("0.0".into(), "1.1".into(), "11.0".into())
        );
        assert!(is_over(12, 10, 0.1) && !is_over(11, 10, 0.1) && !is_over(0, 0, 0.0));
    }
}
