//! Namespaces in four generations (config.md §6.4).

use hyper::StatusCode;
use quorate_core::key::{NamespaceId, PUBLIC_NAMESPACE};

use super::super::envelope::{Code, Dialect, Trouble, bare, rest, success};
use super::super::pairs::Pairs;
use super::super::response::Response;
use super::{Request, rows};
use crate::failure::Failure;
use crate::operations::namespace;

/// Longest id, in characters (controller of the reference).
const LONGEST: usize = 128;

pub(super) fn list(request: &Request) -> Result<Response, Trouble> {
    let state = request.app.node.store().freeze();
    let all: Vec<_> = namespace::list(&state).iter().map(rows::namespace).collect();
    Ok(if request.dialect == Dialect::V1 { rest(200, None, all) } else { success(all) })
}

pub(super) fn get(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    if request.dialect == Dialect::V1 {
        if pairs.is("checkNamespaceIdExist", "true") {
            return exists(request);
        }
        if !pairs.is("show", "all") {
            return list(request);
        }
    }
    let asked = match request.filled(&pairs, "namespaceId")? {
        Some(id) => id.trim().to_owned(),
        None if request.dialect == Dialect::V1 => PUBLIC_NAMESPACE.to_owned(),
        None => return Err(missing("namespaceId")),
    };
    let state = request.app.node.store().freeze();
    let found = namespace::list(&state).into_iter().find(|listed| listed.id == asked);
    let Some(found) = found else {
        let text = format!("namespaceId [ {asked} ] not exist");
        return Err(Trouble::Known(StatusCode::NOT_FOUND, Code::NO_NAMESPACE, text));
    };
    let row = rows::namespace(&found);
    Ok(if request.dialect == Dialect::V1 { bare(row) } else { success(row) })
}

fn missing(name: &str) -> Trouble {
    Trouble::missing(format!("required parameter '{name}' is missing"))
}

pub(super) fn exists(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let name = if request.dialect == Dialect::Admin { "namespaceId" } else { "customNamespaceId" };
    let asked = request.filled(&pairs, name)?;
    let id = asked.and_then(|id| NamespaceId::parse(id.trim()).ok());
    let exists = id.is_some_and(|id| namespace::exists(&request.app.node, &id));
    Ok(match request.dialect {
        Dialect::V1 => bare(exists),
        Dialect::Admin => success(u8::from(exists)),
        Dialect::V2 | Dialect::Console => success(exists),
    })
}

/// A namespace as somebody wants it.
struct Wanted {
    id: NamespaceId,
    name: String,
    description: String,
}

fn illegal(text: String) -> Trouble {
    Trouble::Known(StatusCode::BAD_REQUEST, Code::ILLEGAL_NAMESPACE, text)
}

fn id_of(text: &str) -> Result<NamespaceId, Trouble> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !text.chars().all(is_plain) {
        return Err(illegal(format!("namespaceId [{text}] mismatch the pattern")));
    }
    NamespaceId::parse(text).map_err(|_| illegal(format!("too long namespaceId, over {LONGEST}")))
}

impl Wanted {
    fn read(request: &Request, pairs: &Pairs<'_>, id: Option<String>) -> Result<Self, Trouble> {
        let name_of_name = match (request.dialect, request.what) {
            (Dialect::V1, super::What::NamespaceEdit) => "namespaceShowName",
            _ => "namespaceName",
        };
        let name = request.filled(pairs, name_of_name)?.ok_or_else(|| missing(name_of_name))?;
        let description = request.filled(pairs, "namespaceDesc")?.unwrap_or_default();
        if name.chars().any(|c| "@#$%^&*".contains(c)) {
            return Err(illegal(format!("namespaceName [{name}] contains illegal char")));
        }
        if name.chars().count() > 256 || description.chars().count() > 256 {
            return Err(illegal("too long namespaceName or namespaceDesc, over 256".to_owned()));
        }
        let id = match id {
            Some(id) => id_of(id.trim())?,
            None => id_of(&fresh_id())?,
        };
        Ok(Self { id, name, description })
    }
}

