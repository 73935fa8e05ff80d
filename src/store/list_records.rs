//! ListRecords: the filter as SQL, with every value bound and none spliced.

use foldhash::HashMap;
use tokio_postgres::Row;

use super::Store;
use super::connection::{Transaction, unavailable};
use super::load;
use super::page::{self, Bounds, MAX_LOOKED_AT, Values, any_of, operator};
use crate::domain::query::{Comparison, Test};
use crate::domain::record::{Record, RecordKey};
use crate::domain::record_query::{RecordClause, RecordCursor, RecordOrder, RecordOrderField, RecordQuery};
use crate::domain::record_query::{RecordTime, Scalar};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// How many records are read at once: a page ends at a size that is not known before they are read.
const RECORDS_AT_ONCE: usize = 32;
/// Records that are sorted for a page in an order that no index has, at most.
pub(super) const MAX_SORTED: i64 = 10_000;

/// A statement that is put together, and its values.
pub(super) struct Query {
    pub(super) sql: String,
    pub(super) values: Values,
}

/// A row of a page: the record it is of, and where the next page begins behind it.
struct Place {
    cursor: RecordCursor,
    matches: bool,
    /// As many rows were looked at as may be.
    is_last: bool,
}

impl Store {
    /// Reads a page of records in order, all of one snapshot, and hands each to `take` until that says false: it did not take it. Returns where
    /// the next page begins; `None`: there is none.
    pub async fn list_records(
        &self,
        query: &RecordQuery,
        take: impl FnMut(Record) -> Result<bool>,
    ) -> Result<Option<RecordCursor>> {
        let mut client = self.reads.get().await?;
        let in_use = client.in_use();
        let read = async {
            let snapshot = page::snapshot(&mut client).await?;
            let next = read_page(&snapshot, query, take).await?;
            snapshot.commit().await.map_err(|error| unavailable(&error))?;
            Ok(next)
        };
        let read = read.await;
        in_use.done();
        read
    }
}

async fn read_page(
    snapshot: &Transaction<'_>,
    query: &RecordQuery,
    mut take: impl FnMut(Record) -> Result<bool>,
) -> Result<Option<RecordCursor>> {
    let statement = match query.order.field {
        RecordOrderField::RecordId | RecordOrderField::CreateTime => Query::walk(query),
        RecordOrderField::UpdateTime => {
            refuse_many(snapshot, query).await?;
            Query::sort(query)
        }
    };
    // Filters are of endless variety: preparing each by name would fill the connection's memory.
    let rows = snapshot.query(&statement.sql, &statement.values.params()).await.map_err(|error| unavailable(&error))?;
    let places: Vec<Place> = rows.iter().map(|row| place(row, query.order.field)).collect();
    let key = |place: &Place| {
        RecordKey::new(query.namespace, query.collection.clone(), place.cursor.record_id.as_str().into())
    };
    let matching: Vec<&Place> = places.iter().filter(|place| place.matches).collect();
    let limit = query.limit as usize;
    let mut last: Option<&Place> = None;
    for some in matching[..matching.len().min(limit)].chunks(RECORDS_AT_ONCE) {
        let keys: Vec<RecordKey> = some.iter().map(|place| key(place)).collect();
        let found = load::records(snapshot, &keys, &HashMap::default()).await;
        let mut found = found.map_err(|error| unavailable(&error))?;
        for (place, key) in some.iter().zip(&keys) {
            if let Some(record) = found.remove(key)
                && !take(Record::clone(&record))?
            {
                return Ok(last.map(|last| last.cursor.clone()));
            }
            last = Some(place);
        }
    }
    if matching.len() > limit {
        return Ok(last.map(|last| last.cursor.clone()));
    }
    Ok(places.iter().find(|place| place.is_last).map(|place| place.cursor.clone()))
}

