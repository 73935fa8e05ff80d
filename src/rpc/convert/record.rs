//! Records and what can happen to their fields.

use std::collections::BTreeMap;

use prost_types::Struct;

use super::path::Path;
use super::{document, text, time};
use crate::domain::field_op::{EXACT, FieldChange, FieldOp};
use crate::domain::fields::Field;
use crate::domain::id::NamespaceId;
use crate::domain::record::{MAX_FIELD_BYTES, Record, RecordKey};
use crate::domain::refusal::Refusal;
use crate::domain::short::Short;
use crate::error::Result as Answer;
use crate::operation::update_records::RecordUpdate;
use crate::proto;
use crate::proto::field_operation::Operation;
use crate::rpc::limits;

/// The record that a request names.
pub fn key(namespace: NamespaceId, collection: &str, record_id: &str, path: &Path) -> Result<RecordKey, Refusal> {
    let collection = text::name(collection, &path.field("collection"))?;
    Ok(RecordKey::new(namespace, collection, text::name(record_id, &path.field("record_id"))?))
}

/// An update without its `request_id`.
pub fn update(
    namespace: NamespaceId,
    given: &proto::UpdateRecordRequest,
    path: &Path,
) -> Result<RecordUpdate, Refusal> {
    let key = key(namespace, &given.collection, &given.record_id, path)?;
    let expected_version = version(given.expected_version, &path.field("expected_version"))?;
    let operations = operations(&given.operations, &path.field("operations"))?;
    Ok(RecordUpdate { key, operations, expected_version, allow_missing: given.allow_missing })
}

/// The updates of a batch that is done as a whole; they carry no `request_id` of their own.
pub fn updates(namespace: NamespaceId, given: &[proto::UpdateRecordRequest]) -> Result<Vec<RecordUpdate>, Refusal> {
    let root = Path::Root;
    let list = root.field("updates");
    bounded(given.len(), limits::RECORDS_PER_BATCH, "updates", &list)?;
    few_operations(given, &list)?;
    if let Some(i) = given.iter().position(|update| update.request_id.is_some()) {
        return Err(list.index(i).field("request_id").refuse("must be unset in a batch, which has one of its own"));
    }
    given.iter().enumerate().map(|(i, given)| update(namespace, given, &list.index(i))).collect()
}

/// That the updates of a batch together have not too many operations.
pub fn few_operations(given: &[proto::UpdateRecordRequest], list: &Path) -> Result<(), Refusal> {
    let operations: usize = given.iter().map(|update| update.operations.len()).sum();
    if operations > limits::OPERATIONS_PER_CALL {
        let most = limits::OPERATIONS_PER_CALL;
        return Err(list.refuse(format!("has {operations} operations in all, {most} are allowed")));
    }
    Ok(())
}

/// That a list has at least one element and not too many.
pub fn bounded(given: usize, most: usize, what: &str, path: &Path) -> Result<(), Refusal> {
    if given == 0 || given > most {
        return Err(path.refuse(format!("has {given} {what}, 1 to {most} are allowed")));
    }
    Ok(())
}

/// Field operations; there has to be one.
pub fn operations(given: &[proto::FieldOperation], path: &Path) -> Result<Vec<FieldOp>, Refusal> {
    bounded(given.len(), limits::OPERATIONS_PER_UPDATE, "operations", path)?;
    given.iter().enumerate().map(|(i, given)| operation(given, &path.index(i))).collect()
}

fn operation(given: &proto::FieldOperation, path: &Path) -> Result<FieldOp, Refusal> {
    let field_path = path.field("field");
    if given.field.is_empty() {
        return Err(field_path.missing());
    }
    let expected_path = path.field("expected_field_version");
    Ok(FieldOp {
        field: text::line(&given.field, limits::FIELD_NAME_BYTES, &field_path)?,
        change: change(given.operation.as_ref().ok_or_else(|| path.field("operation").missing())?, path)?,
        expected_version: version(given.expected_field_version, &expected_path)?,
    })
}

fn change(given: &Operation, path: &Path) -> Result<FieldChange, Refusal> {
    let list = |values, name| document::values(values, MAX_FIELD_BYTES, &path.field(name));
    Ok(match given {
        Operation::Set(value) => FieldChange::Set(document::value(value, MAX_FIELD_BYTES, &path.field("set"))?),
        Operation::Unset(()) => FieldChange::Unset,
        Operation::Increment(by) if by.abs() > EXACT => {
            return Err(path.field("increment").outside("within ±2^53", by));
        }
        Operation::Increment(by) => FieldChange::Increment(finite(*by, &path.field("increment"))?),
        Operation::Append(values) => FieldChange::Append(list(values, "append")?),
        Operation::AddToSet(values) => FieldChange::AddToSet(list(values, "add_to_set")?),
        Operation::Remove(values) => FieldChange::Remove(list(values, "remove")?),
        Operation::Maximum(bound) => FieldChange::Maximum(finite(*bound, &path.field("maximum"))?),
        Operation::Minimum(bound) => FieldChange::Minimum(finite(*bound, &path.field("minimum"))?),
        Operation::Merge(patch) => {
            FieldChange::Merge(document::document(patch, MAX_FIELD_BYTES, &path.field("merge"))?.into())
        }
    })
}

fn finite(number: f64, path: &Path) -> Result<f64, Refusal> {
    if number.is_finite() { Ok(number) } else { Err(path.refuse("NaN and infinities are not JSON")) }
}

/// A version that a caller expects.
fn version(given: Option<i64>, path: &Path) -> Result<Option<i64>, Refusal> {
    if given.is_some_and(|given| given < 0) {
        return Err(path.refuse("must not be negative"));
    }
    Ok(given)
}

/// A record with its fields.
pub fn record(record: &Record) -> Answer<proto::Record> {
    let mut message = without_fields(record);
    message.fields_omitted = false;
    message.fields = fields(record)?.fields;
    message.field_versions = versions(record);
    Ok(message)
}

/// The fields as one object.
pub fn fields(record: &Record) -> Answer<Struct> {
    let to_proto = |(name, field): (&Short, &Field)| Ok((name.to_string(), document::value_to_proto(&field.value)?));
    Ok(Struct { fields: record.fields.iter().map(to_proto).collect::<Answer<_>>()? })
}

/// The version of each field.
pub fn versions(record: &Record) -> BTreeMap<String, i64> {
    record.fields.iter().map(|(name, field)| (name.to_string(), field.version)).collect()
}

/// A record without its fields.
pub fn without_fields(record: &Record) -> proto::Record {
    proto::Record {
        collection: record.key.collection.as_str().to_owned(),
        record_id: record.key.record_id.as_str().to_owned(),
        version: record.version,
        fields_omitted: true,
        create_time: Some(time::timestamp(record.create_time)),
        update_time: Some(time::timestamp(record.update_time)),
        ..Default::default()
    }
}
