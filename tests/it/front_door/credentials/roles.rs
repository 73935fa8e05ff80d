//! Every rpc of the descriptors with every kind of credential, streams included.

use std::collections::BTreeMap;
use std::time::Duration;

use interlock::proto::{self, CommitOperation, Role, commit_operation::Operation};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::scene::*;
use crate::harness::*;

/// The rpcs by who may call them: a letter for each role of which one is enough. Written down a second time, by name.
const PERMITTED: &[(&str, &str)] = &[
    (
        "rswoa",
        "GetJob GetStage ListStages ListJobs WaitJob WatchJob WatchJobs ListJobEvents ListQueues ListWorkers ExplainJob GetRecord \
         BatchGetRecords ListRecords ListCollections WatchRecords GetResource ListResources ListWaiters WatchResource GetSession ListSessions GetSegment QueryTimeline SearchSegments \
         GetSessionStatistics ExportTimeline WatchSession GetServerInfo ListNamespaces",
    ),
    ("sa", "SubmitJob BatchSubmitJobs"),
    ("soa", "CancelJob PauseJob ResumeJob RetryJob DeleteJob DeleteSession"),
    ("swoa", "UpdateJob Commit"),
    (
        "wa",
        "LeaseStages Heartbeat StartStage UpdateStageProgress CompleteStage CompleteStages Work FailStage ReleaseStage AddStages",
    ),
    (
        "swa",
        "UpdateRecord BatchUpdateRecords BatchWriteRecords DeleteRecord AcquirePermit RenewPermits ReleasePermit CreateSession \
         UpdateSession EndSession AppendSegments WriteSegments ImportSegments UpdateSegment DeleteSegment",
    ),
    ("oa", "UpdateResource DeleteResource ResetBreaker RevokePermit GetStatistics ClearSessionCache"),
    ("a", "CreateNamespace DeleteNamespace CreateKey ListKeys RevokeKey RotateKey ListAuditEvents"),
];
/// Those that are about the whole server, and need a key for all namespaces.
const EVERYWHERE: &str = "GetStatistics CreateKey ListKeys RevokeKey RotateKey ListAuditEvents";

/// Every method that is served.
fn served() -> Vec<String> {
    let sets = [
        proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = Vec::new();
    for file in sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).expect("descriptors").file) {
        for service in &file.service {
            let service_name = format!("/{}.{}", file.package(), service.name());
            paths.extend(service.method.iter().map(|method| format!("{service_name}/{}", method.name())));
        }
    }
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 55, "{}", paths.len());
    paths
}

fn rpc(path: &str) -> &str {
    path.rsplit('/').next().expect("a name")
}

fn permitted(path: &str) -> &'static str {
    let found = PERMITTED.iter().find(|(_, rpcs)| rpcs.split_whitespace().any(|name| name == rpc(path)));
    found.unwrap_or_else(|| panic!("{path}: who may call it?")).0
}

/// Keys of each kind.
struct Keys {
    unknown: Key,
    wrong_secret: Key,
    expired: Key,
    revoked: Key,
    by_role: BTreeMap<char, Key>,
    /// With all roles in namespaces that are not asked for.
    elsewhere: Key,
}

