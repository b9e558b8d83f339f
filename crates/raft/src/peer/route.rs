//! The way of a call to a peer: a connection of the operating system, or a simulated network.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use futures_util::future::{Either, MapErr};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::transport::channel::ResponseFuture;
use tonic::transport::{Channel, Error};

use crate::host::Simulation;

/// Where a client sends its calls.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// Over TCP.
    Connection(Channel),
    /// To an address of the simulated network.
    Simulated(Arc<dyn Simulation>, Arc<str>),
}

type Mapped = MapErr<ResponseFuture, fn(Error) -> StdError>;

impl Service<http::Request<Body>> for Route {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Either<Mapped, BoxFuture<http::Response<Body>, StdError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        match self {
            Self::Connection(channel) => channel.poll_ready(context).map_err(Into::into),
            Self::Simulated(..) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self {
            Self::Connection(channel) => {
                let boxed: fn(Error) -> StdError = |error| Box::new(error);
                Either::Left(channel.call(request).map_err(boxed))
            }
            Self::Simulated(network, address) => Either::Right(network.call(address, request)),
        }
    }
}
