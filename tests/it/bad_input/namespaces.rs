//! Namespaces: unknown ones, bad names, and that one sees nothing of another.

use interlock::proto;
use tonic::Code;

use super::Scene;
use crate::harness::*;

#[tokio::test]
async fn an_unknown_namespace_is_not_found() {
    let scene = Scene::set().await;
    let api = &scene.api;
    let missing = (Code::NotFound, "NAMESPACE_NOT_FOUND");
    let get = proto::GetJobRequest { job_id: "film".into(), ..Default::default() };
    refused(api.jobs().get_job(within("ghost", get)).await, missing.0, missing.1);
    refused(api.jobs().submit_job(within("ghost", new_job("x", Vec::new()))).await, missing.0, missing.1);
    refused(api.jobs().list_jobs(within("ghost", proto::ListJobsRequest::default())).await, missing.0, missing.1);
    let lease = proto::LeaseStagesRequest { worker_id: "w".into(), ..Default::default() };
    refused(api.workers().lease_stages(within("ghost", lease)).await, missing.0, missing.1);
    let renewal = proto::LeaseRenewal { lease_token: scene.lease.lease_token.clone(), ..Default::default() };
    let renewals = proto::HeartbeatRequest { renewals: vec![renewal] };
    refused(api.workers().heartbeat(within("ghost", renewals)).await, missing.0, missing.1);
    let complete = proto::CompleteStageRequest { target: token(&scene.lease), ..Default::default() };
    refused(api.workers().complete_stage(within("ghost", complete)).await, missing.0, missing.1);
    scene.is_unchanged().await;
}

#[tokio::test]
async fn invalid_namespace_names_are_refused() {
    let scene = Scene::set().await;
    let long = "x".repeat(64);
    for name in ["a b", "a/b", "a:b", &long] {
        let list = proto::ListJobsRequest::default();
        field(scene.api.jobs().list_jobs(within(name, list)).await, "interlock-namespace");
    }
    for name in ["", "a b", "a/b", "ü", "a\0", &long, &"x".repeat(100_000)] {
        let create = proto::CreateNamespaceRequest { name: name.to_owned(), ..Default::default() };
        field(scene.api.admin().create_namespace(create).await, "name");
        let delete = proto::DeleteNamespaceRequest { name: name.to_owned(), ..Default::default() };
        field(scene.api.admin().delete_namespace(delete).await, "name");
    }
    scene.is_unchanged().await;
}

#[tokio::test]
async fn namespaces_in_use_are_not_deleted() {
    let scene = Scene::set().await;
    let admin = || scene.api.admin();
    let delete = |name: &str| proto::DeleteNamespaceRequest { name: name.to_owned(), ..Default::default() };
    refused(admin().delete_namespace(delete("other")).await, Code::FailedPrecondition, "NAMESPACE_NOT_EMPTY");
    refused(admin().delete_namespace(delete("ghost")).await, Code::NotFound, "NAMESPACE_NOT_FOUND");
    field(admin().delete_namespace(delete("default")).await, "name");
    for name in ["other", "default"] {
        let create = proto::CreateNamespaceRequest { name: name.to_owned(), ..Default::default() };
        refused(admin().create_namespace(create).await, Code::AlreadyExists, "NAMESPACE_ALREADY_EXISTS");
    }
    let list = proto::ListNamespacesRequest { page_size: -1, ..Default::default() };
    field(admin().list_namespaces(list).await, "page_size");
    scene.is_unchanged().await;
}
