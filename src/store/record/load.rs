//! Loads of records with their fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use foldhash::HashMap;
use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::domain::fields::Field;
use crate::domain::json::Json;
use crate::domain::record::{Record, RecordKey};
use crate::domain::time::Timestamp;
use crate::store::load::StateRead;
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::types::JsonText;
use crate::store::table::RECORDS;

/// Loads records. A `known` record that has not changed is not loaded again. Missing ones are absent.
pub async fn records(
    client: &impl Run,
    keys: &[RecordKey],
    known: &HashMap<RecordKey, Arc<Record>>,
) -> DbResult<HashMap<RecordKey, Arc<Record>>> {
    let known_at =
        |key: &RecordKey| known.get(key).map_or((0, Timestamp(0)), |known| (known.version, known.create_time));
    let at: Vec<(i64, Timestamp)> = keys.iter().map(known_at).collect();
    let found = look_at_records(client, keys, &at).await?.into_iter().zip(keys).filter_map(|(look, key)| {
        let record = match look {
            StateRead::Missing => return None,
            StateRead::Unchanged => known.get(key)?.clone(),
            StateRead::Changed(record) => record,
        };
        Some((key.clone(), record))
    });
    Ok(found.collect())
}

/// Compares records with known versions and creation times (0: unknown), in the order of the keys.
pub async fn look_at_records(
    client: &impl Run,
    keys: &[RecordKey],
    at: &[(i64, Timestamp)],
) -> DbResult<Vec<StateRead<Record>>> {
    let (namespaces, collections, ids) = columns(keys);
    let (versions, created): (Vec<i64>, Vec<Timestamp>) = at.iter().copied().unzip();
    let sql = include_str!("../sql/record/load_records.sql");
    let rows = client.rows(sql, &[&namespaces, &collections, &ids, &versions, &created]).await?;
    let mut looks: Vec<StateRead<Record>> = keys.iter().map(|_| StateRead::Missing).collect();
    for row in &rows {
        let place = usize::try_from(row.get::<_, i32>(0)).expect("positions count from 1") - 1;
        looks[place] = match row.get::<_, Option<JsonText>>(4) {
            Some(_) => StateRead::Changed(Arc::new(record(keys[place].clone(), row))),
            None => StateRead::Unchanged,
        };
    }
    Ok(looks)
}

/// The record of a row of load_records.
fn record(key: RecordKey, row: &Row) -> Record {
    let fields: JsonText = row.get(4);
    let apart: Option<JsonText> = row.get(5);
    let mut apart: BTreeMap<String, Box<RawValue>> =
        apart.map(|text| crate::store::load::parsed(&text)).unwrap_or_default();
    let fields: BTreeMap<String, StoredField> = crate::store::load::parsed(&fields);
    let field = |(name, stored): (String, StoredField)| {
        let value = stored.value.or_else(|| apart.remove(&name)).expect("a large value is stored with its record");
        (
            name.into(),
            Field { version: stored.version, value: Json::from_checked(String::from(Box::<str>::from(value))) },
        )
    };
    let fields = fields.into_iter().map(field).collect();
    let (version, create_time, update_time) = (row.get(1), row.get(2), row.get(3));
    let mut record = Record { key, fields, version, bytes: 0, create_time, update_time };
    record.derive();
    record
}

/// The statements that lock records: the one that fails where a record is locked, and the one that waits.
static LOCK: LazyLock<[String; 2]> = LazyLock::new(|| [false, true].map(|wait| RECORDS.lock_statement(wait)));

/// Locks records in key order. Where another transaction has locked one, it waits or fails.
pub async fn lock_records(client: &impl Run, keys: &[RecordKey], wait: bool) -> DbResult<()> {
    let (namespaces, collections, ids) = columns(keys);
    client.rows(&LOCK[usize::from(wait)], &[&namespaces, &collections, &ids]).await?;
    Ok(())
}

fn columns(keys: &[RecordKey]) -> (Vec<i32>, Vec<&str>, Vec<&str>) {
    let namespaces = keys.iter().map(|key| key.namespace.0).collect();
    let collections = keys.iter().map(|key| &*key.collection).collect();
    (namespaces, collections, keys.iter().map(|key| &*key.record_id).collect())
}

/// A field as the row has it: `[version, value]`, or `[version]` where the value has a row of its own.
struct StoredField {
    version: i64,
    value: Option<Box<RawValue>>,
}

impl<'de> Deserialize<'de> for StoredField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = StoredField;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version and a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StoredField, A::Error> {
                let version = items.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                Ok(StoredField { version, value: items.next_element()? })
            }
        }

        deserializer.deserialize_seq(FieldVisitor)
    }
}
