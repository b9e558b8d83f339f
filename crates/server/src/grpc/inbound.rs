//! Bodies of unary requests: their bytes count against the same budget as those over HTTP for as
//! long as they are in memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::Server;

/// A body whose bytes are counted.
pub(super) struct Counted {
    body: Incoming,
    server: Server,
    share: Option<OwnedSemaphorePermit>,
}

impl Counted {
    pub(super) const fn new(body: Incoming, server: Server) -> Self {
        Self { body, server, share: None }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(Status::cancelled(error.to_string()))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes > 0 && !this.server.app.bodies.take(&mut this.share, bytes) {
            let message = "too many request bytes in flight, try again later";
            return Poll::Ready(Some(Err(Status::resource_exhausted(message))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
