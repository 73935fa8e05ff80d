//! Counts every call: started, in flight, finished by status code, and its duration.
//!
//! The counters are lock-free, and bounded by the table of methods. A call counts as finished when its status has been
//! seen, in headers or in trailers; a call dropped before counts as CANCELLED, which is what its client sees or asked
//! for.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::methods::{Method, Methods};
use super::sent::UntilSent;
use super::{Answer, Inner};
use crate::figures::door::{DoorFigures, REASON_HEADER};

/// Number of status codes, from OK (0) to UNAUTHENTICATED (16).
pub const CODES: usize = 17;
/// Number of latency buckets. Bucket `n` holds the calls that took less than 2ⁿ µs and are in no lower bucket; the last
/// holds all others (over 35 min).
pub const BUCKETS: usize = 32;

/// Counters of all methods.
#[derive(Debug)]
pub struct Statistics {
    methods: Methods,
    counters: Box<[Counters]>,
    /// Figures of the front door, including finished calls by the reason of their error.
    pub door: DoorFigures,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    in_flight: AtomicI64,
    finished: [AtomicU64; CODES],
    latency_sum_us: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

/// All counters at about one moment.
#[derive(Debug, Clone)]
pub struct CallSnapshot {
    /// Counters by method, for each method that was called at least once.
    pub methods: Vec<MethodSnapshot>,
}

/// Counters of one method.
#[derive(Debug, Clone)]
pub struct MethodSnapshot {
    /// `/package.Service/Method`, or `unknown`.
    pub path: String,
    /// Number of calls that have started, those in flight included.
    pub started: u64,
    /// Calls started and not finished; a stream counts while it is open.
    pub in_flight: u64,
    /// Calls finished, by status code.
    pub finished: [u64; CODES],
    /// Sum of the durations of finished calls, in microseconds.
    pub latency_sum_us: u64,
    /// Finished calls by duration; see [`BUCKETS`].
    pub latency: [u64; BUCKETS],
}

impl Statistics {
    /// The method of a path.
    pub(super) fn method(&self, path: &str) -> Method {
        self.methods.find(path)
    }

    /// Creates counters for these methods, all zero.
    pub fn new(methods: Methods) -> Statistics {
        let counters = methods.paths().iter().map(|_| Counters::default()).collect();
        Statistics { methods, counters, door: DoorFigures::default() }
    }

    /// Reads all counters. They are read one after the other while calls continue, so sums may be off by those calls.
    pub fn snapshot(&self) -> CallSnapshot {
        let methods = self.methods.paths().iter().zip(&self.counters);
        CallSnapshot {
            methods: methods
                .map(|(path, counters)| counters.snapshot(path))
                .filter(|method| method.started > 0)
                .collect(),
        }
    }

    /// Calls of all methods that have started and not finished.
    pub fn in_flight(&self) -> u64 {
        let sum: i64 = self.counters.iter().map(|counters| counters.in_flight.load(Ordering::Relaxed)).sum();
        u64::try_from(sum).unwrap_or(0)
    }

    /// The same without watches, which have no end of their own. Work streams are included: they end when the server
    /// drains.
    pub fn unanswered(&self) -> u64 {
        let ends = |path: &str| self.methods.find(path).ends_by_itself();
        let calls = self.methods.paths().iter().zip(&self.counters).filter(|(path, _)| ends(path));
        u64::try_from(calls.map(|(_, counters)| counters.in_flight.load(Ordering::Relaxed)).sum::<i64>()).unwrap_or(0)
    }

    /// Counts the reason of an error status, and removes it from the headers that are sent.
    fn note_reason(&self, headers: &mut HeaderMap) {
        let reason = headers.remove(REASON_HEADER);
        if code_in(headers) != Code::Ok {
            self.door.refused(reason.as_ref().and_then(|reason| reason.to_str().ok()).unwrap_or_default());
        }
    }

