//! Cost per call of the layers of the front door, beside the same stack without them.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::{Service, ServiceBuilder, service_fn};

use crate::admission::{
    self, ClassRate, ClientRates, ConnectionShare, MessageBody, Methods, Peer, RateLimiter, Response, Statistics,
};
use crate::config::Config;
use crate::server::{Options, stack};

/// Calls of one run, and number of runs of each stack, in rotation.
const CALLS: u32 = 20_000;
const PAIRS: usize = 101;

type Whole = Full<Bytes>;

/// A service that answers at once.
async fn answer(_: Request<MessageBody<Whole>>) -> Result<Response, Infallible> {
    Ok(tonic::Status::ok("").into_http())
}

fn options() -> Options {
    let methods = Methods::from_descriptors(&[crate::proto::FILE_DESCRIPTOR_SET]).expect("our own descriptors");
    let mut options = Options::new(&Config::default(), Arc::new(Statistics::new(methods)));
    let rate = Some(ClassRate::per_second(1_000_000_000));
    let rates = ClientRates { read: rate, write: rate, watch: rate, essential: rate };
    options.rate_limiter = Arc::new(RateLimiter::new(rates));
    options
}

/// The server's stack of layers without credentials and rate limits.
fn without_door(
    options: &Options,
) -> impl Service<Request<Whole>, Response = Response, Error = Infallible, Future: Send> + Clone {
    ServiceBuilder::new()
        .layer(admission::statistics(Arc::clone(&options.statistics)))
        .layer(admission::catch_panics())
        .layer(admission::protocol_errors())
        .layer(admission::shed(Arc::clone(&options.overload)))
        .layer(admission::deadline(options.default_deadline))
        .layer(admission::arrival(options.arrival))
        .layer(admission::in_flight_limit(options.max_in_flight, options.watches))
        .layer(admission::end_watches(Default::default()))
        .service(service_fn(answer))
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = schedule.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds"))
}

/// CPU time of a call, in nanoseconds.
async fn once<S>(mut service: S, share: &ConnectionShare) -> f64
where
    S: Service<Request<Whole>, Response = Response, Error = Infallible>,
{
    let peer = Peer { address: Some(Ipv4Addr::LOCALHOST.into()), certificate: None };
    let message = Bytes::from_static(b"\0\0\0\0\x02\x08\x01");
    let began = cpu();
    for _ in 0..CALLS {
        let mut request = Request::post("http://localhost/interlock.v1.WorkerService/UpdateStageProgress")
            .header("content-type", "application/grpc")
            .body(Full::new(message.clone()))
            .expect("a request");
        request.extensions_mut().insert(share.clone());
        request.extensions_mut().insert(peer.clone());
        let answered = service.call(request).await.expect("infallible");
        std::hint::black_box(answered.status());
    }
    (cpu() - began).as_nanos() as f64 / f64::from(CALLS)
}

/// Prints the cost: `INTERLOCK_MEASURE=1 cargo test --release --lib door_cost -- --nocapture`.
#[tokio::test]
async fn door_cost() {
    if std::env::var_os("INTERLOCK_MEASURE").is_none() {
        return;
    }
    let (options, share) = (options(), ConnectionShare::default());
    let (mut with, mut without, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let whole = once(stack(&options, Default::default(), service_fn(answer)), &share).await;
        let bare = once(without_door(&options), &share).await;
        with.push(whole);
        without.push(bare);
        extra.push(whole - bare);
    }
    for (name, mut figures) in [("with", with), ("without", without), ("the front door", extra)] {
        figures.sort_by(f64::total_cmp);
        let at = |part: f64| figures[((PAIRS - 1) as f64 * part) as usize];
        println!(
            "{name}: {:.0} ns of CPU a call (from {:.0} to {:.0} in the middle half)",
            at(0.5),
            at(0.25),
            at(0.75)
        );
    }
}
