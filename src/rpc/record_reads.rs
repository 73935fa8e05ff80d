//! The rpcs that read records.

use std::collections::HashSet;

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::record as convert;
use super::limits;
use super::list;
use super::page::Budget;
use super::record_writes::fitting;
use crate::domain::record::{Record, RecordKey};
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::proto;
use crate::store::record::collections::CollectionState;

pub async fn get_record(caller: Caller, request: proto::GetRecordRequest) -> Result<proto::GetRecordResponse> {
    let key = convert::key(caller.namespace, &request.collection, &request.record_id, &Path::Root)?;
    let found = caller.services.store.records(std::slice::from_ref(&key)).await?;
    let record = found
        .get(&key)
        .ok_or(Refusal::RecordNotFound { collection: request.collection, record_id: request.record_id })?;
    Ok(proto::GetRecordResponse { record: Some(convert::record(record)?) })
}

pub async fn batch_get_records(
    caller: Caller,
    request: proto::BatchGetRecordsRequest,
) -> Result<proto::BatchGetRecordsResponse> {
    let root = Path::Root;
    let list = root.field("records");
    convert::bounded(request.records.len(), limits::RECORDS_PER_BATCH, "records", &list)?;
    let mut keys = Vec::with_capacity(request.records.len());
    for (i, named) in request.records.iter().enumerate() {
        keys.push(convert::key(caller.namespace, &named.collection, &named.record_id, &list.index(i))?);
    }
    let each_once: Vec<RecordKey> = keys.iter().cloned().collect::<HashSet<_>>().into_iter().collect();
    let found = caller.services.store.records(&each_once).await?;
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let mut response = proto::BatchGetRecordsResponse::default();
    for (key, named) in keys.iter().zip(request.records) {
        match found.get(key) {
            Some(record) => response.records.push(fitting(record, &mut budget)?),
            None => response.missing.push(named),
        }
    }
    Ok(response)
}

pub async fn list_records(caller: Caller, request: proto::ListRecordsRequest) -> Result<proto::ListRecordsResponse> {
    let (query, binding) = list::records(caller.namespace, &request)?;
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let mut response = proto::ListRecordsResponse::default();
    let take = |record: Record| {
        let message = convert::record(&record)?;
        let fits = budget.takes(&message);
        if fits {
            response.records.push(message);
        }
        Ok(fits)
    };
    if let Some(next) = caller.services.store.list_records(&query, take).await? {
        response.next_page_token = binding.token(&next)?;
    }
    Ok(response)
}

pub async fn list_collections(
    caller: Caller,
    request: proto::ListCollectionsRequest,
) -> Result<proto::ListCollectionsResponse> {
    let (query, binding) = list::by_name("ListCollections", caller.namespace, &request.page_token, request.page_size)?;
    let page = caller.services.store.list_collections(caller.namespace, &query.after, query.limit).await?;
    let next_page_token = page.next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default();
    let collection = |collection: &CollectionState| proto::Collection {
        name: collection.name.to_string(),
        record_count: collection.records.count,
        record_count_capped: collection.records.is_capped,
    };
    Ok(proto::ListCollectionsResponse {
        collections: page.collections.iter().map(collection).collect(),
        next_page_token,
    })
}
