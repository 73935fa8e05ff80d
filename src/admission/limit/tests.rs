//! Calls that stay in flight, of several namespaces and on many connections.

use tower::{Layer, service_fn};

use super::*;
use crate::admission::{CallClass, Methods};
use crate::proto::FILE_DESCRIPTOR_SET;

const LIMIT: u32 = 800;
const GET: &str = "/interlock.v1.JobService/GetJob";
const HEARTBEAT: &str = "/interlock.v1.WorkerService/Heartbeat";

/// A server that keeps calls in flight until their responses are dropped.
struct Scene<S> {
    service: S,
    methods: Methods,
}

fn scene() -> Scene<impl Inner<()> + Clone> {
    let streams = StreamLimits { total: 10, per_namespace: 10, per_connection: 10 };
    let served = service_fn(|_: Request<()>| {
        // The body is not empty: an empty response would count as sent at once.
        let body = tonic::body::Body::new(http_body_util::Full::new(Bytes::from_static(b"answer")));
        std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
    });
    let methods = Methods::from_descriptors(&[FILE_DESCRIPTOR_SET]).expect("our own descriptors");
    Scene { service: in_flight_limit(LIMIT, streams).layer(served), methods }
}

impl<S: Inner<()> + Clone> Scene<S> {
    /// Sends a call on a connection of its own. None: it was refused.
    async fn call(&self, path: &str, namespace: &str) -> Option<super::super::Response> {
        let mut request = Request::builder().header("interlock-namespace", namespace).body(()).expect("a request");
        request.extensions_mut().insert(self.methods.find(path));
        let response = self.service.clone().call(request).await.expect("infallible");
        (!response.headers().contains_key(Status::GRPC_STATUS)).then_some(response)
    }

    /// Sends calls of the namespaces in rotation until all are refused.
    async fn flood(&self, namespaces: &[&str]) -> Vec<Vec<super::super::Response>> {
        let mut held: Vec<Vec<super::super::Response>> = namespaces.iter().map(|_| Vec::new()).collect();
        loop {
            let mut any = false;
            for (namespace, held) in namespaces.iter().zip(&mut held) {
                if let Some(answer) = self.call(GET, namespace).await {
                    held.push(answer);
                    any = true;
                }
            }
            if !any {
                return held;
            }
        }
    }
}

#[tokio::test]
async fn a_namespace_that_floods_leaves_room_for_others_and_for_essential_calls() {
    let scene = scene();
    let flood = scene.flood(&["a"]).await;
    // 613 of the 700 places that are not reserved for essential calls.
    assert_eq!(flood[0].len(), 613);
    let mut others = Vec::new();
    for i in 0..40 {
        others.push(scene.call(GET, "b").await.unwrap_or_else(|| panic!("call {i} of another namespace")));
    }
    assert_eq!(scene.methods.find(HEARTBEAT).class(), CallClass::Essential);
    for _ in 0..100 {
        others.push(scene.call(HEARTBEAT, "a").await.expect("essential calls have no share"));
    }
    drop((flood, others));
    assert_eq!(scene.flood(&["a"]).await[0].len(), 613, "all places came back");
}

#[tokio::test]
async fn namespaces_that_flood_share() {
    let scene = scene();
    for held in scene.flood(&["a", "b", "c"]).await {
        assert!((170..=180).contains(&held.len()), "{} of 700", held.len());
    }
}

#[tokio::test]
async fn a_namespace_that_has_more_than_its_share_gets_nothing_new_until_others_have_as_much() {
    let scene = scene();
    let mut flood = scene.flood(&["a"]).await.remove(0);
    let mut other = scene.flood(&["b"]).await.remove(0);
    assert!(other.len() >= 40, "{} of the 87 that were left", other.len());
    while flood.len() > 300 {
        flood.pop();
        assert!(scene.call(GET, "a").await.is_none(), "with {}", flood.len());
        other.extend(scene.call(GET, "b").await);
    }
    assert!(other.len() > 190, "{}", other.len());
}