impl Keys {
    async fn create(scene: &Scene) -> Keys {
        let expired = proto::CreateKeyRequest {
            label: "short".to_owned(),
            roles: vec![Role::Admin as i32],
            namespaces: texts(&["*"]),
            ttl: seconds(1),
            ..Default::default()
        };
        let expired = scene.key_of(expired).await;
        let revoked = scene.key(&[Role::Admin], &["*"]).await;
        scene.revoke(&revoked).await;
        let mut by_role = BTreeMap::new();
        for (letter, role) in ROLES {
            by_role.insert(letter, scene.key(&[role], &["*"]).await);
        }
        let (one, other) = (&by_role[&'r'], &by_role[&'a']);
        let wrong_secret = Key { token: format!("il_{}{}", other.id, &one.token[11..]), id: other.id.clone() };
        let unknown = Key { token: format!("il_zzzzzzzz{}", &one.token[11..]), id: "zzzzzzzz".to_owned() };
        let elsewhere = scene.key(&ROLES.map(|(_, role)| role), &["elsewhere", "else-*"]).await;
        scene.key_is(&expired, "expired").await;
        scene.key_is(&revoked, "revoked").await;
        Keys { unknown, wrong_secret, expired, revoked, by_role, elsewhere }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_refuses_exactly_the_credentials_without_its_role() {
    let scene = Scene::start().await;
    let keys = Keys::create(&scene).await;
    let mut checks = 0;
    for path in &served() {
        // What the same call is answered where no credential is required.
        let usual = call(&scene.open.api, path, &[], &[]).await;
        if !path.starts_with("/interlock.v1.") {
            checks += open_to_all(&scene, &keys, path, &usual).await;
            continue;
        }
        let with = async |metadata: &[(&'static str, String)]| call(&scene.server.api, path, metadata, &[]).await;
        with(&[]).await.is_invalid(path, "no credential: send an API key");
        with(&[("authorization", "Bearer il_".to_owned())]).await.is_invalid(path, "must be `Bearer` and an API key");
        with(&[("authorization", "Basic YTpi".to_owned())]).await.is_invalid(path, "must be `Bearer` and an API key");
        with(&bearer(&keys.unknown)).await.is_invalid(path, "no such API key, or its secret is another one");
        with(&bearer(&keys.wrong_secret)).await.is_invalid(path, "no such API key, or its secret is another one");
        with(&bearer(&keys.expired)).await.is_invalid(path, "has expired");
        with(&bearer(&keys.revoked)).await.is_invalid(path, "was revoked");
        for (letter, key) in &keys.by_role {
            let outcome = with(&bearer(key)).await;
            if permitted(path).contains(*letter) {
                assert_eq!(outcome, usual, "{path} with role {letter}");
            } else {
                outcome.is_denied(path, key);
                assert!(!outcome.metadata["roles"].is_empty(), "{path}");
            }
        }
        let outcome = with(&bearer(&keys.elsewhere)).await;
        if EVERYWHERE.split_whitespace().any(|name| name == rpc(path)) {
            outcome.is_denied(path, &keys.elsewhere);
            assert_eq!(outcome.metadata["namespaces"], "*");
        } else if path.starts_with("/interlock.v1.AdminService/") && rpc(path) != "ClearSessionCache" {
            assert_eq!(outcome, usual, "{path} is about no namespace");
        } else {
            let mut absent = bearer(&keys.by_role[&'a']);
            absent.push(("interlock-namespace", "absent".to_owned()));
            let absent = with(&absent).await;
            assert_eq!((absent.code, absent.reason.as_str()), (Code::NotFound, "NAMESPACE_NOT_FOUND"), "{path}");
            let as_if_absent = Outcome {
                message: outcome.message.replace("default", "absent"),
                metadata: outcome.metadata.iter().map(|(k, v)| (k.clone(), v.replace("default", "absent"))).collect(),
                ..outcome
            };
            assert_eq!(as_if_absent, absent, "{path}: a namespace that is not covered looks like an absent one");
        }
        checks += 13;
    }
    println!("{checks} answers were as they must be");
}

/// Health and reflection: whatever is shown, the answer is the usual one.
async fn open_to_all(scene: &Scene, keys: &Keys, path: &str, usual: &Outcome) -> usize {
    let shown = [Vec::new(), bearer(&keys.unknown), bearer(&keys.revoked), bearer(&keys.by_role[&'r'])];
    for metadata in &shown {
        let outcome = call(&scene.server.api, path, metadata, &[]).await;
        assert_eq!((outcome.code, &outcome.reason), (usual.code, &usual.reason), "{path}");
    }
    shown.len()
}

#[tokio::test]
async fn unknown_methods_are_unimplemented_with_and_without_a_key() {
    let scene = Scene::start().await;
    for metadata in [Vec::new(), vec![("authorization", "Bearer x".to_owned())]] {
        let outcome = call(&scene.server.api, "/interlock.v1.JobService/NoSuchRpc", &metadata, &[]).await;
        assert_eq!((outcome.code, outcome.reason.as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
    }
}

#[tokio::test]
async fn commit_needs_the_role_of_each_of_its_operations() {
    let scene = Scene::start().await;
    let worker = scene.key(&[Role::Work], &["*"]).await;
    let submitter = scene.key(&[Role::Submit], &["*"]).await;
    let both = scene.key(&[Role::Submit, Role::Work], &["*"]).await;
    let commit = async |key: &Key, operations: Vec<Operation>| {
        let operations = operations.into_iter().map(|operation| CommitOperation { operation: Some(operation) });
        let request = proto::CommitRequest { operations: operations.collect(), ..Default::default() };
        scene.server.api.transactions().commit(keyed(key, request)).await
    };
    let update = |name: &str| {
        Operation::UpdateRecord(proto::UpdateRecordRequest {
            collection: "c".to_owned(),
            record_id: name.to_owned(),
            operations: vec![set("n", serde_json::json!(1))],
            allow_missing: true,
            ..Default::default()
        })
    };
    let job = |id: &str| Operation::SubmitJob(new_job(id, vec![new_stage("s")]));
    let complete = || {
        Operation::CompleteStage(proto::CompleteStageRequest {
            target: Target::named("one", "s"),
            ..Default::default()
        })
    };
    ok(commit(&worker, vec![update("a")]).await);
    let denied = refused(commit(&worker, vec![update("b"), job("one")]).await, Code::PermissionDenied, "ROLE_DENIED");
    assert_eq!((denied.metadata["index"].as_str(), denied.metadata["roles"].as_str()), ("1", "submit"));
    assert_eq!(denied.metadata["principal"], format!("key:{}", worker.id));
    ok(commit(&submitter, vec![job("one")]).await);
    let start = proto::StartStageRequest {
        stage_ref: Some(proto::StageRef { job_id: "one".to_owned(), stage_name: "s".to_owned() }),
        worker_id: "w".to_owned(),
        ..Default::default()
    };
    ok(scene.server.api.workers().start_stage(keyed(&worker, start)).await);
    refused(commit(&submitter, vec![complete()]).await, Code::PermissionDenied, "ROLE_DENIED");
    ok(commit(&both, vec![complete(), job("two"), update("c")]).await);
    // What was denied left nothing behind.
    let get = proto::GetRecordRequest { collection: "c".to_owned(), record_id: "b".to_owned(), ..Default::default() };
    refused(scene.open.api.records().get_record(get).await, Code::NotFound, "RECORD_NOT_FOUND");
}

#[tokio::test]
async fn new_key_works_at_once_on_a_server_that_has_not_loaded_it() {
    let scene = Scene::start().await;
    for _ in 0..3 {
        let key = scene.new_key(&[Role::Read], &["*"]).await;
        let began = std::time::Instant::now();
        ok(scene.server.api.admin().get_server_info(keyed(&key, proto::GetServerInfoRequest {})).await);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

/// Each operation that a commit can hold, without fields, with the rpc that does it alone.
fn operations_of_commits() -> Vec<(&'static str, Operation)> {
    vec![
        ("SubmitJob", Operation::SubmitJob(Default::default())),
        ("CompleteStage", Operation::CompleteStage(Default::default())),
        ("FailStage", Operation::FailStage(Default::default())),
        ("UpdateRecord", Operation::UpdateRecord(Default::default())),
        ("DeleteRecord", Operation::DeleteRecord(Default::default())),
        ("UpdateStageProgress", Operation::UpdateStageProgress(Default::default())),
        ("AddStages", Operation::AddStages(Default::default())),
        ("ReleaseStage", Operation::ReleaseStage(Default::default())),
        ("UpdateJob", Operation::UpdateJob(Default::default())),
        ("CancelJob", Operation::CancelJob(Default::default())),
        ("PauseJob", Operation::PauseJob(Default::default())),
        ("ResumeJob", Operation::ResumeJob(Default::default())),
        ("RetryJob", Operation::RetryJob(Default::default())),
        ("ReleasePermit", Operation::ReleasePermit(Default::default())),
        ("AppendSegments", Operation::AppendSegments(Default::default())),
    ]
}

#[tokio::test]
async fn each_kind_of_operation_in_a_commit_needs_the_role_of_its_rpc() {
    let scene = Scene::start().await;
    let files = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("descriptors").file;
    let messages = files.iter().flat_map(|file| &file.message_type);
    let known = messages.filter(|message| message.name() == "CommitOperation").map(|message| message.field.len());
    assert_eq!(known.sum::<usize>(), operations_of_commits().len(), "an operation is not tried here");
    let mut denied = 0;
    for (letter, role) in ROLES.into_iter().filter(|(_, role)| !matches!(role, Role::Read)) {
        let key = scene.key(&[role], &["*"]).await;
        for (rpc, operation) in operations_of_commits() {
            let operations = vec![CommitOperation { operation: Some(operation) }];
            let request = proto::CommitRequest { operations, ..Default::default() };
            let answer = scene.server.api.transactions().commit(keyed(&key, request)).await;
            let reason = Outcome::of(&answer.expect_err("nothing is filled in")).reason;
            let is_denied = !permitted(rpc).contains(letter);
            assert_eq!(reason == "ROLE_DENIED", is_denied, "{rpc} in a commit by {role:?}: {reason}");
            denied += usize::from(is_denied);
        }
    }
    assert!(denied > 10, "{denied}");
}
