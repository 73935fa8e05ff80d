//! ListJobs: the filter as SQL.

use std::sync::Arc;

use tokio_postgres::Row;

use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::{Job, JobPhase, Tally};
use crate::domain::query::{Clause, Comparison, JobCursor, JobOrder, JobPage, JobQuery, OrderField, TimeField};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::job::in_row;
use crate::store::job::load::root;
use crate::store::page::{ColumnBounds, MAX_LOOKED_AT, PageParts, PageQuery, Values, WALK_SETUP, any_of, behind};
use crate::store::pg::snapshot::Snapshot;
use crate::store::values::FAILING;

/// A part of an order of jobs that one index has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum OrderSection {
    /// All jobs, by creation.
    All,
    /// Jobs that have ended, by their end.
    Ended,
    /// Jobs that have not ended, by creation.
    Live,
    /// Jobs of a positive priority, by priority and creation.
    High,
    /// Jobs of priority 0, by creation.
    Usual,
    /// Jobs of a negative priority, by priority and creation.
    Low,
}

impl Store {
    /// A page of jobs in order, of one snapshot. Their stages are not loaded, only counted.
    pub async fn list_jobs(&self, namespace: NamespaceId, query: &JobQuery) -> Result<JobPage> {
        let client = self.reads.get().await?;
        walk(&Snapshot::under(&client, WALK_SETUP), namespace, query).await
    }
}

/// Walks through the sections of the order from the end of the page before.
async fn walk(snapshot: &Snapshot<'_>, namespace: NamespaceId, query: &JobQuery) -> Result<JobPage> {
    let limit = query.limit as usize;
    let sections = OrderSection::of_order(query.order);
    let first = query.after.as_ref().map_or(0, |after| {
        let section = OrderSection::of_cursor(query.order.field, after);
        sections.iter().position(|one| *one == section).unwrap_or(0)
    });
    let (mut jobs, mut after) = (Vec::new(), query.after.as_ref());
    for section in &sections[first..] {
        let Some(walk) = section_walk(namespace, query, *section, after.take(), limit - jobs.len()) else { continue };
        for row in &walk.rows(snapshot).await? {
            let job = summary(row);
            let (matches, is_last): (bool, bool) = (row.get("matches"), row.get("is_last"));
            if matches && jobs.len() == limit {
                let next = jobs.last().map(|last: &Arc<Job>| query.order.cursor(last));
                return Ok(JobPage { jobs, next });
            }
            let next = is_last.then(|| section.cursor(&job));
            if matches {
                jobs.push(Arc::new(job));
            }
            if next.is_some() {
                return Ok(JobPage { jobs, next });
            }
        }
    }
    Ok(JobPage { jobs, next: None })
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
    Job { tally: Tally::of_counts(tally), ..root(key, row, None) }
}

impl OrderSection {
    pub(in crate::store) fn of_order(order: JobOrder) -> &'static [Self] {
        match (order.field, order.descending) {
            (OrderField::CreateTime, _) => &[Self::All],
            (OrderField::EndTime, _) => &[Self::Ended, Self::Live],
            (OrderField::Priority, true) => &[Self::High, Self::Usual, Self::Low],
            (OrderField::Priority, false) => &[Self::Low, Self::Usual, Self::High],
        }
    }

    pub(in crate::store) fn of_cursor(field: OrderField, cursor: &JobCursor) -> Self {
        match (field, cursor.value) {
            (OrderField::CreateTime, _) => Self::All,
            (OrderField::EndTime, Some(_)) => Self::Ended,
            (OrderField::EndTime, None) => Self::Live,
            (OrderField::Priority, None | Some(0)) => Self::Usual,
            (OrderField::Priority, Some(priority)) => {
                if priority > 0 {
                    Self::High
                } else {
                    Self::Low
                }
            }
        }
    }

    /// The position of the walk at a job, which need not be of this section.
    fn cursor(self, job: &Job) -> JobCursor {
        let value = match self {
            Self::All => Some(job.meta.create_time.0),
            Self::Ended => job.end_time.map(|at| at.0),
            Self::Live => None,
            Self::Usual => Some(0),
            Self::High | Self::Low => Some(i64::from(job.priority)),
        };
        JobCursor::at(job, value)
    }

    /// The condition on the namespace with which the index begins, and the condition of a partial index.
    fn range(self) -> &'static str {
        match self {
            Self::All | Self::Live | Self::Usual => "j.namespace_id + 0 = $1",
            Self::Ended => "j.namespace_id = $1 AND j.end_time IS NOT NULL",
            Self::High => "j.namespace_id + 0 = $1 AND j.priority <> 0 AND j.priority > 0",
            Self::Low => "j.namespace_id + 0 = $1 AND j.priority <> 0 AND j.priority < 0",
        }
    }

    /// The condition by which rows that are read belong to the section. None: all do.
    fn condition(self) -> Option<&'static str> {
        match self {
            Self::Live => Some("j.end_time IS NULL"),
            Self::Usual => Some("j.priority = 0"),
            Self::All | Self::Ended | Self::High | Self::Low => None,
        }
    }

    /// The columns of the index, behind the namespace.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::All | Self::Live | Self::Usual => &["j.create_time", "j.job_id"],
            Self::Ended => &["j.end_time", "j.job_id"],
            Self::High | Self::Low => &["j.priority", "j.create_time", "j.job_id"],
        }
    }

    /// The time by which the index is ordered. None: it begins with the priority.
    fn time(self) -> Option<TimeField> {
        match self {
            Self::All | Self::Live | Self::Usual => Some(TimeField::Create),
            Self::Ended => Some(TimeField::End),
            Self::High | Self::Low => None,
        }
    }

    /// Whether the section can have a job that matches the clause; false only where it surely has none.
    fn can_match(self, clause: &Clause) -> bool {
        match clause {
            Clause::State(phases) => match self {
                Self::Ended => phases.iter().any(|phase| phase.is_terminal()),
                Self::Live => phases.iter().any(|phase| !phase.is_terminal()),
                Self::All | Self::High | Self::Usual | Self::Low => !phases.is_empty(),
            },
            Clause::Time { field: TimeField::End, any_of } if self == Self::Live => {
                any_of.iter().any(|test| test.comparison == Comparison::NotEqual)
            }
            Clause::Time { any_of, .. } => !any_of.is_empty(),
            Clause::Kind(any_of) | Clause::Label { any_of, .. } => !any_of.is_empty(),
        }
    }

    /// The range of the index that has the jobs that match the clauses. A job is created, then starts, then ends.
    fn bounds(self, clauses: &[Clause]) -> ColumnBounds<Timestamp> {
        let Some(own) = self.time() else { return ColumnBounds::default() };
        let of_clause = |clause: &Clause| {
            let Clause::Time { field, any_of } = clause else { return ColumnBounds::default() };
            let ColumnBounds { low, high } = ColumnBounds::of(any_of);
            ColumnBounds { low: low.filter(|_| *field <= own), high: high.filter(|_| *field >= own) }
        };
        clauses.iter().map(of_clause).fold(ColumnBounds::default(), ColumnBounds::and)
    }
}

