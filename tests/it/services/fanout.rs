//! AddStages, alone and within a completion; `required_by`, which brings the fan back in.

use interlock::proto::{self, JobState, StageSpec, StageState};
use serde_json::json;

use crate::harness::*;

fn part(name: &str) -> StageSpec {
    StageSpec { required_by: texts(&["join"]), ..new_stage(name) }
}

#[tokio::test]
async fn a_stage_fans_out_within_its_completion_and_in_again() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("split"), new_stage_after("join", &["split"])])).await;
    let split = server.api.lease("default").await;
    let before = server.api.job("film").await;
    let request = proto::CompleteStageRequest {
        target: token(&split),
        artifacts: struct_of(json!({ "parts": 3 })),
        add_stages: ["p1", "p2", "p3"].map(part).to_vec(),
        ..Default::default()
    };
    let response = ok(server.api.workers().complete_stage(request.clone()).await);
    assert_eq!(response.applied_job_version, before.version + 1, "one commit");
    let job = server.api.job("film").await;
    assert_eq!((job.stages.len(), state_of(&job, "join")), (5, StageState::Blocked));
    let mut waits_for = stage(&job, "join").depends_on.clone();
    waits_for.sort();
    assert_eq!(waits_for, texts(&["p1", "p2", "p3", "split"]));
    // A repeat adds nothing.
    assert!(ok(server.api.workers().complete_stage(request).await).replayed);
    assert_eq!(server.api.job("film").await, job);
    let parts = server.api.lease_now("default", 10).await;
    assert_eq!(parts.len(), 3);
    for (i, lease) in parts.iter().enumerate() {
        assert_eq!(state_of(&server.api.job("film").await, "join"), StageState::Blocked);
        server.api.complete(lease, json!({ "part": i })).await;
    }
    let join = server.api.lease("default").await;
    assert_eq!((&*join.stage_name, join.dependencies.len()), ("join", 4));
    assert!(join.dependencies.iter().all(|it| it.artifacts.is_some()));
    server.api.complete(&join, json!({})).await;
    assert_eq!(server.api.job("film").await.state(), JobState::Succeeded);
}

#[tokio::test]
async fn a_running_stage_adds_stages_and_goes_on() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("split"), new_stage_after("join", &["split"])])).await;
    let split = server.api.lease("default").await;
    server.api.progress(&split, 0.8).await;
    let progress = server.api.job("film").await.progress;
    let request = proto::AddStagesRequest {
        target: token(&split),
        stages: vec![part("p1"), StageSpec { depends_on: texts(&["p1"]), ..part("p2") }],
        request_id: request_id(),
    };
    let response = ok(server.api.workers().add_stages(request.clone()).await);
    let added: Vec<_> = response.stages.iter().map(|stage| (&*stage.name, stage.state())).collect();
    assert_eq!(added, [("p1", StageState::Ready), ("p2", StageState::Blocked)]);
    let again = ok(server.api.workers().add_stages(request).await);
    assert_eq!((again.replayed, again.applied_job_version), (true, response.applied_job_version));
    assert_eq!(again.stages.len(), 2);
    let job = server.api.job("film").await;
    assert_eq!((job.stages.len(), job.progress), (4, progress), "more to do does not lower the progress");
    server.api.complete(&split, json!({})).await;
    for expected in ["p1", "p2", "join"] {
        let lease = server.api.lease("default").await;
        assert_eq!(lease.stage_name, expected);
        server.api.complete(&lease, json!({})).await;
    }
    assert_eq!(server.api.job("film").await.progress, 1.0);
}

#[tokio::test]
async fn a_stage_that_runs_by_name_adds_stages_too() {
    let server = Server::start().await;
    let policy = Some(at_once(7));
    let request = proto::SubmitJobRequest { retry_policy: policy, ..new_job("film", vec![new_stage("split")]) };
    server.api.submit(request).await;
    let start = proto::StartStageRequest {
        stage_ref: Some(proto::StageRef { job_id: "film".into(), stage_name: "split".into() }),
        ..Default::default()
    };
    ok(server.api.workers().start_stage(start).await);
    let request = proto::AddStagesRequest {
        target: Target::named("film", "split"),
        stages: vec![new_stage("more"), new_stage_after("after", &["split", "more"])],
        ..Default::default()
    };
    let added = ok(server.api.workers().add_stages(request).await).stages;
    assert_eq!((added[0].max_attempts, added[1].state()), (7, StageState::Blocked), "the job's retry policy");
    let lease = server.api.lease("default").await;
    assert_eq!(lease.stage_name, "more");
}

#[tokio::test]
async fn a_job_does_not_end_before_what_its_last_stage_adds() {
    let server = Server::start().await;
    server.api.submit(new_job("film", vec![new_stage("s")])).await;
    // Each stage adds the next one as it ends.
    for depth in 0..5 {
        let lease = server.api.lease("default").await;
        assert_eq!(server.api.job("film").await.state(), JobState::Running);
        let next = (depth < 4).then(|| new_stage(&format!("s{depth}")));
        let request = proto::CompleteStageRequest {
            target: token(&lease),
            add_stages: next.into_iter().collect(),
            ..Default::default()
        };
        ok(server.api.workers().complete_stage(request).await);
    }
    let job = server.api.job("film").await;
    assert_eq!((job.state(), job.stages.len(), job.progress), (JobState::Succeeded, 5, 1.0));
}
