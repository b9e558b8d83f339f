//! Administration of configurations over HTTP in its generations: v1's console forms, v2, v3 admin
//! and v3 console (config.md §2). One function for each thing that can be asked; what differs
//! between generations is how parameters are called and how the answer is wrapped.

mod asked;
mod config;
mod connected;
mod copy;
mod grays;
mod histories;
mod listening;
mod namespaces;
mod other;
mod rows;
mod transfer;

use std::net::IpAddr;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use quorate_core::command::Writer;
use quorate_core::key::{GroupKey, NamespaceId};

use self::asked::form_of_v1;
pub(crate) use self::asked::{Asked, What};
use super::body::{self, Whole};
use super::envelope::{Code, Dialect, Trouble};
use super::pairs::Pairs;
use super::response::{Response, malformed, stamp};
use super::route::Route;
use super::v1::gone;
use super::{App, caller, check};
use crate::parameters;

/// The route of a request on a path of clients that asks, by its query, for something that v1's
/// console asks there.
pub(crate) fn of_v1(route: Route, method: &Method, query: Option<&str>) -> Route {
    let is_shared = matches!(route, Route::Get | Route::Publish | Route::Remove);
    match query.filter(|_| is_shared).and_then(|query| form_of_v1(method, query)) {
        Some(what) => Route::Manage(Asked { dialect: Dialect::V1, what }),
        None => route,
    }
}

/// A request of the administration, whole.
pub(crate) struct Request {
    app: App,
    dialect: Dialect,
    what: What,
    peer: IpAddr,
    head: Parts,
    whole: Whole,
}

/// Answers one.
pub(crate) async fn answer<B>(
    app: App,
    peer: IpAddr,
    asked: Asked,
    head: Parts,
    body: B,
) -> Response
where
    B: Body<Data = Bytes> + Unpin,
{
    let Asked { dialect, what } = asked;
    let path = head.uri.path().to_owned();
    if let Some(response) = gone::switched_off(&app, dialect, what, &path) {
        return response;
    }
    if what.is_for_operators(dialect) && !peer.to_canonical().is_loopback() {
        let text = "only from the machine of the node, until there is authorisation";
        let denied = Trouble::Known(StatusCode::FORBIDDEN, Code::DENIED, text.to_owned());
        return denied.write(dialect);
    }
    let whole = match app.bodies.read(body, &path).await {
        Ok(whole) => whole,
        Err(refused) => return *refused,
    };
    let request = Request { app: app.clone(), dialect, what, peer, head, whole };
    let mut response = match request.run().await {
        Ok(response) => response,
        Err(trouble) => trouble.write(dialect),
    };
    stamp(response.headers_mut(), app.node.store().revision());
    response
}

impl Request {
    async fn run(self) -> Result<Response, Trouble> {
        match self.what {
            What::Detail => config::detail(&self),
            What::Get => config::get(&self),
            What::Publish => config::publish(self).await,
            What::Remove => config::remove(self).await,
            What::RemoveMany => config::remove_many(self).await,
            What::Catalog => config::catalog(&self),
            What::Search => config::search(self).await,
            What::Clone => copy::clone(self).await,
            What::Beta => grays::beta(&self),
            What::StopBeta => grays::stop_beta(self).await,
            What::HistoryList => histories::list(&self),
            What::HistoryRecord => histories::record(&self),
            What::HistoryDetail => histories::detail(&self),
            What::HistoryPrevious => histories::previous(&self),
            What::HistoryConfigs => histories::configs(&self),
            What::NamespaceList => namespaces::list(&self),
            What::NamespaceGet => namespaces::get(&self),
            What::NamespaceExists => namespaces::exists(&self),
            What::NamespaceCreate => namespaces::create(self).await,
            What::NamespaceEdit => namespaces::edit(self).await,
            What::NamespaceRemove => namespaces::remove(self).await,
            What::Capacity => other::capacity(&self),
            What::SetCapacity => other::set_capacity(&self),
            What::LocalCache => Ok(other::local_cache(&self)),
            What::SetLog => other::set_log(&self),
            What::Derby => Ok(other::derby(&self)),
            What::Health => Ok(other::health()),
            What::ListenersOfKey => listening::of_key(self).await,
            What::ListenersOfIp => listening::of_ip(self).await,
            What::ClientMetrics | What::ClientMetricsHere => connected::metrics(self).await,
            What::Loader => connected::current(&self).await,
            What::LoaderCluster => connected::cluster(&self).await,
            What::Reload => connected::reload(self).await,
            What::ReloadClient => connected::reload_client(self).await,
            What::ReloadSmart => connected::reload_smart(self).await,
            What::Import => transfer::import(self).await,
            What::Export | What::ExportV2 => transfer::export(self).await,
        }
    }