/// An id for a namespace whose maker named none: 128 random bits, written as a UUID is.
fn fresh_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let word = || RandomState::new().build_hasher().finish();
    let digits = format!("{:016x}{:016x}", word(), word());
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// v1 knows `true` and `false` only; a failure to write is none of the two.
fn in_v1(done: Result<(), Trouble>) -> Result<Response, Trouble> {
    match done {
        Ok(()) => Ok(bare(true)),
        Err(Trouble::Known(status, ..)) if status == StatusCode::BAD_REQUEST => Ok(bare(false)),
        Err(trouble) => Err(trouble),
    }
}

pub(super) async fn create(request: Request) -> Result<Response, Trouble> {
    let wanted = read_new(&request);
    let done = match wanted {
        Ok(wanted) => make(&request, wanted).await,
        Err(trouble) => Err(trouble),
    };
    if request.dialect == Dialect::V1 { in_v1(done) } else { done.map(|()| success(true)) }
}

fn read_new(request: &Request) -> Result<Wanted, Trouble> {
    let pairs = request.checked()?;
    let name = match request.dialect {
        Dialect::V1 | Dialect::Console => "customNamespaceId",
        Dialect::V2 | Dialect::Admin => "namespaceId",
    };
    let id = request.filled(&pairs, name)?;
    Wanted::read(request, &pairs, id)
}

async fn make(request: &Request, wanted: Wanted) -> Result<(), Trouble> {
    let Wanted { id, name, description } = wanted;
    let exists = |id: &NamespaceId| {
        let (code, text) = if id.as_str() == PUBLIC_NAMESPACE {
            let text = "namespaceId [public] is default namespace id and already exist.";
            (Code::NAMESPACE_EXISTS, text.to_owned())
        } else if request.dialect == Dialect::V2 {
            (Code::ILLEGAL_NAMESPACE, format!("the namespaceId is existed, namespaceId: {id}"))
        } else {
            (Code::NAMESPACE_EXISTS, format!("namespaceId [{id}] already exist."))
        };
        Trouble::Known(StatusCode::BAD_REQUEST, code, text)
    };
    if id.as_str() == PUBLIC_NAMESPACE {
        return Err(exists(&id));
    }
    let (node, deadline) = (&request.app.node, request.app.deadline());
    match namespace::create(node, id.clone(), name, description, deadline).await {
        Err(Failure::Exists { .. }) => Err(exists(&id)),
        done => done.map(|_| ()).map_err(Trouble::from),
    }
}

pub(super) async fn edit(request: Request) -> Result<Response, Trouble> {
    let done = match read_edit(&request) {
        Ok(Wanted { id, name, description }) => {
            let (node, deadline) = (&request.app.node, request.app.deadline());
            match namespace::edit(node, id, name, description, deadline).await {
                // Nothing to change is no failure in the reference either.
                Ok(_) | Err(Failure::Absent { .. }) => Ok(()),
                Err(failure) => Err(failure.into()),
            }
        }
        Err(trouble) => Err(trouble),
    };
    if request.dialect == Dialect::V1 { in_v1(done) } else { done.map(|()| success(true)) }
}

fn read_edit(request: &Request) -> Result<Wanted, Trouble> {
    let pairs = request.checked()?;
    let name = if request.dialect == Dialect::V1 { "namespace" } else { "namespaceId" };
    let id = request.filled(&pairs, name)?.ok_or_else(|| missing(name))?;
    Wanted::read(request, &pairs, Some(id))
}

pub(super) async fn remove(request: Request) -> Result<Response, Trouble> {
    let (id, force) = {
        let pairs = request.checked()?;
        let id = request.filled(&pairs, "namespaceId")?.ok_or_else(|| missing("namespaceId"))?;
        (id_of(id.trim())?, pairs.is("force", "true"))
    };
    let (node, deadline) = (&request.app.node, request.app.deadline());
    match namespace::remove(node, id.clone(), force, deadline).await {
        Ok(_) | Err(Failure::Absent { .. }) => {
            Ok(if request.dialect == Dialect::V1 { bare(true) } else { success(true) })
        }
        Err(Failure::InUse) => {
            let text = format!("namespaceId [{id}] holds configurations; force=true removes it");
            Err(Trouble::Known(StatusCode::CONFLICT, Code::CONFLICT, text))
        }
        Err(failure) => Err(failure.into()),
    }
}
