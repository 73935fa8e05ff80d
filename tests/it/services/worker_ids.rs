//! Two workers of one id that run at the same time: the one that comes later is notified at once.

use std::time::{Duration, Instant};

use interlock::proto::{LeaseStagesRequest, WorkBegin, WorkRequest};
use uuid::Uuid;

use crate::harness::*;

/// Asks for work and waits for it. Returns whether the worker was notified that its id is shared, and after what time.
async fn poll(server: &Server, worker_id: &str, instance: Uuid, wait_s: u64) -> (bool, Duration) {
    let request = LeaseStagesRequest {
        worker_id: worker_id.to_owned(),
        wait: seconds(wait_s),
        instance_id: Some(instance.to_string()),
        ..Default::default()
    };
    let began = Instant::now();
    let response = ok(server.api.workers().lease_stages(request).await);
    (response.worker_id_shared, began.elapsed())
}

/// Opens a stream of a worker. Returns it, and whether the worker was notified that its id is shared.
async fn open(server: &Server, instance: Uuid) -> (Session, bool) {
    let instance_id = Some(instance.to_string());
    let begin = WorkBegin { worker_id: "speaker".to_owned(), instance_id, ..Default::default() };
    let first = WorkRequest { begin: Some(begin), capacity: Some(0), ..Default::default() };
    let mut session = Session::open(&server.api, first).await;
    assert!(session.read().await.expect("open"));
    let is_notified = session.shares_worker_id;
    (session, is_notified)
}

#[tokio::test]
async fn a_worker_with_a_taken_id_is_notified_at_once_and_once() {
    let server = Server::start().await;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let (_stream, is_notified) = open(&server, first).await;
    assert!(!is_notified);
    let (is_notified, after) = poll(&server, "speaker", second, 60).await;
    assert!(is_notified && after < Duration::from_secs(20), "{after:?}");
    assert!(!poll(&server, "speaker", second, 0).await.0, "it was notified");
    assert!(poll(&server, "speaker", first, 60).await.0, "the other one has called since");
    assert!(!poll(&server, "narrator", Uuid::new_v4(), 0).await.0, "another id");
    assert!(open(&server, Uuid::new_v4()).await.1, "a stream is notified too");
}

#[tokio::test]
async fn a_worker_that_was_restarted_is_not_notified() {
    let server = Server::start().await;
    for _ in 0..3 {
        let instance = Uuid::new_v4();
        assert!(!poll(&server, "speaker", instance, 0).await.0);
        assert!(!poll(&server, "speaker", instance, 0).await.0);
    }
}
