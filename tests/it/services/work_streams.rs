//! Work: leases out, outcomes in, acknowledgements in order, and what is left when a stream ends.

use std::time::{Duration, Instant};

use interlock::proto::{
    self, CancelJobRequest, FailureClass, JobState, LeaseDirective, LeaseRenewal, StageOutcome, StageState, WorkRequest,
};
use serde_json::json;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::harness::*;

fn reason(status: &tonic::Status) -> (Code, String) {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default())
}

fn renewals(leases: &[proto::Lease]) -> WorkRequest {
    let renewal = |lease: &proto::Lease| LeaseRenewal { lease_token: lease.lease_token.clone(), ..Default::default() };
    WorkRequest { renewals: leases.iter().map(renewal).collect(), ..Default::default() }
}

async fn submit(api: &Api, job_id: &str, stages: usize) {
    let specs = (0..stages).map(|i| new_stage_with_attempts(&format!("s{i}"), 2)).collect();
    api.submit(new_job(job_id, specs)).await;
}

/// How many stages of a job are in a state.
async fn count(api: &Api, job_id: &str, state: StageState) -> usize {
    api.job(job_id).await.stages.iter().filter(|stage| stage.state() == state).count()
}

#[tokio::test]
async fn leases_come_while_there_is_room_and_outcomes_are_acknowledged_in_order() {
    let server = Server::start().await;
    let api = &server.api;
    let mut session = Session::open(api, begin("default", 4)).await;
    submit(api, "film", 6).await;
    let first = session.take(4).await;
    let tokens: Vec<StageOutcome> = vec![
        completed(&first[0]),
        failed(&first[1], failure(FailureClass::Network)),
        StageOutcome::default(),
        released(&first[2]),
    ];
    session.tell(tokens).await;
    let results = session.results(4).await;
    let codes: Vec<i32> = results.iter().map(|result| result.status.as_ref().expect("a status").code).collect();
    assert_eq!(codes, [0, 0, Code::InvalidArgument as i32, 0]);
    assert!(results[0].applied && results[0].stage.is_none() && results[0].job_version > 0);
    // Three are free now; the one to be tried again and the released one are among those that are ready.
    let more = session.take(3).await;
    for (i, lease) in more.iter().enumerate() {
        session.tell(vec![completed(lease)]).await;
        session.tell(vec![completed(lease)]).await;
        let results = session.results(2).await;
        assert_eq!((results[0].replayed, results[1].replayed), (false, true), "{i}");
    }
    session.tell(vec![completed(&first[3])]).await;
    session.results(1).await;
    let last = session.take(1).await.remove(0);
    session.tell(vec![completed(&last)]).await;
    session.close();
    assert!(session.ended().await.is_none(), "the worker closed it");
    assert!(session.results.pop_front().is_some_and(|result| result.applied), "what was sent before is answered");
    assert_eq!(api.job("film").await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn a_capacity_of_zero_stops_leases_and_a_larger_one_brings_them() {
    let server = Server::start().await;
    let api = &server.api;
    let mut session = Session::open(api, begin("default", 0)).await;
    submit(api, "film", 20).await;
    session.until("it is open", |_| true).await;
    session.send(WorkRequest { capacity: Some(20), ..Default::default() }).await;
    let leases = session.take(20).await;
    session.send(WorkRequest { capacity: Some(0), ..Default::default() }).await;
    session.tell(leases.iter().map(released).collect()).await;
    session.results(20).await;
    assert_eq!(count(api, "film", StageState::Ready).await, 20);
    assert!(session.leases.is_empty());
    session.send(WorkRequest { capacity: Some(3), ..Default::default() }).await;
    session.take(3).await;
    session.confirm().await;
    assert_eq!(count(api, "film", StageState::Running).await, 3);
}

#[tokio::test]
async fn end_of_the_stream_releases_unconfirmed_leases_and_keeps_the_others() {
    let server = Server::start().await;
    let api = &server.api;
    submit(api, "film", 6).await;
    let mut session = Session::open(api, begin("default", 6)).await;
    let leases = session.take(6).await;
    // Two by their number, one by a renewal, one by an outcome that is refused.
    session.send(WorkRequest { leases_received: Some(2), ..Default::default() }).await;
    session.send(renewals(&leases[2..3])).await;
    session.status().await;
    session.tell(vec![failed(&leases[3], proto::Failure { failure_class: 99, ..Default::default() })]).await;
    session.results(1).await;
    drop(session);
    eventually("the others are given back", async || (count(api, "film", StageState::Ready).await == 2).then_some(()))
        .await;
    assert_eq!(count(api, "film", StageState::Running).await, 4);
    // Outcomes of held leases are accepted on another stream, and by the unary rpcs. The attempts of the others were not counted.
    let mut again = Session::open(api, begin("default", 2)).await;
    again.tell(leases[..2].iter().map(completed).collect()).await;
    assert!(again.results(2).await.iter().all(|result| result.applied && !result.replayed));
    api.complete(&leases[2], json!({})).await;
    let others = again.take(2).await;
    assert!(others.iter().all(|lease| lease.attempt == 1));
    let received = vec![completed(&leases[4]), completed(&others[0]), completed(&others[1])];
    again.tell(received).await;
    let results = again.results(3).await;
    let lost = results[0].status.as_ref().expect("a status");
    assert_eq!((lost.code, results[1].applied, results[2].applied), (Code::FailedPrecondition as i32, true, true));
}

#[tokio::test]
async fn outcomes_repeated_on_another_stream_have_the_same_result() {
    let server = Server::start().await;
    let other = server.beside().await;
    submit(&server.api, "film", 3).await;
    let mut session = Session::open(&server.api, begin("default", 3)).await;
    let leases = session.take(3).await;
    let outcomes: Vec<_> = leases.iter().map(completed).collect();
    session.tell(outcomes.clone()).await;
    // The acknowledgement is not read.
    let done = server.api.job_in("film", JobState::Succeeded).await;
    drop(session);
    let mut again = Session::open(&other.api, begin("default", 3)).await;
    again.tell(outcomes).await;
    let results = again.results(3).await;
    assert!(results.iter().all(|result| result.applied && result.replayed && result.applied_job_version > 0));
    assert_eq!(other.api.job("film").await, done);
}

#[tokio::test]
async fn renewals_extend_leases_and_carry_progress() {
    let server = Server::start().await;
    let api = &server.api;
    submit(api, "film", 2).await;
    let mut session = Session::open(api, begin("default", 2)).await;
    let leases = session.take(2).await;
    api.complete(&leases[1], json!({})).await;
    let mut request = renewals(&leases);
    request.renewals[0].progress = Some(0.5);
    session.send(request).await;
    let (one, other) = (session.status().await, session.status().await);
    assert_eq!((&one.lease_token, &other.lease_token), (&leases[0].lease_token, &leases[1].lease_token));
    let (one, other) = (one.status.expect("a status"), other.status.expect("a status"));
    assert_eq!((one.directive(), other.directive()), (LeaseDirective::Continue, LeaseDirective::Lost));
    assert!(one.ttl.is_some_and(|ttl| ttl.seconds > 60) && other.ttl.is_none());
    assert_eq!(api.stage("film", &leases[0].stage_name).await.progress, 0.5);
}

#[tokio::test]
async fn cancel_and_pause_reach_the_worker_at_once_without_a_heartbeat() {
    let server = Server::start().await;
    let other = server.beside().await;
    let api = &server.api;
    submit(api, "film", 1).await;
    submit(api, "book", 1).await;
    let mut session = Session::open(api, begin("default", 5)).await;
    session.take(2).await;
    let pause = proto::PauseJobRequest { job_id: "film".into(), ..Default::default() };
    ok(api.jobs().pause_job(pause).await);
    let began = Instant::now();
    assert_eq!(session.status().await.status.expect("a status").directive(), LeaseDirective::Pause);
    ok(api.jobs().resume_job(proto::ResumeJobRequest { job_id: "film".into(), ..Default::default() }).await);
    assert_eq!(session.status().await.status.expect("a status").directive(), LeaseDirective::Continue);
    let cancel = |job_id: &str| CancelJobRequest { job_id: job_id.into(), ..Default::default() };
    ok(api.jobs().cancel_job(cancel("film")).await);
    assert_eq!(session.status().await.status.expect("a status").directive(), LeaseDirective::Cancel);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // Through another server, which announces its commits by a hint; the next renewal is due after 10 s.
    ok(other.api.jobs().cancel_job(cancel("book")).await);
    assert_eq!(session.status().await.status.expect("a status").directive(), LeaseDirective::Cancel);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

#[tokio::test]
async fn permits_come_with_leases_and_end_with_outcomes() {
    let server = Server::start().await;
    let api = &server.api;
    let with_permit = |name: &str| proto::StageSpec { permits: vec![claim("api")], ..new_stage(name) };
    api.submit(new_job("film", vec![with_permit("a"), with_permit("b"), new_stage("free")])).await;
    let mut session = Session::open(api, begin("default", 10)).await;
    let leases = session.take(2).await;
    let (held, free): (Vec<_>, Vec<_>) = leases.iter().partition(|lease| !lease.permits.is_empty());
    assert_eq!((held.len(), free[0].stage_name.as_str()), (1, "free"), "the lock is held once");
    assert_eq!(api.resource("api").await.permit_count, 1);
    session.tell(vec![completed(held[0])]).await;
    let next = session.take(1).await;
    assert_eq!(next[0].permits.len(), 1);
    assert!(next[0].permits[0].fencing_token > held[0].permits[0].fencing_token);
    session.tell(vec![completed(&next[0]), completed(free[0])]).await;
    session.results(3).await;
    assert_eq!((api.resource("api").await.permit_count, api.job("film").await.state()), (0, JobState::Succeeded));
}

#[tokio::test]
async fn a_stage_that_may_have_killed_its_worker_comes_alone() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage_with_attempts("deadly", 3)])).await;
    api.lease_for("default", 1).await;
    api.job_where("film", "the reaper", |job| state_of(job, "deadly") != StageState::Running).await;
    submit(api, "book", 5).await;
    let mut session = Session::open(api, begin("default", 10)).await;
    let mut alone = None;
    while alone.is_none() {
        let lease = session.take(1).await.remove(0);
        match lease.isolated {
            true => alone = Some(lease),
            false => session.tell(vec![completed(&lease)]).await,
        }
    }
    let count_before = session.received;
    submit(api, "late", 1).await;
    session.send(renewals(std::slice::from_ref(alone.as_ref().expect("it")))).await;
    session.status().await;
    assert_eq!(session.received, count_before, "nothing else comes while it is held");
    session.tell(vec![completed(&alone.expect("it"))]).await;
    session.until("the others", |session| session.received > count_before).await;
}

