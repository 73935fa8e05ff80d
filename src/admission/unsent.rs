//! Bodies of watches: they pass on little at a time, charge the rest to the budget of watches, and can be closed while HTTP/2 does not poll them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures::future::{BoxFuture, Either};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tonic::Status;
use tower::layer::{LayerFn, layer_fn};

use super::statistics::Statistics;
use super::{Inner, Response, shares};
use crate::sending::{BUDGET_BYTES, SendBudget, WatchMemory};

/// Bytes that HTTP/2 gets at once: one frame. It holds two such pieces for a client that does not read.
const PIECE_BYTES: usize = 16 << 10;

/// Gives all watches one budget of memory. It is outside of the conversions to other protocols, so that what these make of a message is charged too.
pub fn bound_watches<S>(statistics: Arc<Statistics>) -> LayerFn<impl Fn(S) -> BoundWatches<S> + Clone> {
    // One budget for all clones of the service: each connection has its own clone.
    let budget = SendBudget::new(BUDGET_BYTES, statistics.door.unread.clone());
    layer_fn(move |inner| BoundWatches { inner, budget: Arc::clone(&budget), statistics: Arc::clone(&statistics) })
}

/// The service that [`bound_watches()`] puts around another.
#[derive(Clone)]
pub struct BoundWatches<S> {
    inner: S,
    budget: Arc<SendBudget>,
    statistics: Arc<Statistics>,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for BoundWatches<S>
where
    S::Future: Unpin,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = self.statistics.method(request.uri().path());
        // A worker that reads slowly must not lose its stream; its messages are bounded by its capacity.
        if !method.is_watch || method.is_work_stream {
            return Either::Left(self.inner.call(request));
        }
        let memory = self.budget.watch(&shares::of(&request).0.memory);
        request.extensions_mut().insert(memory.clone());
        let answer = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let response = answer.await?;
            if response.body().is_end_stream() {
                return Ok(response);
            }
            Ok(response.map(|body| tonic::body::Body::new(UnsentBody::new(body, memory))))
        }))
    }
}

/// The body of the response of a watch.
struct UnsentBody {
    held: Arc<Mutex<HeldBody>>,
    memory: WatchMemory,
    has_failed: bool,
}

/// What a body holds until it is closed.
struct HeldBody {
    /// None: it was closed.
    inner: Option<tonic::body::Body>,
    /// The rest of the data that `inner` gave last.
    rest: Bytes,
    /// Size of the data that `rest` is the rest of.
    whole_bytes: usize,
}

impl UnsentBody {
    fn new(inner: tonic::body::Body, memory: WatchMemory) -> Self {
        let held = Arc::new(Mutex::new(HeldBody { inner: Some(inner), rest: Bytes::new(), whole_bytes: 0 }));
        let closed = Arc::downgrade(&held);
        memory.on_close(move || {
            if let Some(held) = closed.upgrade() {
                let dropped = std::mem::replace(&mut *held.lock(), HeldBody::closed());
                drop(dropped);
            }
        });
        Self { held, memory, has_failed: false }
    }
}

impl HeldBody {
    fn closed() -> Self {
        Self { inner: None, rest: Bytes::new(), whole_bytes: 0 }
    }

    /// The next piece of data.
    fn next_piece(&mut self, memory: &WatchMemory) -> Bytes {
        if self.rest.len() <= PIECE_BYTES && self.whole_bytes <= PIECE_BYTES {
            memory.set_unsent(0, true);
            return std::mem::take(&mut self.rest);
        }
        // A copy, because a slice would keep all of the data in memory.
        let piece = Bytes::copy_from_slice(&self.rest[..self.rest.len().min(PIECE_BYTES)]);
        self.rest.advance(piece.len());
        if self.rest.is_empty() {
            (self.rest, self.whole_bytes) = (Bytes::new(), 0);
        }
        memory.set_unsent(self.whole_bytes, true);
        piece
    }
}

impl Body for UnsentBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut held = this.held.lock();
        let held = &mut *held;
        if held.rest.is_empty() {
            let Some(inner) = &mut held.inner else {
                let is_first = !std::mem::replace(&mut this.has_failed, true);
                return Poll::Ready(is_first.then(|| Err(closed())));
            };
            this.memory.set_unsent(0, false);
            let Some(frame) = ready!(Pin::new(inner).poll_frame(context)) else { return Poll::Ready(None) };
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => (held.whole_bytes, held.rest) = (data.len(), data),
                Ok(Err(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(held.next_piece(&this.memory)))))
    }

    fn is_end_stream(&self) -> bool {
        let held = self.held.lock();
        held.rest.is_empty() && held.inner.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The error of a body that was closed, perhaps within a message: HTTP/2 resets the stream, so that clients see UNAVAILABLE and watch again from the
/// version that they have.
fn closed() -> Status {
    Status::from_error(Box::new(h2::Error::from(h2::Reason::REFUSED_STREAM)))
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::figures::door::UnreadFigures;

    #[tokio::test]
    async fn data_is_passed_on_in_pieces_and_charged_until_the_last_one() {
        let figures = UnreadFigures::default();
        let budget = SendBudget::new(1 << 20, figures.clone());
        let data: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        let inner = tonic::body::Body::new(Full::new(Bytes::from(data.clone())));
        let mut body = UnsentBody::new(inner, budget.watch(&Default::default()));
        let mut received = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.expect("no error").into_data().expect("data");
            received.extend_from_slice(&piece);
            let held = if received.len() < data.len() { data.len() } else { 0 };
            assert_eq!((figures.bytes.get(), piece.len() <= PIECE_BYTES), (held as i64, true));
        }
        assert_eq!(received, data);
    }
}
