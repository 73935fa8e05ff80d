//! The rest of request bodies that are dropped before their end, as those of all refused calls are: it is read and discarded.
//!
//! - HTTP/1: before the response. If the connection were closed instead, the client would find it broken while it sends, and never see the response.
//! - HTTP/2: beside the response. Otherwise the stream is reset, and small DATA frames that arrive later use up a budget of h2 (0.4.20) that nothing
//!   refills: after some thousand refused calls GOAWAY (ENHANCE_YOUR_CALM, `too_many_data_frames`) ends the connection with all its watches.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};
use http::{HeaderValue, Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tower::Service;
use tower::layer::{LayerFn, layer_fn};

use crate::admission::{MESSAGE_LIMIT_BYTES, Response};

/// Bytes of HTTP/1 that are discarded, at most: more than any message that could be served. Beyond it the connection ends.
const REST_BYTES: usize = 2 * MESSAGE_LIMIT_BYTES as usize;
/// Time in which they have to arrive.
const REST_TIME: Duration = Duration::from_secs(1);
/// Bytes of HTTP/2 that are discarded, at most. Beyond it the stream is reset, which stops a large upload; its DATA frames are large too.
const STREAM_REST_BYTES: usize = 64 << 10;
/// Time in which they have to arrive: that of a message.
const STREAM_REST_TIME: Duration = Duration::from_secs(10);
/// Bodies of HTTP/2 that are discarded at once, at most. Beyond it streams are reset. A body takes some hundred bytes here, for a round trip at most
/// unless its client never ends it.
const DISCARDED_AT_ONCE: usize = 4_096;

/// Reads what a service leaves of the bodies of requests.
pub fn read_rest<S>() -> LayerFn<impl Fn(S) -> ReadRest<S> + Clone> {
    // One count for all clones of the service: each connection has its own clone.
    let places = Arc::new(Semaphore::new(DISCARDED_AT_ONCE));
    layer_fn(move |inner| ReadRest { inner, places: Arc::clone(&places) })
}

/// The service that [`read_rest()`] puts around another.
#[derive(Debug, Clone)]
pub struct ReadRest<S> {
    inner: S,
    /// Places of bodies of HTTP/2 that are discarded.
    places: Arc<Semaphore>,
}

/// The body of a request. If it is dropped before its end, its rest is read.
pub struct Lent<B: Body<Data = Bytes> + Unpin + Send + 'static> {
    /// None: it has ended.
    body: Option<B>,
    /// None: the rest is not read.
    rest: Option<Rest<B>>,
    /// Whether nothing may be read unless the service below has begun to: then the client waits for the leave to send.
    asks_first: bool,
}

/// Where the rest of a body is read.
enum Rest<B> {
    /// HTTP/1: in the layer, which gets the body back.
    BeforeResponse(oneshot::Sender<B>),
    /// HTTP/2: in a task with one of these places.
    BesideResponse(Arc<Semaphore>),
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Body for Lent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        this.asks_first = false;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            this.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Drop for Lent<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        match self.rest.take() {
            Some(Rest::BeforeResponse(giver)) if !self.asks_first => {
                let _gone = giver.send(body);
            }
            Some(Rest::BesideResponse(places)) => discard(body, places),
            Some(Rest::BeforeResponse(_)) | None => {}
        }
    }
}

impl<S, B> Service<Request<B>> for ReadRest<S>
where
    S: Service<Request<Lent<B>>, Response = Response, Error = Infallible, Future: Send + Unpin + 'static>,
    B: Body<Data = Bytes, Error: Send> + Unpin + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
            let rest = Rest::BesideResponse(Arc::clone(&self.places));
            let lent = |body| Lent { body: Some(body), rest: Some(rest), asks_first: false };
            return Either::Left(self.inner.call(request.map(lent)));
        }
        let (giver, rest) = oneshot::channel();
        let asks_first = request.headers().contains_key(header::EXPECT);
        let lent = |body| Lent { body: Some(body), rest: Some(Rest::BeforeResponse(giver)), asks_first };
        let call = self.inner.call(request.map(lent));
        Either::Right(Box::pin(answer(call, rest)))
    }
}

/// The response to a request, once the rest of its body was read.
async fn answer<B: Body<Data = Bytes> + Unpin>(
    call: impl Future<Output = Result<Response, Infallible>>,
    mut rest: oneshot::Receiver<B>,
) -> Result<Response, Infallible> {
    let mut response = call.await?;
    // A service that goes on reading while it answers still has it.
    if let Ok(body) = rest.try_recv()
        && tokio::time::timeout(REST_TIME, drop_rest(body, REST_BYTES)).await != Ok(true)
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Reads the rest of a body of HTTP/2: at once if it is there, as most is, else in a task.
fn discard(body: impl Body<Data = Bytes> + Unpin + Send + 'static, places: Arc<Semaphore>) {
    let mut reading = Box::pin(drop_rest(body, STREAM_REST_BYTES));
    if (&mut reading).now_or_never().is_some() {
        return;
    }
    let (Ok(place), Ok(runtime)) = (places.try_acquire_owned(), Handle::try_current()) else { return };
    runtime.spawn(async move {
        let _ended = tokio::time::timeout(STREAM_REST_TIME, reading).await;
        drop(place);
    });
}

/// Reads a body to its end. False: it has more than `left` bytes, or broke off.
async fn drop_rest(mut body: impl Body<Data = Bytes> + Unpin, mut left: usize) -> bool {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}