#[tokio::test]
async fn a_malformed_message_ends_the_stream_after_what_came_before_it() {
    let server = Server::start().await;
    let api = &server.api;
    submit(api, "film", 20).await;
    let many = WorkRequest { outcomes: vec![StageOutcome::default(); 501], ..Default::default() };
    let renewal = LeaseRenewal { lease_token: "x".into(), ..Default::default() };
    let rows = [
        (begin("default", 1), "begin"),
        (WorkRequest { capacity: Some(-1), ..Default::default() }, "capacity"),
        (WorkRequest { capacity: Some(1_001), ..Default::default() }, "capacity"),
        (WorkRequest { leases_received: Some(-1), ..Default::default() }, "leases_received"),
        (WorkRequest { leases_received: Some(100), ..Default::default() }, "leases_received"),
        (many, "outcomes"),
        (WorkRequest { renewals: vec![renewal.clone(); 501], ..Default::default() }, "renewals"),
        (WorkRequest { renewals: vec![renewal], ..Default::default() }, "renewals[0].lease_token"),
    ];
    for (message, path) in rows {
        let mut session = Session::open(api, begin("default", 1)).await;
        let lease = session.take(1).await.remove(0);
        session.tell(vec![completed(&lease)]).await;
        session.send(message).await;
        let status = session.ended().await.expect("it is refused");
        field::<()>(Err(status), path);
        assert!(session.results.pop_front().is_some_and(|result| result.applied), "{path}");
    }
    for (first, path) in [
        (WorkRequest::default(), "begin"),
        (WorkRequest { capacity: Some(-1), ..begin("default", 1) }, "capacity"),
        (begin("a b", 1), "begin.queues[0]"),
    ] {
        let status = match Session::try_open(api, Request::new(first)).await {
            Ok(mut session) => session.ended().await.expect("it is refused"),
            Err(status) => status,
        };
        field::<()>(Err(status), path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_without_reads_is_ended_and_its_leases_are_released() {
    let server = Server::with(|config| config.watch_keepalive = Duration::from_secs(1)).await;
    let api = &server.api;
    let input = struct_of(json!({ "text": "x".repeat(60_000) }));
    let stage = |i| proto::StageSpec { input: input.clone(), ..new_stage(&format!("s{i}")) };
    for part in 0..5 {
        api.submit(new_job(&format!("film-{part}"), (0..40).map(stage).collect())).await;
    }
    // 200 leases have 12 MB, which no buffer on the way holds.
    let mut session = Session::open(api, begin("default", 1_000)).await;
    let ready = async || {
        let mut ready = 0;
        for part in 0..5 {
            ready += count(api, &format!("film-{part}"), StageState::Ready).await;
        }
        ready
    };
    eventually("some are leased", async || (ready().await < 150).then_some(())).await;
    eventually("all are given back", async || (ready().await == 200).then_some(())).await;
    let status = session.ended().await.expect("it has ended");
    assert_eq!(reason(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_that_sends_without_reading_is_slowed_by_flow_control() {
    let server = Server::start().await;
    let api = &server.api;
    let mut session = Session::open(api, begin("none", 1)).await;
    let wrong = vec![StageOutcome::default(); 500];
    // Each refusal has some 200 bytes: far more than any window, so at some point nothing more is taken.
    let mut sent = 0;
    let taken = async |session: &Session| {
        let message = WorkRequest { outcomes: wrong.clone(), ..Default::default() };
        tokio::time::timeout(Duration::from_secs(2), session.send(message)).await.is_ok()
    };
    while sent < 2_000 && taken(&session).await {
        sent += 1;
    }
    assert!(sent < 2_000, "{sent} messages were taken and no result was read");
    // Reading on, every result comes.
    let results = session.results(sent * 500).await;
    assert_eq!(results.len(), sent * 500);
}

#[tokio::test]
async fn the_deadline_of_the_call_ends_the_stream() {
    let server = Server::start().await;
    submit(&server.api, "film", 1).await;
    let mut first = Request::new(begin("default", 1));
    first.set_timeout(Duration::from_millis(800));
    let mut session = Session::try_open(&server.api, first).await.expect("an open stream");
    session.take(1).await;
    let status = session.ended().await.expect("it has ended");
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status:?}");
    eventually("the lease is given back", async || {
        (count(&server.api, "film", StageState::Ready).await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_is_announced_takes_outcomes_and_ends_the_stream() {
    let server = Server::start().await;
    let other = server.beside().await;
    let api = server.api.clone();
    submit(&api, "film", 3).await;
    let mut session = Session::open(&api, begin("default", 2)).await;
    let leases = session.take(2).await;
    let began = Instant::now();
    server.begin_stop();
    session.until("the drain", |session| session.is_draining).await;
    session.tell(leases.iter().map(completed).collect()).await;
    let status = session.ended().await.expect("it ends");
    assert_eq!(reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
    assert!(session.results.iter().all(|result| result.applied) && session.results.len() == 2);
    assert!(session.leases.is_empty(), "no lease after the drain began");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop((session, api));
    server.stop().await;
    let mut again = Session::open(&other.api, begin("default", 2)).await;
    again.take(1).await;
}
