//! Rate limits: token buckets for each client and class of calls.
//!
//! A call is charged one item before its message is read, so that a flood is refused unread. The other items of a batch
//! are charged when its message has arrived, before it is decoded; they are counted by the occurrences of one field.
//!
//! Guarantee: whatever the load of others, a client gets its rates and no more. The server need not be able to serve
//! the sum of all rates; beyond that `shed` and `limit` refuse.

mod bucket;
mod clients;
mod figures;
mod items;

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use governor::clock::DefaultClock;
use http::{HeaderName, HeaderValue, Request};
use http_body::Body;
use tonic::{Code, Status};
use tower::layer::{LayerFn, layer_fn};

use super::message::MessageBody;
use super::methods::CallClass;
use super::refusal::Outcome;
use super::{Inner, Response, methods, namespace, peer, refusal};
pub(super) use bucket::Bucket;
pub use bucket::ClassRate;
use bucket::{RateClock, Shortage};
pub use clients::ClientRates;
use clients::{Clients, RateClient};
use figures::ClassCounters;
pub use figures::{ClassFigures, ClientFigures, RateFigures};

/// Response header with the tokens left, on accepted calls.
static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// Rate limits of a server: the clients that called lately and their buckets.
#[derive(Debug)]
pub struct RateLimiter<C: RateClock = DefaultClock> {
    clients: Clients<C>,
    counters: [ClassCounters; CallClass::ALL.len()],
    /// True if no class has a limit by default. Credentials may still have limits of their own.
    is_off: bool,
}

impl RateLimiter {
    /// Creates rate limits with the clock of this machine.
    pub fn new(rates: ClientRates) -> Self {
        Self::with_clock(rates, DefaultClock::default())
    }
}

impl<C: RateClock> RateLimiter<C> {
    fn with_clock(rates: ClientRates, clock: C) -> Self {
        let is_off = rates == ClientRates::default();
        RateLimiter { clients: Clients::new(rates, clock), counters: Default::default(), is_off }
    }

    /// Client that a call is charged to. None: the call has no limit.
    fn client<B>(&self, request: &Request<B>) -> Option<Arc<RateClient<C>>> {
        match peer::principal(request) {
            Some(principal) if self.is_off && principal.rates == Default::default() => None,
            Some(principal) => Some(self.clients.principal(principal)),
            None if self.is_off => None,
            None => {
                let address = peer::address(request);
                Some(self.clients.stranger(namespace::of(request), address))
            }
        }
    }

    /// Charges the first item of a call. Returns the tokens left; None: no limit.
    fn charge_first(&self, client: &RateClient<C>, class: CallClass) -> Result<Option<u32>, Status> {
        let taken = client.bucket(class).map(|bucket| bucket.take_one()).transpose();
        taken.map_err(|shortage| self.refuse(client, class, 1, shortage))
    }

    /// Charges the other items of a batch, and counts the batch as accepted. Returns the tokens left; None: no limit.
    fn charge_rest(&self, client: &RateClient<C>, class: CallClass, items: u32) -> Result<Option<u32>, Status> {
        let Some(bucket) = client.bucket(class) else { return Ok(None) };
        let all = NonZeroU32::new(items).unwrap_or(NonZeroU32::MIN);
        let left = bucket.take_rest(all).map_err(|shortage| self.refuse(client, class, items, shortage))?;
        self.counters[class as usize].note_accepted();
        Ok(left)
    }

    fn refuse(&self, client: &RateClient<C>, class: CallClass, items: u32, shortage: Shortage) -> Status {
        client.note_refused(class);
        self.counters[class as usize].note_refused();
        limited(class, items, shortage)
    }
}

/// Builds the refusal of a call that costs more tokens than the bucket holds.
fn limited(class: CallClass, items: u32, shortage: Shortage) -> Status {
    let Shortage { rate, remaining, wait } = shortage;
    let (class, burst) = (class.name(), rate.burst());
    let message = match wait {
        None => format!("a batch of {items} exceeds the {class} burst of {burst} of this client: send smaller batches"),
        Some(_) if items > 1 => {
            format!(
                "a batch of {items} exceeds the {class} rate limit of {rate} of this client: {remaining} are left now"
            )
        }
        Some(_) => format!("the {class} rate limit of {rate} of this client is used up"),
    };
    let refusal = refusal(Code::ResourceExhausted, "RATE_LIMITED", Outcome::NotApplied, message)
        .with("limit", rate.to_string())
        .with("burst", burst.to_string())
        .with("remaining", remaining.to_string())
        .with("class", class);
    match wait {
        Some(wait) => refusal.retry_after(wait),
        None => refusal.never_retry(),
    }
    .into_status()
}

/// Charges the items of a stream to the client that opened it: those of a worker as essential calls, others in the class
/// of their method. In the extensions of the request. Absent: the client has no limit.
#[derive(Clone)]
pub struct StreamCharge(Arc<dyn Fn() -> Option<Duration> + Send + Sync>);