    fn begin(self: &Arc<Self>, method: Method) -> Observation {
        let counters = &self.counters[method.index];
        counters.started.fetch_add(1, Ordering::Relaxed);
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Observation { statistics: Arc::clone(self), method, began: Instant::now(), code: Code::Cancelled }
    }
}

impl Counters {
    fn snapshot(&self, path: &str) -> MethodSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MethodSnapshot {
            path: path.to_owned(),
            started: read(&self.started),
            in_flight: u64::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(0),
            finished: self.finished.each_ref().map(read),
            latency_sum_us: read(&self.latency_sum_us),
            latency: self.latency.each_ref().map(read),
        }
    }
}

impl MethodSnapshot {
    /// Duration that this share of the finished calls did not exceed (0.5 is the median), as the upper end of its
    /// bucket: at most twice too high. None: no call has finished.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = ((total as f64 * share).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        let bucket = self.latency.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_micros(1 << bucket))
    }
}

/// Bucket of a duration.
fn bucket(us: u64) -> usize {
    let bits = (u64::BITS - us.leading_zeros()) as usize;
    bits.min(BUCKETS - 1)
}

/// One call in progress; dropping it counts its end.
#[derive(Debug)]
struct Observation {
    statistics: Arc<Statistics>,
    method: Method,
    began: Instant,
    /// Code that will be counted: CANCELLED until a status has been seen.
    code: Code,
}

impl Observation {
    fn end(mut self, code: Code) {
        self.code = code;
    }
}

/// Status code in trailers. Trailers without one are not gRPC's and give UNKNOWN.
fn code_in(trailers: &HeaderMap) -> Code {
    trailers.get(Status::GRPC_STATUS).map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes()))
}

impl Drop for Observation {
    fn drop(&mut self) {
        let counters = &self.statistics.counters[self.method.index];
        let us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        counters.finished[self.code as usize].fetch_add(1, Ordering::Relaxed);
        counters.latency_sum_us.fetch_add(us, Ordering::Relaxed);
        counters.latency[bucket(us)].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts calls into `statistics`. The outermost layer: it also finds the [`Method`] for the others.
pub fn statistics<S>(statistics: Arc<Statistics>) -> LayerFn<impl Fn(S) -> Counted<S> + Clone> {
    layer_fn(move |inner| Counted { inner, statistics: Arc::clone(&statistics) })
}

/// Service of [`statistics`].
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    statistics: Arc<Statistics>,
}

impl<S: Inner<B>, B> tower::Service<Request<B>> for Counted<S> {
    type Response = super::Response;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Answer {
        let method = self.statistics.methods.find(request.uri().path());
        request.extensions_mut().insert(method);
        let observation = self.statistics.begin(method);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let is_whole = response.headers().contains_key(Status::GRPC_STATUS);
            let mut response = response;
            if is_whole {
                observation.statistics.note_reason(response.headers_mut());
            }
            if is_whole || response.status() != StatusCode::OK {
                observation.end(code_in(response.headers()));
                return Ok(response);
            }
            let until_sent = response.extensions_mut().remove::<UntilSent>();
            let body = |inner| CountedBody { inner, observation: Some(observation), until_sent };
            Ok(response.map(|inner| tonic::body::Body::new(body(inner))))
        })
    }
}

/// Response body that ends the observation with its trailers.
struct CountedBody {
    inner: tonic::body::Body,
    observation: Option<Observation>,
    /// Reverted if this body is dropped before its end.
    until_sent: Option<UntilSent>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
            && let Some(observation) = &self.observation
        {
            observation.statistics.note_reason(trailers);
        }
        let ended = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(code_in),
            Some(Err(status)) => Some(status.code()),
            // A body without trailers is not gRPC, and has ended here.
            None => Some(Code::Ok),
        };
        if let Some(code) = ended
            && let Some(observation) = self.observation.take()
        {
            observation.end(code);
            if let Some(until_sent) = self.until_sent.take().filter(|_| code == Code::Ok) {
                until_sent.sent();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
