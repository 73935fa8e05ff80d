//! A call that is repeated with its `request_id` returns its first result, from any server, and is applied once.

use futures::future::join_all;
use interlock::proto;

use super::scale;
use crate::harness::*;

const JOBS: usize = 50;

fn update(job_id: &str, expected_version: Option<i64>) -> proto::UpdateJobRequest {
    proto::UpdateJobRequest {
        job_id: job_id.to_owned(),
        labels: labels(&[("by", &unique())]),
        expected_version,
        request_id: request_id(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeat_on_another_server_returns_the_first_result() {
    let first = Server::start().await;
    let second = first.beside().await;
    let (mut replayed, jobs) = (0, JOBS * scale());
    for i in 0..jobs {
        let job_id = first.api.submit(new_job(&format!("job-{i}"), vec![new_stage("s")])).await.job_id;
        let request = update(&job_id, Some(1));
        let received = ok(first.api.jobs().update_job(request.clone()).await);
        // Now the other server knows the job as it is, but has never heard of the request: by what it knows, the version
        // expected is long gone.
        let other = ok(second.api.jobs().update_job(update(&job_id, None)).await);
        assert_eq!((received.applied_version, other.applied_version), (2, 3));
        let again = ok(second.api.jobs().update_job(request).await);
        assert_eq!((again.replayed, again.applied, again.applied_version), (true, true, 2));
        replayed += 1;
    }
    eprintln!("repeats: {replayed} of {jobs} got their first result from another server");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_repeats_are_applied_once() {
    let first = Server::start().await;
    let servers = [first.beside().await, first.beside().await, first];
    let each = (0..JOBS * scale()).map(|i| {
        let servers = &servers;
        async move {
            let job_id = servers[0].api.submit(new_job(&format!("job-{i}"), vec![new_stage("s")])).await.job_id;
            let request = update(&job_id, (i % 2 == 0).then_some(1));
            let sent = (0..6).map(|n| {
                let (mut jobs, request) = (servers[n % 3].api.jobs(), request.clone());
                async move { ok(jobs.update_job(request).await) }
            });
            let received = join_all(sent).await;
            assert!(received.iter().all(|answer| answer.applied && answer.applied_version == 2), "{received:?}");
            assert_eq!(servers[1].api.job(&job_id).await.version, 2);
            received.iter().filter(|answer| !answer.replayed).count()
        }
    });
    let done = join_all(each).await;
    assert!(done.iter().all(|done| *done == 1), "{done:?}");
    eprintln!("repeats: {} requests sent 6 times at once to 3 servers, each done once", done.len());
}
