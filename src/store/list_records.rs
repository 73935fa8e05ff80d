//! ListRecords: the filter as SQL, with every value bound and none spliced.

use foldhash::HashMap;
use postgres_types::ToSql;
use tokio_postgres::IsolationLevel;

use super::Store;
use super::connection::unavailable;
use super::list_jobs::operator;
use super::load;
use crate::domain::query::{Comparison, Test};
use crate::domain::record::{Record, RecordKey};
use crate::domain::record_query::{RecordClause, RecordCursor, RecordOrder, RecordOrderField, RecordQuery};
use crate::domain::record_query::{RecordTime, Scalar};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// How many records are read at once: a page ends at a size that is not known before they are read.
const RECORDS_AT_ONCE: usize = 32;

type Value = Box<dyn ToSql + Sync + Send>;

/// A query while it is being put together.
struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Store {
    /// Reads a page of records in order, all of one snapshot, and hands each to `take` until that has enough.
    pub async fn list_records(&self, query: &RecordQuery, mut take: impl FnMut(Record) -> Result<bool>) -> Result<()> {
        let mut client = self.reads.get().await?;
        let in_use = client.in_use();
        let read = async {
            let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
            let snapshot = snapshot.start().await.map_err(|error| unavailable(&error))?;
            let put_together = Query::of(query);
            let params: Vec<&(dyn ToSql + Sync)> =
                put_together.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
            // Filters are of endless variety: preparing each by name would fill the connection's memory.
            let rows = snapshot.query(&put_together.sql, &params).await.map_err(|error| unavailable(&error))?;
            let key = |row: &tokio_postgres::Row| {
                RecordKey::new(query.namespace, query.collection.clone(), row.get::<_, &str>(0).into())
            };
            let keys: Vec<RecordKey> = rows.iter().map(key).collect();
            'page: for some in keys.chunks(RECORDS_AT_ONCE) {
                let found = load::records(&snapshot, some, &HashMap::default()).await;
                let mut found = found.map_err(|error| unavailable(&error))?;
                for record in some.iter().filter_map(|key| found.remove(key)) {
                    if !take(Record::clone(&record))? {
                        break 'page;
                    }
                }
            }
            snapshot.commit().await.map_err(|error| unavailable(&error))
        };
        let read = read.await;
        in_use.done();
        read
    }
}

impl Query {
    fn of(query: &RecordQuery) -> Self {
        let mut this = Self {
            sql: include_str!("sql/list_records.sql").to_owned(),
            values: vec![Box::new(query.namespace.0), Box::new(query.collection.to_string())],
        };
        for clause in &query.clauses {
            this.clause(clause);
        }
        if let Some(after) = &query.after {
            this.after(query.order, after);
        }
        let direction = if query.order.descending { "DESC" } else { "ASC" };
        let order = match column(query.order.field) {
            Some(column) => format!("{column} {direction}, r.record_id {direction}"),
            None => format!("r.record_id {direction}"),
        };
        let limit = this.bind(i64::from(query.limit));
        this.sql.push_str(&format!(" ORDER BY {order} LIMIT {limit}"));
        this
    }

    /// Binds a value and returns its place.
    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    fn clause(&mut self, clause: &RecordClause) {
        let tests: Vec<String> = match clause {
            RecordClause::RecordId(tests) => {
                let mut test = |test: &Test<String>| {
                    format!("r.record_id {} {}::text", operator(test.comparison), self.bind(test.value.clone()))
                };
                tests.iter().map(&mut test).collect()
            }
            RecordClause::Time { field, any_of } => {
                let column = match field {
                    RecordTime::Create => "r.create_time",
                    RecordTime::Update => "r.update_time",
                };
                let mut test = |test: &Test<Timestamp>| {
                    format!("{column} {} {}::timestamptz", operator(test.comparison), self.bind(test.value))
                };
                any_of.iter().map(&mut test).collect()
            }
            RecordClause::Field { name, any_of } => {
                let name = self.bind(name.clone());
                any_of.iter().map(|test| self.field(&name, test)).collect()
            }
        };
        self.sql.push_str(&format!(" AND ({})", tests.join(" OR ")));
    }

    /// A comparison of a field's value, wherever that is stored. One of another type is unknown, which differs from everything.
    fn field(&mut self, name: &str, test: &Test<Scalar>) -> String {
        let value = format!(
            "coalesce(r.fields::json -> {name}::text -> 1, CASE WHEN r.apart > 0 THEN (SELECT x.value FROM record_values x \
             WHERE x.namespace_id = r.namespace_id AND x.collection = r.collection AND x.record_id = r.record_id \
             AND x.field = {name}::text) END)"
        );
        let of_type = |json: &str, sql: &str| {
            format!("CASE WHEN json_typeof({value}) = '{json}' THEN ({value} #>> '{{}}'){sql} END")
        };
        let (typed, bound) = match &test.value {
            Scalar::Null => (of_type("null", " IS NULL"), "true".to_owned()),
            Scalar::Bool(bool) => (of_type("boolean", "::bool"), format!("{}::bool", self.bind(*bool))),
            Scalar::Number(number) => (of_type("number", "::float8"), format!("{}::float8", self.bind(*number))),
            Scalar::Text(text) => {
                (format!("({}) COLLATE \"C\"", of_type("string", "")), format!("{}::text", self.bind(text.clone())))
            }
        };
        match test.comparison {
            Comparison::NotEqual => format!("({typed} = {bound}) IS NOT TRUE"),
            other => format!("{typed} {} {bound}", operator(other)),
        }
    }

    /// What comes behind the last record of the page before.
    fn after(&mut self, order: RecordOrder, cursor: &RecordCursor) {
        let beyond = if order.descending { "<" } else { ">" };
        let record_id = self.bind(cursor.record_id.clone());
        let condition = match column(order.field) {
            Some(column) => {
                let value = self.bind(Timestamp(cursor.value));
                format!("({column}, r.record_id) {beyond} ({value}, {record_id})")
            }
            None => format!("r.record_id {beyond} {record_id}"),
        };
        self.sql.push_str(&format!(" AND ({condition})"));
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
