//! ListJobs: the filter as SQL, with every value bound and none spliced.

use std::sync::Arc;

use postgres_types::ToSql;
use tokio_postgres::Row;

use super::Store;
use super::commit::FAILING;
use super::connection::unavailable;
use super::{in_row, load};
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::{Job, JobPhase, Tally};
use crate::domain::query::{Clause, Comparison, JobCursor, JobOrder, JobQuery, OrderField, Test, TimeField};
use crate::domain::time::Timestamp;
use crate::error::Result;

type Value = Box<dyn ToSql + Sync + Send>;

/// A query while it is being put together.
struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Store {
    /// A page of jobs in order. Their stages are not loaded, only counted.
    pub async fn list_jobs(&self, namespace: NamespaceId, query: &JobQuery) -> Result<Vec<Arc<Job>>> {
        let client = self.reads.get().await?;
        let query = Query::of(namespace, query);
        let params: Vec<&(dyn ToSql + Sync)> =
            query.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        // Filters are of endless variety: preparing each by name would fill the connection's memory.
        let in_use = client.in_use();
        let rows = client.query(&query.sql, &params).await;
        in_use.done();
        let rows = rows.map_err(|error| unavailable(&error))?;
        Ok(rows.iter().map(|row| Arc::new(summary(row))).collect())
    }
}

fn summary(row: &Row) -> Job {
    let key = JobKey { namespace: NamespaceId(row.get(1)), uid: row.get(2) };
    let mut tally = [0; 8];
    match row.get::<_, Option<&str>>("stages") {
        Some(stages) => in_row::count_states(stages, &mut tally),
        None => {
            for (place, count) in tally.iter_mut().zip(row.get::<_, Vec<i64>>(24)) {
                *place = u32::try_from(count).unwrap_or(u32::MAX);
            }
        }
    }
    Job { tally: Tally::of_counts(tally), ..load::root(key, row, None) }
}

impl Query {
    fn of(namespace: NamespaceId, query: &JobQuery) -> Self {
        let mut this = Self { sql: include_str!("sql/list_jobs.sql").to_owned(), values: vec![Box::new(namespace.0)] };
        for clause in &query.filter.clauses {
            this.clause(clause);
        }
        if let Some(after) = &query.after {
            this.after(query.order, after);
        }
        let (column, direction) = (column(query.order.field), if query.order.descending { "DESC" } else { "ASC" });
        let limit = this.bind(i64::from(query.limit));
        this.sql.push_str(&format!(" ORDER BY {column} {direction} NULLS LAST, j.job_id {direction} LIMIT {limit}"));
        this
    }

    /// Binds a value and returns its place.
    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    fn clause(&mut self, clause: &Clause) {
        let condition = match clause {
            Clause::State(phases) => {
                let states: Vec<i16> = phases.iter().flat_map(|phase| numbers(*phase)).collect();
                format!("j.state = ANY({}::int2[])", self.bind(states))
            }
            Clause::Kind(tests) => self.any_of("j.kind", tests, "text"),
            Clause::Label { key, any_of } => {
                let label = format!("(j.labels ->> {}::text) COLLATE \"C\"", self.bind(key.clone()));
                self.any_of(&label, any_of, "text")
            }
            Clause::Time { field, any_of } => {
                let column = match field {
                    TimeField::Create => "j.create_time",
                    TimeField::Start => "j.start_time",
                    TimeField::End => "j.end_time",
                };
                self.any_of(column, any_of, "timestamptz")
            }
        };
        self.sql.push_str(&format!(" AND ({condition})"));
    }

    fn any_of<T: ToSql + Sync + Send + Clone + 'static>(
        &mut self,
        expression: &str,
        tests: &[Test<T>],
        sql_type: &str,
    ) -> String {
        let tests: Vec<String> = tests
            .iter()
            .map(|test| {
                let operator = operator(test.comparison);
                format!("{expression} {operator} {}::{sql_type}", self.bind(test.value.clone()))
            })
            .collect();
        if tests.is_empty() { "false".to_owned() } else { tests.join(" OR ") }
    }

    /// What comes behind the last job of the page before.
    fn after(&mut self, order: JobOrder, cursor: &JobCursor) {
        let column = column(order.field);
        let beyond = if order.descending { "<" } else { ">" };
        let job_id = self.bind(cursor.job_id.clone());
        let condition = match (cursor.value, order.field) {
            (None, _) => format!("{column} IS NULL AND j.job_id {beyond} {job_id}"),
            (Some(value), OrderField::Priority) => {
                let value = self.bind(i32::try_from(value).unwrap_or(i32::MAX));
                format!("({column}, j.job_id) {beyond} ({value}, {job_id})")
            }
            (Some(value), OrderField::CreateTime) => {
                let value = self.bind(Timestamp(value));
                format!("({column}, j.job_id) {beyond} ({value}, {job_id})")
            }
            (Some(value), OrderField::EndTime) => {
                let value = self.bind(Timestamp(value));
                format!("({column}, j.job_id) {beyond} ({value}, {job_id}) OR {column} IS NULL")
            }
        };
        self.sql.push_str(&format!(" AND ({condition})"));
    }
}

/// The stored states that a state on the wire stands for.
fn numbers(phase: JobPhase) -> Vec<i16> {
    match phase {
        JobPhase::Running => vec![phase as i16, FAILING],
        JobPhase::Pending
        | JobPhase::Paused
        | JobPhase::Cancelling
        | JobPhase::Succeeded
        | JobPhase::Failed
        | JobPhase::Cancelled => vec![phase as i16],
    }
}

fn column(field: OrderField) -> &'static str {
    match field {
        OrderField::CreateTime => "j.create_time",
        OrderField::EndTime => "j.end_time",
        OrderField::Priority => "j.priority",
    }
}

/// A field without a value differs from every value, and holds in no other comparison.
pub(super) fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "IS DISTINCT FROM",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}
