//! Records with fewer words.

use interlock::proto::field_operation::Operation;
use interlock::proto::{self, FieldOperation};
use prost_types::ListValue;
use prost_types::value::Kind;
use serde_json::{Value, json};

use super::{Api, ok, struct_of, value_of};

/// The collection that tests use unless they need several.
pub const COLLECTION: &str = "films";

/// An operation on a field.
pub fn op(field: &str, operation: Operation) -> FieldOperation {
    FieldOperation { field: field.to_owned(), operation: Some(operation), ..Default::default() }
}

pub fn set(field: &str, value: Value) -> FieldOperation {
    op(field, Operation::Set(value_of(value)))
}

pub fn unset(field: &str) -> FieldOperation {
    op(field, Operation::Unset(()))
}

/// Adds to a number.
pub fn increment(field: &str, by: f64) -> FieldOperation {
    op(field, Operation::Increment(by))
}

/// Appends to a list.
pub fn append(field: &str, values: &[Value]) -> FieldOperation {
    op(field, Operation::Append(list_of(values)))
}

/// Adds to a set.
pub fn add_to_set(field: &str, values: &[Value]) -> FieldOperation {
    op(field, Operation::AddToSet(list_of(values)))
}

/// Removes from a list.
pub fn remove(field: &str, values: &[Value]) -> FieldOperation {
    op(field, Operation::Remove(list_of(values)))
}

/// Merges into an object.
pub fn merge(field: &str, patch: Value) -> FieldOperation {
    op(field, Operation::Merge(struct_of(patch).expect("an object")))
}

/// A list as a message has it.
pub fn list_of(values: &[Value]) -> ListValue {
    ListValue { values: values.iter().cloned().map(value_of).collect() }
}

/// The deletion of a record.
pub fn deletion(record_id: &str) -> proto::DeleteRecordRequest {
    let (collection, record_id) = (COLLECTION.to_owned(), record_id.to_owned());
    proto::DeleteRecordRequest { collection, record_id, ..Default::default() }
}

/// An update of a record that may be new.
pub fn update(record_id: &str, operations: Vec<FieldOperation>) -> proto::UpdateRecordRequest {
    proto::UpdateRecordRequest {
        collection: COLLECTION.to_owned(),
        record_id: record_id.to_owned(),
        operations,
        allow_missing: true,
        ..Default::default()
    }
}

/// The fields of a record as JSON.
pub fn fields_of(record: &proto::Record) -> Value {
    Value::Object(record.fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect())
}

/// A value as JSON; whole numbers are whole.
pub fn json_of(value: &prost_types::Value) -> Value {
    match value.kind.as_ref().expect("a kind") {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => json!(value),
        Kind::NumberValue(number) if number.fract() == 0.0 && number.abs() < 1e15 => json!(*number as i64),
        Kind::NumberValue(number) => json!(number),
        Kind::StringValue(text) => json!(text),
        Kind::ListValue(list) => list.values.iter().map(json_of).collect(),
        Kind::StructValue(object) => {
            Value::Object(object.fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect())
        }
    }
}

impl Api {
    /// Updates a record, which has to be right.
    pub async fn update_record(&self, record_id: &str, operations: Vec<FieldOperation>) -> proto::UpdateRecordResponse {
        ok(self.records().update_record(update(record_id, operations)).await)
    }

    pub async fn record(&self, record_id: &str) -> proto::Record {
        let (collection, record_id) = (COLLECTION.to_owned(), record_id.to_owned());
        ok(self.records().get_record(proto::GetRecordRequest { collection, record_id, ..Default::default() }).await)
            .record
            .expect("a record")
    }
}
