//! The rpcs that change records. Responses are made of the decision; only a replay reads the store.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use tonic::{Code, Status};
use tonic_types::pb;

use super::caller::Caller;
use super::convert::digest::identity;
use super::convert::path::Path;
use super::convert::record as convert;
use super::limits;
use super::page::Budget;
use crate::domain::record::{Record, RecordKey};
use crate::domain::request::{RequestIdentity, RequestRecord};
use crate::error::{Error, Result, after_commit};
use crate::operation::RecordOutcome;
use crate::operation::delete_record::DeleteRecord;
use crate::operation::return_current::{ReturnCurrent, Shown};
use crate::operation::update_records::{RecordUpdate, UpdateRecords};
use crate::proto;

/// The result of one update.
struct Written {
    /// `None`: a replay, and the record was deleted since.
    record: Option<Arc<Record>>,
    applied_version: i64,
    applied: bool,
    replayed: bool,
}

impl Written {
    fn of(outcome: &RecordOutcome) -> Self {
        let (record, applied) = (Some(outcome.record.clone()), outcome.applied);
        Self { record, applied, applied_version: outcome.applied_version(), replayed: false }
    }

    /// The record as a message, with its fields if they are wanted and fit into the budget.
    fn to_proto(&self, omit_fields: bool, budget: &mut Budget) -> Result<Option<proto::Record>> {
        let Some(record) = &self.record else { return Ok(None) };
        if omit_fields {
            return Ok(Some(convert::without_fields(record)));
        }
        fitting(record, budget).map(Some)
    }
}

/// A record as a message, without its fields if they do not fit into the budget.
pub(super) fn fitting(record: &Record, budget: &mut Budget) -> Result<proto::Record> {
    let message = convert::record(record)?;
    Ok(if budget.takes(&message) { message } else { convert::without_fields(record) })
}

pub async fn update_record(
    caller: Caller,
    mut request: proto::UpdateRecordRequest,
) -> Result<proto::UpdateRecordResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let update = convert::update(caller.namespace, &request, &Path::Root)?;
    let written = apply(&caller, update, identity, request.return_current).await?;
    let record = written.to_proto(request.omit_fields, &mut Budget::new(limits::REPLY_BYTES))?;
    let Written { applied, replayed, applied_version, .. } = written;
    Ok(proto::UpdateRecordResponse { record, applied, replayed, applied_version })
}

async fn apply(
    caller: &Caller,
    update: RecordUpdate,
    identity: Option<RequestIdentity>,
    return_current: bool,
) -> Result<Written> {
    let key = update.key.clone();
    let shown = return_current.then(|| Shown::Record(key.clone()));
    let operation = UpdateRecords { updates: vec![update], list: None, request: identity };
    let reply = caller.execute_showing(operation, shown).await?;
    if let Some(record) = &reply.replayed {
        let now = caller.services.store.records(std::slice::from_ref(&key)).await.map_err(after_commit)?;
        let applied_version = if record.applied { record.revision } else { 0 };
        let (record, applied) = (now.get(&key).cloned(), record.applied);
        return Ok(Written { record, applied_version, applied, replayed: true });
    }
    match &*reply.records {
        [outcome] => Ok(Written::of(outcome)),
        _ => Err(Error::bug("an update of a record without its outcome")),
    }
}

pub async fn batch_update_records(
    caller: Caller,
    mut request: proto::BatchUpdateRecordsRequest,
) -> Result<proto::BatchUpdateRecordsResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let updates = convert::updates(caller.namespace, &request.updates)?;
    let shown = updates.iter().zip(&request.updates);
    let shown = shown.map(|(update, asked)| asked.return_current.then(|| Shown::Record(update.key.clone())));
    let shown: Vec<Option<Shown>> = shown.collect();
    let operation = UpdateRecords { updates, list: Some("updates"), request: identity };
    let reply = match shown.iter().any(Option::is_some) {
        true => caller.execute(ReturnCurrent { operation: Box::new(operation), shown }).await?,
        false => caller.execute(operation).await?,
    };
    let written = match &reply.replayed {
        Some(record) => {
            let updates = convert::updates(caller.namespace, &request.updates)?;
            let keys: Vec<RecordKey> = updates.into_iter().map(|update| update.key).collect();
            written_before(&caller, &keys, record).await?
        }
        None => reply.records.iter().map(Written::of).collect(),
    };
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let mut results = Vec::with_capacity(written.len());
    for (written, request) in written.iter().zip(&request.updates) {
        let record = written.to_proto(request.omit_fields, &mut budget)?;
        let (applied, applied_version) = (written.applied, written.applied_version);
        results.push(proto::RecordUpdateResult { record, applied, applied_version });
    }
    Ok(proto::BatchUpdateRecordsResponse { results, replayed: reply.replayed.is_some() })
}

