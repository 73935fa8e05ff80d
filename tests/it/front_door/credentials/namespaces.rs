//! A key sees the namespaces that it covers, and nothing tells it of others.

use interlock::proto::{self, Role};
use tonic::Code;

use super::scene::*;
use crate::harness::*;

async fn create(scene: &Scene, names: &[&str]) {
    for name in names {
        let request = proto::CreateNamespaceRequest { name: (*name).to_owned(), ..Default::default() };
        ok(scene.open.api.admin().create_namespace(request).await);
    }
}

/// All namespaces that a key can list, in pages of two.
async fn listed(scene: &Scene, key: &Key) -> Vec<String> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListNamespacesRequest { page_size: 2, page_token };
        let page = ok(scene.server.api.admin().list_namespaces(keyed(key, request)).await);
        names.extend(page.namespaces.into_iter().map(|namespace| namespace.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test]
async fn lists_show_the_namespaces_that_the_key_covers() {
    let scene = Scene::start().await;
    create(&scene, &["team-a", "team-b", "team-c", "other", "team", "zoo"]).await;
    for (patterns, expected) in [
        (&["*"][..], &["default", "other", "team", "team-a", "team-b", "team-c", "zoo"][..]),
        (&["team-*"], &["team-a", "team-b", "team-c"]),
        (&["team", "z*", "absent"], &["team", "zoo"]),
        (&["absent"], &[]),
    ] {
        let key = scene.key(&[Role::Read], patterns).await;
        assert_eq!(listed(&scene, &key).await, expected, "{patterns:?}");
    }
}

#[tokio::test]
async fn a_key_reads_and_writes_only_where_it_is_valid() {
    let scene = Scene::start().await;
    create(&scene, &["team-a", "other"]).await;
    let key = scene.key(&[Role::Submit], &["team-*"]).await;
    let submit = async |namespace: &str| {
        let request = new_job("film", vec![new_stage("s")]);
        scene.server.api.jobs().submit_job(keyed_within(&key, namespace, request)).await
    };
    ok(submit("team-a").await);
    for namespace in ["other", "default", "absent"] {
        let refused = refused(submit(namespace).await, Code::NotFound, "NAMESPACE_NOT_FOUND");
        assert_eq!(refused.metadata["namespace"], namespace);
    }
    // One that is covered and not there is refused in the same words.
    refused(submit("team-b").await, Code::NotFound, "NAMESPACE_NOT_FOUND");
    let get = proto::GetJobRequest { job_id: "film".to_owned(), ..Default::default() };
    refused(scene.open.api.jobs().get_job(within("other", get)).await, Code::NotFound, "JOB_NOT_FOUND");
}

#[tokio::test]
async fn tokens_of_another_namespace_are_refused() {
    let scene = Scene::start().await;
    create(&scene, &["theirs", "mine"]).await;
    let (open, api) = (&scene.open.api, &scene.server.api);
    let request = new_job("film", vec![new_stage("s")]);
    ok(open.jobs().submit_job(within("theirs", request)).await);
    let poll = proto::LeaseStagesRequest { worker_id: "w".to_owned(), wait: seconds(10), ..Default::default() };
    let lease = ok(open.workers().lease_stages(within("theirs", poll)).await).leases.remove(0);
    let acquired = ok(open.permits().acquire_permit(within("theirs", acquire_request(vec![claim("lock")]))).await);
    let Some(proto::acquire_permit_response::Result::Permit(permit)) = acquired.result else { panic!("a permit") };

    let key = scene.key(&[Role::Work], &["mine"]).await;
    let done = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    let stolen = api.workers().complete_stage(keyed_within(&key, "mine", done)).await;
    refused(stolen, Code::FailedPrecondition, "LEASE_LOST");
    let renewal = proto::LeaseRenewal { lease_token: lease.lease_token.clone(), ..Default::default() };
    let renewals = proto::HeartbeatRequest { renewals: vec![renewal] };
    let statuses = ok(api.workers().heartbeat(keyed_within(&key, "mine", renewals)).await).statuses;
    assert_eq!(statuses[0].directive(), proto::LeaseDirective::Lost, "{statuses:?}");
    let release = api.permits().release_permit(keyed_within(&key, "mine", release_of(&permit))).await;
    refused(release, Code::FailedPrecondition, "PERMIT_LOST");
    // Their holders still have both.
    let done = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    ok(open.workers().complete_stage(within("theirs", done)).await);
    assert!(ok(open.permits().release_permit(within("theirs", release_of(&permit))).await).applied);
}

#[tokio::test]
async fn an_administrator_of_some_namespaces_creates_and_deletes_those_alone() {
    let scene = Scene::start().await;
    create(&scene, &["other"]).await;
    let key = scene.key(&[Role::Admin], &["team-*"]).await;
    let creation = |name: &str| {
        let request = proto::CreateNamespaceRequest { name: name.to_owned(), ..Default::default() };
        keyed(&key, request)
    };
    let deletion = |name: &str| {
        let request = proto::DeleteNamespaceRequest { name: name.to_owned(), ..Default::default() };
        keyed(&key, request)
    };
    let mut admin = scene.server.api.admin();
    ok(admin.create_namespace(creation("team-a")).await);
    // The same for one that exists and one that does not.
    for name in ["other", "new"] {
        let denied = refused(admin.create_namespace(creation(name)).await, Code::PermissionDenied, "ROLE_DENIED");
        assert_eq!(denied.metadata["principal"], format!("key:{}", key.id));
        refused(admin.delete_namespace(deletion(name)).await, Code::NotFound, "NAMESPACE_NOT_FOUND");
    }
    ok(admin.delete_namespace(deletion("team-a")).await);
    // Nor does it give itself the others.
    let request = proto::CreateKeyRequest {
        label: "more".to_owned(),
        roles: vec![Role::Admin as i32],
        namespaces: texts(&["*"]),
        ..Default::default()
    };
    refused(admin.create_key(keyed(&key, request)).await, Code::PermissionDenied, "ROLE_DENIED");
    let all = scene.key(&[Role::Read], &["*"]).await;
    assert_eq!(listed(&scene, &all).await, ["default", "other"]);
}
