//! A job of few stages is one row, a larger one has rows for its stages, and callers cannot tell which: not when it grows, and not after an
//! upgrade of a database in which all jobs have rows.

use interlock::proto::{self, JobState, StageSpec, StageState};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::*;

/// How many rows there are below jobs, and how many jobs hold their stages themselves.
async fn shape(server: &Server) -> Vec<String> {
    let tables = ["stages", "stage_specs", "stage_artifacts", "job_documents"];
    let counts = tables.map(|table| format!("(SELECT count(*) FROM {table})")).join(" || ' ' || ");
    server.column(&format!("SELECT {counts} || ', ' || (SELECT count(stages) FROM jobs)")).await
}

/// Waits until a new job is one row, or has rows.
async fn until_new_jobs_are(server: &Server, one_row: bool) {
    eventually("the shape of new jobs", async || {
        server.api.submit(new_job("probe", vec![StageSpec { queue: "probe".into(), ..new_stage("s") }])).await;
        let found = server.column("SELECT (stages IS NOT NULL)::text FROM jobs WHERE job_id = 'probe'").await;
        let job_id = || "probe".to_owned();
        ok(server.api.jobs().cancel_job(proto::CancelJobRequest { job_id: job_id(), ..Default::default() }).await);
        ok(server.api.jobs().delete_job(proto::DeleteJobRequest { job_id: job_id(), ..Default::default() }).await);
        (found == [one_row.to_string()]).then_some(())
    })
    .await;
}

/// A server that has heard that no older one is there.
async fn server() -> Server {
    let server = Server::start().await;
    until_new_jobs_are(&server, true).await;
    server
}

fn with_input(spec: StageSpec, input: Value) -> StageSpec {
    StageSpec { input: struct_of(input), ..spec }
}

fn film(stages: Vec<StageSpec>) -> proto::SubmitJobRequest {
    proto::SubmitJobRequest { payload: struct_of(json!({ "film": 1.50 })), ..new_job("film", stages) }
}

async fn complete(api: &Api, lease: &proto::Lease, artifacts: Value, job_result: Option<Value>, more: Vec<StageSpec>) {
    let request = proto::CompleteStageRequest {
        target: token(lease),
        artifacts: struct_of(artifacts),
        job_result: job_result.and_then(struct_of),
        add_stages: more,
        ..Default::default()
    };
    ok(api.workers().complete_stage(request).await);
}

async fn inputs(api: &Api, names: &[&str]) -> Vec<Option<prost_types::Struct>> {
    let mut inputs = Vec::new();
    for name in names {
        inputs.push(api.stage("film", name).await.input);
    }
    inputs
}

#[tokio::test]
async fn a_small_job_is_one_row_through_its_whole_life() {
    let a = server().await;
    let stages = vec![
        with_input(new_stage("cut"), json!({ "n": 1 })),
        new_stage("mix"),
        new_stage_after("join", &["cut", "mix"]),
    ];
    a.api.submit(film(stages)).await;
    let b = a.beside().await;
    let held = b.api.lease_now("default", 10).await;
    assert_eq!(held.iter().map(|lease| &*lease.stage_name).collect::<Vec<_>>(), ["cut", "mix"]);
    assert_eq!(
        (&held[0].payload, &held[0].input),
        (&struct_of(json!({ "film": 1.50 })), &struct_of(json!({ "n": 1 })))
    );
    a.api.progress(&held[1], 0.5).await;
    complete(&b.api, &held[0], json!({ "cut": [1.0] }), None, Vec::new()).await;
    complete(&a.api, &held[1], json!({ "mix": "x".repeat(5_000) }), Some(json!({ "first": true })), Vec::new()).await;
    let join = b.api.lease("default").await;
    let found: Vec<_> = join.dependencies.iter().map(|it| (&*it.name, it.artifacts.clone())).collect();
    assert_eq!(
        found,
        [("cut", struct_of(json!({ "cut": [1.0] }))), ("mix", struct_of(json!({ "mix": "x".repeat(5_000) })))]
    );
    complete(&b.api, &join, json!({}), Some(json!({ "join": 2 })), Vec::new()).await;
    let c = a.beside().await;
    let job = c.api.job("film").await;
    assert_eq!(
        (job.state(), job.result, job.payload),
        (JobState::Succeeded, struct_of(json!({ "join": 2 })), struct_of(json!({ "film": 1.50 })))
    );
    assert_eq!(shape(&a).await, ["0 0 0 0, 1"]);

    let retry = proto::RetryJobRequest { job_id: "film".into(), from_stage: "mix".into(), ..Default::default() };
    ok(c.api.jobs().retry_job(retry).await);
    let job = a.api.job("film").await;
    assert_eq!(
        (job.result.clone(), ["cut", "mix", "join"].map(|name| stage(&job, name).artifacts.is_some())),
        (None, [true, false, false])
    );
    assert_eq!(state_of(&job, "cut"), StageState::Succeeded);
    let mix = b.api.lease("default").await;
    complete(&a.api, &mix, json!({ "mix": 2 }), None, Vec::new()).await;
    complete(&a.api, &b.api.lease("default").await, json!({}), None, Vec::new()).await;
    let job = c.api.job("film").await;
    assert_eq!((stage(&job, "mix").artifacts.clone(), job.result), (struct_of(json!({ "mix": 2 })), None));
    let listed = ok(c.api.jobs().list_jobs(proto::ListJobsRequest::default()).await).jobs.remove(0);
    assert_eq!(listed.stage_counts.expect("counts").succeeded, 3);

    ok(a.api.jobs().delete_job(proto::DeleteJobRequest { job_id: "film".into(), ..Default::default() }).await);
    let get = proto::GetJobRequest { job_id: "film".into(), ..Default::default() };
    refused(c.api.jobs().get_job(get).await, Code::NotFound, "JOB_NOT_FOUND");
    assert_eq!(shape(&a).await, ["0 0 0 0, 0"]);
}

