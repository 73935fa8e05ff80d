//! What pages of lists read in tables that are large: a bounded number of rows, in each order and with each filter, whatever statistics the
//! planner has.

use std::collections::BTreeSet;

use super::connection::Client;
use super::cost_tests::pages;
use super::job::list::{self as list_jobs, OrderSection};
use super::page::{MAX_LOOKED_AT, PageQuery, Values, WALK_SETUP};
use super::record::list as list_records;
use super::tests::sql_files;
use crate::domain::id::NamespaceId;
use crate::domain::job::JobPhase;
use crate::domain::query::{Clause, Comparison, JobCursor, JobFilter, JobOrder, JobQuery, OrderField, Test, TimeField};
use crate::domain::record_query::{
    RecordClause, RecordCursor, RecordOrder, RecordOrderField, RecordQuery, RecordTime, Scalar,
};
use crate::domain::time::Timestamp;

const LIMIT: u32 = 50;
/// What 51 jobs and their stages, or 51 records, take.
const PAGE: u64 = 700;
/// What the rows that are looked at take: each is found in the index and read from another page.
const LOOKED_AT: u64 = MAX_LOOKED_AT as u64 * 5 / 4;

/// In the year 2100, in microseconds since 1970.
const FUTURE: i64 = 4_102_444_800_000_000;

fn test<T>(comparison: Comparison, value: T) -> Test<T> {
    Test { comparison, value }
}

/// A statement of a list, and how many pages it may touch.
struct PageStatement {
    what: String,
    sql: String,
    values: Values,
    bound: u64,
}

fn jobs() -> Vec<PageStatement> {
    let mut statements = Vec::new();
    let time = |field, comparison, at: i64| Clause::Time { field, any_of: vec![test(comparison, Timestamp(at))] };
    let filters = [
        ("all", Vec::new()),
        ("running", vec![Clause::State(vec![JobPhase::Running])]),
        ("succeeded", vec![Clause::State(vec![JobPhase::Succeeded])]),
        ("of a kind", vec![Clause::Kind(vec![test(Comparison::Equal, "film".to_owned())])]),
        (
            "labelled",
            vec![Clause::Label { key: "customer".into(), any_of: vec![test(Comparison::Equal, "acme".to_owned())] }],
        ),
        ("created long ago", vec![time(TimeField::Create, Comparison::Less, 1_000_000)]),
        ("ended in the future", vec![time(TimeField::End, Comparison::Greater, FUTURE)]),
        ("ever started", vec![time(TimeField::Start, Comparison::Greater, 1_000_000)]),
    ];
    for (filter, clauses) in filters {
        for field in [OrderField::CreateTime, OrderField::EndTime, OrderField::Priority] {
            for descending in [false, true] {
                let order = JobOrder { field, descending };
                let query =
                    JobQuery { filter: JobFilter { clauses: clauses.clone() }, order, after: None, limit: LIMIT };
                for section in OrderSection::of_order(order) {
                    let at = |value| JobCursor { value, created: Some(1_700_000_000_000_000), job_id: "job-9".into() };
                    let values = [Some(0), None, Some(1), Some(-1), Some(1_700_000_000_000_000)];
                    let after = values.map(at).into_iter().find(|at| OrderSection::of_cursor(field, at) == *section);
                    for after in [None, after] {
                        // None: the section has no such job.
                        let namespace = NamespaceId(1);
                        let made = list_jobs::section_walk(namespace, &query, *section, after.as_ref(), LIMIT as usize);
                        let Some(PageQuery { sql, values }) = made else { continue };
                        // Of a section that has no index of its own, rows of others are passed over.
                        let all = clauses.is_empty() && *section == OrderSection::All;
                        let bound = if all { PAGE } else { PAGE + LOOKED_AT };
                        let what = format!("list_jobs {filter} {order:?} {section:?} {after:?}");
                        statements.push(PageStatement { what, sql, values, bound });
                    }
                }
            }
        }
    }
    statements
}

