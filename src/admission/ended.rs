//! A response stream that can be ended from outside with a status.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::deadline::trailers_of;

/// Response body that ends with a status once a future completes.
pub(super) struct EndedBody {
    /// None once the body has ended.
    inner: Option<tonic::body::Body>,
    /// True if frames that are ready are dropped at the end instead of sent.
    at_once: bool,
    ending: Ending,
}

type Ending = Pin<Box<dyn Future<Output = Status> + Send>>;

impl EndedBody {
    /// Ends the stream after the frames that are ready.
    pub(super) fn after_what_is_ready(inner: tonic::body::Body, ending: Ending) -> EndedBody {
        EndedBody { inner: Some(inner), at_once: false, ending }
    }

    /// Ends the stream at once; frames that are ready are dropped.
    pub(super) fn at_once(inner: tonic::body::Body, ending: Ending) -> EndedBody {
        EndedBody { inner: Some(inner), at_once: true, ending }
    }

    fn poll_ending(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let status = std::task::ready!(self.ending.as_mut().poll(context));
        self.inner = None;
        Poll::Ready(Some(trailers_of(&status)))
    }
}

impl Body for EndedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.inner.is_none() {
            return Poll::Ready(None);
        }
        if self.at_once
            && let Poll::Ready(end) = self.poll_ending(context)
        {
            return Poll::Ready(end);
        }
        if let Some(inner) = &mut self.inner
            && let Poll::Ready(frame) = Pin::new(inner).poll_frame(context)
        {
            return Poll::Ready(frame);
        }
        // `ending` must not be polled again after it is ready.
        if self.at_once { Poll::Pending } else { self.poll_ending(context) }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// Returns the first frame of a stream that always has one ready, with an `ending` that is already complete.
    async fn first(make: fn(tonic::body::Body, Ending) -> EndedBody) -> Frame<Bytes> {
        let frames = futures::stream::repeat_with(|| Ok::<_, Status>(Frame::data(Bytes::from_static(b"news"))));
        let ending = Box::pin(std::future::ready(Status::unauthenticated("revoked")));
        let mut body = make(tonic::body::Body::new(StreamBody::new(frames)), ending);
        body.frame().await.expect("a frame").expect("no error")
    }

    #[tokio::test]
    async fn a_stream_without_a_rest_is_ended_at_once_where_it_must_be() {
        assert!(first(EndedBody::after_what_is_ready).await.is_data());
        let end = first(EndedBody::at_once).await.into_trailers().expect("trailers");
        assert_eq!(end[Status::GRPC_STATUS], "16");
    }
}
