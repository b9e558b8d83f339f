//! Bodies of calls, part by part.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

/// One part of a body.
#[derive(Debug)]
pub(crate) enum Part {
    Frame(Frame<Bytes>),
    Failed(Status),
    End,
}

/// Reads a body to its end.
pub(crate) struct Parts(Option<Body>);

impl Part {
    pub(crate) const fn read(body: Body) -> Parts {
        Parts(Some(body))
    }

    pub(crate) fn of(data: Bytes) -> Self {
        Self::Frame(Frame::data(data))
    }

    pub(crate) fn data(&self) -> Option<&Bytes> {
        match self {
            Self::Frame(frame) => frame.data_ref(),
            Self::Failed(_) | Self::End => None,
        }
    }

    pub(crate) const fn is_end(&self) -> bool {
        matches!(self, Self::End | Self::Failed(_))
    }
}

impl Parts {
    /// The next part; the last one is an end.
    pub(crate) async fn next(&mut self) -> Option<Part> {
        let body = self.0.as_mut()?;
        let part = match body.frame().await {
            Some(Ok(frame)) => return Some(Part::Frame(frame)),
            Some(Err(status)) => Part::Failed(status),
            None => Part::End,
        };
        self.0 = None;
        Some(part)
    }
}

/// A body that comes over the network.
pub(crate) struct Incoming {
    parts: mpsc::Receiver<Result<Part, Status>>,
    ended: bool,
    guard: Option<DropGuard>,
}

impl Incoming {
    pub(crate) const fn new(parts: mpsc::Receiver<Result<Part, Status>>) -> Self {
        Self { parts, ended: false, guard: None }
    }

    /// Holds something until this body is dropped.
    pub(crate) fn holding(mut self, guard: DropGuard) -> Self {
        self.guard = Some(guard);
        self
    }
}

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match self.parts.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(next) => next,
        };
        let frame = match next {
            Some(Ok(Part::Frame(frame))) => return Poll::Ready(Some(Ok(frame))),
            Some(Ok(Part::End)) => None,
            Some(Ok(Part::Failed(status)) | Err(status)) => Some(Err(status)),
            None => Some(Err(Status::unavailable("connection reset"))),
        };
        self.ended = true;
        Poll::Ready(frame)
    }
}

/// The body of a call of one message.
#[derive(Debug, Clone)]
pub(crate) struct Collected(Bytes);

impl Collected {
    pub(crate) async fn read(body: Body) -> Result<Self, StdError> {
        Ok(Self(body.collect().await?.to_bytes()))
    }

    pub(crate) fn into_body(self) -> Body {
        Body::new(http_body_util::Full::new(self.0))
    }
}
