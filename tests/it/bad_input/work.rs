//! WorkerService: tokens, names, progress, sizes, versions, states that do not allow it.

use interlock::proto::stage_outcome::Outcome;
use interlock::proto::{self, FailureClass};
use serde_json::json;
use tonic::{Code, Response, Status};

use super::Scene;
use crate::harness::*;

const LOST: (Code, &str) = (Code::FailedPrecondition, "LEASE_LOST");

/// Every write of a stage, with nothing but its target.
async fn write(
    api: &Api,
    lease_token: Option<&str>,
    named: Option<(&str, &str)>,
    expected_version: Option<i64>,
) -> Vec<(&'static str, Result<Response<()>, Status>)> {
    let mut answers = Vec::new();
    macro_rules! ask {
        ($($rpc:ident $request:ident { $($field:ident : $value:expr),* });* $(;)?) => {$({
            let target = match (lease_token, named) {
                (Some(lease_token), _) => Some(Target::of_token(lease_token)),
                (None, Some((job_id, stage_name))) => Target::named(job_id, stage_name),
                (None, None) => None,
            };
            let request = proto::$request { target, $($field: $value,)* ..Default::default() };
            answers.push((stringify!($rpc), api.workers().$rpc(request).await.map(|answer| answer.map(drop))));
        })*};
    }
    ask! {
        update_stage_progress UpdateStageProgressRequest { progress: Some(0.9), expected_version: expected_version };
        complete_stage CompleteStageRequest { expected_version: expected_version };
        fail_stage FailStageRequest { expected_version: expected_version };
        release_stage ReleaseStageRequest { expected_version: expected_version };
    }
    if expected_version.is_none() {
        ask! { add_stages AddStagesRequest { stages: vec![new_stage("extra")] } }
    }
    answers
}

