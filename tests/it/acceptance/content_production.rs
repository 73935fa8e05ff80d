//! Content production: many tasks fill one record at once, a batch of fields is one call, and the server decides about retries of
//! calls to others.

mod vendor;

use std::collections::BTreeMap;

use futures::future::join_all;
use interlock::proto::commit_operation::Operation;
use interlock::proto::{self, CommitOperation, CommitRequest, FailureClass, JobEventType, JobState, StageState};
use serde_json::json;

use crate::harness::*;
use vendor::{Answer, Vendor};

/// What the vendor does with each voice, attempt by attempt, and what becomes of the stage.
const VOICES: [(&str, &[Answer]); 8] = [
    ("hero", &[Answer::Made]),
    ("villain", &[Answer::Status(500), Answer::Status(503), Answer::Made]),
    ("narrator", &[Answer::RateLimited(Some(1)), Answer::Made]),
    ("chorus", &[Answer::RateLimited(None), Answer::Made]),
    ("child", &[Answer::Dropped, Answer::Made]),
    ("crowd", &[Answer::Made]),
    ("echo", &[Answer::Made]),
    ("ghost", &[Answer::Status(404), Answer::Made]),
];

/// How a worker classes what the vendor did.
fn class_of(answer: &vendor::Outcome) -> proto::Failure {
    let (class, code) = match answer {
        vendor::Outcome::Broken => (FailureClass::Network, String::new()),
        vendor::Outcome::Answered { status: 429, .. } => (FailureClass::RateLimited, "429".to_owned()),
        vendor::Outcome::Answered { status, .. } if *status >= 500 => (FailureClass::ServerError, status.to_string()),
        vendor::Outcome::Answered { status, .. } => (FailureClass::ClientError, status.to_string()),
    };
    let retry_after = match answer {
        vendor::Outcome::Answered { retry_after: Some(wait), .. } => seconds(*wait),
        _ => None,
    };
    proto::Failure { failure_class: class.into(), code, retry_after, ..Default::default() }
}

/// Leases one voice after the other until the job has ended; a voice that is made is completed with its URL in the record.
async fn voice_worker(api: &Api, vendor: &Vendor) {
    while !matches!(api.job("film").await.state(), JobState::Succeeded | JobState::Failed) {
        let request = proto::LeaseStagesRequest {
            worker_id: "voices".to_owned(),
            queues: vec!["voice".to_owned()],
            wait: millis(500),
            ..Default::default()
        };
        for lease in ok(api.workers().lease_stages(request).await).leases {
            match vendor.call(&lease.stage_name).await {
                vendor::Outcome::Answered { status: 200, body, .. } => made(api, &lease, &body).await,
                other => {
                    api.fail(&lease, class_of(&other)).await;
                }
            }
        }
    }
}

async fn made(api: &Api, lease: &proto::Lease, url: &str) {
    let complete = proto::CompleteStageRequest { target: token(lease), ..Default::default() };
    let write = update("film", vec![set(&format!("voice_{}", lease.stage_name), json!(url))]);
    let operations = [Operation::CompleteStage(complete), Operation::UpdateRecord(write)];
    let operations = operations.map(|operation| CommitOperation { operation: Some(operation) }).to_vec();
    let lease_fence = Some(lease.lease_token.clone());
    ok(api.transactions().commit(CommitRequest { operations, lease_fence, ..Default::default() }).await);
}

/// How often an rpc was answered with OK, as the server counts.
async fn calls(api: &Api, method: &str) -> i64 {
    let rpcs = api.statistics().await.rpcs;
    rpcs.iter().find(|rpc| rpc.method.ends_with(method)).and_then(|rpc| rpc.calls.get("OK").copied()).unwrap_or(0)
}

