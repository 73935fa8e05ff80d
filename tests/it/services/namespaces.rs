//! Namespaces that are deleted: not while anything is held, and nothing of them stays but the highest fencing token.

use interlock::proto::{self, DeleteNamespaceRequest, acquire_permit_response::Result as Outcome};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

const OTHER: &str = "other";

async fn create(api: &Api, name: &str) {
    ok(api.admin().create_namespace(proto::CreateNamespaceRequest { name: name.into(), ..Default::default() }).await);
}

fn deletion(name: &str) -> DeleteNamespaceRequest {
    DeleteNamespaceRequest { name: name.into(), ..Default::default() }
}

async fn is_not_empty(api: &Api) {
    refused(api.admin().delete_namespace(deletion(OTHER)).await, Code::FailedPrecondition, "NAMESPACE_NOT_EMPTY");
}

async fn lock(api: &Api, namespace: &str) -> proto::Permit {
    let request = proto::AcquirePermitRequest { request_id: request_id(), ..acquire_request(vec![claim("doc")]) };
    match ok(api.permits().acquire_permit(within(namespace, request)).await).result {
        Some(Outcome::Permit(permit)) => permit,
        other => panic!("no permit but {other:?}"),
    }
}

/// A job of one stage from beginning to end. Returns the fencing token of its lease.
async fn run_job(api: &Api) -> i64 {
    let submit = proto::SubmitJobRequest { request_id: request_id(), ..new_job("film", vec![new_stage("cut")]) };
    ok(api.jobs().submit_job(within(OTHER, submit)).await);
    let poll = proto::LeaseStagesRequest { worker_id: "w".into(), wait: seconds(10), ..Default::default() };
    let lease = ok(api.workers().lease_stages(within(OTHER, poll)).await).leases.remove(0);
    let artifacts = struct_of(json!({ "url": "x".repeat(1_000) }));
    let done = proto::CompleteStageRequest { target: token(&lease), artifacts, ..Default::default() };
    ok(api.workers().complete_stage(within(OTHER, done)).await);
    let context = vec![set("script", json!("Rain"))];
    let update = proto::UpdateJobRequest { job_id: "film".into(), context_operations: context, ..Default::default() };
    ok(api.jobs().update_job(within(OTHER, update)).await);
    lease.fencing_token
}

/// The rows of each table that has a namespace, in those that are not there any more.
async fn orphans(server: &Server) -> Vec<String> {
    let tables = "SELECT table_name::text FROM information_schema.columns
        WHERE column_name = 'namespace_id' AND table_schema = 'public'
            AND table_name NOT IN ('namespaces', 'namespace_remains') ORDER BY 1";
    let tables = server.column(tables).await;
    assert!(tables.len() > 12, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        let rows = format!(
            "SELECT count(*)::text FROM {table} WHERE namespace_id NOT IN (SELECT namespace_id FROM namespaces)"
        );
        let rows = server.column(&rows).await.remove(0);
        if rows != "0" {
            found.push(format!("{table}: {rows}"));
        }
    }
    found
}

#[tokio::test]
async fn a_namespace_is_not_deleted_while_anything_is_held_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let api = &server.api;
    create(api, OTHER).await;
    let first = lock(api, OTHER).await;
    is_not_empty(api).await;
    let renewal = proto::RenewPermitsRequest { permit_tokens: vec![first.permit_token.clone()], ..Default::default() };
    let held = ok(api.permits().renew_permits(within(OTHER, renewal)).await);
    assert!(!held.statuses[0].lost, "a refused deletion takes nothing away");
    ok(api.permits().release_permit(within(OTHER, release_of(&first))).await);

    // Rules without anybody who uses them are somebody's decision.
    let rules = proto::UpdateResourceRequest { name: "api".into(), policy: Some(capacity(0)), ..Default::default() };
    ok(api.permits().update_resource(within(OTHER, rules)).await);
    is_not_empty(api).await;
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.permits().acquire_permit(within(OTHER, patient(vec![claim("api")]))).await }
    });
    eventually("somebody who waits", async || {
        (server.column("SELECT permit_id::text FROM permit_waiters").await.len() == 1).then_some(())
    })
    .await;
    is_not_empty(api).await;
    waiting.abort();
    let rules = proto::DeleteResourceRequest { name: "api".into(), ..Default::default() };
    eventually("the end of the wait", async || api.permits().delete_resource(within(OTHER, rules.clone())).await.ok())
        .await;

    let lease = run_job(api).await;
    is_not_empty(api).await;
    let job = proto::DeleteJobRequest { job_id: "film".into(), request_id: request_id(), ..Default::default() };
    ok(api.jobs().delete_job(within(OTHER, job)).await);
    let request = proto::AcquirePermitRequest { ttl: seconds(1), ..acquire_request(vec![claim("lost")]) };
    ok(api.permits().acquire_permit(within(OTHER, request)).await);
    // A permit that expires is remembered for a while, and holds nothing.
    eventually("an empty namespace", async || api.admin().delete_namespace(deletion(OTHER)).await.ok()).await;
    eventually("nothing left of it", async || orphans(&server).await.is_empty().then_some(())).await;

    create(api, OTHER).await;
    assert!(lock(api, OTHER).await.grants[0].fencing_token > first.grants[0].fencing_token, "tokens go on");
    assert!(run_job(api).await > lease, "those of leases, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_acquired_or_its_namespace_deleted() {
    let a = Server::start().await;
    let b = a.beside().await;
    let (mut acquired, mut deleted) = (0, 0);
    for round in 0..20 {
        let name = format!("round-{round}");
        create(&a.api, &name).await;
        // An idle lock, which is acquired without a look at its namespace.
        for api in [&a.api, &b.api] {
            let permit = lock(api, &name).await;
            ok(api.permits().release_permit(within(&name, release_of(&permit))).await);
        }
        let (mut deleting, mut acquiring) = (a.api.admin(), b.api.permits());
        let (gone, permit) = futures::future::join(
            deleting.delete_namespace(deletion(&name)),
            acquiring.acquire_permit(within(&name, acquire_request(vec![claim("doc")]))),
        )
        .await;
        match (gone, permit) {
            (Ok(_), Ok(permit)) => panic!("the namespace of {permit:?} was deleted"),
            (Ok(_), Err(refused)) => {
                deleted += 1;
                assert!([Code::NotFound, Code::Aborted].contains(&refused.code()), "{refused:?}");
            }
            (Err(_), Ok(permit)) => {
                acquired += 1;
                let Some(Outcome::Permit(permit)) = permit.into_inner().result else { panic!("a free lock is denied") };
                ok(b.api.permits().release_permit(within(&name, release_of(&permit))).await);
            }
            (Err(one), Err(other)) => panic!("neither: {one:?}, {other:?}"),
        }
    }
    println!("{deleted} deleted, {acquired} acquired");
    assert_eq!(a.column("SELECT permit_id::text FROM permits").await, Vec::<String>::new());
}
