//! Several servers on one database: each sees what the others do, and none does it twice.

use std::collections::BTreeSet;

use futures::future::join_all;
use interlock::proto::{self, JobState, LeaseDirective};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn job_submitted_on_one_server_is_leased_on_another_and_completed_on_the_first() {
    let a = Server::start().await;
    let b = a.beside().await;
    // A worker waits at B before there is any work.
    let waiting = tokio::spawn({
        let api = b.api.clone();
        async move { api.lease("default").await }
    });
    b.api.polls_wait(1).await;
    a.api.submit(new_job("film", vec![new_stage("voice"), new_stage_after("render", &["voice"])])).await;
    let lease = waiting.await.expect("no panic");
    assert_eq!(a.api.job("film").await.state(), JobState::Running);
    a.api.progress(&lease, 0.5).await;
    assert_eq!(b.api.renew_lease(&lease, None).await.directive(), LeaseDirective::Continue);
    b.api.progress(&lease, 0.7).await;
    assert!(!a.api.progress(&lease, 0.6).await.applied);
    let done = a.api.complete(&lease, json!({ "by": "a" })).await;
    assert!(b.api.complete(&lease, json!({ "by": "a" })).await.replayed);
    assert_eq!(b.api.job("film").await.version, done.job_version);

    // Who waits at B for the end of the job hears of it, though A completes it.
    let waiting = tokio::spawn({
        let api = b.api.clone();
        let wait = proto::WaitJobRequest { job_id: "film".into(), wait: seconds(60) };
        async move { ok(api.jobs().wait_job(wait).await) }
    });
    let lease = b.api.lease("default").await;
    a.api.complete(&lease, json!({})).await;
    let response = waiting.await.expect("no panic");
    assert!(response.terminal);
    assert_eq!(response.job.expect("a job").state(), JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn explanation_says_that_polls_at_other_servers_are_not_known() {
    let a = Server::start().await;
    let b = a.beside().await;
    b.api.submit(new_job("film", vec![new_stage_after("cut", &[]), new_stage_after("mix", &["cut"])])).await;
    let lease = b.api.lease("default").await;
    b.api.complete(&lease, json!({})).await;
    let headline =
        async |api: &Api| ok(api.jobs().explain_job(proto::ExplainJobRequest { job_id: "film".into() }).await).headline;
    assert!(headline(&b.api).await.contains("waits for a worker"));
    eventually("A says that it sees no worker, and that there is B", async || {
        let here = "no worker has polled queue \"default\" at this server since it started";
        let there = "ago; polls at the other server are not known here.";
        let headline = headline(&a.api).await;
        (headline.contains(here) && headline.ends_with(there)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_on_one_server_reaches_the_holder_on_another() {
    let a = Server::start().await;
    let b = a.beside().await;
    a.api.submit(new_job("film", Vec::new())).await;
    let lease = b.api.lease("default").await;
    let cancel = proto::CancelJobRequest { job_id: "film".into(), ..Default::default() };
    ok(a.api.jobs().cancel_job(cancel).await);
    assert_eq!(b.api.renew_lease(&lease, None).await.directive(), LeaseDirective::Cancel);
    b.api.complete(&lease, json!({})).await;
    assert_eq!(a.api.job("film").await.state(), JobState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_of_one_job_through_two_servers_lose_no_update() {
    let a = Server::start().await;
    let b = a.beside().await;
    let names: Vec<String> = (0..60).map(|i| format!("s{i}")).collect();
    a.api.submit(new_job("film", names.iter().map(|name| new_stage(name)).collect())).await;
    let workers = (0..6).map(async |i| {
        let api = if i % 2 == 0 { &a.api } else { &b.api };
        let other = if i % 2 == 0 { &b.api } else { &a.api };
        let mut versions = Vec::new();
        loop {
            let leases = api.lease_now("default", 3).await;
            if leases.is_empty() && api.job("film").await.stage_counts.expect("counts").ready == 0 {
                return versions;
            }
            for lease in leases {
                assert_eq!(lease.fencing_token, 1, "{} was leased twice", lease.stage_name);
                api.progress(&lease, 0.5).await;
                let done = other.complete(&lease, json!({ "of": lease.stage_name })).await;
                versions.push(done.applied_job_version);
            }
        }
    });
    let versions = join_all(workers).await.concat();
    assert_eq!((versions.len(), versions.iter().collect::<BTreeSet<_>>().len()), (60, 60));
    for server in [&a, &b] {
        let job = server.api.job("film").await;
        assert_eq!((job.state(), job.progress), (JobState::Succeeded, 1.0));
        for name in &names {
            assert_eq!(stage(&job, name).artifacts, struct_of(json!({ "of": name })));
        }
    }
    let conflicts = [&a, &b].map(async |server| server.api.statistics().await.writer.expect("figures").conflicts);
    println!("conflicts: {:?}", join_all(conflicts).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn version_read_on_one_server_is_valid_on_another() {
    let a = Server::start().await;
    let b = a.beside().await;
    a.api.submit(new_job("film", Vec::new())).await;
    for round in 0..10 {
        let (writer, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let version = other.api.job("film").await.version;
        let update = |priority| proto::UpdateJobRequest {
            job_id: "film".into(),
            priority: Some(priority),
            expected_version: Some(version),
            ..Default::default()
        };
        ok(writer.api.jobs().update_job(update(round + 1)).await);
        let received = refused(other.api.jobs().update_job(update(-1)).await, Code::Aborted, "VERSION_MISMATCH");
        assert_eq!(received.metadata["actual"], (version + 1).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_created_on_one_server_is_known_on_another() {
    let a = Server::start().await;
    let b = a.beside().await;
    let create = proto::CreateNamespaceRequest { name: "team".into(), ..Default::default() };
    ok(a.api.admin().create_namespace(create).await);
    ok(b.api.jobs().submit_job(within("team", new_job("film", Vec::new()))).await);
    let get = proto::GetJobRequest { job_id: "film".into(), ..Default::default() };
    assert_eq!(ok(a.api.jobs().get_job(within("team", get)).await).job.expect("a job").job_id, "film");
}
