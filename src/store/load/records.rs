//! Records with their fields.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use foldhash::HashMap;
use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio_postgres::Row;

use crate::domain::record::{Field, Json, Record, RecordKey};
use crate::domain::time::Timestamp;
use crate::store::connection::{DbResult, Run};
use crate::store::types::JsonText;

/// Loads records as they are now. Of one that is `known` and has not changed, nothing but that is loaded. Missing ones are absent.
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
            Look::Missing => return None,
            Look::Unchanged => known.get(key)?.clone(),
            Look::Changed(record) => Arc::new(record),
        };
        Some((key.clone(), record))
    });
    Ok(found.collect())
}

/// What a look at a record that is known at some version finds.
pub enum Look {
    /// It is not there.
    Missing,
    /// It still has that version.
    Unchanged,
    /// It has another one.
    Changed(Record),
}

/// Looks at records, each of which is known at a version and creation, or not at all (0). In the order of the keys.
pub async fn look_at_records(client: &impl Run, keys: &[RecordKey], at: &[(i64, Timestamp)]) -> DbResult<Vec<Look>> {
    let (namespaces, collections, ids) = columns(keys);
    let (versions, created): (Vec<i64>, Vec<Timestamp>) = at.iter().copied().unzip();
    let sql = include_str!("../sql/load_records.sql");
    let rows = client.rows(sql, &[&namespaces, &collections, &ids, &versions, &created]).await?;
    let mut looks: Vec<Look> = keys.iter().map(|_| Look::Missing).collect();
    for row in &rows {
        let place = usize::try_from(row.get::<_, i32>(0)).expect("positions count from 1") - 1;
        looks[place] = match row.get::<_, Option<JsonText>>(4) {
            Some(_) => Look::Changed(record(keys[place].clone(), row)),
            None => Look::Unchanged,
        };
    }
    Ok(looks)
}

/// A record of a row of load_records.
fn record(key: RecordKey, row: &Row) -> Record {
    let fields: JsonText = row.get(4);
    let apart: Option<JsonText> = row.get(5);
    let mut apart: BTreeMap<String, Box<RawValue>> = apart.map(|text| super::parsed(&text)).unwrap_or_default();
    let fields: BTreeMap<String, StoredField> = super::parsed(&fields);
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

/// Takes the locks of records, in key order; waits for them or fails where somebody has one.
pub async fn lock_records(client: &impl Run, keys: &[RecordKey], wait: bool) -> DbResult<()> {
    let (namespaces, collections, ids) = columns(keys);
    let sql = if wait { include_str!("../sql/lock_records.sql") } else { include_str!("../sql/try_lock_records.sql") };
    client.rows(sql, &[&namespaces, &collections, &ids]).await?;
    Ok(())
}

fn columns(keys: &[RecordKey]) -> (Vec<i32>, Vec<&str>, Vec<&str>) {
    let namespaces = keys.iter().map(|key| key.namespace.0).collect();
    let collections = keys.iter().map(|key| &*key.collection).collect();
    (namespaces, collections, keys.iter().map(|key| &*key.record_id).collect())
}

/// `[version, value]`, or `[version]` where the value is stored apart.
struct StoredField {
    version: i64,
    value: Option<Box<RawValue>>,
}

impl<'de> Deserialize<'de> for StoredField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = StoredField;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version and a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StoredField, A::Error> {
                let version = items.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                Ok(StoredField { version, value: items.next_element()? })
            }
        }

        deserializer.deserialize_seq(Fields)
    }
}