fn records() -> Vec<PageStatement> {
    let mut statements = Vec::new();
    let field = |name: &str, comparison, value| RecordClause::Field {
        name: name.to_owned(),
        any_of: vec![test(comparison, value)],
    };
    let time = |field, comparison, at: i64| RecordClause::Time { field, any_of: vec![test(comparison, Timestamp(at))] };
    let id = |comparison, id: &str| RecordClause::RecordId(vec![test(comparison, id.to_owned())]);
    let filters = [
        (Vec::new(), PAGE),
        (vec![field("a", Comparison::Equal, Scalar::Number(2.0))], PAGE + LOOKED_AT),
        (
            vec![field("b", Comparison::NotEqual, Scalar::Null), field("a", Comparison::Greater, Scalar::Number(9.0))],
            PAGE + LOOKED_AT,
        ),
        (vec![id(Comparison::Greater, "r5"), id(Comparison::Less, "r6")], PAGE),
        (vec![time(RecordTime::Create, Comparison::Less, 1_000_000)], PAGE + LOOKED_AT),
        (vec![time(RecordTime::Update, Comparison::Greater, FUTURE)], PAGE + LOOKED_AT),
    ];
    for (clauses, bound) in filters {
        for field in [RecordOrderField::RecordId, RecordOrderField::CreateTime] {
            for descending in [false, true] {
                for after in [None, Some(RecordCursor { value: 1_700_000_000_000_000, record_id: "r5".into() })] {
                    let query = RecordQuery {
                        namespace: NamespaceId(1),
                        collection: "c".into(),
                        clauses: clauses.clone(),
                        order: RecordOrder { field, descending },
                        after,
                        limit: LIMIT,
                    };
                    let PageQuery { sql, values } = list_records::walk(&query);
                    let bound = if field == RecordOrderField::CreateTime && !clauses.is_empty() {
                        PAGE + LOOKED_AT
                    } else {
                        bound
                    };
                    statements.push(PageStatement { what: format!("list_records {query:?}"), sql, values, bound });
                }
            }
        }
    }
    let query = RecordQuery {
        namespace: NamespaceId(1),
        collection: "c".into(),
        clauses: Vec::new(),
        order: RecordOrder { field: RecordOrderField::UpdateTime, descending: true },
        after: None,
        limit: LIMIT,
    };
    // Both read as many records as are sorted, at most; the count reads no table where the index is all visible.
    let bound = list_records::MAX_SORTED as u64 * 5 / 4;
    let PageQuery { sql, values } = list_records::sort(&query);
    statements.push(PageStatement { what: "sort_records".to_owned(), sql, values, bound });
    let PageQuery { sql, values } = list_records::count(&query);
    statements.push(PageStatement { what: "count_records".to_owned(), sql, values, bound });
    statements
}

/// Holds every page to its bound; `statistics` says what the planner knows, and `versions` how many versions a row has that cannot be removed.
pub(super) async fn check(client: &Client, statistics: &str, versions: u64) {
    client.batch_execute(&format!("BEGIN; {WALK_SETUP}")).await.expect("the settings of a page");
    let mut above = Vec::new();
    for PageStatement { what, sql, values, bound } in jobs().into_iter().chain(records()) {
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) {sql}");
        let rows = client.query(&explain, &values.params()).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let touched = pages(&plan);
        if touched > bound * versions {
            above.push(format!("{what} touched {touched} pages, more than {bound}:\n{}", plan.join("\n")));
        }
    }
    client.batch_execute("ROLLBACK").await.expect("the end");
    assert!(above.is_empty(), "{statistics}: {}", above.join("\n\n"));
}

#[test]
fn every_page_statement_has_a_bound() {
    let pages = sql_files(2).into_iter().filter(|path| path.iter().any(|folder| folder == "pages"));
    let names: BTreeSet<String> =
        pages.map(|path| path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned()).collect();
    let looked_at: BTreeSet<String> = jobs()
        .into_iter()
        .chain(records())
        .filter_map(|statement| statement.what.split(' ').next().map(str::to_owned))
        .collect();
    assert_eq!(names, looked_at);
}
