//! ListRecords: the filter as SQL.

use foldhash::HashMap;
use tokio_postgres::Row;

use crate::domain::query::{Comparison, Test};
use crate::domain::record::{Record, RecordKey};
use crate::domain::record_query::{RecordClause, RecordCursor, RecordOrder, RecordOrderField, RecordQuery};
use crate::domain::record_query::{RecordTime, Scalar};
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::load;
use crate::store::page::{
    ColumnBounds, MAX_LOOKED_AT, PageParts, PageQuery, Values, WALK_SETUP, any_of, behind, operator,
};
use crate::store::pg::connection::unavailable;
use crate::store::pg::snapshot::Snapshot;

/// Records that are loaded at once: a page ends at a size that is only known when they are loaded.
const RECORDS_AT_ONCE: usize = 32;
/// The largest number of records that are sorted for a page in an order that no index has.
pub(in crate::store) const MAX_SORTED: i64 = 10_000;

/// A row of a page: its record, and the position behind which the next page may begin.
struct PagePosition {
    cursor: RecordCursor,
    matches: bool,
    /// Whether it is the last row that may be read.
    is_last: bool,
}

impl Store {
    /// Reads a page of records in order, all of one snapshot, and passes each to `take` until that returns false for one that it did not take.
    /// Returns the position behind which the next page begins. None: there is no next page.
    pub async fn list_records(
        &self,
        query: &RecordQuery,
        take: impl FnMut(Record) -> Result<bool>,
    ) -> Result<Option<RecordCursor>> {
        let client = self.reads.get().await?;
        read_page(&Snapshot::under(&client, WALK_SETUP), query, take).await
    }
}

