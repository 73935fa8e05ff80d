//! Field updates: one call each and in batches, beside a transaction per request and beside the simplest UPDATE in SQL.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use prost::Message;
use tonic::Status;

use super::address::KeyedChannel;
use super::compare::{Runs, Scene};
use super::encoded::{EncodedRequest, call};
use super::load::{Sample, channels, closed_loop};
use super::raw;
use super::report::Row;
use crate::proto;
use crate::proto::field_operation::Operation;
use crate::proto::record_service_client::RecordServiceClient;

/// Number of fields of a record.
const FIELDS: u64 = 13;
/// Number of records of the workload with many records.
const MANY: u64 = 2_000;
/// Number of records of a batch.
const BATCH: u64 = 100;

/// Runs UpdateRecord on many records and on one, then batches of a hundred.
pub async fn records(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let (many, hot) = (format!("{}.many", scene.name), format!("{}.hot", scene.name));
    for (name, collection, count) in [("records, many", &many, MANY), ("records, one hot", &hot, 1)] {
        prepare(scene, collection, count).await?;
        scene.settle().await?;
        for in_flight in scene.settings.in_flight(&[1, 64, 256]) {
            let before = changes(scene, collection).await?;
            let sides = scene.sides(in_flight).await?;
            let (pairs, applied) = scene.compare(&sides, in_flight, update_call(collection, count)).await?;
            check(scene, collection, before, applied).await?;
            rows.extend(scene.summary(name, in_flight, &pairs));
        }
    }
    let Some(url) = &scene.settings.database_url else { return Ok(rows) };
    raw::prepare_records(url, MANY, FIELDS).await?;
    scene.settle().await?;
    for (name, batch, in_flight) in
        [("records, beside SQL", 1, 64), ("batches of 100", BATCH, 8), ("batches of 100", BATCH, 32)]
    {
        rows.extend(beside_sql(scene, url, &many, name, batch, in_flight).await?);
    }
    Ok(rows)
}

/// Runs our server and raw SQL in alternation; the calls in flight equal the connections of raw SQL.
async fn beside_sql(
    scene: &Scene<'_>,
    url: &str,
    collection: &str,
    name: &str,
    batch: u64,
    in_flight: usize,
) -> anyhow::Result<Vec<Row>> {
    let (before, mut applied, mut pairs) = (changes(scene, collection).await?, 0, Vec::<Runs>::new());
    let server = &scene.pair.ours;
    let channels = channels(&server.address, in_flight).await?;
    for i in 0..=scene.settings.pairs {
        // The first pair warms up: it counts for what is stored, not for the rates.
        let run = if i == 0 { scene.settings.run.min(Duration::from_millis(500)) } else { scene.settings.run };
        let ours = async {
            let sample = match batch {
                1 => closed_loop(&channels, in_flight, run, update_call(collection, MANY)).await?,
                _ => closed_loop(&channels, in_flight, run, batch_call(collection, batch)).await?,
            };
            // A batch counts as its number of fields.
            anyhow::Ok(Sample { calls: sample.calls * batch, applied: sample.applied * batch, ..sample })
        };
        let ours = scene.costed(server, ours).await?;
        let sql = raw::update_records(url, in_flight, MANY, batch, run, |n| field_name(n % FIELDS));
        let sql = scene.costed(server, sql).await?;
        applied += i64::try_from(ours.sample.applied)?;
        if i > 0 {
            pairs.push((ours, Some(sql)));
        }
    }
    check(scene, collection, before, applied).await?;
    let mut rows = scene.summary(name, in_flight, &pairs);
    let variant = if batch == 1 { "raw UPDATE" } else { "raw unnest" };
    for theirs in rows.iter_mut().skip(1) {
        (theirs.variant, theirs.server_cpu_us, theirs.memory_bytes) = (variant.to_owned(), 0.0, 0);
    }
    Ok(rows)
}

/// Number of changes of the records of a collection. None: the database is not known.
async fn changes(scene: &Scene<'_>, collection: &str) -> anyhow::Result<Option<i64>> {
    match &scene.database {
        Some(database) => database.record_changes(collection).await.map(Some),
        None => Ok(None),
    }
}

