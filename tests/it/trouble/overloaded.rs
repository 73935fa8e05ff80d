//! More new work than can be done in time: it is refused at once, and calls that keep accepted work alive wait in the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use interlock::proto::LeaseDirective;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::*;

/// Jobs that are submitted at once, each of so many stages: several times what may wait.
const JOBS: usize = 600;
const STAGES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn overload_refuses_new_work_and_keeps_leases() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("held", vec![new_stage("voice")])).await;
    let lease = api.lease("default").await;

    // Every commit writes here, so none comes through.
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute("BEGIN; LOCK TABLE write_groups").await.expect("a lock");
    let refused = Arc::new(AtomicUsize::new(0));
    let submit = |i: usize| {
        let (api, refused) = (api.clone(), refused.clone());
        let stages = (0..STAGES).map(|stage| new_stage(&format!("stage-{stage}"))).collect();
        tokio::spawn(async move {
            let answer = api.jobs().submit_job(new_job(&format!("job-{i}"), stages)).await;
            if let Err(status) = &answer
                && status.code() == Code::ResourceExhausted
            {
                let details = status.get_error_details();
                assert_eq!(details.error_info().expect("an ErrorInfo").reason, "OVERLOADED");
                assert!(details.retry_info().expect("a RetryInfo").retry_delay.is_some());
                refused.fetch_add(1, Ordering::Relaxed);
            }
            answer.is_ok()
        })
    };
    let submits: Vec<_> = (0..JOBS).map(submit).collect();
    eventually("refusals while nothing is committed", async || {
        (refused.load(Ordering::Relaxed) > JOBS / 4).then_some(())
    })
    .await;
    let heartbeat = {
        let (api, lease) = (api.clone(), lease.clone());
        tokio::spawn(async move { api.renew_lease(&lease, Some(0.5)).await })
    };
    foreign.batch_execute("ROLLBACK").await.expect("no lock");
    assert_eq!(heartbeat.await.expect("not refused").directive(), LeaseDirective::Continue);
    let accepted = join_all(submits).await.into_iter().filter(|done| *done.as_ref().expect("no panic")).count();
    assert!(accepted > 0, "what may wait is not refused");
    assert_eq!(server.column("SELECT count(*)::text FROM jobs").await, [(accepted + 1).to_string()]);
    // Once it has been done, new work is taken again.
    eventually("the end of the overload", async || api.jobs().submit_job(new_job("", Vec::new())).await.ok()).await;
    api.complete(&lease, serde_json::json!({})).await;
}