async fn read_page(
    snapshot: &Snapshot<'_>,
    query: &RecordQuery,
    mut take: impl FnMut(Record) -> Result<bool>,
) -> Result<Option<RecordCursor>> {
    let statement = match query.order.field {
        RecordOrderField::RecordId | RecordOrderField::CreateTime => walk(query),
        RecordOrderField::UpdateTime => {
            refuse_many(snapshot, query).await?;
            sort(query)
        }
    };
    let rows = statement.rows(snapshot).await?;
    let places: Vec<PagePosition> = rows.iter().map(|row| place(row, query.order.field)).collect();
    let key = |place: &PagePosition| {
        RecordKey::new(query.namespace, query.collection.clone(), place.cursor.record_id.as_str().into())
    };
    let matching: Vec<&PagePosition> = places.iter().filter(|place| place.matches).collect();
    let limit = query.limit as usize;
    let mut last: Option<&PagePosition> = None;
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

/// Refuses an order that no index has where more than [`MAX_SORTED`] records would have to be sorted.
async fn refuse_many(snapshot: &Snapshot<'_>, query: &RecordQuery) -> Result<()> {
    let counted = count(query).rows(snapshot).await?;
    if counted.first().is_some_and(|row| row.get(0)) {
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

fn place(row: &Row, field: RecordOrderField) -> PagePosition {
    let value = match field {
        RecordOrderField::RecordId => 0,
        RecordOrderField::CreateTime => row.get::<_, Timestamp>(1).0,
        RecordOrderField::UpdateTime => row.get::<_, Timestamp>(2).0,
    };
    let cursor = RecordCursor { value, record_id: row.get(0) };
    PagePosition { cursor, matches: row.get("matches"), is_last: row.get("is_last") }
}

/// The range of the index of ids that a page reads: the collection, between the ids that the filter allows.
fn range(query: &RecordQuery, values: &mut Values) -> String {
    let namespace = values.bind(query.namespace.0);
    let collection = values.bind(query.collection.to_string());
    let of_clause = |clause: &RecordClause| match clause {
        RecordClause::RecordId(any_of) => ColumnBounds::of(any_of),
        RecordClause::Time { .. } | RecordClause::Field { .. } => ColumnBounds::default(),
    };
    let ids = query.clauses.iter().map(of_clause).fold(ColumnBounds::default(), ColumnBounds::and);
    let ids = ids.condition("r.record_id", "text", values);
    format!("r.namespace_id = {namespace} AND r.collection = {collection}{ids}")
}

/// The range of the index of creations that a page reads. A record is created before it is updated.
fn range_of_creations(query: &RecordQuery, values: &mut Values) -> String {
    let namespace = values.bind(query.namespace.0);
    let collection = values.bind(query.collection.to_string());
    let of_clause = |clause: &RecordClause| match clause {
        RecordClause::Time { field: RecordTime::Create, any_of } => ColumnBounds::of(any_of),
        RecordClause::Time { field: RecordTime::Update, any_of } => {
            ColumnBounds { low: None, ..ColumnBounds::of(any_of) }
        }
        RecordClause::RecordId(_) | RecordClause::Field { .. } => ColumnBounds::default(),
    };
    let times = query.clauses.iter().map(of_clause).fold(ColumnBounds::default(), ColumnBounds::and);
    let times = times.condition("r.create_time", "timestamptz", values);
    // The index does not contain contexts of jobs.
    format!("r.namespace_id + 0 = {namespace} AND r.collection = {collection} AND r.collection <> ''{times}")
}

/// A walk along the index of the order.
pub(in crate::store) fn walk(query: &RecordQuery) -> PageQuery {
    let mut values = Values::default();
    let mut range = match query.order.field {
        RecordOrderField::CreateTime => range_of_creations(query, &mut values),
        RecordOrderField::RecordId | RecordOrderField::UpdateTime => range(query, &mut values),
    };
    if let Some(after) = &query.after {
        range += &format!(" AND {}", behind_cursor(query.order, after, &mut values));
    }
    let filter = filter(query, &mut values);
    PageQuery::of(
        include_str!("../sql/record/pages/list_records.sql"),
        parts(query, range, filter, MAX_LOOKED_AT),
        values,
    )
}

/// All records that match, sorted.
pub(in crate::store) fn sort(query: &RecordQuery) -> PageQuery {
    let mut values = Values::default();
    let range = range(query, &mut values);
    let mut filter = filter(query, &mut values);
    filter.extend(query.after.as_ref().map(|after| behind_cursor(query.order, after, &mut values)));
    PageQuery::of(include_str!("../sql/record/pages/sort_records.sql"), parts(query, range, filter, MAX_SORTED), values)
}

/// Whether there are more records than may be sorted: one row with one column.
pub(in crate::store) fn count(query: &RecordQuery) -> PageQuery {
    let mut values = Values::default();
    let range = range(query, &mut values);
    let sql = include_str!("../sql/record/pages/count_records.sql")
        .replace("{range}", &range)
        .replace("{most}", &MAX_SORTED.to_string());
    PageQuery { sql, values, is_kept: query.clauses.is_empty() }
}

fn parts(query: &RecordQuery, range: String, filter: Vec<String>, most: i64) -> PageParts<'static> {
    let RecordOrder { field, descending } = query.order;
    PageParts {
        range,
        filter,
        order: columns(field),
        descending,
        most,
        limit: query.limit as usize,
        is_plain: query.clauses.is_empty(),
    }
}

fn filter(query: &RecordQuery, values: &mut Values) -> Vec<String> {
    query.clauses.iter().map(|clause| condition(clause, values)).collect()
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
            // The value of the field is read once for all its tests, wherever it is stored.
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

/// A comparison of the value of a field. A value of another type is null, which differs from every value.
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

/// The condition that a record comes behind the last one of the page before.
fn behind_cursor(order: RecordOrder, cursor: &RecordCursor, values: &mut Values) -> String {
    let mut value_at = |column: &&str| match *column {
        "r.record_id" => values.bind(cursor.record_id.clone()),
        _ => values.bind(Timestamp(cursor.value)),
    };
    let columns = columns(order.field);
    behind(columns, &columns.iter().map(&mut value_at).collect::<Vec<_>>(), order.descending)
}

/// The columns of an order.
fn columns(field: RecordOrderField) -> &'static [&'static str] {
    match field {
        RecordOrderField::RecordId => &["r.record_id"],
        RecordOrderField::CreateTime => &["r.create_time", "r.record_id"],
        RecordOrderField::UpdateTime => &["r.update_time", "r.record_id"],
    }
}
