//! UpdateRecord of the baseline. It only increments fields, which is all that the bench calls.

use anyhow::Context;
use deadpool_postgres::Pool;
use serde_json::{Map, Value, json};

use crate::proto;
use crate::proto::field_operation::Operation;
use crate::store::types::JsonText;

const LOCK: &str = "SELECT version, fields FROM records WHERE namespace_id = 1 AND collection = $1 AND record_id = $2 \
    FOR NO KEY UPDATE";
const SET: &str = "UPDATE records SET version = $3, fields = $4, update_time = clock_timestamp() \
    WHERE namespace_id = 1 AND collection = $1 AND record_id = $2";

/// Updates a record in one transaction: begin and lock, decide, write and commit.
pub async fn update_record(
    pool: &Pool,
    request: proto::UpdateRecordRequest,
) -> anyhow::Result<proto::UpdateRecordResponse> {
    let (collection, record_id) = (&request.collection, &request.record_id);
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let row = transaction.query_one(&lock, &[collection, record_id]).await?;
    let version = row.get::<_, i64>(0) + 1;
    let mut fields: Map<String, Value> = serde_json::from_str(&row.get::<_, JsonText>(1).0)?;
    for operation in &request.operations {
        let Some(Operation::Increment(by)) = operation.operation else {
            anyhow::bail!("the comparison only increments");
        };
        let before = fields.get(&operation.field).and_then(|field| field.get(1)?.as_f64());
        let sum = before.context("the field is no number")? + by;
        // Whole numbers are stored as integers.
        fields.insert(operation.field.clone(), json!([version, sum as i64]));
    }
    let set = transaction.prepare_cached(SET).await?;
    let fields = JsonText(serde_json::to_string(&fields)?.into());
    transaction.execute(&set, &[collection, record_id, &version, &fields]).await?;
    transaction.commit().await?;
    let (collection, record_id) = (request.collection, request.record_id);
    let record = proto::Record { collection, record_id, version, fields_omitted: true, ..Default::default() };
    Ok(proto::UpdateRecordResponse { record: Some(record), applied: true, applied_version: version, replayed: false })
}
