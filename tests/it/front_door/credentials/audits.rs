//! The audit log names the credential that a change was made with.

use interlock::proto::{self, Role};
use tonic::Code;

use super::scene::*;
use crate::harness::*;

#[tokio::test]
async fn changes_are_logged_with_the_principal_that_made_them() {
    let scene = Scene::start().await;
    let (admin, operator) = (scene.key(&[Role::Admin], &["*"]).await, scene.key(&[Role::Operate], &["*"]).await);
    let api = &scene.server.api;
    let create = proto::CreateNamespaceRequest { name: "studio".to_owned(), ..Default::default() };
    refused(
        api.admin().create_namespace(keyed(&operator, create.clone())).await,
        Code::PermissionDenied,
        "ROLE_DENIED",
    );
    ok(api.admin().create_namespace(keyed(&admin, create)).await);
    let policy = proto::UpdateResourceRequest { name: "api".into(), policy: Some(capacity(2)), ..Default::default() };
    ok(api.permits().update_resource(keyed_within(&operator, "studio", policy)).await);
    let revoke = proto::RevokeKeyRequest { key_id: operator.id.clone(), ..Default::default() };
    ok(api.admin().revoke_key(keyed(&admin, revoke)).await);

    let (by_admin, by_operator) = (format!("key:{}", admin.id), format!("key:{}", operator.id));
    let log = async |principal: &str| {
        let request = proto::ListAuditEventsRequest { principal: principal.to_owned(), ..Default::default() };
        let events = ok(api.admin().list_audit_events(keyed(&admin, request)).await).events;
        let entry = |event: proto::AuditEvent| (event.method, event.namespace, event.target);
        events.into_iter().map(entry).collect::<Vec<_>>()
    };
    let entry =
        |method: &str, namespace: &str, target: &str| (method.to_owned(), namespace.to_owned(), target.to_owned());
    let revoked = entry("AdminService/RevokeKey", "", &operator.id);
    assert_eq!(log(&by_admin).await, [revoked, entry("AdminService/CreateNamespace", "", "studio")]);
    assert_eq!(log(&by_operator).await, [entry("PermitService/UpdateResource", "studio", "api")]);
    // The scene's keys were made where none is asked for.
    assert_eq!(log("anonymous@127.0.0.1").await.len(), 2);
}

#[tokio::test]
async fn deletions_of_jobs_are_logged_where_an_operator_asks_for_them() {
    let scene = Scene::start().await;
    let (submitter, operator) = (scene.key(&[Role::Submit], &["*"]).await, scene.key(&[Role::Operate], &["*"]).await);
    let mut jobs = scene.server.api.jobs();
    for (key, job_id) in [(&submitter, "mine"), (&operator, "theirs")] {
        ok(jobs.submit_job(keyed(&submitter, new_job(job_id, Vec::new()))).await);
        let cancel = proto::CancelJobRequest { job_id: job_id.to_owned(), ..Default::default() };
        ok(jobs.cancel_job(keyed(key, cancel)).await);
        let delete = proto::DeleteJobRequest { job_id: job_id.to_owned(), ..Default::default() };
        ok(jobs.delete_job(keyed(key, delete)).await);
    }
    let request = proto::ListAuditEventsRequest { method: "JobService/DeleteJob".to_owned(), ..Default::default() };
    let events = ok(scene.open.api.admin().list_audit_events(request).await).events;
    let received: Vec<_> = events.into_iter().map(|event| (event.principal, event.namespace, event.target)).collect();
    assert_eq!(received, [(format!("key:{}", operator.id), "default".to_owned(), "theirs".to_owned())]);
}
