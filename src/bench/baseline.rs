//! Baseline of the comparison: the same calls over the same tables, one transaction per request from a pool of 20.
//!
//! It is as good as such a server usually is: prepared statements, row locks in one order, as few round trips as the
//! decision allows (begin and lock; read; write; commit). It supports the compared calls only.

mod permits;
mod records;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use futures::future::BoxFuture;
use http::Request;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::{Response, Status};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use crate::admission::{Methods, Statistics};
use crate::config::Config;
use crate::domain::id::{JobKey, NamespaceId};
use crate::proto;
use crate::server;
use crate::store::connection::Target;
use permits::BaselinePermits;
pub use permits::TABLES as PERMIT_TABLES;

const POOL: usize = 20;

/// Serves the baseline until a signal.
///
/// # Errors
/// If the database cannot be reached or the address is in use.
pub async fn serve(
    config: &Config,
    database_url: &str,
    announce: impl FnOnce(std::net::SocketAddr),
) -> anyhow::Result<()> {
    let shutdown = server::on_signals()?;
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let target = Target::parse(database_url)?;
    let manager = Manager::from_config(target.config(), target.connector().await, manager_config);
    let pool = Pool::builder(manager).max_size(POOL).build()?;
    let routes = Routes::new(Workers(pool.clone()))
        .add_service(Records(pool.clone()))
        .add_service(BaselinePermits(pool.clone()))
        .add_service(Jobs(pool));
    let listener = TcpListener::bind(config.listen).await?;
    announce(listener.local_addr()?);
    let statistics = Arc::new(Statistics::new(Methods::from_descriptors(&[proto::FILE_DESCRIPTOR_SET])?));
    server::serve(listener, routes, server::Options::new(config, statistics), shutdown).await
}

macro_rules! service {
    ($type:ident, $name:literal, $call:ident) => {
        #[derive(Clone)]
        struct $type(Pool);

        impl NamedService for $type {
            const NAME: &'static str = $name;
        }

        impl Service<Request<Body>> for $type {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<Body>) -> Self::Future {
                let method = $call(self.0.clone());
                Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(method, request).await) })
            }
        }
    };
}

service!(Workers, "interlock.v1.WorkerService", UpdateProgress);
service!(Jobs, "interlock.v1.JobService", SubmitJob);
service!(Records, "interlock.v1.RecordService", UpdateRecord);

struct UpdateRecord(Pool);

impl UnaryService<proto::UpdateRecordRequest> for UpdateRecord {
    type Response = proto::UpdateRecordResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: tonic::Request<proto::UpdateRecordRequest>) -> Self::Future {
        let pool = self.0.clone();
        Box::pin(
            async move { records::update_record(&pool, request.into_inner()).await.map(Response::new).map_err(failed) },
        )
    }
}

struct UpdateProgress(Pool);

impl UnaryService<proto::UpdateStageProgressRequest> for UpdateProgress {
    type Response = proto::UpdateStageProgressResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: tonic::Request<proto::UpdateStageProgressRequest>) -> Self::Future {
        let pool = self.0.clone();
        Box::pin(async move { update_progress(&pool, request.into_inner()).await.map(Response::new).map_err(failed) })
    }
}

struct SubmitJob(Pool);

impl UnaryService<proto::SubmitJobRequest> for SubmitJob {
    type Response = proto::SubmitJobResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: tonic::Request<proto::SubmitJobRequest>) -> Self::Future {
        let pool = self.0.clone();
        Box::pin(async move { submit(&pool, request.into_inner()).await.map(Response::new).map_err(failed) })
    }
}

fn failed(error: anyhow::Error) -> Status {
    Status::internal(format!("{error:#}"))
}

const LOCK: &str = "SELECT revision, progress FROM jobs WHERE namespace_id = 1 AND job_uid = $1 FOR NO KEY UPDATE";
const STAGES: &str = "SELECT s.stage_no, s.version, s.progress, p.spec->>'name' = $2, s.state = 3 FROM stages s \
    JOIN stage_specs p USING (namespace_id, job_uid, stage_no) WHERE s.namespace_id = 1 AND s.job_uid = $1";
const SET_STAGE: &str = "UPDATE stages SET version = version + 1, changed_revision = $3, progress = greatest(progress, $4), \
    message = $5 WHERE namespace_id = 1 AND job_uid = $1 AND stage_no = $2";
const SET_JOB: &str =
    "UPDATE jobs SET revision = $2, progress = greatest(progress, $3) WHERE namespace_id = 1 AND job_uid = $1";