/// The shortest and the longest wait, in milliseconds, that the policy allows after an attempt failed.
fn bounds(failure: &proto::Failure) -> (u128, u128) {
    let base = match (failure.failure_class(), failure.retry_after) {
        (_, Some(received)) => received.seconds,
        (FailureClass::RateLimited, None) => 2 << (failure.attempt - 1),
        (_, None) => 1 << (failure.attempt - 1),
    };
    let base = u128::try_from(base).expect("positive") * 1_000;
    (base, base + 1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_fill_one_record_while_a_vendor_fails() {
    let server = Server::start().await;
    let vendor = Vendor::start(&VOICES).await;
    let stages = VOICES.map(|(name, _)| proto::StageSpec {
        queue: "voice".to_owned(),
        on_failure: proto::StageOnFailure::Continue.into(),
        ..new_stage(name)
    });
    server.api.submit(new_job("film", stages.to_vec())).await;
    let apis = join_all((0..8).map(|_| Api::connect(server.address))).await;
    join_all(apis.iter().map(|api| voice_worker(api, &vendor))).await;

    // Seven voices in one record, none lost; the eighth was wrong from the beginning.
    let api = &server.api;
    let job = api.job_in("film", JobState::Succeeded).await;
    let record = api.record("film").await;
    assert_eq!((record.version, record.fields.len()), (7, 7));
    for (name, answers) in VOICES {
        let (stage, calls) = (stage(&job, name), vendor.calls_of(name));
        if name == "ghost" {
            assert_eq!((stage.state(), calls), (StageState::Failed, 1), "a 4xx is never tried again");
            continue;
        }
        assert_eq!((stage.state(), calls), (StageState::Succeeded, answers.len()), "{name}");
        assert_eq!(stage.attempt, i32::try_from(answers.len()).expect("few"));
        assert_eq!(fields_of(&record)[format!("voice_{name}")], json!(vendor.url(name)));
    }
    assert_eq!(calls(api, "TransactionService/Commit").await, 7);

    // Every failure with its class, its wait and its count is in the history.
    let mut failed: BTreeMap<&str, usize> = BTreeMap::new();
    for event in api.events("film").await {
        for failure in event.stage_changes.iter().filter_map(|change| change.failure.as_ref()) {
            assert_eq!(event.event_type(), JobEventType::StageFailed);
            *failed.entry(failure.failure_class().as_str_name()).or_default() += 1;
            let wait = failure.retry_wait.map(|wait| {
                u128::try_from(wait.seconds).expect("positive") * 1_000
                    + u128::try_from(wait.nanos / 1_000_000).expect("positive")
            });
            if failure.failure_class() == FailureClass::ClientError {
                assert_eq!(wait, None);
                continue;
            }
            let (least, most) = bounds(failure);
            assert!(wait.is_some_and(|wait| (least..=most).contains(&wait)), "{failure:?}: {least} to {most} ms");
        }
    }
    let counted: Vec<(&str, usize)> = failed.into_iter().collect();
    let expected = [
        ("FAILURE_CLASS_CLIENT_ERROR", 1),
        ("FAILURE_CLASS_NETWORK", 1),
        ("FAILURE_CLASS_RATE_LIMITED", 2),
        ("FAILURE_CLASS_SERVER_ERROR", 2),
    ];
    assert_eq!(counted, expected);
}

#[tokio::test]
async fn thirteen_five_and_two_fields_are_a_call_each() {
    let server = Server::start().await;
    let api = &server.api;
    for (what, count) in [("platform", 13), ("image", 5), ("status", 2)] {
        let before = calls(api, "RecordService/UpdateRecord").await;
        let fields = (0..count).map(|i| set(&format!("{what}_{i}"), json!(format!("{what} {i}")))).collect();
        assert_eq!(api.update_record("film", fields).await.applied_version, before + 1);
        assert_eq!(calls(api, "RecordService/UpdateRecord").await, before + 1, "{count} fields");
    }
    assert_eq!(api.record("film").await.fields.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_writers_at_the_same_moment_all_survive() {
    let server = Server::start().await;
    let apis = join_all((0..7).map(|_| Api::connect(server.address))).await;
    for round in 0..20 {
        let record_id = format!("film{round}");
        let writes = apis.iter().enumerate().map(|(i, api)| {
            let url = json!(format!("s3://{round}/{i}"));
            api.update_record(&record_id, vec![set(&format!("voice{i}"), url)])
        });
        join_all(writes).await;
        let record = server.api.record(&record_id).await;
        assert_eq!((record.version, record.fields.len()), (7, 7));
    }
}
