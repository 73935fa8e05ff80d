//! Callers that hang up: whenever they do, nothing is left half done, and nothing stays taken.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use interlock::proto::{self, JobEventType, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

/// Calls of each kind.
const CALLS: usize = 1_000;
/// Callers at the same time.
const SIDE_BY_SIDE: usize = 64;
const STAGES: usize = 200;

/// Awaits a call for a random moment and then drops it, or gives it a deadline that has passed when it arrives.
async fn drop_some_time<Q, A, F>(i: usize, message: Q, call: impl FnOnce(tonic::Request<Q>) -> F) -> Option<A>
where
    F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
{
    let mut request = tonic::Request::new(message);
    if i.is_multiple_of(5) {
        request.metadata_mut().insert("grpc-timeout", "1n".parse().expect("ASCII"));
    }
    // From before it is sent until after most are answered; and some are heard to the end, on a busy machine too.
    let random = Duration::from_millis(200).mul_f64(rand::random::<f64>().powi(3));
    let patience = if i.is_multiple_of(7) { PATIENCE } else { random };
    match tokio::time::timeout(patience, call(request)).await {
        Ok(Ok(response)) => Some(response.into_inner()),
        Ok(Err(status)) => {
            // A job can be asked for that was never submitted, and the client library itself ends calls whose deadline has
            // passed as CANCELLED. The connection is never lost, however many are cancelled.
            let expected = [Code::DeadlineExceeded, Code::NotFound, Code::Cancelled];
            assert!(expected.contains(&status.code()), "{status:?}");
            None
        }
        Err(_) => None,
    }
}

/// That nothing is going on, and nothing is taken.
async fn all_is_quiet(api: &Api) {
    let busy = async || {
        let statistics = api.statistics().await;
        let (pool, writer) = (statistics.pool.expect("a pool"), statistics.writer.expect("a writer"));
        let own = "interlock.v1.AdminService/GetStatistics";
        let in_flight: i64 = statistics.rpcs.iter().filter(|rpc| rpc.method != own).map(|rpc| rpc.in_flight).sum();
        let polls = statistics.dispatcher.expect("a dispatcher").waiting_polls;
        [pool.connections - pool.idle, pool.waiting, writer.queue_depth, in_flight, polls]
    };
    // The background loops look now and then.
    eventually("a quiet server", async || (busy().await == [0; 5]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_leave_whole_jobs_and_a_whole_pool() {
    let server = Server::start().await;
    let (api, hasty) = (&server.api, &Api::connect(server.address).await);
    let calls = stream::iter(0..3 * CALLS).map(|i| async move {
        let job_id = format!("job-{}", i / 3);
        match i % 3 {
            0 => {
                let stages = vec![new_stage("a"), new_stage_after("b", &["a"])];
                let request = proto::SubmitJobRequest {
                    payload: struct_of(json!({ "job": job_id })),
                    request_id: request_id(),
                    ..new_job(&job_id, stages)
                };
                drop_some_time(i, request, async |request| hasty.jobs().submit_job(request).await).await.map(|_| job_id)
            }
            1 => {
                let request = proto::GetJobRequest { job_id, ..Default::default() };
                drop_some_time(i, request, async |request| hasty.jobs().get_job(request).await).await;
                None
            }
            _ => {
                let request = proto::ListJobsRequest { page_size: 50, ..Default::default() };
                drop_some_time(i, request, async |request| hasty.jobs().list_jobs(request).await).await;
                None
            }
        }
    });
    let answered: BTreeSet<String> = calls.buffer_unordered(SIDE_BY_SIDE).filter_map(async |job| job).collect().await;
    all_is_quiet(api).await;
    let (mut stored, mut late) = (0, 0);
    for i in 0..CALLS {
        let job_id = format!("job-{i}");
        let answer = api.jobs().get_job(proto::GetJobRequest { job_id: job_id.clone(), ..Default::default() }).await;
        let job = match answer {
            Ok(answer) => answer.into_inner().job.expect("a job"),
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{status:?}");
                assert!(!answered.contains(&job_id), "{job_id} was acknowledged");
                continue;
            }
        };
        stored += 1;
        late += usize::from(!answered.contains(&job_id));
        assert_eq!(job.payload, struct_of(json!({ "job": job_id })));
        assert_eq!((state_of(&job, "a"), state_of(&job, "b")), (StageState::Ready, StageState::Blocked));
        assert_eq!(api.events(&job_id).await.len(), 1);
    }
    println!("{CALLS} submits: {} answered, {stored} stored, {late} of them unheard", answered.len());
    assert!(answered.len() > CALLS / 20 && late > 0 && stored < CALLS, "the moments were not mixed");
    // What is ready is exactly what is stored.
    let mut ready = 0;
    loop {
        let leases = api.lease_now("default", 100).await;
        if leases.is_empty() {
            break;
        }
        ready += leases.len();
    }
    assert_eq!(ready, stored);
    all_is_quiet(api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_dropped_polls_come_back() {
    let server = Server::start().await;
    let (api, hasty) = (&server.api, &Api::connect(server.address).await);
    let stages = (0..STAGES).map(|i| new_stage(&format!("s{i}"))).collect();
    api.submit(new_job("job", stages)).await;
    let polls = stream::iter(0..CALLS).map(|i| async move {
        let request = proto::LeaseStagesRequest {
            worker_id: "gone".to_owned(),
            max_stages: 3,
            wait: seconds(5),
            lease_duration: seconds(4),
            ..Default::default()
        };
        let leased = drop_some_time(i, request, async |request| hasty.workers().lease_stages(request).await).await;
        // Who got some gives them back, so that there is always something to get.
        let leases = leased.map(|leased| leased.leases).unwrap_or_default();
        for lease in &leases {
            let request = proto::ReleaseStageRequest { target: token(lease), ..Default::default() };
            ok(api.workers().release_stage(request).await);
        }
        leases.len()
    });
    let by_hand: usize = polls.buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await.iter().sum();
    all_is_quiet(api).await;
    // All can be leased; those whose answer was on its way when its caller left, when their lease is over.
    let mut done = 0;
    while done < STAGES {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            max_stages: 100,
            wait: seconds(30),
            ..Default::default()
        };
        let leases = ok(api.workers().lease_stages(request).await).leases;
        assert!(!leases.is_empty(), "{done} of {STAGES} stages were there to be leased");
        for lease in &leases {
            api.complete(lease, json!({})).await;
        }
        done += leases.len();
    }
    let events = {
        let (mut events, mut after) = (Vec::new(), String::new());
        loop {
            let request = proto::ListJobEventsRequest {
                job_id: "job".to_owned(),
                page_size: 1_000,
                page_token: after,
                ..Default::default()
            };
            let page = ok(api.jobs().list_job_events(request).await);
            events.extend(page.events);
            after = page.next_page_token;
            if after.is_empty() {
                break events;
            }
        }
    };
    let count = |event_type| events.iter().filter(|event| event.event_type() == event_type).count();
    let (released, expired) = (count(JobEventType::StageReleased), count(JobEventType::LeaseExpired));
    let released = released - by_hand;
    println!(
        "{CALLS} polls dropped: {by_hand} leases arrived, {released} were released, {expired} were on their way and expired"
    );
    assert!(by_hand > 0 && released > 0);
    assert_eq!(api.job("job").await.stage_counts.expect("counts").succeeded as usize, STAGES);
    all_is_quiet(api).await;
}