    fn pairs(&self) -> Result<Pairs<'_>, Trouble> {
        let query = self.head.uri.query().unwrap_or_default();
        let form = body::form(&self.head.headers, &self.whole.bytes);
        Ok(Pairs::parse(query, form).map_err(malformed)?)
    }

    /// The parameters, past the check in front of all operations (config.md §1.2, layer A).
    fn checked(&self) -> Result<Pairs<'_>, Trouble> {
        let pairs = self.pairs()?;
        check::parameters(&pairs).map_err(|mut refused| {
            // The preset type of v1.
            if self.dialect != Dialect::V1 {
                refused.headers_mut().remove(CONTENT_TYPE);
            }
            refused
        })?;
        Ok(pairs)
    }

    /// A parameter, `None` when it is blank or was not sent.
    fn filled(&self, pairs: &Pairs<'_>, name: &str) -> Result<Option<String>, Trouble> {
        let value = pairs.first(name).map_err(malformed)?;
        Ok(value.filter(|value| !value.trim().is_empty()).map(|value| value.into_owned()))
    }

    /// A parameter that must be there.
    fn required(&self, pairs: &Pairs<'_>, name: &'static str) -> Result<String, Trouble> {
        if self.dialect == Dialect::V1 {
            let value = pairs.first(name).map_err(malformed)?;
            let missing = || super::response::missing(name, self.head.uri.path());
            return Ok(value.map(|value| value.into_owned()).ok_or_else(missing)?);
        }
        let missing = || {
            let text = format!("Required parameter '{name}' type String is not present");
            Trouble::missing(text)
        };
        self.filled(pairs, name)?.ok_or_else(missing)
    }

    /// The configuration that is asked about.
    fn key(&self, pairs: &Pairs<'_>) -> Result<GroupKey, Trouble> {
        let (data_id, group) = if self.dialect.is_v3() {
            let group = self.required(pairs, "groupName")?;
            (self.required(pairs, "dataId")?, group)
        } else {
            let data_id = self.required(pairs, "dataId")?;
            (data_id, self.required(pairs, "group")?)
        };
        let namespace = pairs.first(self.dialect.namespace()).map_err(malformed)?;
        let namespace = namespace.unwrap_or_default();
        if self.dialect == Dialect::V1 {
            return Ok(check::key(&namespace, &data_id, &group)?);
        }
        parameters::key(&namespace, &data_id, &group)
            .map_err(|why| Trouble::invalid(why.replace("tenant", "namespaceId")))
    }

    /// The namespace that is asked about; blank is the public one.
    fn namespace(&self, pairs: &Pairs<'_>, name: &str) -> Result<NamespaceId, Trouble> {
        let text = pairs.first(name).map_err(malformed)?.unwrap_or_default();
        NamespaceId::parse_or_public(&text).map_err(|_| Trouble::invalid(format!("invalid {name}")))
    }

    /// Number and size of the page that is asked for.
    fn page(&self, pairs: &Pairs<'_>, default_size: usize) -> Result<(usize, usize), Trouble> {
        const LARGEST: usize = 500;
        let number = |name, default: usize| {
            let Some(text) = self.filled(pairs, name)? else { return Ok(default) };
            match text.trim().parse::<i64>() {
                Ok(number) if number > 0 => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
                Ok(number) => Err(Trouble::invalid(format!(
                    "Required parameter '{name}' should be positive integer, current is {number}"
                ))),
                Err(_) => Err(Trouble::invalid(format!("For input string: \"{text}\""))),
            }
        };
        Ok((number("pageNo", 1)?, number("pageSize", default_size)?.min(LARGEST)))
    }

    /// Who asks (config.md §0.3).
    fn writer(&self, pairs: &Pairs<'_>) -> Result<Writer, Trouble> {
        let mut user = None;
        for name in ["src_user", "srcUser", "username"] {
            user = user.or(self.filled(pairs, name)?);
        }
        let ip = caller::ip(&self.head.headers, self.peer).into_owned();
        Ok(Writer { user: user.unwrap_or_default(), ip })
    }
}