#[tokio::test]
async fn a_job_that_grows_gets_rows_and_loses_nothing() {
    let a = server().await;
    let split = with_input(new_stage("split"), json!({ "n": 1 }));
    let other = with_input(StageSpec { queue: "slow".into(), ..new_stage("other") }, json!({ "n": 2 }));
    a.api.submit(film(vec![new_stage("first"), split, other])).await;
    let slow = a.api.lease("slow").await;
    let (first, split) = (a.api.lease("default").await, a.api.lease("default").await);
    complete(&a.api, &first, json!({ "first": 1 }), Some(json!({ "result": 1 })), Vec::new()).await;
    assert_eq!(shape(&a).await, ["0 0 0 0, 1"]);
    let part = |name: &str| with_input(new_stage_after(name, &["first", "split"]), json!({ "part": name }));
    complete(&a.api, &split, json!({ "split": 2 }), None, vec![part("p1"), new_stage("p2")]).await;
    assert_eq!(shape(&a).await, ["5 5 2 1, 0"]);

    // What the server knows of it, and what one finds that knows nothing.
    let b = a.beside().await;
    let job = b.api.job("film").await;
    assert_eq!(job, a.api.job("film").await);
    assert_eq!((&job.payload, &job.result), (&struct_of(json!({ "film": 1.50 })), &struct_of(json!({ "result": 1 }))));
    assert_eq!(stage(&job, "first").artifacts, struct_of(json!({ "first": 1 })));
    assert_eq!(stage(&job, "split").artifacts, struct_of(json!({ "split": 2 })));
    let expected =
        [None, struct_of(json!({ "n": 1 })), struct_of(json!({ "n": 2 })), struct_of(json!({ "part": "p1" })), None];
    assert_eq!(inputs(&b.api, &["first", "split", "other", "p1", "p2"]).await, expected);
    // Leases live on, and the next change is one of rows.
    assert_eq!(b.api.renew_lease(&slow, Some(0.5)).await.directive(), proto::LeaseDirective::Continue);
    a.api.complete(&slow, json!({ "slow": 3 })).await;
    for name in ["p1", "p2"] {
        let lease = b.api.lease("default").await;
        assert_eq!((&*lease.stage_name, lease.payload.is_some()), (name, true));
        assert_eq!(lease.dependencies.len(), if name == "p1" { 2 } else { 0 });
        assert!(lease.dependencies.iter().all(|it| it.artifacts.is_some()));
        a.api.complete(&lease, json!({})).await;
    }
    let retry = proto::RetryJobRequest { job_id: "film".into(), from_stage: "split".into(), ..Default::default() };
    ok(b.api.jobs().retry_job(retry).await);
    let job = a.api.job("film").await;
    assert_eq!((job.result.clone(), stage(&job, "split").artifacts.clone(), job.stages.len()), (None, None, 5));
    ok(a.api.jobs().cancel_job(proto::CancelJobRequest { job_id: "film".into(), ..Default::default() }).await);
    ok(b.api.jobs().delete_job(proto::DeleteJobRequest { job_id: "film".into(), ..Default::default() }).await);
    assert_eq!(shape(&a).await, ["0 0 0 0, 0"]);
}

#[tokio::test]
async fn new_jobs_have_rows_while_an_older_server_is_there() {
    let server = server().await;
    let client = sql(server.database.url()).await;
    let older = "INSERT INTO servers (server_id, alive_until) VALUES (gen_random_uuid(), now() + interval '9 seconds')";
    client.batch_execute(older).await.expect("as an older server greets");
    until_new_jobs_are(&server, false).await;
    server.api.submit(film(vec![new_stage("s")])).await;
    client.batch_execute("DELETE FROM servers WHERE NOT reads_small_jobs").await.expect("it leaves");
    until_new_jobs_are(&server, true).await;
    // What has rows keeps them, and goes on with them.
    server.api.complete(&server.api.lease("default").await, json!({ "a": 1 })).await;
    assert_eq!(shape(&server).await, ["1 1 1 1, 0"]);
    let job = server.api.job("film").await;
    assert_eq!((job.state(), stage(&job, "s").artifacts.is_some()), (JobState::Succeeded, true));
}