/// Checks that each acknowledged change is a stored version.
async fn check(scene: &Scene<'_>, collection: &str, before: Option<i64>, applied: i64) -> anyhow::Result<()> {
    let (Some(before), Some(after)) = (before, changes(scene, collection).await?) else { return Ok(()) };
    let stored = after - before;
    anyhow::ensure!(stored == applied, "{applied} updates were acknowledged, {stored} are stored");
    Ok(())
}

fn increment(collection: &str, record: u64, field: u64) -> proto::UpdateRecordRequest {
    let operation = proto::FieldOperation {
        field: field_name(field),
        operation: Some(Operation::Increment(1.0)),
        ..Default::default()
    };
    proto::UpdateRecordRequest {
        collection: collection.to_owned(),
        record_id: format!("r{record}"),
        operations: vec![operation],
        omit_fields: true,
        ..Default::default()
    }
}

fn field_name(field: u64) -> String {
    format!("platform_{field}")
}

fn update_call(
    collection: &str,
    count: u64,
) -> impl Fn(KeyedChannel, u64) -> BoxFuture<'static, Result<bool, Status>> + Clone + Send + Sync + 'static {
    // Spread, so that consecutive calls do not touch neighbouring rows.
    let requests = Requests::of(count * FIELDS, |n| increment(collection, (n * 7_919) % count, n % FIELDS));
    move |channel: KeyedChannel, n: u64| {
        let request = requests.at(n);
        Box::pin(async move {
            let reply: proto::UpdateRecordResponse =
                call(channel, "/interlock.v1.RecordService/UpdateRecord", request).await?;
            Ok(reply.applied)
        })
    }
}

fn batch_call(
    collection: &str,
    batch: u64,
) -> impl Fn(KeyedChannel, u64) -> BoxFuture<'static, Result<bool, Status>> + Clone + Send + Sync + 'static {
    let requests = Requests::of(MANY / batch * FIELDS, |n| {
        let one = |i| increment(collection, ((n * batch + i) * 7_919) % MANY, n % FIELDS);
        proto::BatchUpdateRecordsRequest { updates: (0..batch).map(one).collect(), ..Default::default() }
    });
    move |channel: KeyedChannel, n: u64| {
        let request = requests.at(n);
        Box::pin(async move {
            let reply: Outcomes = call(channel, "/interlock.v1.RecordService/BatchUpdateRecords", request).await?;
            Ok(reply.results.len() as u64 == batch && reply.results.iter().all(|result| result.applied))
        })
    }
}

/// The fields that are read of the response to a batch; its records are skipped, since raw SQL returns none.
#[derive(Clone, PartialEq, Message)]
struct Outcomes {
    #[prost(message, repeated, tag = "1")]
    results: Vec<Outcome>,
}

#[derive(Clone, PartialEq, Message)]
struct Outcome {
    #[prost(bool, tag = "2")]
    applied: bool,
}

/// Requests by number, from 0; after the last one they repeat.
#[derive(Clone)]
struct Requests(Arc<[EncodedRequest]>);

impl Requests {
    fn of<M: Message>(count: u64, request: impl Fn(u64) -> M) -> Self {
        Self((0..count).map(|n| EncodedRequest::of(&request(n))).collect())
    }

    fn at(&self, n: u64) -> EncodedRequest {
        self.0[(n % self.0.len() as u64) as usize].clone()
    }
}

/// Creates records with all their fields.
async fn prepare(scene: &Scene<'_>, collection: &str, count: u64) -> anyhow::Result<()> {
    let mut client = RecordServiceClient::new(channels(&scene.pair.ours.address, 1).await?.remove(0));
    let fields: Vec<proto::FieldOperation> = (0..FIELDS)
        .map(|field| proto::FieldOperation {
            field: field_name(field),
            operation: Some(Operation::Increment(1_000_000.0)),
            ..Default::default()
        })
        .collect();
    let new = |record| proto::UpdateRecordRequest {
        operations: fields.clone(),
        allow_missing: true,
        ..increment(collection, record, 0)
    };
    let all: Vec<proto::UpdateRecordRequest> = (0..count).map(new).collect();
    for updates in all.chunks(500) {
        let request = proto::BatchUpdateRecordsRequest { updates: updates.to_vec(), ..Default::default() };
        client.batch_update_records(request).await?;
    }
    Ok(())
}
