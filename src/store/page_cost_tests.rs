//! What pages of lists read in tables that are large: a bounded number of rows, in each order and with each filter, whatever statistics the
//! planner has.

use std::collections::BTreeSet;

use postgres_types::{ToSql, Type};

use super::connection::{Client, Target};
use super::cost_tests::pages;
use super::job::list::{self as list_jobs, OrderSection};
use super::page::{MAX_LOOKED_AT, PageQuery, WALK_SETUP};
use super::pg::pool::ReadPool;
use super::pg::snapshot::Snapshot;
use super::record::list as list_records;
use super::session::list::{self as list_sessions, SessionSection};
use super::tests::sql_files;
use super::timeline::query::{self as query_timeline, MAX_SEGMENTS_LOOKED_AT, TimelineSection};
use super::timeline::search::{self as search_segments, SEARCH_SETUP, SegmentAccess};
use super::timeline::stemmed_query::StemmedQuery;
use crate::config::Config;
use crate::domain::id::NamespaceId;
use crate::domain::job::JobPhase;
use crate::domain::query::{Clause, Comparison, JobCursor, JobFilter, JobOrder, JobQuery, OrderField, Test, TimeField};
use crate::domain::record_query::{
    RecordClause, RecordCursor, RecordOrder, RecordOrderField, RecordQuery, RecordTime, Scalar,
};
use crate::domain::session::query::{SessionClause, SessionCursor, SessionOrder, SessionQuery, SessionTime};
use crate::domain::session::{SessionKey, SessionState};
use crate::domain::time::Timestamp;
use crate::domain::timeline::query::{SegmentConditions, SegmentSearch, TimelineCursor, TimelineQuery, UntimedChoice};
use crate::domain::timeline::search_query::SearchQuery;

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
    statement: PageQuery,
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
                        let Some(statement) = made else { continue };
                        // Of a section that has no index of its own, rows of others are passed over.
                        let all = clauses.is_empty() && *section == OrderSection::All;
                        let bound = if all { PAGE } else { PAGE + LOOKED_AT };
                        let what = format!("list_jobs {filter} {order:?} {section:?} {after:?}");
                        statements.push(PageStatement { what, statement, bound });
                    }
                }
            }
        }
    }
    statements
}

/// A search for a word, and the word as two configurations stem it.
fn search(word: &str, sessions: Vec<SessionClause>) -> (SegmentSearch, StemmedQuery) {
    let search = SegmentSearch {
        namespace: NamespaceId(1),
        query: SearchQuery::parse(&format!("{word} -never")).expect("words"),
        sessions,
        conditions: SegmentConditions { speakers: vec!["Ann".to_owned()], ..SegmentConditions::default() },
        from: None,
        until: None,
        after: None,
        limit: LIMIT,
    };
    let stemmed = |text: &str| vec![format!("'{text}'"), format!("'{text}'")];
    let (wanted, unwanted) = (stemmed(word), Some(stemmed("never")));
    let operands = stemmed(word).into_iter().map(|operand| vec![operand]).collect();
    (search, StemmedQuery { configs: vec!["english", "simple"], wanted, operands, unwanted })
}

