//! AdminService, health, reflection: what an operator asks.

use interlock::proto;
use serde_json::json;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::*;

#[tokio::test]
async fn namespaces_are_made_listed_and_deleted() {
    let server = Server::start().await;
    let admin = || server.api.admin();
    let list = async || {
        let mut request = proto::ListNamespacesRequest { page_size: 2, ..Default::default() };
        let mut names = Vec::new();
        loop {
            let response = ok(admin().list_namespaces(request.clone()).await);
            names.extend(response.namespaces.into_iter().map(|namespace| namespace.name));
            if response.next_page_token.is_empty() {
                return names;
            }
            request.page_token = response.next_page_token;
        }
    };
    assert_eq!(list().await, ["default"]);
    for name in ["c", "a", "b", "team-x.dev_1"] {
        let create = proto::CreateNamespaceRequest { name: name.to_owned(), request_id: request_id() };
        let made = ok(admin().create_namespace(create.clone()).await);
        let namespace = made.namespace.expect("a namespace");
        assert_eq!((&*namespace.name, namespace.create_time.is_some(), made.replayed), (name, true, false));
        assert!(ok(admin().create_namespace(create).await).replayed);
    }
    assert_eq!(list().await, ["a", "b", "c", "default", "team-x.dev_1"]);
    let delete = proto::DeleteNamespaceRequest { name: "b".into(), request_id: request_id() };
    assert!(!ok(admin().delete_namespace(delete.clone()).await).replayed);
    assert!(ok(admin().delete_namespace(delete).await).replayed);
    assert_eq!(list().await, ["a", "c", "default", "team-x.dev_1"]);
    let submit = within("b", new_job("film", Vec::new()));
    refused(server.api.jobs().submit_job(submit).await, Code::NotFound, "NAMESPACE_NOT_FOUND");
}

#[tokio::test]
async fn namespaces_keep_jobs_queues_and_requests_apart() {
    let server = Server::start().await;
    let create = proto::CreateNamespaceRequest { name: "team".into(), ..Default::default() };
    ok(server.api.admin().create_namespace(create).await);
    let id = request_id();
    let request = |kind: &str| proto::SubmitJobRequest {
        kind: kind.to_owned(),
        request_id: id.clone(),
        ..new_job("film", Vec::new())
    };
    let ours = ok(server.api.jobs().submit_job(request("ours")).await);
    let theirs = ok(server.api.jobs().submit_job(within("team", request("theirs"))).await);
    assert!(!ours.replayed && !theirs.replayed);
    assert_eq!(server.api.job("film").await.kind, "ours");
    let get = within("team", proto::GetJobRequest { job_id: "film".into(), ..Default::default() });
    assert_eq!(ok(server.api.jobs().get_job(get).await).job.expect("a job").kind, "theirs");
    let list = within("team", proto::ListJobsRequest::default());
    assert_eq!(ok(server.api.jobs().list_jobs(list).await).jobs.len(), 1);
    let lease = server.api.lease("default").await;
    assert_eq!(lease.kind, "ours");
    assert_eq!(server.api.lease_now("default", 10).await, []);
    let poll = proto::LeaseStagesRequest { worker_id: "w".into(), ..Default::default() };
    let mut leases = ok(server.api.workers().lease_stages(within("team", poll)).await).leases;
    let lease = leases.pop().expect("a lease");
    let complete = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    ok(server.api.workers().complete_stage(within("team", complete)).await);
    assert_eq!(server.api.job("film").await.state(), proto::JobState::Running);
}