/// The walk over a section. None: it has no job that matches.
pub(in crate::store) fn section_walk(
    namespace: NamespaceId,
    query: &JobQuery,
    section: OrderSection,
    after: Option<&JobCursor>,
    limit: usize,
) -> Option<PageQuery> {
    let clauses = &query.filter.clauses;
    if !clauses.iter().all(|clause| section.can_match(clause)) {
        return None;
    }
    let mut values = Values::default();
    values.bind(namespace.0);
    let mut filter: Vec<String> = clauses.iter().map(|clause| condition(clause, &mut values)).collect();
    filter.extend(section.condition().map(str::to_owned));
    let mut range = section.range().to_owned();
    if let Some(time) = section.time() {
        range += &section.bounds(clauses).condition(column(time), "timestamptz", &mut values);
    }
    let (order, descending) = (section.columns(), query.order.descending);
    if let Some(after) = after {
        let places: Vec<String> = order.iter().map(|column| value_at(after, column, &mut values)).collect();
        range += &format!(" AND {}", behind(order, &places, descending));
    }
    let parts =
        PageParts { range, filter, order, descending, most: MAX_LOOKED_AT, limit, is_plain: clauses.is_empty() };
    Some(PageQuery::of(include_str!("../sql/job/pages/list_jobs.sql"), parts, values))
}

fn condition(clause: &Clause, values: &mut Values) -> String {
    let condition = match clause {
        Clause::State(phases) => {
            let states: Vec<i16> = phases.iter().flat_map(|phase| numbers(*phase)).collect();
            format!("j.state = ANY({}::int2[])", values.bind(states))
        }
        Clause::Kind(tests) => any_of("j.kind", tests, "text", values),
        Clause::Label { key, any_of: tests } => {
            let label = format!("(j.labels ->> {}::text) COLLATE \"C\"", values.bind(key.clone()));
            any_of(&label, tests, "text", values)
        }
        Clause::Time { field, any_of: tests } => any_of(column(*field), tests, "timestamptz", values),
    };
    format!("({condition})")
}

/// Binds the value that the last job of the page before has in a column of the order.
fn value_at(cursor: &JobCursor, column: &str, values: &mut Values) -> String {
    match column {
        "j.job_id" => values.bind(cursor.job_id.clone()),
        "j.priority" => values.bind(cursor.value.and_then(|value| i32::try_from(value).ok()).unwrap_or_default()),
        "j.end_time" => values.bind(Timestamp(cursor.value.unwrap_or_default())),
        // The value of the order by creation; other orders have it beside theirs.
        _ => values.bind(Timestamp(cursor.created.or(cursor.value).unwrap_or_default())),
    }
}

/// The stored states that a state of the API stands for.
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

fn column(field: TimeField) -> &'static str {
    match field {
        TimeField::Create => "j.create_time",
        TimeField::Start => "j.start_time",
        TimeField::End => "j.end_time",
    }
}
