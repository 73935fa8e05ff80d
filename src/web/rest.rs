//! Requests over HTTP/1 that are answered before their body was read, as all that are refused: the rest of the body is read and dropped first. If the
//! connection were closed over it, the client would find it broken in the midst of what it sends, and never see the answer.
//!
//! Over HTTP/2 nothing is needed: a stream ends by itself.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use http::{HeaderValue, Request, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tower::Service;
use tower::layer::{LayerFn, layer_fn};

use crate::admission::{MESSAGE_LIMIT_BYTES, Response};

/// Bytes that are dropped, at most: more than any message that could be served. Beyond it the connection ends.
const REST_BYTES: usize = 2 * MESSAGE_LIMIT_BYTES as usize;
/// Time in which they have to arrive.
const REST_TIME: Duration = Duration::from_secs(1);

/// Reads what a service leaves of the bodies of HTTP/1.
pub fn read_rest<S>() -> LayerFn<impl Fn(S) -> ReadRest<S> + Clone> {
    layer_fn(|inner| ReadRest { inner })
}

/// The service that [`read_rest()`] puts around another.
#[derive(Debug, Clone)]
pub struct ReadRest<S> {
    inner: S,
}

/// The body of a request. Dropped before its end, it is given back to the layer.
pub struct Lent<B: Unpin> {
    body: Option<B>,
    /// None: the request is of HTTP/2.
    giver: Option<oneshot::Sender<B>>,
    /// Whether nothing may be read unless the service below has begun to: then the client waits for the leave to send.
    asks_first: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Lent<B> {
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

impl<B: Unpin> Drop for Lent<B> {
    fn drop(&mut self) {
        if let (Some(body), Some(giver), false) = (self.body.take(), self.giver.take(), self.asks_first) {
            let _gone = giver.send(body);
        }
    }
}

impl<S, B> Service<Request<B>> for ReadRest<S>
where
    S: Service<Request<Lent<B>>, Response = Response, Error = Infallible, Future: Send + Unpin + 'static>,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
            let whole = |body| Lent { body: Some(body), giver: None, asks_first: false };
            return Either::Left(self.inner.call(request.map(whole)));
        }
        let (giver, rest) = oneshot::channel();
        let asks_first = request.headers().contains_key(header::EXPECT);
        let lent = |body| Lent { body: Some(body), giver: Some(giver), asks_first };
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
        && tokio::time::timeout(REST_TIME, drop_rest(body)).await != Ok(true)
    {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Reads a body to its end. False: it is too long, or broke off.
async fn drop_rest(mut body: impl Body<Data = Bytes> + Unpin) -> bool {
    let mut left = REST_BYTES;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}
