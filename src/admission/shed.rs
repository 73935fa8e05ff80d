//! Refuses new work before its message is read while the writer is behind: an overloaded server has no time to read and
//! decode messages that will be refused.
//!
//! Only calls that can bring nothing but new work are refused here. All others continue, and the writer's queue
//! decides: calls that keep accepted work going, calls of operators, reads, and calls whose effect only the message
//! shows (Commit may complete a stage).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Either, Ready, ready};
use http::{HeaderMap, Request};
use parking_lot::Mutex;
use tonic::Code;
use tower::layer::{LayerFn, layer_fn};

use super::refusal::Outcome;
use super::{Inner, methods, namespace, refusal};

/// Returns the retry delay if new work of the named namespace is refused now.
pub type Overload = Arc<dyn Fn(&str) -> Option<Duration> + Send + Sync>;

/// Refuses new work with RESOURCE_EXHAUSTED, OVERLOADED while `overload` returns a delay.
pub fn shed<S>(overload: Overload) -> LayerFn<impl Fn(S) -> Shed<S> + Clone> {
    let refusals = Arc::new(Refusals::default());
    layer_fn(move |inner| Shed { inner, overload: Arc::clone(&overload), refusals: Arc::clone(&refusals) })
}

/// Headers of the latest refusal and its delay. An overload refuses thousands of calls a second, most of them with the
/// same delay, and encoding the details took more than a tenth of the server's CPU.
#[derive(Default)]
struct Refusals(Mutex<Option<(Duration, HeaderMap)>>);

impl Refusals {
    fn response(&self, retry_after: Duration) -> super::Response {
        let retry_after = rounded_up(retry_after);
        let mut latest = self.0.lock();
        let known = latest.take().filter(|(delay, _)| *delay == retry_after);
        let (_, headers) = latest.insert(known.unwrap_or_else(|| (retry_after, refused(retry_after))));
        let mut response = http::Response::new(tonic::body::Body::empty());
        response.headers_mut().clone_from(headers);
        response
    }
}

/// Rounds up to 100 ms.
fn rounded_up(delay: Duration) -> Duration {
    const STEP_MS: u128 = 100;
    let steps = delay.as_millis().div_ceil(STEP_MS);
    Duration::from_millis(u64::try_from(steps * STEP_MS).unwrap_or(u64::MAX))
}

/// The service that [`shed`] puts around another.
#[derive(Clone)]
pub struct Shed<S> {
    inner: S,
    overload: Overload,
    refusals: Arc<Refusals>,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Shed<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<super::Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_new_work = methods::of(&request).is_new_work;
        let namespace = || namespace::of(&request).unwrap_or_default();
        match is_new_work.then(|| (self.overload)(namespace())).flatten() {
            None => Either::Left(self.inner.call(request)),
            Some(retry_after) => Either::Right(ready(Ok(self.refusals.response(retry_after)))),
        }
    }
}

fn refused(retry_after: Duration) -> HeaderMap {
    let why = "the server is overloaded: too many writes are waiting";
    refusal(Code::ResourceExhausted, "OVERLOADED", Outcome::NotApplied, why)
        .retry_after(retry_after)
        .into_response()
        .into_parts()
        .0
        .headers
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower::{Layer, Service, service_fn};

    use super::*;
    use crate::admission::Methods;
    use crate::proto::FILE_DESCRIPTOR_SET;

    #[tokio::test]
    async fn new_work_is_refused_unread_and_everything_else_goes_on() {
        let methods = Methods::from_descriptors(&[FILE_DESCRIPTOR_SET]).expect("our own descriptors");
        let served = Arc::new(AtomicUsize::new(0));
        let inner = {
            let served = served.clone();
            service_fn(move |_: Request<()>| {
                served.fetch_add(1, Ordering::Relaxed);
                async { Ok::<_, Infallible>(http::Response::new(tonic::body::Body::empty())) }
            })
        };
        let mut busy = shed(Arc::new(|_| Some(Duration::from_millis(700)))).layer(inner.clone());
        let mut idle = shed(Arc::new(|_| None)).layer(inner);
        for (path, is_new) in [
            ("/interlock.v1.JobService/SubmitJob", true),
            ("/interlock.v1.RecordService/UpdateRecord", true),
            ("/interlock.v1.WorkerService/Heartbeat", false),
            ("/interlock.v1.WorkerService/LeaseStages", false),
            ("/interlock.v1.JobService/CancelJob", false),
            ("/interlock.v1.JobService/GetJob", false),
            ("/interlock.v1.TransactionService/Commit", false),
            ("/no.such.Service/Call", false),
        ] {
            let request = || {
                let mut request = Request::new(());
                request.extensions_mut().insert(methods.find(path));
                request
            };
            let before = served.load(Ordering::Relaxed);
            let response = busy.call(request()).await.expect("infallible");
            assert_eq!(served.load(Ordering::Relaxed) - before, usize::from(!is_new), "{path}");
            if is_new {
                let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
                let exhausted = (Code::ResourceExhausted as i32).to_string();
                assert_eq!((header("grpc-status"), header("grpc-retry-pushback-ms")), (exhausted, "700".to_owned()));
            }
            idle.call(request()).await.expect("infallible");
            assert_eq!(served.load(Ordering::Relaxed) - before, 1 + usize::from(!is_new), "{path}");
        }
    }
}
