//! The audit log: what operators change is in it, with who did it, in the same commit; what changes nothing is not.

use std::collections::BTreeSet;

use interlock::admission::{Access, Method, Methods};
use interlock::domain::access::Role;
use interlock::proto;
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::json;
use tonic::Code;

use crate::harness::*;

async fn events(api: &Api, request: proto::ListAuditEventsRequest) -> Vec<proto::AuditEvent> {
    ok(api.admin().list_audit_events(request).await).events
}

/// Method, namespace and target of all entries, the oldest first.
async fn log(api: &Api) -> Vec<(String, String, String)> {
    let request = proto::ListAuditEventsRequest { page_size: 1_000, ..Default::default() };
    let entry = |event: proto::AuditEvent| (event.method, event.namespace, event.target);
    events(api, request).await.into_iter().rev().map(entry).collect()
}

fn namespace(name: &str) -> proto::CreateNamespaceRequest {
    proto::CreateNamespaceRequest { name: name.to_owned(), ..Default::default() }
}

fn new_key() -> proto::CreateKeyRequest {
    proto::CreateKeyRequest {
        label: "worker".to_owned(),
        roles: vec![proto::Role::Work as i32],
        namespaces: texts(&["*"]),
        ..Default::default()
    }
}

fn policy(name: &str, limit: i64) -> proto::UpdateResourceRequest {
    proto::UpdateResourceRequest { name: name.to_owned(), policy: Some(capacity(limit)), ..Default::default() }
}

/// The rpcs that change something and that only the roles operate and admin permit, as `Service/Method`.
fn writes_of_operators() -> Vec<String> {
    let methods = Methods::from_descriptors(&[proto::FILE_DESCRIPTOR_SET]).expect("our own descriptors");
    let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("our own descriptors").file;
    let services = files.iter().flat_map(|file| &file.service);
    let rpcs = services
        .flat_map(|service| service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())));
    let is_operators = |rpc: &String| match methods.find(&format!("/interlock.v1.{rpc}")) {
        Method { is_read: true, .. } => false,
        Method { access: Access::OneOf(roles) | Access::Everywhere(roles), .. } => {
            roles.iter().all(|role| matches!(role, Role::Operate | Role::Admin))
        }
        Method { .. } => false,
    };
    // What a server holds in memory is no state that somebody could have to account for.
    rpcs.filter(|rpc| is_operators(rpc) && rpc != "AdminService/ClearSessionCache").collect()
}

#[tokio::test]
async fn each_rpc_of_operators_has_an_entry() {
    let server = Server::start().await;
    let (api, mut admin, mut permits) = (&server.api, server.api.admin(), server.api.permits());
    ok(admin.create_namespace(namespace("studio")).await);
    let key = ok(admin.create_key(new_key()).await).key.expect("a key").key_id;
    ok(admin.rotate_key(proto::RotateKeyRequest { key_id: key.clone(), ..Default::default() }).await);
    ok(admin.revoke_key(proto::RevokeKeyRequest { key_id: key.clone(), ..Default::default() }).await);
    ok(permits.update_resource(within("studio", policy("api", 2))).await);
    let breaker = proto::CircuitBreaker { failure_threshold: Some(3), ..Default::default() };
    let with_breaker = proto::ResourcePolicy { breaker: Some(breaker), ..Default::default() };
    let update = proto::UpdateResourceRequest { name: "llm".into(), policy: Some(with_breaker), ..Default::default() };
    ok(permits.update_resource(update).await);
    let (requester, reason) = ("ana".to_owned(), "it works again".to_owned());
    let reset = proto::ResetBreakerRequest { name: "llm".into(), requester, reason, ..Default::default() };
    ok(permits.reset_breaker(reset).await);
    let permit = acquire(api, "doc").await;
    let revoke = proto::RevokePermitRequest {
        resource: "doc".into(),
        fencing_token: permit.grants[0].fencing_token,
        requester: "ana".into(),
        ..Default::default()
    };
    ok(permits.revoke_permit(revoke).await);
    let delete = proto::DeleteResourceRequest { name: "api".into(), ..Default::default() };
    ok(permits.delete_resource(within("studio", delete)).await);
    api.submit(new_job("film", Vec::new())).await;
    ok(api.jobs().cancel_job(proto::CancelJobRequest { job_id: "film".into(), ..Default::default() }).await);
    ok(api.jobs().delete_job(proto::DeleteJobRequest { job_id: "film".into(), ..Default::default() }).await);
    let unreported = log(api).await.len();
    ok(admin.delete_namespace(proto::DeleteNamespaceRequest { name: "studio".into(), ..Default::default() }).await);

    let expected = [
        ("AdminService/CreateNamespace", "", "studio"),
        ("AdminService/CreateKey", "", &*key),
        ("AdminService/RotateKey", "", &*key),
        ("AdminService/RevokeKey", "", &*key),
        ("PermitService/UpdateResource", "studio", "api"),
        ("PermitService/UpdateResource", "default", "llm"),
        ("PermitService/ResetBreaker", "default", "llm"),
        ("PermitService/RevokePermit", "default", "doc"),
        ("PermitService/DeleteResource", "studio", "api"),
        ("AdminService/DeleteNamespace", "", "studio"),
    ];
    let expected = expected.map(|(method, namespace, target)| (method.into(), namespace.into(), target.into()));
    assert_eq!(log(api).await, expected);
    assert_eq!(unreported, expected.len() - 1, "a job is deleted in the course of work");
    let logged: BTreeSet<&str> = expected.iter().map(|(method, ..)| method.as_str()).collect();
    let demanded = writes_of_operators();
    let demanded: BTreeSet<&str> = demanded.iter().map(String::as_str).collect();
    assert_eq!(logged, demanded, "each rpc that changes something and needs the role operate or admin, and no other");
    let all = events(api, proto::ListAuditEventsRequest { page_size: 100, ..Default::default() }).await;
    assert!(all.iter().all(|event| event.principal == "anonymous@127.0.0.1"), "{all:?}");
    let reset = all.iter().find(|event| event.method.ends_with("ResetBreaker")).expect("an entry");
    assert_eq!(reset.details, struct_of(json!({ "requester": "ana", "reason": "it works again" })));
    let created = all.iter().find(|event| event.method.ends_with("CreateKey")).expect("an entry");
    assert_eq!(created.details, struct_of(json!({ "label": "worker", "roles": ["work"], "namespaces": ["*"] })));
}