/// Refuses an order that no index has where more records would have to be sorted than may be.
async fn refuse_many(snapshot: &Transaction<'_>, query: &RecordQuery) -> Result<()> {
    let Query { sql, values } = Query::count(query);
    let row = snapshot.query_one(&sql, &values.params()).await.map_err(|error| unavailable(&error))?;
    if row.get(0) {
        return Err(Refusal::LimitExceeded {
            path: "order_by".to_owned(),
            why: format!(
                "update_time has no index and sorts at most {MAX_SORTED} records, but this collection has more: order by record_id \
                 or create_time, or narrow record_id in the filter"
            ),
        }
        .into());
    }
    Ok(())
}

fn place(row: &Row, field: RecordOrderField) -> Place {
    let value = match field {
        RecordOrderField::RecordId => 0,
        RecordOrderField::CreateTime => row.get::<_, Timestamp>(1).0,
        RecordOrderField::UpdateTime => row.get::<_, Timestamp>(2).0,
    };
    let cursor = RecordCursor { value, record_id: row.get(0) };
    Place { cursor, matches: row.get("matches"), is_last: row.get("is_last") }
}

/// The records that a page looks at: those of the collection between the ids that the filter lets through.
fn range(query: &RecordQuery, values: &mut Values) -> String {
    let namespace = values.bind(query.namespace.0);
    let collection = values.bind(query.collection.to_string());
    let of_clause = |clause: &RecordClause| match clause {
        RecordClause::RecordId(any_of) => Bounds::of(any_of),
        RecordClause::Time { .. } | RecordClause::Field { .. } => Bounds::default(),
    };
    let ids = query.clauses.iter().map(of_clause).fold(Bounds::default(), Bounds::and);
    let ids = ids.condition("r.record_id", "text", values);
    format!("r.namespace_id = {namespace} AND r.collection = {collection}{ids}")
}

/// The records in the index of creations. A record is created before it changes.
fn range_of_creations(query: &RecordQuery, values: &mut Values) -> String {
    let namespace = values.bind(query.namespace.0);
    let collection = values.bind(query.collection.to_string());
    let of_clause = |clause: &RecordClause| match clause {
        RecordClause::Time { field: RecordTime::Create, any_of } => Bounds::of(any_of),
        RecordClause::Time { field: RecordTime::Update, any_of } => Bounds { low: None, ..Bounds::of(any_of) },
        RecordClause::RecordId(_) | RecordClause::Field { .. } => Bounds::default(),
    };
    let times = query.clauses.iter().map(of_clause).fold(Bounds::default(), Bounds::and);
    let times = times.condition("r.create_time", "timestamptz", values);
    // The index has no contexts of jobs.
    format!("r.namespace_id + 0 = {namespace} AND r.collection = {collection} AND r.collection <> ''{times}")
}

impl Query {
    /// A walk along the index of the order.
    pub(super) fn walk(query: &RecordQuery) -> Self {
        let mut values = Values::default();
        let mut range = match query.order.field {
            RecordOrderField::CreateTime => range_of_creations(query, &mut values),
            RecordOrderField::RecordId | RecordOrderField::UpdateTime => range(query, &mut values),
        };
        if let Some(after) = &query.after {
            range += &behind(query.order, after, &mut values);
        }
        let filter = filter(query, &mut values);
        Self::of(include_str!("sql/pages/list_records.sql"), &range, &filter, MAX_LOOKED_AT, query, values)
    }

    /// All that match, sorted.
    pub(super) fn sort(query: &RecordQuery) -> Self {
        let mut values = Values::default();
        let range = range(query, &mut values);
        let mut filter = filter(query, &mut values);
        if let Some(after) = &query.after {
            filter += &behind(query.order, after, &mut values);
        }
        Self::of(include_str!("sql/pages/sort_records.sql"), &range, &filter, MAX_SORTED, query, values)
    }

    /// Whether there are more than may be sorted.
    pub(super) fn count(query: &RecordQuery) -> Self {
        let mut values = Values::default();
        let range = range(query, &mut values);
        let sql = include_str!("sql/pages/count_records.sql")
            .replace("{range}", &range)
            .replace("{most}", &MAX_SORTED.to_string());
        Self { sql, values }
    }