fn timelines() -> Vec<PageStatement> {
    let uid = "61000000-0000-8000-8000-000000000001".parse().expect("a uid");
    let session = SessionKey { namespace: NamespaceId(1), uid };
    let speakers = |names: &[&str]| SegmentConditions {
        speakers: names.iter().map(|name| (*name).to_owned()).collect(),
        ..SegmentConditions::default()
    };
    let mut statements = Vec::new();
    // Of the long session as many segments are read as may be, but they lie next to each other.
    let looked_at = MAX_SEGMENTS_LOOKED_AT as u64 / 8;
    let filters = [
        (None, None, speakers(&[]), PAGE),
        (None, None, speakers(&["nobody"]), PAGE + looked_at),
        // What begins before the range is found without reading all of it.
        (Some(39_000), Some(39_100), speakers(&[]), PAGE),
        (Some(39_000), Some(39_100), speakers(&["nobody"]), PAGE),
        (None, Some(1_000), speakers(&["nobody"]), PAGE + looked_at),
    ];
    let seconds = |given: Option<i64>| given.map(|seconds| seconds * 1_000_000_000);
    for (start, end, conditions, bound) in filters {
        let (start_ns, end_ns) = (seconds(start), seconds(end));
        for section in [TimelineSection::Timed, TimelineSection::Untimed] {
            let is_timed = section == TimelineSection::Timed;
            // All without a start are read.
            let bound = if is_timed { bound } else { PAGE + looked_at };
            let at = seconds(is_timed.then_some(501));
            for after in [None, Some(TimelineCursor { start_ns: at, arrival: 501 })] {
                let (untimed, conditions) = (UntimedChoice::Include, conditions.clone());
                let query = TimelineQuery { session, start_ns, end_ns, untimed, conditions, after, limit: LIMIT };
                let statement = query_timeline::walk(&query, section, after, LIMIT as usize);
                let what = format!("query_timeline {section:?} {query:?}");
                statements.push(PageStatement { what, statement, bound });
            }
        }
    }
    let team = SessionClause::Label { key: "team".into(), any_of: vec![test(Comparison::Equal, "acme".to_owned())] };
    let named = SessionClause::SessionId(vec![test(Comparison::Equal, "s9".to_owned())]);
    // A word of one segment, and one of all. The first search of a connection reads dictionaries.
    let found = SegmentAccess::ByWords.most() as u64 * 4;
    for (words, access, bound) in [
        ("rare17", SegmentAccess::ByWords, 2_000),
        ("common", SegmentAccess::ByWords, found),
        ("common", SegmentAccess::OneByOne, found / 5),
    ] {
        for sessions in [Vec::new(), vec![team.clone()], vec![named.clone()]] {
            let bound = if sessions == [named.clone()] { 2_000 } else { bound };
            let (search, stemmed) = search(words, sessions);
            let statement = search_segments::statement(&search, &stemmed, access);
            let what = format!("search_segments {access:?} {search:?}");
            statements.push(PageStatement { what, statement, bound });
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
                    let statement = list_records::walk(&query);
                    let bound = if field == RecordOrderField::CreateTime && !clauses.is_empty() {
                        PAGE + LOOKED_AT
                    } else {
                        bound
                    };
                    statements.push(PageStatement { what: format!("list_records {query:?}"), statement, bound });
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
    let statement = list_records::sort(&query);
    statements.push(PageStatement { what: "sort_records".to_owned(), statement, bound });
    let statement = list_records::count(&query);
    statements.push(PageStatement { what: "count_records".to_owned(), statement, bound });
    statements
}

fn sessions() -> Vec<PageStatement> {
    let mut statements = Vec::new();
    let time =
        |field, comparison, at: i64| SessionClause::Time { field, any_of: vec![test(comparison, Timestamp(at))] };
    let filters = [
        Vec::new(),
        vec![SessionClause::State(vec![SessionState::Ended])],
        vec![SessionClause::SessionId(vec![test(Comparison::Equal, "session-7".to_owned())])],
        vec![SessionClause::Label { key: "team".into(), any_of: vec![test(Comparison::Equal, "acme".to_owned())] }],
        vec![time(SessionTime::Create, Comparison::Less, 1_000_000)],
        vec![time(SessionTime::End, Comparison::Greater, FUTURE)],
    ];
    for clauses in filters {
        for field in [SessionTime::Create, SessionTime::End] {
            for descending in [false, true] {
                let order = SessionOrder { field, descending };
                let query = SessionQuery { clauses: clauses.clone(), order, after: None, limit: LIMIT };
                for section in SessionSection::of_order(order) {
                    let at =
                        |end| SessionCursor { end, created: 1_700_000_000_000_000, session_id: "session-9".into() };
                    let cursors = [at(None), at(Some(1_700_000_000_000_000))];
                    let after = cursors.into_iter().find(|at| SessionSection::of_cursor(order, at) == *section);
                    for after in [None, after] {
                        let namespace = NamespaceId(1);
                        let statement =
                            list_sessions::section_walk(namespace, &query, *section, after.as_ref(), LIMIT as usize);
                        let what = format!("list_sessions {clauses:?} {order:?} {section:?} {after:?}");
                        statements.push(PageStatement { what, statement, bound: PAGE + LOOKED_AT });
                    }
                }
            }
        }
    }
    statements
}

fn all() -> impl Iterator<Item = PageStatement> {
    jobs().into_iter().chain(records()).chain(sessions()).chain(timelines())
}

/// All settings of a search.
fn search_setup(access: SegmentAccess) -> String {
    [Some(SEARCH_SETUP), access.further_setup()].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Holds every page to its bound; `statistics` says what the planner knows, and `versions` how many versions a row has that cannot be removed.
pub(super) async fn check(client: &Client, statistics: &str, versions: u64) {
    let mut above = Vec::new();
    for PageStatement { what, statement, bound } in all() {
        let searches = [SegmentAccess::ByWords, SegmentAccess::OneByOne];
        let search = searches.into_iter().find(|access| what.starts_with(&format!("search_segments {access:?} ")));
        let setup = search.map_or(WALK_SETUP.to_owned(), search_setup);
        client.batch_execute(&format!("ROLLBACK; BEGIN; {setup}")).await.expect("the settings of a page");
        let mut plans = vec![plan(client, &what, &statement.sql, &statement.values.typed()).await];
        if statement.is_kept {
            plans.push(generic_plan(client, &what, &statement).await);
        }
        for plan in plans {
            let touched = pages(&plan);
            if touched > bound * versions {
                above.push(format!("{what} touched {touched} pages, more than {bound}:\n{}", plan.join("\n")));
            }
        }
    }
    client.batch_execute("ROLLBACK").await.expect("the end");
    assert!(above.is_empty(), "{statistics}: {}", above.join("\n\n"));
}

async fn plan(client: &Client, what: &str, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Vec<String> {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) {sql}");
    let rows = client.query_typed(&explain, params).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// The plan for any values, which Postgres makes for statements that are kept.
async fn generic_plan(client: &Client, what: &str, statement: &PageQuery) -> Vec<String> {
    let typed = statement.values.typed();
    let literals: Vec<String> = (1..=typed.len()).map(|i| format!("quote_nullable(${i}::text)")).collect();
    let literals = format!("SELECT concat_ws(', ', {})", literals.join(", "));
    let literals: String = client.query_typed(&literals, &typed).await.expect("literals")[0].get(0);
    let types: Vec<&str> = typed.iter().map(|(_, sql_type)| sql_type.name()).collect();
    let prepare = format!(
        "SET LOCAL plan_cache_mode = force_generic_plan; DEALLOCATE ALL; PREPARE page({}) AS {}",
        types.join(", "),
        statement.sql
    );
    client.batch_execute(&prepare).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    plan(client, what, &format!("EXECUTE page({literals})"), &[]).await
}

/// With statistics, a word that most segments have is not looked up in the index, and either way finds the same.
pub(super) async fn frequent_words_are_not_looked_up(target: &Target) {
    let reads = ReadPool::new(target, (&Config::default()).into()).expect("a pool");
    let client = reads.get().await.expect("Postgres listens");
    for (word, expected) in [("rare17", SegmentAccess::ByWords), ("common", SegmentAccess::OneByOne)] {
        let (search, stemmed) = search(word, Vec::new());
        let snapshot = Snapshot::under(&client, SEARCH_SETUP);
        let access = search_segments::access(&snapshot, &search, &stemmed).await.expect("a plan");
        assert_eq!(access, expected, "{word}");
    }
    // A session with a uid that its id has.
    let uid = SessionKey::of(NamespaceId(1), "named").uid;
    let insert = format!(
        "INSERT INTO sessions (namespace_id, session_uid, session_id, state, version, segment_count, arrivals, retention_us, create_time,
            update_time) VALUES (1, '{uid}', 'named', 1, 1, 2, 2, 0, now(), now());
        INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, speaker, language, text,
            create_time, update_time, search_config)
        SELECT 1, '{uid}', k, 1, 1, 2, 2, 0, 'Ann', 'en', text, now(), now(), 'english'
        FROM (VALUES ('a', 'common'), ('b', 'common and never'), ('c', 'rare')) AS v(k, text)"
    );
    client.batch_execute(&insert).await.expect("a session");
    let named = SessionClause::SessionId(vec![test(Comparison::Equal, "named".to_owned())]);
    let (search, stemmed) = search("common", vec![named]);
    for access in [SegmentAccess::ByWords, SegmentAccess::OneByOne] {
        let snapshot = Snapshot::under(&client, SEARCH_SETUP);
        let rows = search_segments::found(&snapshot, &search, &stemmed, access).await.expect("a page");
        assert_eq!(rows.iter().map(|row| row.get("key")).collect::<Vec<String>>(), ["a"], "{access:?}");
    }
}

#[test]
fn every_page_statement_has_a_bound() {
    let pages = sql_files(2).into_iter().filter(|path| path.iter().any(|folder| folder == "pages"));
    let names: BTreeSet<String> =
        pages.map(|path| path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned()).collect();
    let looked_at: BTreeSet<String> =
        all().filter_map(|statement| statement.what.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(names, looked_at);
}