async fn acquire(api: &Api, resource: &str) -> proto::Permit {
    match ok(api.permits().acquire_permit(acquire_request(vec![claim(resource)])).await).result {
        Some(proto::acquire_permit_response::Result::Permit(permit)) => permit,
        other => panic!("no permit but {other:?}"),
    }
}

#[tokio::test]
async fn refused_replayed_and_unchanged_calls_have_no_audit_entry() {
    let server = Server::start().await;
    let (mut admin, mut permits) = (server.api.admin(), server.api.permits());
    let request = proto::CreateNamespaceRequest { request_id: request_id(), ..namespace("studio") };
    ok(admin.create_namespace(request.clone()).await);
    assert!(ok(admin.create_namespace(request).await).replayed);
    refused(admin.create_namespace(namespace("studio")).await, Code::AlreadyExists, "NAMESPACE_ALREADY_EXISTS");
    ok(permits.update_resource(policy("api", 2)).await);
    assert!(!ok(permits.update_resource(policy("api", 2)).await).applied);
    let wrong = proto::UpdateResourceRequest { expected_version: Some(7), ..policy("api", 3) };
    refused(permits.update_resource(wrong).await, Code::Aborted, "VERSION_MISMATCH");
    // What workers and authors do is in the history of jobs.
    server.api.submit(new_job("film", vec![new_stage("cut")])).await;
    let lease = server.api.lease("default").await;
    server.api.complete(&lease, json!({})).await;
    let methods: Vec<_> = log(&server.api).await.into_iter().map(|(method, ..)| method).collect();
    assert_eq!(methods, ["AdminService/CreateNamespace", "PermitService/UpdateResource"]);
}

#[tokio::test]
async fn entries_are_found_by_principal_method_and_time_in_pages() {
    let server = Server::start().await;
    for i in 0..5 {
        ok(server.api.admin().create_namespace(namespace(&format!("n{i}"))).await);
        ok(server.api.permits().update_resource(policy(&format!("r{i}"), 1)).await);
    }
    let of = |method: &str| proto::ListAuditEventsRequest { method: method.to_owned(), ..Default::default() };
    let targets = async |request| {
        let found = events(&server.api, request).await;
        found.into_iter().map(|event| event.target).collect::<Vec<_>>()
    };
    assert_eq!(targets(of("AdminService/CreateNamespace")).await, texts(&["n4", "n3", "n2", "n1", "n0"]));
    assert_eq!(targets(of("AdminService/DeleteNamespace")).await, texts(&[]));
    let by = |principal: &str| proto::ListAuditEventsRequest { principal: principal.to_owned(), ..Default::default() };
    assert_eq!(targets(by("anonymous@127.0.0.1")).await.len(), 10);
    assert_eq!(targets(by("key:abcd1234")).await.len(), 0);
    let all = events(&server.api, Default::default()).await;
    let third = all[3].event_time;
    let since = proto::ListAuditEventsRequest { start_time: third, ..Default::default() };
    assert_eq!(targets(since).await, texts(&["r4", "n4", "r3", "n3"]));
    let until = proto::ListAuditEventsRequest { end_time: third, ..Default::default() };
    assert_eq!(targets(until).await, texts(&["r2", "n2", "r1", "n1", "r0", "n0"]));

    let (mut found, mut page_token) = (Vec::new(), String::new());
    for _ in 0..4 {
        let request = proto::ListAuditEventsRequest { page_size: 3, page_token, ..Default::default() };
        let page = ok(server.api.admin().list_audit_events(request).await);
        found.extend(page.events);
        page_token = page.next_page_token;
    }
    assert!(page_token.is_empty());
    assert_eq!(found, all);
    let page = ok(server
        .api
        .admin()
        .list_audit_events(proto::ListAuditEventsRequest { page_size: 3, ..Default::default() })
        .await);
    let other = proto::ListAuditEventsRequest { page_token: page.next_page_token, ..of("x") };
    field(server.api.admin().list_audit_events(other).await, "page_token");
}

#[tokio::test]
async fn page_reads_a_bounded_number_of_entries_and_continues() {
    let server = Server::start().await;
    let client = sql(server.database.url()).await;
    let rare = "INSERT INTO audit_events (event_time, principal, method, target, details)
        SELECT now() - i * interval '1 second', 'key:' || CASE i % 12000 WHEN 0 THEN 'rare' ELSE 'usual' END, 'A/B', i::text, '{}'
        FROM generate_series(1, 36500) i";
    client.batch_execute(rare).await.expect("rows");
    let (mut pages, mut targets, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let principal = "key:rare".to_owned();
        let request = proto::ListAuditEventsRequest { principal, page_size: 2, page_token, ..Default::default() };
        let page = ok(server.api.admin().list_audit_events(request).await);
        pages.push(page.events.len());
        targets.extend(page.events.into_iter().map(|event| event.target));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(targets, texts(&["12000", "24000", "36000"]));
    assert_eq!(pages, [0, 1, 1, 1], "10,000 entries each");
}
