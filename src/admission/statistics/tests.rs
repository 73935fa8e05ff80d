//! Buckets, quantiles and counts of finished calls.

use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, service_fn};

use super::*;

fn statistics_of_health() -> Arc<Statistics> {
    let methods = Methods::from_descriptors(&[tonic_health::pb::FILE_DESCRIPTOR_SET]);
    Arc::new(Statistics::new(methods.expect("a descriptor")))
}

fn only(statistics: &Statistics) -> MethodSnapshot {
    let mut methods = statistics.snapshot().methods;
    assert_eq!(methods.len(), 1);
    methods.remove(0)
}

#[test]
fn buckets_are_powers_of_two() {
    for (us, expected) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1_023, 10), (1_024, 11)] {
        assert_eq!(bucket(us), expected, "{us}");
        assert!(us < 1 << bucket(us));
    }
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

#[test]
fn quantiles_come_from_the_buckets() {
    let statistics = statistics_of_health();
    let method = statistics.methods.find("/unknown/method");
    drop(statistics.begin(method));
    let mut snapshot = only(&statistics);
    snapshot.latency = [0; BUCKETS];
    assert_eq!(snapshot.quantile(0.5), None);
    snapshot.latency[3] = 98;
    snapshot.latency[10] = 2;
    assert_eq!(snapshot.quantile(0.5), Some(Duration::from_micros(8)));
    assert_eq!(snapshot.quantile(0.99), Some(Duration::from_micros(1_024)));
    assert_eq!(snapshot.quantile(0.0), Some(Duration::from_micros(8)));
}

async fn answer(statistics: &Arc<Statistics>, response: super::super::Response) -> super::super::Response {
    let response = parking_lot::Mutex::new(Some(response));
    let inner = service_fn(move |_: Request<()>| {
        let response = response.lock().take();
        async move { Ok::<_, Infallible>(response.expect("called once")) }
    });
    let mut service = statistics_layer(statistics).layer(inner);
    let Ok(response) = service.call(Request::new(())).await;
    response
}

fn statistics_layer<S>(shared: &Arc<Statistics>) -> LayerFn<impl Fn(S) -> Counted<S> + Clone> {
    statistics(Arc::clone(shared))
}

#[tokio::test]
async fn a_status_in_headers_ends_the_call_at_once() {
    let statistics = statistics_of_health();
    let _response = answer(&statistics, Status::not_found("").into_http()).await;
    let method = only(&statistics);
    assert_eq!((method.started, method.in_flight), (1, 0));
    assert_eq!(method.finished[Code::NotFound as usize], 1);
}

#[tokio::test]
async fn a_status_in_trailers_ends_the_call_when_it_is_sent() {
    let statistics = statistics_of_health();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "9".parse().expect("a value"));
    let body = Full::new(Bytes::from_static(b"x")).with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
    let response = http::Response::new(tonic::body::Body::new(body));
    let mut response = answer(&statistics, response).await;
    assert_eq!(only(&statistics).in_flight, 1);
    while response.body_mut().frame().await.is_some() {}
    let method = only(&statistics);
    assert_eq!(method.in_flight, 0);
    assert_eq!(method.finished[Code::FailedPrecondition as usize], 1);
    assert_eq!(method.latency.iter().sum::<u64>(), 1);
}

#[tokio::test]
async fn a_dropped_response_counts_as_cancelled() {
    let statistics = statistics_of_health();
    let body = Full::new(Bytes::from_static(b"x"));
    let response = http::Response::new(tonic::body::Body::new(body));
    drop(answer(&statistics, response).await);
    let method = only(&statistics);
    assert_eq!((method.started, method.in_flight), (1, 0));
    assert_eq!(method.finished[Code::Cancelled as usize], 1);
}
