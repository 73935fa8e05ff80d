//! Permits: pairs of acquire and release, beside a row-lock transaction per call and beside session advisory locks.

use std::time::Duration;

use anyhow::Context;
use futures::future::BoxFuture;
use tonic::{Code, Status};

use super::address::KeyedChannel;
use super::baseline::PERMIT_TABLES;
use super::compare::{ComparedSide, Runs, Scene};
use super::load::{channels, closed_loop};
use super::raw;
use super::report::Row;
use crate::proto;
use crate::proto::acquire_permit_response::Result as Outcome;
use crate::proto::permit_service_client::PermitServiceClient;
use crate::store::connection::{Run as _, Target};

/// Number of locks of the workload with many locks.
const MANY: u64 = 10_000;
/// Number of callers that compete for one lock.
const CONTENDERS: usize = 64;
/// Capacity of limits: more than any workload has in flight.
const CAPACITY: i64 = 1_000;

/// Runs one lock without and with contention, one limit, one rate, and ten thousand locks.
pub async fn permits(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let url = scene.settings.database_url.as_deref();
    if let Some(url) = url {
        prepare(scene, url).await?;
    }
    set_policies(scene).await?;
    let mut rows = Vec::new();
    let name = |kind: &str| format!("{}.{kind}", scene.name);
    let in_flight = scene.settings.in_flight(&[256])[0];
    for (workload, resource, many, in_flight) in [
        ("one lock, alone", name("lock"), 1, 1),
        ("one limit", name("limit"), 1, in_flight),
        ("one rate", name("rate"), 1, in_flight),
        ("10,000 locks", name("locks"), MANY, in_flight),
    ] {
        let sides = scene.sides(in_flight).await?;
        let (pairs, _) = scene.compare(&sides, in_flight, pair(resource, many, Duration::ZERO)).await?;
        rows.extend(scene.summary(workload, in_flight, &pairs));
        scene.settle().await?;
    }
    if let Some(url) = url {
        rows.extend(beside_advisory(scene, url, "one lock, alone", &name("lock"), 1).await?);
        rows.extend(beside_advisory(scene, url, "one lock, fought for", &name("fought"), CONTENDERS).await?);
    }
    Ok(rows)
}

/// Creates and fills the table of the baseline.
async fn prepare(scene: &Scene<'_>, url: &str) -> anyhow::Result<()> {
    let client = Target::parse(url)?.connect(PERMIT_TABLES).await?;
    let of = |kind: &str| format!("{}.{kind}", scene.name);
    let mut names = vec![of("lock"), of("limit"), of("rate")];
    names.extend((0..MANY).map(|i| format!("{}{i}", of("locks"))));
    let capacities: Vec<i64> = (0..names.len()).map(|i| if i == 1 || i == 2 { CAPACITY } else { 1 }).collect();
    let insert = "INSERT INTO raw_limits (name, capacity) SELECT * FROM unnest($1::text[], $2::int8[])";
    client.rows(insert, &[&names, &capacities]).await?;
    Ok(())
}

async fn set_policies(scene: &Scene<'_>) -> anyhow::Result<()> {
    let mut client = PermitServiceClient::new(channels(&scene.pair.ours.address, 1).await?.remove(0));
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let rate = proto::RateLimit { tokens: 1_000_000, period: second, burst: 1_000_000 };
    let limit = proto::ResourcePolicy { capacity: Some(CAPACITY), ..Default::default() };
    for (kind, policy) in [("limit", limit.clone()), ("rate", proto::ResourcePolicy { rates: vec![rate], ..limit })] {
        let name = format!("{}.{kind}", scene.name);
        let update = proto::UpdateResourceRequest { name, policy: Some(policy), ..Default::default() };
        client.update_resource(update).await?;
    }
    Ok(())
}

/// Acquires and releases. With many locks, each is used by one call at a time if fewer calls than locks are in flight.
fn pair(
    resource: String,
    many: u64,
    wait: Duration,
) -> impl Fn(KeyedChannel, u64) -> BoxFuture<'static, Result<bool, Status>> + Clone + Send + Sync + 'static {
    move |channel: KeyedChannel, n: u64| {
        let resource = if many == 1 { resource.clone() } else { format!("{resource}{}", n % many) };
        Box::pin(async move {
            let mut client = PermitServiceClient::new(channel);
            let request = proto::AcquirePermitRequest {
                claims: vec![proto::PermitClaim { resource, ..Default::default() }],
                holder: "bench".to_owned(),
                wait: prost_types::Duration::try_from(wait).ok(),
                ..Default::default()
            };
            let reply = client.acquire_permit(request).await?.into_inner();
            let Some(Outcome::Permit(permit)) = reply.result else {
                return Err(Status::new(Code::Internal, "a permit that should have been free was denied"));
            };
            let permit_token = permit.permit_token;
            let release = proto::ReleasePermitRequest { permit_token, ..Default::default() };
            client.release_permit(release).await.map(|reply| reply.into_inner().applied)
        })
    }
}

/// Runs our server and session advisory locks in alternation, and prints the fairness of the waits: the ratio of the
/// longest to the mean.
async fn beside_advisory(
    scene: &Scene<'_>,
    url: &str,
    workload: &str,
    resource: &str,
    in_flight: usize,
) -> anyhow::Result<Vec<Row>> {
    let mut pairs = Vec::<Runs>::new();
    let ours = ComparedSide::of(&scene.pair.ours, in_flight).await?;
    let mut fairness = Vec::new();
    for i in 0..=scene.settings.pairs {
        let run = if i == 0 { scene.settings.run.min(Duration::from_millis(500)) } else { scene.settings.run };
        let call = pair(resource.to_owned(), 1, Duration::from_secs(60));
        let a = scene.costed(ours.server, closed_loop(&ours.channels, in_flight, run, call)).await?;
        let b = scene.costed(ours.server, raw::advisory_locks(url, in_flight, run)).await?;
        if i > 0 {
            fairness.push((unfairness(&a.sample.latencies), unfairness(&b.sample.latencies)));
            pairs.push((a, Some(b)));
        }
    }
    fairness.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (a, b) = fairness.get(fairness.len() / 2).copied().context("no run")?;
    let mut rows = scene.summary(workload, in_flight, &pairs);
    rows[0].unfairness = Some(a);
    for theirs in rows.iter_mut().skip(1) {
        (theirs.variant, theirs.server_cpu_us, theirs.memory_bytes) = ("advisory".to_owned(), 0.0, 0);
        theirs.unfairness = Some(b);
    }
    Ok(rows)
}

/// Ratio of the longest wait to the mean.
fn unfairness(latencies: &[u32]) -> f64 {
    let mean = latencies.iter().map(|us| f64::from(*us)).sum::<f64>() / latencies.len().max(1) as f64;
    latencies.last().map_or(0.0, |longest| f64::from(*longest)) / mean.max(1.0)
}
