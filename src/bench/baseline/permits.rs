//! Permits of the baseline: a table of limits, with one transaction per request that locks, reads and writes a row.

use std::convert::Infallible;
use std::task::{Context, Poll};

use anyhow::Context as _;
use deadpool_postgres::Pool;
use futures::future::BoxFuture;
use http::Request;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Response, Status};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use super::failed;
use crate::proto;
use crate::proto::acquire_permit_response::Result as Outcome;

/// Tables of the baseline, created by the bench.
pub const TABLES: &str = "CREATE TABLE IF NOT EXISTS raw_limits (name text PRIMARY KEY, capacity bigint NOT NULL, \
    in_use bigint NOT NULL DEFAULT 0, fencing_token bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50); \
    CREATE TABLE IF NOT EXISTS raw_permits (permit_id uuid PRIMARY KEY, name text NOT NULL, expires_at timestamptz NOT NULL) \
    WITH (fillfactor = 50)";
const LOCK: &str = "SELECT in_use < capacity, fencing_token FROM raw_limits WHERE name = $1 FOR NO KEY UPDATE";
const TAKE: &str = "UPDATE raw_limits SET in_use = in_use + 1, fencing_token = fencing_token + 1 WHERE name = $1";
const PERMIT: &str = "INSERT INTO raw_permits VALUES ($1, $2, now() + interval '60 seconds')";
const FORGET: &str = "DELETE FROM raw_permits WHERE permit_id = $1 RETURNING name";
const GIVE: &str = "UPDATE raw_limits SET in_use = in_use - 1 WHERE name = $1";

/// AcquirePermit and ReleasePermit of the baseline.
#[derive(Clone)]
pub struct BaselinePermits(pub Pool);

impl NamedService for BaselinePermits {
    const NAME: &'static str = "interlock.v1.PermitService";
}

impl Service<Request<Body>> for BaselinePermits {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pool = self.0.clone();
        let releases = request.uri().path().ends_with("/ReleasePermit");
        Box::pin(async move {
            Ok(if releases {
                Grpc::new(ProstCodec::default()).unary(Release(pool), request).await
            } else {
                Grpc::new(ProstCodec::default()).unary(Acquire(pool), request).await
            })
        })
    }
}

struct Acquire(Pool);

impl UnaryService<proto::AcquirePermitRequest> for Acquire {
    type Response = proto::AcquirePermitResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: tonic::Request<proto::AcquirePermitRequest>) -> Self::Future {
        let pool = self.0.clone();
        Box::pin(async move { acquire(&pool, request.into_inner()).await.map(Response::new).map_err(failed) })
    }
}

struct Release(Pool);

impl UnaryService<proto::ReleasePermitRequest> for Release {
    type Response = proto::ReleasePermitResponse;
    type Future = BoxFuture<'static, Result<Response<Self::Response>, Status>>;

    fn call(&mut self, request: tonic::Request<proto::ReleasePermitRequest>) -> Self::Future {
        let pool = self.0.clone();
        Box::pin(async move { release(&pool, request.into_inner()).await.map(Response::new).map_err(failed) })
    }
}

/// Acquires a permit in one transaction: begin and lock, write, commit.
async fn acquire(pool: &Pool, request: proto::AcquirePermitRequest) -> anyhow::Result<proto::AcquirePermitResponse> {
    let name = &request.claims.first().context("nothing is claimed")?.resource;
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let row = transaction.query_one(&lock, &[name]).await?;
    let (has_room, fencing_token): (bool, i64) = (row.get(0), row.get(1));
    if !has_room {
        return Ok(proto::AcquirePermitResponse {
            result: Some(Outcome::Denial(proto::PermitDenial::default())),
            ..Default::default()
        });
    }
    let id = Uuid::new_v4();
    let (take, permit) = (transaction.prepare_cached(TAKE).await?, transaction.prepare_cached(PERMIT).await?);
    let (of_permit, of_name): ([&(dyn postgres_types::ToSql + Sync); 2], [&(dyn postgres_types::ToSql + Sync); 1]) =
        ([&id, name], [name]);
    futures::try_join!(transaction.execute(&take, &of_name), transaction.execute(&permit, &of_permit))?;
    transaction.commit().await?;
    let grant = proto::PermitGrant { resource: name.clone(), fencing_token: fencing_token + 1 };
    let permit = proto::Permit { permit_token: id.to_string(), grants: vec![grant], ..Default::default() };
    Ok(proto::AcquirePermitResponse { result: Some(Outcome::Permit(permit)), ..Default::default() })
}

async fn release(pool: &Pool, request: proto::ReleasePermitRequest) -> anyhow::Result<proto::ReleasePermitResponse> {
    let id = Uuid::parse_str(&request.permit_token)?;
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let (forget, give) = (transaction.prepare_cached(FORGET).await?, transaction.prepare_cached(GIVE).await?);
    let name: String = transaction.query_one(&forget, &[&id]).await?.get(0);
    transaction.execute(&give, &[&name]).await?;
    transaction.commit().await?;
    Ok(proto::ReleasePermitResponse { applied: true, replayed: false })
}