#[tokio::test]
async fn server_info_and_statistics_describe_the_server() {
    let server = Server::start().await;
    let info = ok(server.api.admin().get_server_info(proto::GetServerInfoRequest {}).await);
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    for capability in ["jobs", "workers", "admin"] {
        assert!(info.capabilities.iter().any(|it| it == capability), "{:?}", info.capabilities);
    }
    let limits = info.limits.expect("limits");
    assert_eq!((limits.receive_bytes, limits.send_bytes, limits.payload_bytes), (4 << 20, 4 << 20, 256 << 10));
    assert_eq!((limits.input_bytes, limits.artifacts_bytes, limits.result_bytes), (64 << 10, 64 << 10, 64 << 10));
    assert_eq!((limits.stages_per_job, limits.jobs_per_batch, limits.stages_per_lease_call), (10_000, 1_000, 100));
    assert_eq!((limits.message_bytes, limits.page_size, limits.filter_characters), (1_024, 1_000, 2_000));
    assert_eq!((limits.max_wait, limits.min_lease_duration), (seconds(60), seconds(1)));
    assert_eq!((limits.max_lease_duration, limits.default_lease_duration), (seconds(86_400), seconds(90)));
    assert_eq!(limits.default_retention, seconds(7 * 86_400));

    let before = server.api.statistics().await;
    server.api.submit(new_job("film", Vec::new())).await;
    for _ in 0..3 {
        server.api.job("film").await;
    }
    let get = proto::GetJobRequest { job_id: "ghost".into(), ..Default::default() };
    refused(server.api.jobs().get_job(get).await, Code::NotFound, "JOB_NOT_FOUND");
    server.api.complete(&server.api.lease("default").await, json!({})).await;
    let after = server.api.statistics().await;
    let calls = |method: &str, status: &str| {
        let rpc = after.rpcs.iter().find(|rpc| rpc.method == format!("interlock.v1.{method}"));
        rpc.and_then(|rpc| rpc.calls.get(status).copied()).unwrap_or(0)
    };
    assert_eq!((calls("JobService/GetJob", "OK"), calls("JobService/GetJob", "NOT_FOUND")), (3, 1));
    assert_eq!((calls("JobService/SubmitJob", "OK"), calls("WorkerService/CompleteStage", "OK")), (1, 1));
    assert!(after.rpcs.iter().all(|rpc| rpc.latency.is_some()));
    let (was, is) = (before.writer.expect("figures"), after.writer.expect("figures"));
    assert!(is.operations >= was.operations + 3 && is.groups > was.groups, "{was:?} {is:?}");
    assert_eq!((is.queue_depth, is.rejected), (0, 0));
    let pool = after.pool.expect("figures");
    assert!(pool.connections >= 1 && pool.connections <= pool.max_connections && pool.waiting == 0, "{pool:?}");
    let cache = after.cache.expect("figures");
    assert!(cache.entries >= 1 && cache.bytes > 0 && cache.hits >= 1, "{cache:?}");
    for name in ["reaper", "scheduler"] {
        let figures = after.loops.iter().find(|it| it.name == name).expect("a loop");
        assert!(figures.runs >= 1 && figures.failures == 0, "{figures:?}");
    }
    assert!(after.start_time.is_some() && after.sample_time.is_some());
}

#[tokio::test]
async fn health_is_reported_for_every_service() {
    let server = Server::start().await;
    for service in ["", "interlock.v1.JobService", "interlock.v1.WorkerService", "interlock.v1.AdminService"] {
        eventually("serving", async || {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = server.api.health().check(request).await.ok()?;
            (answer.into_inner().status() == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    let unknown = HealthCheckRequest { service: "nothing".to_owned() };
    assert_eq!(server.api.health().check(unknown).await.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_services_in_both_versions_and_knows_the_details_of_errors() {
    let server = Server::start().await;
    let expected = ["interlock.v1.JobService", "interlock.v1.WorkerService", "interlock.v1.AdminService"];
    macro_rules! reflect {
        ($version:ident) => {{
            use $version::server_reflection_client::ServerReflectionClient;
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;
            let requests = [
                MessageRequest::ListServices(String::new()),
                MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned()),
                MessageRequest::FileContainingSymbol("interlock.v1.JobService".to_owned()),
            ];
            let requests = requests.map(|request| $version::ServerReflectionRequest {
                message_request: Some(request),
                ..Default::default()
            });
            let mut client = ServerReflectionClient::new(server.api.channel.clone());
            let mut answers = ok(client.server_reflection_info(futures::stream::iter(requests)).await);
            let mut names = Vec::new();
            let mut files = 0;
            while let Some(answer) = answers.message().await.expect("no error") {
                match answer.message_response.expect("an answer") {
                    MessageResponse::ListServicesResponse(list) => {
                        names = list.service.into_iter().map(|service| service.name).collect();
                    }
                    MessageResponse::FileDescriptorResponse(found) => files += found.file_descriptor_proto.len(),
                    other => panic!("{other:?}"),
                }
            }
            assert!(expected.iter().all(|name| names.iter().any(|it| it == name)), "{names:?}");
            assert!(files >= 2);
        }};
    }
    reflect!(v1);
    reflect!(v1alpha);
}
