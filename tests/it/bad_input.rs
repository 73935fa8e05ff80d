//! Bad input: each the right status, reason and field, nothing changed, and never INTERNAL.

mod every_field;
mod garbled;
mod namespaces;
mod new_jobs;
mod permits;
pub mod raw;
mod records;
mod required;
mod steering;
mod work;

use interlock::proto;
use serde_json::json;

use crate::harness::*;

/// A server with something in it: jobs in different states, records, and a picture of them to compare with.
pub struct Scene {
    _server: Server,
    pub api: Api,
    /// Holds stage `voice` of job `film`; `render` waits for it, and `review` is ready and direct.
    pub lease: proto::Lease,
    /// Holds the lock `lock`; `limit` has a policy.
    pub permit: proto::Permit,
    before: Picture,
}

/// All that the public interface shows.
#[derive(Debug, PartialEq)]
struct Picture {
    jobs: Vec<proto::Job>,
    records: Vec<proto::Record>,
    resources: Vec<proto::Resource>,
    sessions: Vec<proto::Session>,
    namespaces: Vec<proto::Namespace>,
}

impl Scene {
    /// Sets it up: `film` runs, `done` has succeeded, and the namespace `other` has a job `theirs`.
    pub async fn set() -> Scene {
        let server = Server::start().await;
        let api = server.api.clone();
        let review = proto::StageSpec { direct: true, ..new_stage("review") };
        api.submit(new_job("film", vec![new_stage("voice"), new_stage_after("render", &["voice"]), review])).await;
        let lease = api.lease("default").await;
        api.submit(new_job("done", vec![new_stage("only")])).await;
        let only = api.lease("default").await;
        api.complete(&only, json!({ "made": 1 })).await;
        let name = "other".to_owned();
        let create = proto::CreateNamespaceRequest { name, ..Default::default() };
        ok(api.admin().create_namespace(create).await);
        ok(api.jobs().submit_job(within("other", new_job("theirs", vec![new_stage("s")]))).await);
        api.update_record("one", vec![set("n", json!(1)), set("l", json!([1])), set("m", json!({}))]).await;
        ok(api.records().update_record(within("other", update("theirs", vec![increment("n", 1.0)]))).await);
        api.append_segments(vec![segment("said")]).await;
        let permit = api.acquire("lock").await;
        api.set_policy("limit", capacity(3)).await;
        ok(api.permits().acquire_permit(within("other", acquire_request(vec![claim("lock")]))).await);
        let before = picture(&api).await;
        Scene { _server: server, api, lease, permit, before }
    }

    /// That nothing at all has changed.
    pub async fn is_unchanged(&self) {
        assert_eq!(picture(&self.api).await, self.before);
    }

    /// Submits each request, which has to be refused for the field beside it; then that nothing has changed.
    pub async fn refuses<Q, A: std::fmt::Debug>(
        &self,
        rows: Vec<(Q, &str)>,
        call: impl AsyncFn(Q) -> Result<tonic::Response<A>, tonic::Status>,
    ) {
        for (request, path) in rows {
            field(call(request).await, path);
        }
        self.is_unchanged().await;
    }
}

async fn picture(api: &Api) -> Picture {
    let (mut jobs, mut records, mut resources) = (Vec::new(), Vec::new(), Vec::new());
    for namespace in ["default", "other"] {
        let list = proto::ListJobsRequest { page_size: 1_000, ..Default::default() };
        for job in ok(api.jobs().list_jobs(within(namespace, list)).await).jobs {
            let get = proto::GetJobRequest { job_id: job.job_id, ..Default::default() };
            jobs.extend(ok(api.jobs().get_job(within(namespace, get)).await).job);
        }
        let list = proto::ListRecordsRequest { collection: COLLECTION.to_owned(), ..Default::default() };
        records.extend(ok(api.records().list_records(within(namespace, list)).await).records);
        let list = proto::ListResourcesRequest::default();
        resources.extend(ok(api.permits().list_resources(within(namespace, list)).await).resources);
    }
    let sessions = ok(api.timelines().list_sessions(proto::ListSessionsRequest::default()).await).sessions;
    let list = proto::ListNamespacesRequest { page_size: 1_000, ..Default::default() };
    resources.iter_mut().for_each(|resource| resource.denials.clear());
    Picture { jobs, records, resources, sessions, namespaces: ok(api.admin().list_namespaces(list).await).namespaces }
}