/// The results of a repeated batch, with the records as they are now.
async fn written_before(caller: &Caller, keys: &[RecordKey], record: &RequestRecord) -> Result<Vec<Written>> {
    let now = caller.services.store.records(keys).await.map_err(after_commit)?;
    let only = if record.applied { record.revision } else { 0 };
    let written = keys.iter().enumerate().map(|(i, key)| {
        let applied_version = record.versions.get(i).copied().unwrap_or(only);
        let record = now.get(key).cloned();
        Written { record, applied_version, applied: applied_version > 0, replayed: true }
    });
    Ok(written.collect())
}

/// Answers BatchWriteRecords. Updates of different records run concurrently, so that they join one group; those of one record run
/// in order.
pub async fn batch_write_records(
    caller: Caller,
    request: proto::BatchWriteRecordsRequest,
) -> Result<proto::BatchWriteRecordsResponse> {
    let root = Path::Root;
    let list = root.field("updates");
    convert::bounded(request.updates.len(), limits::RECORDS_PER_BATCH, "updates", &list)?;
    convert::few_operations(&request.updates, &list)?;
    let omits: Vec<bool> = request.updates.iter().map(|update| update.omit_fields).collect();
    let mut queues: HashMap<(String, String), Vec<(usize, proto::UpdateRecordRequest)>> = HashMap::new();
    for (i, update) in request.updates.into_iter().enumerate() {
        queues.entry((update.collection.clone(), update.record_id.clone())).or_default().push((i, update));
    }
    let one_after_the_other = async |queue: Vec<(usize, proto::UpdateRecordRequest)>| {
        let mut done = Vec::with_capacity(queue.len());
        for (i, update) in queue {
            done.push((i, write_one(&caller, update).await));
        }
        done
    };
    let done = join_all(queues.into_values().map(one_after_the_other)).await;
    let mut done: Vec<(usize, Result<Written>)> = done.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(i, _)| *i);
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let results = done.into_iter().map(|(i, written)| result(written, omits[i], &mut budget));
    Ok(proto::BatchWriteRecordsResponse { results: results.collect::<Result<_>>()? })
}

async fn write_one(caller: &Caller, mut update: proto::UpdateRecordRequest) -> Result<Written> {
    let identity = identity(caller.namespace, &mut update)?;
    apply(caller, convert::update(caller.namespace, &update, &Path::Root)?, identity, update.return_current).await
}

fn result(written: Result<Written>, omit_fields: bool, budget: &mut Budget) -> Result<proto::RecordWriteResult> {
    match written {
        Ok(written) => Ok(proto::RecordWriteResult {
            status: Some(pb::Status { code: Code::Ok as i32, ..Default::default() }),
            record: written.to_proto(omit_fields, budget)?,
            applied: written.applied,
            replayed: written.replayed,
            applied_version: written.applied_version,
        }),
        Err(error) => {
            let status = Some(in_a_message(&Status::from(error)));
            Ok(proto::RecordWriteResult { status, ..Default::default() })
        }
    }
}

/// A status as a message; its details are the encoded form of one already.
pub(super) fn in_a_message(status: &Status) -> pb::Status {
    let decoded: std::result::Result<pb::Status, _> = prost::Message::decode(status.details());
    decoded.unwrap_or_else(|_| pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

pub async fn delete_record(
    caller: Caller,
    mut request: proto::DeleteRecordRequest,
) -> Result<proto::DeleteRecordResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let key = convert::key(caller.namespace, &request.collection, &request.record_id, &Path::Root)?;
    let expected_version = request.expected_version;
    let shown = request.return_current.then(|| Shown::Record(key.clone()));
    let reply = caller.execute_showing(DeleteRecord { key, expected_version, request: identity }, shown).await?;
    let applied_version = reply.replayed.as_ref().map_or_else(|| reply.revision(), |record| record.revision);
    Ok(proto::DeleteRecordResponse { replayed: reply.replayed.is_some(), applied_version })
}
