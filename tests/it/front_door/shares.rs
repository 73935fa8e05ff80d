//! A namespace that floods a server leaves room for others: in the queue of the writer and among the calls in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use interlock::proto;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::*;

async fn create_namespaces(api: &Api, names: &[&str]) {
    for name in names {
        let request = proto::CreateNamespaceRequest { name: (*name).to_owned(), ..Default::default() };
        ok(api.admin().create_namespace(request).await);
    }
}

async fn submit(api: &Api, namespace: &str) -> Result<(), Status> {
    api.jobs().submit_job(within(namespace, new_job("", vec![new_stage("voice")]))).await.map(drop)
}

#[track_caller]
fn is_overloaded(status: &Status) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    assert_eq!((status.code(), &*reason), (Code::ResourceExhausted, "OVERLOADED"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_that_fills_the_queue_does_not_block_writes_of_another() {
    let server = Server::with(|config| config.queue_operations = 100).await;
    create_namespaces(&server.api, &["loud", "quiet"]).await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut flood = JoinSet::new();
    // On several connections, since a flood on one is bounded in other ways.
    let apis = join_all((0..8).map(|_| Api::connect(server.address))).await;
    for i in 0..400 {
        let (api, refused) = (apis[i % apis.len()].clone(), refused.clone());
        flood.spawn(async move {
            loop {
                if let Err(status) = submit(&api, "loud").await {
                    is_overloaded(&status);
                    refused.fetch_add(1, Ordering::Relaxed);
                    // A flood of the queue, not of the connection and of the CPU.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    eventually("a flood that is refused", async || (refused.load(Ordering::Relaxed) > 300).then_some(())).await;
    let before = refused.load(Ordering::Relaxed);
    for i in 0..100 {
        let answer = submit(&server.api, "quiet").await;
        assert!(answer.is_ok(), "write {i} of another namespace: {answer:?}");
    }
    assert!(refused.load(Ordering::Relaxed) > before, "the flood went on");
    flood.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_that_takes_the_calls_in_flight_does_not_block_another() {
    let server = Server::with(|config| config.max_in_flight = 64).await;
    create_namespaces(&server.api, &["loud", "quiet"]).await;
    for namespace in ["loud", "quiet"] {
        ok(server.api.jobs().submit_job(within(namespace, new_job("film", vec![new_stage("voice")]))).await);
    }
    let mut waits = JoinSet::new();
    let refused = Arc::new(AtomicUsize::new(0));
    // On several connections, since each of them has its share too.
    for _ in 0..5 {
        let api = Api::connect(server.address).await;
        for _ in 0..30 {
            let (api, refused) = (api.clone(), refused.clone());
            waits.spawn(async move {
                let request = proto::WaitJobRequest { job_id: "film".to_owned(), wait: seconds(60) };
                if let Err(status) = api.jobs().wait_job(within("loud", request)).await {
                    is_overloaded(&status);
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    // Of 64 places eight are kept for essential calls, and of the others an eighth for other namespaces.
    eventually("waits", async || (refused.load(Ordering::Relaxed) >= 150 - 49).then_some(())).await;
    assert_eq!(refused.load(Ordering::Relaxed), 150 - 49);
    for _ in 0..100 {
        let request = proto::GetJobRequest { job_id: "film".to_owned(), ..Default::default() };
        ok(server.api.jobs().get_job(within("quiet", request)).await);
    }
    waits.shutdown().await;
}