async fn update_progress(
    pool: &Pool,
    request: proto::UpdateStageProgressRequest,
) -> anyhow::Result<proto::UpdateStageProgressResponse> {
    let Some(proto::stage_target::Target::StageRef(target)) = request.target.and_then(|target| target.target) else {
        anyhow::bail!("the comparison knows stages by name only");
    };
    let uid = JobKey::of(NamespaceId(1), &target.job_id).uid;
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let job_version: i64 = transaction.query_one(&lock, &[&uid]).await?.get::<_, i64>(0) + 1;
    let stages = transaction.prepare_cached(STAGES).await?;
    let stages = transaction.query(&stages, &[&uid, &target.stage_name]).await?;
    let wanted = stages.iter().find(|row| row.get(3));
    let stage = wanted.ok_or_else(|| anyhow::anyhow!("no such stage"))?;
    anyhow::ensure!(stage.get::<_, bool>(4), "the stage is not being run");
    let (no, version): (i32, i64) = (stage.get(0), stage.get(1));
    let progress = request.progress.unwrap_or(0.0).max(stage.get(2));
    let others: f64 = stages.iter().filter(|row| row.get::<_, i32>(0) != no).map(|row| row.get::<_, f64>(2)).sum();
    let mean = (others + progress) / stages.len() as f64;
    let (set_stage, set_job) =
        (transaction.prepare_cached(SET_STAGE).await?, transaction.prepare_cached(SET_JOB).await?);
    let message = request.message.unwrap_or_default();
    let stage_params: [&(dyn postgres_types::ToSql + Sync); 5] = [&uid, &no, &job_version, &progress, &message];
    let job_params: [&(dyn postgres_types::ToSql + Sync); 3] = [&uid, &job_version, &mean];
    futures::try_join!(transaction.execute(&set_stage, &stage_params), transaction.execute(&set_job, &job_params))?;
    transaction.commit().await?;
    let stage = proto::Stage { name: target.stage_name, version: version + 1, progress, message, ..Default::default() };
    Ok(proto::UpdateStageProgressResponse {
        stage: Some(stage),
        job_version,
        applied: true,
        replayed: false,
        applied_job_version: job_version,
    })
}

const INSERTS: [&str; 5] = [
    "INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us) \
     VALUES (1, $1, $2, $3, 1, 1, 1, 0, 0, now(), 604800000000)",
    "INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, progress) \
     VALUES (1, $1, 0, 1, 1, 2, 0, 0, 0)",
    "INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on) VALUES (1, $1, 0, $2::text::json, '[]')",
    "INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at) VALUES (1, $1, 0, $2, 0, now())",
    "INSERT INTO job_events (namespace_id, job_uid, revision, event_time, run, kind, job_state) VALUES (1, $1, 1, now(), 1, 1, 1)",
];

async fn submit(pool: &Pool, request: proto::SubmitJobRequest) -> anyhow::Result<proto::SubmitJobResponse> {
    let uid = Uuid::now_v7();
    let job_id = uid.to_string();
    let stage = request.stages.into_iter().next().unwrap_or_default();
    let spec = format!(
        r#"{{"name":"{}","queue":"{}","depends_when":"ALL_SUCCEEDED","on_failure":"FAIL_JOB","weight":1.0,"direct":false}}"#,
        stage.name, stage.queue
    );
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let mut statements = Vec::with_capacity(INSERTS.len());
    for sql in INSERTS {
        statements.push(transaction.prepare_cached(sql).await?);
    }
    let with_id: [&(dyn postgres_types::ToSql + Sync); 3] = [&uid, &job_id, &request.kind];
    let with_spec: [&(dyn postgres_types::ToSql + Sync); 2] = [&uid, &spec];
    let with_queue: [&(dyn postgres_types::ToSql + Sync); 2] = [&uid, &stage.queue];
    let alone: [&(dyn postgres_types::ToSql + Sync); 1] = [&uid];
    futures::try_join!(
        transaction.execute(&statements[0], &with_id),
        transaction.execute(&statements[1], &alone),
        transaction.execute(&statements[2], &with_spec),
        transaction.execute(&statements[3], &with_queue),
        transaction.execute(&statements[4], &alone),
    )?;
    transaction.commit().await?;
    let job = proto::Job { job_id, kind: request.kind, version: 1, run: 1, ..Default::default() };
    Ok(proto::SubmitJobResponse { job: Some(job), replayed: false, applied_version: 1 })
}