impl StreamCharge {
    fn new<C: RateClock>(client: Arc<RateClient<C>>, class: CallClass) -> Self {
        Self(Arc::new(move || {
            let taken = client.bucket(class)?.take_one();
            taken.err().and_then(|shortage| shortage.wait)
        }))
    }

    /// Charges `items` items. Waits for each until the rate permits it.
    pub async fn take(&self, items: usize) {
        for _ in 0..items {
            while let Some(wait) = (self.0)() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Client of a batch, for the charge of its other items.
struct Charged<C: RateClock>(Arc<RateClient<C>>);

impl<C: RateClock> Clone for Charged<C> {
    fn clone(&self) -> Self {
        Charged(Arc::clone(&self.0))
    }
}

/// Charges each call one item, before its message is read.
pub fn rate_limit<S, C>(limiter: Arc<RateLimiter<C>>) -> LayerFn<impl Fn(S) -> RateLimited<S, C> + Clone>
where
    C: RateClock,
{
    layer_fn(move |inner| RateLimited { inner, limiter: Arc::clone(&limiter) })
}

/// The service that [`rate_limit`] puts around another.
#[derive(Debug)]
pub struct RateLimited<S, C: RateClock = DefaultClock> {
    inner: S,
    limiter: Arc<RateLimiter<C>>,
}

impl<S: Clone, C: RateClock> Clone for RateLimited<S, C> {
    fn clone(&self) -> Self {
        RateLimited { inner: self.inner.clone(), limiter: Arc::clone(&self.limiter) }
    }
}

impl<S, B, C> tower::Service<Request<B>> for RateLimited<S, C>
where
    S: Inner<B, Future: Unpin>,
    C: RateClock,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ChargedCall<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = methods::of(&request);
        let client = if method.is_health { None } else { self.limiter.client(&request) };
        let Some(client) = client else {
            return ChargedCall::Called { answer: self.inner.call(request), left: None };
        };
        let class = method.class();
        let left = match self.limiter.charge_first(&client, class) {
            Ok(left) => left,
            Err(status) => return ChargedCall::Refused(Some(status.into_http())),
        };
        if method.charges_messages {
            let class = if method.is_work_stream { CallClass::Essential } else { class };
            request.extensions_mut().insert(StreamCharge::new(Arc::clone(&client), class));
        }
        if method.items_field.is_some() {
            request.extensions_mut().insert(Charged(client));
        } else if left.is_some() {
            self.limiter.counters[class as usize].note_accepted();
        }
        ChargedCall::Called { answer: self.inner.call(request), left }
    }
}

/// Charges batches their items other than the first, when their message has arrived.
pub fn rate_limit_items<S, C>(limiter: Arc<RateLimiter<C>>) -> LayerFn<impl Fn(S) -> ItemsLimited<S, C> + Clone>
where
    C: RateClock,
{
    layer_fn(move |inner| ItemsLimited { inner, limiter: Arc::clone(&limiter) })
}

/// The service that [`rate_limit_items`] puts around another.
#[derive(Debug)]
pub struct ItemsLimited<S, C: RateClock = DefaultClock> {
    inner: S,
    limiter: Arc<RateLimiter<C>>,
}

impl<S: Clone, C: RateClock> Clone for ItemsLimited<S, C> {
    fn clone(&self) -> Self {
        ItemsLimited { inner: self.inner.clone(), limiter: Arc::clone(&self.limiter) }
    }
}

impl<S, B, C> tower::Service<Request<MessageBody<B>>> for ItemsLimited<S, C>
where
    S: Inner<MessageBody<B>, Future: Unpin>,
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
    C: RateClock,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ChargedCall<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<MessageBody<B>>) -> Self::Future {
        let method = methods::of(&request);
        let Some(field) = method.items_field else {
            return ChargedCall::Called { answer: self.inner.call(request), left: None };
        };
        let Some(Charged(client)) = request.extensions_mut().remove::<Charged<C>>() else {
            return ChargedCall::Called { answer: self.inner.call(request), left: None };
        };
        let items = request.body().only_message().map_or(1, |message| items::count(message, field));
        match self.limiter.charge_rest(&client, method.class(), items) {
            Ok(left) => ChargedCall::Called { answer: self.inner.call(request), left },
            Err(status) => ChargedCall::Refused(Some(status.into_http())),
        }
    }
}

/// Future of a call that was charged or refused. Adds the tokens left to the response.
#[derive(Debug)]
pub enum ChargedCall<F> {
    /// The call was admitted and runs.
    Called {
        /// Response of the services below.
        answer: F,
        /// Tokens left after the first charge. None: no limit.
        left: Option<u32>,
    },
    /// The call was refused.
    Refused(Option<Response>),
}

impl<F> Future for ChargedCall<F>
where
    F: Future<Output = Result<Response, Infallible>> + Unpin,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            ChargedCall::Called { answer, left } => {
                let mut response = ready!(Pin::new(answer).poll(context))?;
                if let Some(left) = left {
                    // A layer below sees a newer value.
                    response.headers_mut().entry(&REMAINING).or_insert_with(|| HeaderValue::from(*left));
                }
                Poll::Ready(Ok(response))
            }
            ChargedCall::Refused(response) => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