    fn of(sql: &str, range: &str, filter: &str, most: i64, query: &RecordQuery, mut values: Values) -> Self {
        let direction = if query.order.descending { "DESC" } else { "ASC" };
        let order = match column(query.order.field) {
            Some(column) => format!("{column} {direction}, r.record_id {direction}"),
            None => format!("r.record_id {direction}"),
        };
        // One more shows whether there is another page.
        let limit = values.bind(i64::from(query.limit) + 1);
        let sql = sql
            .replace("{range}", range)
            .replace("{filter}", filter)
            .replace("{order}", &order)
            .replace("{most}", &most.to_string())
            .replace("{limit}", &limit);
        Self { sql, values }
    }
}

fn filter(query: &RecordQuery, values: &mut Values) -> String {
    if query.clauses.is_empty() {
        return "true".to_owned();
    }
    query.clauses.iter().map(|clause| condition(clause, values)).collect::<Vec<_>>().join(" AND ")
}

fn condition(clause: &RecordClause, values: &mut Values) -> String {
    let tests = match clause {
        RecordClause::RecordId(tests) => any_of("r.record_id", tests, "text", values),
        RecordClause::Time { field, any_of: tests } => {
            let column = match field {
                RecordTime::Create => "r.create_time",
                RecordTime::Update => "r.update_time",
            };
            any_of(column, tests, "timestamptz", values)
        }
        RecordClause::Field { name, any_of } => {
            let name = values.bind(name.clone());
            // The value of the field is looked up once for all its tests, wherever it is stored.
            let tests: Vec<String> = any_of.iter().map(|test| field(test, values)).collect();
            return format!(
                "(SELECT ({}) FROM (SELECT coalesce(r.fields::json #> ARRAY[{name}::text, '1'], CASE WHEN r.apart > 0 THEN \
                 (SELECT x.value FROM record_values x WHERE x.namespace_id = r.namespace_id AND x.collection = r.collection \
                 AND x.record_id = r.record_id AND x.field = {name}::text) END) AS value OFFSET 0) f)",
                tests.join(" OR ")
            );
        }
    };
    format!("({tests})")
}

/// A comparison of a field's value. One of another type is unknown, which differs from everything.
fn field(test: &Test<Scalar>, values: &mut Values) -> String {
    let of_type =
        |json: &str, sql: &str| format!("CASE WHEN json_typeof(f.value) = '{json}' THEN (f.value #>> '{{}}'){sql} END");
    let (typed, bound) = match &test.value {
        Scalar::Null => (of_type("null", " IS NULL"), "true".to_owned()),
        Scalar::Bool(bool) => (of_type("boolean", "::bool"), format!("{}::bool", values.bind(*bool))),
        Scalar::Number(number) => (of_type("number", "::float8"), format!("{}::float8", values.bind(*number))),
        Scalar::Text(text) => {
            (format!("({}) COLLATE \"C\"", of_type("string", "")), format!("{}::text", values.bind(text.clone())))
        }
    };
    match test.comparison {
        Comparison::NotEqual => format!("({typed} = {bound}) IS NOT TRUE"),
        other => format!("{typed} {} {bound}", operator(other)),
    }
}

/// What comes behind the last record of the page before, after an AND.
fn behind(order: RecordOrder, cursor: &RecordCursor, values: &mut Values) -> String {
    let beyond = if order.descending { "<" } else { ">" };
    let record_id = values.bind(cursor.record_id.clone());
    match column(order.field) {
        Some(column) => {
            let value = values.bind(Timestamp(cursor.value));
            format!(" AND ({column}, r.record_id) {beyond} ({value}, {record_id})")
        }
        None => format!(" AND r.record_id {beyond} {record_id}"),
    }
}

/// What is ordered by besides the id.
fn column(field: RecordOrderField) -> Option<&'static str> {
    match field {
        RecordOrderField::RecordId => None,
        RecordOrderField::CreateTime => Some("r.create_time"),
        RecordOrderField::UpdateTime => Some("r.update_time"),
    }
}
