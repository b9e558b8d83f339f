//! Request bodies: read whole, within bounds, and counted while they are in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::pairs::Form;
use super::response::{Refused, error_page, failed};
use crate::failure::Failure;

/// The bytes of all bodies in memory are bounded by one semaphore.
#[derive(Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    total: usize,
    largest: usize,
    patience: Duration,
}

/// A body and its share of the budget.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// Given back when the body is dropped.
    share: Option<OwnedSemaphorePermit>,
}

impl Whole {
    /// Drops the bytes and keeps their share: for as long as what was made of them is in flight.
    pub(crate) fn into_share(self) -> Option<OwnedSemaphorePermit> {
        self.share
    }
}

impl Budget {
    /// At most `total` bytes of bodies at once, `largest` in one, each read within `patience`.
    pub(crate) fn new(total: usize, largest: usize, patience: Duration) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(total)), total, largest, patience }
    }

    /// Bytes in memory now.
    pub(crate) fn used(&self) -> usize {
        self.total.saturating_sub(self.free.available_permits())
    }

    /// Reads a body to its end. Bytes count as they arrive, so that announcing a large body
    /// takes nothing from others.
    ///
    /// # Errors
    /// 413 for a body over the bound, 503 when too much is in flight, 408 when it takes too long,
    /// 400 when it breaks off.
    pub(crate) async fn read<B>(&self, body: B, path: &str) -> Result<Whole, Refused>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body.size_hint().lower() > u64::try_from(self.largest).unwrap_or(u64::MAX) {
            return Err(self.too_large(path));
        }
        if body.is_end_stream() {
            return Ok(Whole::default());
        }
        let Ok(read) = timeout(self.patience, self.collect(body, path)).await else {
            let status = StatusCode::REQUEST_TIMEOUT;
            return Err(Box::new(error_page(status, "request body came too slowly", path)));
        };
        read
    }

    async fn collect<B>(&self, mut body: B, path: &str) -> Result<Whole, Refused>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut whole = Whole::default();
        let mut joined = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                let status = StatusCode::BAD_REQUEST;
                return Err(Box::new(error_page(status, "request body broke off", path)));
            };
            let Ok(data) = frame.into_data() else { continue };
            let length = whole.bytes.len() + joined.len() + data.len();
            if length > self.largest {
                return Err(self.too_large(path));
            }
            self.take_share(&mut whole.share, data.len())?;
            if length == data.len() {
                // Most bodies are one frame, which is used where it is.
                whole.bytes = data;
                continue;
            }
            if joined.is_empty() {
                let rest = usize::try_from(body.size_hint().lower()).unwrap_or_default();
                joined.reserve((length + rest).min(self.largest));
                joined.extend_from_slice(&std::mem::take(&mut whole.bytes));
            }
            joined.extend_from_slice(&data);
        }
        if !joined.is_empty() {
            whole.bytes = joined.freeze();
        }
        Ok(whole)
    }

    fn take_share(
        &self,
        share: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<(), Refused> {
        let is_taken = self.take(share, bytes);
        if is_taken { Ok(()) } else { Err(Box::new(failed(&Failure::BodiesInFlight))) }
    }

    /// Adds so many bytes to a share of what may be in memory; false when that is too much.
    pub(crate) fn take(&self, share: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.free).try_acquire_many_owned(bytes) else {
            return false;
        };
        match share {
            Some(share) => share.merge(more),
            None => *share = Some(more),
        }
        true
    }

    fn too_large(&self, path: &str) -> Refused {
        let message = format!("request body is larger than {} bytes", self.largest);
        Box::new(error_page(StatusCode::PAYLOAD_TOO_LARGE, &message, path))
    }
}

/// Above this, decoding and md5 take long enough (0.5 ms and more) to leave the request threads.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// Reads a request here, or on a thread of its own when it is large.
///
/// # Errors
/// Those of `read`; 500 when it panicked on its thread.
pub(crate) async fn off_thread<T: Send + 'static>(
    large: bool,
    read: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    if !large {
        return read();
    }
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Err(Box::new(error_page(status, "request could not be read", "")))
    })
}

/// The parameters that a body holds, by its `Content-Type`. Parameters of the media type, a
/// charset among them, do not matter: the reference forces UTF-8 (config.md §0.2).
pub(crate) fn form<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> Form<'a> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Form::UrlEncoded(body);
    }
    if !media_type.eq_ignore_ascii_case("multipart/form-data") {
        return Form::None;
    }
    let boundary = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))
        .map_or("", |(_, value)| value.trim_matches('"'));
    Form::Multipart { boundary, body }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::super::response::tests::seen;
    use super::*;

    /// A body in these frames, of unknown length.
    struct Frames(VecDeque<&'static str>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data.into()))))
        }
    }

    async fn read(budget: &Budget, frames: &[&'static str]) -> Result<Whole, u16> {
        let body = Frames(frames.iter().copied().collect());
        budget.read(body, "/nacos/v1/cs/configs").await.map_err(|refused| seen(*refused).0)
    }

    #[tokio::test]
    async fn bodies_are_joined_and_bounded() {
        let budget = Budget::new(20, 10, Duration::from_secs(1));
        for (frames, want) in [
            (&[][..], Ok("")),
            (&["abc"], Ok("abc")),
            (&["abc", "", "def", "g"], Ok("abcdefg")),
            (&["0123456789"], Ok("0123456789")),
            (&["0123456789", "a"], Err(413)),
        ] {
            let got = read(&budget, frames).await;
            let got = got.as_ref().map(|whole| &*whole.bytes).map_err(|status| *status);
            assert_eq!(got, want.map(str::as_bytes));
        }
        let first = read(&budget, &["01234", "56789"]).await.unwrap();
        let second = read(&budget, &["0123456789"]).await.unwrap();
        assert_eq!((budget.used(), read(&budget, &["a"]).await.err()), (20, Some(503)));
        let share = second.into_share();
        assert_eq!((budget.used(), read(&budget, &["a"]).await.err()), (20, Some(503)));
        drop((first, share));
        assert_eq!((budget.used(), read(&budget, &["a"]).await.is_ok()), (0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_are_given_up() {
        struct Silent;
        impl Body for Silent {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Pending
            }
        }
        let budget = Budget::new(20, 10, Duration::from_secs(30));
        let refused = budget.read(Silent, "/").await.expect_err("nothing comes");
        assert_eq!(seen(*refused).0, 408);
    }

    #[test]
    fn media_types() {
        for (content_type, want) in [
            ("application/x-www-form-urlencoded", "UrlEncoded"),
            ("Application/X-WWW-Form-UrlEncoded; charset=utf8", "UrlEncoded"),
            ("multipart/form-data; boundary=\"x y\"", "Multipart { boundary: \"x y\""),
            ("application/json", "None"),
            ("", "None"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
            assert!(format!("{:?}", form(&headers, b"")).starts_with(want), "{content_type}");
        }
        assert!(matches!(form(&HeaderMap::new(), b""), Form::None));
    }
}