#[tokio::test]
async fn invalid_targets_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let api = &scene.api;
    for (_, answer) in write(api, None, None, None).await {
        field(answer, "target");
    }
    let cut = &scene.lease.lease_token[1..];
    let longer = format!("{}A", scene.lease.lease_token);
    for malformed in ["", "x", "not a token", &"A".repeat(100_000), cut, &longer, "\0", "ü"] {
        for (_, answer) in write(api, Some(malformed), None, None).await {
            field(answer, "target.lease_token");
        }
    }
    for (named, path) in [
        (("", "voice"), "target.stage_ref.job_id"),
        (("film", ""), "target.stage_ref.stage_name"),
        (("a/b", "voice"), "target.stage_ref.job_id"),
        (("film", "a b"), "target.stage_ref.stage_name"),
        (("film", "a\0"), "target.stage_ref.stage_name"),
    ] {
        for (_, answer) in write(api, None, Some(named), None).await {
            field(answer, path);
        }
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn absent_stages_are_not_found_by_name_and_lost_by_token() {
    let scene = Scene::set().await;
    let api = &scene.api;
    for named in [("ghost", "voice"), ("theirs", "s")] {
        for (_, answer) in write(api, None, Some(named), None).await {
            refused(answer, Code::NotFound, "JOB_NOT_FOUND");
        }
    }
    for (_, answer) in write(api, None, Some(("film", "ghost")), None).await {
        refused(answer, Code::NotFound, "STAGE_NOT_FOUND");
    }
    // Well formed, but never granted: another character somewhere in it.
    let token = &scene.lease.lease_token;
    for at in [2, 20, token.len() / 2, token.len() - 3] {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).expect("ASCII");
        for (rpc, answer) in write(api, Some(&forged), None, None).await {
            let status = answer.expect_err(rpc);
            assert!([Code::FailedPrecondition, Code::InvalidArgument].contains(&status.code()), "{rpc} {status:?}");
            if status.code() == Code::FailedPrecondition {
                refused::<()>(Err(status), LOST.0, LOST.1);
            }
        }
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn token_of_another_namespace_is_refused_like_an_unknown_one() {
    let scene = Scene::set().await;
    let request = proto::LeaseStagesRequest { worker_id: "w".into(), ..Default::default() };
    let mut theirs = ok(scene.api.workers().lease_stages(within("other", request)).await).leases;
    let theirs = theirs.pop().expect("a lease");
    let job = |api: Api| async move {
        let get = proto::GetJobRequest { job_id: "theirs".into(), ..Default::default() };
        ok(api.jobs().get_job(within("other", get)).await).job
    };
    let before = job(scene.api.clone()).await;
    for (_, answer) in write(&scene.api, Some(&theirs.lease_token), None, None).await {
        refused(answer, LOST.0, LOST.1);
    }
    assert_eq!(scene.api.renew_lease(&theirs, Some(0.5)).await.directive(), proto::LeaseDirective::Lost);
    assert_eq!(job(scene.api.clone()).await, before);
}

#[tokio::test]
async fn a_stale_version_changes_nothing_in_any_rpc() {
    let scene = Scene::set().await;
    let version = scene.api.stage("film", "voice").await.version;
    for stale in [version - 1, version + 1, i64::MIN, i64::MAX] {
        for (_, answer) in write(&scene.api, Some(&scene.lease.lease_token), None, Some(stale)).await {
            let received = refused(answer, Code::Aborted, "VERSION_MISMATCH").metadata;
            assert_eq!((&received["expected"], &received["actual"]), (&stale.to_string(), &version.to_string()));
        }
        let start = proto::StartStageRequest {
            stage_ref: Some(proto::StageRef { job_id: "film".into(), stage_name: "review".into() }),
            expected_version: Some(version + 1_000),
            ..Default::default()
        };
        refused(scene.api.workers().start_stage(start).await, Code::Aborted, "VERSION_MISMATCH");
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn refusal_by_state_names_the_state() {
    let scene = Scene::set().await;
    // By name while a worker holds it; while it waits; after it has ended.
    for (named, state) in
        [(("film", "voice"), "RUNNING"), (("film", "render"), "BLOCKED"), (("done", "only"), "SUCCEEDED")]
    {
        for (rpc, answer) in write(&scene.api, None, Some(named), None).await {
            let received = refused(answer, Code::FailedPrecondition, "INVALID_TRANSITION").metadata;
            assert_eq!(received["state"], state, "{rpc} {named:?}");
        }
        let (job_id, stage_name) = (named.0.to_owned(), named.1.to_owned());
        let stage_ref = Some(proto::StageRef { job_id, stage_name });
        let start = proto::StartStageRequest { stage_ref, ..Default::default() };
        refused(scene.api.workers().start_stage(start).await, Code::FailedPrecondition, "INVALID_TRANSITION");
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn invalid_outcomes_and_progress_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let (api, held) = (&scene.api, &scene.lease);
    let progress = |progress, message: &str| proto::UpdateStageProgressRequest {
        target: token(held),
        progress,
        message: Some(message.to_owned()),
        ..Default::default()
    };
    let long = "x".repeat(1_025);
    let mut rows: Vec<_> = [f64::NAN, -0.1, 1.1, f64::INFINITY, f64::NEG_INFINITY, 1.0 + f64::EPSILON, -f64::EPSILON]
        .map(|bad| (progress(Some(bad), ""), "progress"))
        .to_vec();
    rows.push((progress(None, &long), "message"));
    rows.push((progress(Some(0.5), "a\0b"), "message"));
    scene.refuses(rows, async |request| api.workers().update_stage_progress(request).await).await;

    let renewal = || proto::LeaseRenewal { lease_token: held.lease_token.clone(), ..Default::default() };
    let renewals = |renewals| proto::HeartbeatRequest { renewals };
    let rows = vec![
        (renewals(Vec::new()), "renewals"),
        (renewals(vec![renewal(); 1_001]), "renewals"),
        (
            renewals(vec![renewal(), proto::LeaseRenewal { progress: Some(f64::NAN), ..renewal() }]),
            "renewals[1].progress",
        ),
        (renewals(vec![proto::LeaseRenewal { progress: Some(1.1), ..renewal() }]), "renewals[0].progress"),
        (renewals(vec![proto::LeaseRenewal { message: Some(long.clone()), ..renewal() }]), "renewals[0].message"),
        (renewals(vec![renewal(), renewal(), proto::LeaseRenewal::default()]), "renewals[2].lease_token"),
    ];
    scene.refuses(rows, async |request| api.workers().heartbeat(request).await).await;

    let large = || struct_of(json!({ "deep": { "text": "x".repeat(65 * 1_024) } }));
    let complete = || proto::CompleteStageRequest { target: token(held), ..Default::default() };
    let rows = vec![
        (proto::CompleteStageRequest { artifacts: large(), ..complete() }, "artifacts.deep.text"),
        (proto::CompleteStageRequest { job_result: large(), ..complete() }, "job_result.deep.text"),
        (proto::CompleteStageRequest { message: Some(long.clone()), ..complete() }, "message"),
        (proto::CompleteStageRequest { add_stages: vec![new_stage("")], ..complete() }, "add_stages[0].name"),
        (
            proto::CompleteStageRequest { add_stages: vec![new_stage_after("a", &["ghost"])], ..complete() },
            "add_stages[0].depends_on[0]",
        ),
        (proto::CompleteStageRequest { request_id: Some("nope".into()), ..complete() }, "request_id"),
    ];
    scene.refuses(rows, async |request| api.workers().complete_stage(request).await).await;

    let many = |outcomes| proto::CompleteStagesRequest { outcomes, ..Default::default() };
    let all = |outcomes| proto::CompleteStagesRequest { all_or_none: true, ..many(outcomes) };
    let wrong = |request| outcome(Outcome::CompleteStage(request));
    let with_id = proto::CompleteStageRequest { request_id: request_id(), ..complete() };
    let rows = vec![
        (many(Vec::new()), "outcomes"),
        (many(vec![completed(held); 501]), "outcomes"),
        (all(vec![completed(held); 501]), "outcomes"),
        (proto::CompleteStagesRequest { request_id: request_id(), ..many(vec![completed(held)]) }, "request_id"),
        (proto::CompleteStagesRequest { request_id: Some("x".into()), ..all(vec![completed(held)]) }, "request_id"),
        (all(vec![completed(held), proto::StageOutcome::default()]), "outcomes[1].outcome"),
        (all(vec![wrong(with_id)]), "outcomes[0].complete_stage.request_id"),
        (
            all(vec![completed(held), wrong(proto::CompleteStageRequest { artifacts: large(), ..complete() })]),
            "outcomes[1].complete_stage.artifacts.deep.text",
        ),
        (all(vec![wrong(proto::CompleteStageRequest::default())]), "outcomes[0].complete_stage.target"),
    ];
    scene.refuses(rows, async |request| api.workers().complete_stages(request).await).await;

    let fail = |failure| proto::FailStageRequest { target: token(held), failure: Some(failure), ..Default::default() };
    let base = || failure(FailureClass::Network);
    let rows = vec![
        (fail(proto::Failure { failure_class: 8, ..base() }), "failure.failure_class"),
        (fail(proto::Failure { failure_class: 99, ..base() }), "failure.failure_class"),
        (fail(proto::Failure { code: "x".repeat(129), ..base() }), "failure.code"),
        (fail(proto::Failure { message: "x".repeat(4_097), ..base() }), "failure.message"),
        (fail(proto::Failure { retry_after: seconds(86_401), ..base() }), "failure.retry_after"),
        (fail(proto::Failure { retry_after: millis(-1_000), ..base() }), "failure.retry_after"),
        (fail(proto::Failure { details: large(), ..base() }), "failure.details.deep.text"),
    ];
    scene.refuses(rows, async |request| api.workers().fail_stage(request).await).await;
}

#[tokio::test]
async fn invalid_lease_requests_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let base = || proto::LeaseStagesRequest { worker_id: "w".into(), ..Default::default() };
    let queues: Vec<String> = (0..101).map(|i| format!("q{i}")).collect();
    let rows = vec![
        (proto::LeaseStagesRequest { worker_id: String::new(), ..base() }, "worker_id"),
        (proto::LeaseStagesRequest { worker_id: "x".repeat(129), ..base() }, "worker_id"),
        (proto::LeaseStagesRequest { queues: texts(&[""]), ..base() }, "queues[0]"),
        (proto::LeaseStagesRequest { queues: texts(&["a", "b c"]), ..base() }, "queues[1]"),
        (proto::LeaseStagesRequest { queues, ..base() }, "queues"),
        (proto::LeaseStagesRequest { max_stages: 101, ..base() }, "max_stages"),
        (proto::LeaseStagesRequest { max_stages: -1, ..base() }, "max_stages"),
        (proto::LeaseStagesRequest { wait: millis(60_001), ..base() }, "wait"),
        (proto::LeaseStagesRequest { wait: millis(-1_000), ..base() }, "wait"),
        (proto::LeaseStagesRequest { lease_duration: millis(999), ..base() }, "lease_duration"),
        (proto::LeaseStagesRequest { lease_duration: seconds(86_401), ..base() }, "lease_duration"),
        (proto::LeaseStagesRequest { instance_id: Some(String::new()), ..base() }, "instance_id"),
        (proto::LeaseStagesRequest { instance_id: Some("film".into()), ..base() }, "instance_id"),
    ];
    scene.refuses(rows, async |request| scene.api.workers().lease_stages(request).await).await;
    // A queue that was never used is empty, which is no error.
    assert_eq!(scene.api.lease_now("nobody.uses:this", 100).await, []);

    let review = Some(proto::StageRef { job_id: "film".into(), stage_name: "review".into() });
    let start = || proto::StartStageRequest { stage_ref: review.clone(), worker_id: "w".into(), ..Default::default() };
    let rows = vec![
        (proto::StartStageRequest { stage_ref: None, ..start() }, "stage_ref"),
        (proto::StartStageRequest { lease_duration: millis(999), ..start() }, "lease_duration"),
        (proto::StartStageRequest { lease_duration: seconds(5), worker_id: String::new(), ..start() }, "worker_id"),
        (proto::StartStageRequest { request_id: Some("0".into()), ..start() }, "request_id"),
    ];
    scene.refuses(rows, async |request| scene.api.workers().start_stage(request).await).await;
}

#[tokio::test]
async fn invalid_added_stages_are_refused_with_the_field() {
    let scene = Scene::set().await;
    let add = |stages| proto::AddStagesRequest { target: token(&scene.lease), stages, ..Default::default() };
    let required = |name: &str, by: &str| proto::StageSpec { required_by: texts(&[by]), ..new_stage(name) };
    let rows = vec![
        (add(Vec::new()), "stages"),
        (add(vec![new_stage("a"), new_stage("a")]), "stages[1].name"),
        (add(vec![new_stage_after("a", &["ghost"])]), "stages[0].depends_on[0]"),
        (add(vec![required("a", "ghost")]), "stages[0].required_by[0]"),
        // Through what is there already: `render` would wait for the new one, and the new one for `render`.
        (
            add(vec![proto::StageSpec { depends_on: texts(&["render"]), ..required("a", "render") }]),
            "stages[0].depends_on",
        ),
    ];
    scene.refuses(rows, async |request| scene.api.workers().add_stages(request).await).await;
    for stages in [vec![new_stage("render")], vec![new_stage("a"), new_stage("voice")]] {
        let answer = scene.api.workers().add_stages(add(stages)).await;
        refused(answer, Code::AlreadyExists, "STAGE_ALREADY_EXISTS");
    }
    // Only BLOCKED stages can get further dependencies.
    let answer = scene.api.workers().add_stages(add(vec![required("a", "review")])).await;
    refused(answer, Code::FailedPrecondition, "INVALID_TRANSITION");
    scene.is_unchanged().await;
}
