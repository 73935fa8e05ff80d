//! Every part of the commit statement is prepared, alone and with all others.

use tokio_postgres::SimpleQueryMessage;

use super::plan::{PARTS, StatementPart};
use super::statement::{text, weight};
use crate::store::pg::connection::{Client, Run, Target, WRITER_SETUP};
use crate::store::tests::{database, sql_files};

#[tokio::test]
async fn every_part_fits_the_schema_and_the_others() {
    let database = database().await;
    let client = Target::parse(database.url()).expect("our own URL").connect("").await.expect("Postgres listens");
    let guard = 1u128 << PARTS.iter().position(|part| part.name == "lock_jobs").expect("a guard");
    for (i, part) in PARTS.iter().enumerate() {
        let sql = text(guard | 1 << i);
        client.prepare_new(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", part.name));
    }
    for (i, part) in PARTS.iter().enumerate().filter(|(_, part)| part.proves_itself) {
        let sql = text(1 << i);
        assert!(!sql.contains("JOIN ok"), "{} has nothing to wait for", part.name);
        client.prepare_new(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", part.name));
    }
    let all = PARTS.iter().enumerate().map(|(i, _)| 1u128 << i).sum();
    client.prepare_new(&text(all)).await.expect("all parts together");
}

#[test]
fn parameters_are_numbered_through_all_parts() {
    let guard = PARTS.iter().position(|part| part.name == "lock_jobs").expect("a guard");
    let write = PARTS.iter().position(|part| part.name == "delete_jobs").expect("a write");
    let sql = text(1 << guard | 1 << write);
    let params = |numbers: &[&str]| numbers.iter().all(|number| sql.contains(&format!("unnest(${number}[]) AS")));
    assert!(params(&["6::int4", "7::int4", "8::uuid", "9::int8", "10::timestamptz"]), "{sql}");
    assert!(params(&["11::int4", "12::int4", "13::uuid"]), "{sql}");
}

/// Columns that a part does not name, and why.
const UNUSED: &[(&str, &str, &str)] = &[
    ("move_specs", "input", "the row of the job has it"),
    ("update_resources", "name", "a resource keeps its name"),
    ("update_segments", "arrival", "a segment keeps it"),
    ("update_segments", "kind", "a segment keeps it"),
    ("update_segments", "create_time", "a segment keeps it"),
];

/// Columns of tables that get their value from, or are compared with, a column of another name.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("job_uid", "root_uid"),
    ("resource_uid", "root_uid"),
    ("session_uid", "root_uid"),
    ("revision", "version"),
    ("version", "replaced_version"),
    ("blocked_on", "resource_uid"),
    ("check_at", "expires_at"),
];

/// The name at the end of a text, without that of its table.
fn last_name(text: &str) -> &str {
    text.trim_end().rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The name at the beginning of a text.
fn first_name(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The columns that a part sets from, or compares with, a column of its rows: `a = v.b`.
fn assignments(sql: &str) -> impl Iterator<Item = (&str, &str)> {
    sql.match_indices("= v.").map(move |(at, found)| (last_name(&sql[..at]), first_name(&sql[at + found.len()..])))
}

/// The columns that a part inserts, each with the expression for it. Commas in the expressions stand in parentheses.
fn inserted(sql: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = sql.split_once("INSERT INTO ") else { return Vec::new() };
    let (columns, rest) = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("columns");
    let values = rest
        .trim_start()
        .strip_prefix("SELECT ")
        .expect("SELECT")
        .split(" FROM (SELECT unnest")
        .next()
        .expect("values");
    let (mut depth, mut expressions) = (0, vec![String::new()]);
    for c in values.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match c {
            ',' if depth == 0 => expressions.push(String::new()),
            c => expressions.last_mut().expect("one").push(c),
        }
    }
    let columns: Vec<&str> = columns.split(", ").collect();
    assert_eq!(columns.len(), expressions.len(), "{sql}");
    columns.into_iter().map(str::to_owned).zip(expressions).collect()
}

/// The columns of a part's rows that go to, or are compared with, columns of other names; and how many were looked at.
fn misplaced(sql: &str) -> (Vec<String>, usize) {
    let is_same = |own: &str, given: &str| own == given || OTHER_NAMES.contains(&(own, given));
    let assigned = assignments(sql).map(|(own, given)| (is_same(own, given), format!("{own} = v.{given}")));
    let inserted = inserted(sql).into_iter().map(|(own, expression)| {
        let given = expression.split("v.").nth(1).map_or("", first_name);
        let is_plain = expression.trim() == format!("v.{given}");
        let fits = if is_plain { is_same(&own, given) } else { expression.contains(&own) || own == "blocked_on" };
        (fits, format!("{own} gets {expression}"))
    });
    let all: Vec<(bool, String)> = assigned.chain(inserted).collect();
    (all.iter().filter(|(fits, _)| !fits).map(|(_, text)| text.clone()).collect(), all.len())
}

#[test]
fn columns_of_rows_go_to_the_columns_of_the_same_name() {
    let mut looked_at = 0;
    for part in PARTS {
        let (misplaced, all) = misplaced(&part.text(1));
        assert!(misplaced.is_empty(), "{}: {misplaced:?}", part.name);
        looked_at += all;
    }
    assert!(looked_at > 350, "only {looked_at} columns were looked at");
}

#[test]
fn swapped_columns_of_one_type_are_found() {
    for (name, text, swapped) in [
        (
            "update_stages",
            "start_time = v.start_time, end_time = v.end_time",
            "start_time = v.end_time, end_time = v.start_time",
        ),
        ("insert_stages", "v.start_time, v.end_time", "v.end_time, v.start_time"),
        ("lock_jobs", "t.revision = v.version AND t.create_time = v.create_time", "t.revision = v.create_time"),
    ] {
        let part = PARTS.iter().find(|part| part.name == name).expect("a part");
        let sql = part.text(1);
        assert!(sql.contains(text), "{sql}");
        assert!(!misplaced(&sql.replace(text, swapped)).0.is_empty(), "{name}");
    }
}

#[test]
fn every_column_of_a_part_is_used() {
    for part in PARTS {
        let (sql, columns) = (part.text(1), part.own_columns());
        for (i, (name, _)) in columns.iter().enumerate() {
            let is_param = sql.matches(&format!("${}::", i + 2)).count() > 1;
            let named = |rest: &str| first_name(rest) == *name;
            let is_used = is_param || sql.split("v.").skip(1).any(named) || sql.contains(&format!("USING ({name})"));
            let may_be_unused = UNUSED.iter().any(|(part_name, column, _)| part.name == *part_name && name == column);
            assert_eq!(is_used, !may_be_unused, "{}: {name} in {sql}", part.name);
        }
        if let Some(table) = part.table.filter(|_| part.is_guard) {
            let checked = table.pairs(columns).count();
            let (key, whole) = (table.key.len(), table.key.len() + table.version.len());
            let is_absent = part.name.starts_with("check_absent_");
            assert_eq!(checked, columns.len(), "{} checks all of its columns", part.name);
            assert_eq!(checked, if is_absent { key } else { whole }, "{} checks key and version", part.name);
        }
    }
}

#[test]
fn every_file_of_a_part_is_used() {
    let names: Vec<&str> = PARTS.iter().filter(|part| part.table.is_none()).map(|part| part.name).collect();
    for path in sql_files(2).into_iter().filter(|path| path.iter().any(|folder| folder == "commit")) {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(names.contains(&&*name), "{} is a part of no statement", path.display());
    }
}

#[test]
fn every_part_whose_rows_are_counted_has_a_weight_of_its_own() {
    let weights: std::collections::BTreeSet<i64> = (0..PARTS.len()).map(weight).collect();
    assert_eq!(weights.len(), PARTS.len());
    assert!(weights.iter().all(|weight| (1..1 << 32).contains(weight)), "sums of a large group fit");
    let counted = PARTS.iter().filter(|part| part.is_counted()).count();
    assert!(counted > 20, "only {counted} parts are counted");
}

/// The plan of a part as a writer makes it, before there are any statistics: it is kept while the tables grow.
async fn plan(client: &Client, part: &StatementPart) -> String {
    let body = part.text(1);
    let ok =
        if body.contains("ok USING") { "WITH ok AS MATERIALIZED (SELECT generate_series(1, 3) AS c) " } else { "" };
    let params = (1..).take_while(|i| body.contains(&format!("${i}::"))).map(|_| "NULL").collect::<Vec<_>>().join(", ");
    client.batch_execute(&format!("PREPARE part AS {ok}{body}")).await.expect("the part");
    let rows = client.simple_query(&format!("EXPLAIN EXECUTE part({params})")).await.expect("a plan");
    client.batch_execute("DEALLOCATE part").await.expect("gone");
    let line = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// Looks at the plans of all parts; `statistics` says what the planner knows.
pub(crate) async fn check(client: &Client, statistics: &str) {
    // One row for each namespace, and one in all.
    let is_small = |line: &str| ["namespaces", "global_floor", "key_ring"].iter().any(|table| line.contains(table));
    let mut scans = 0;
    for part in PARTS {
        let plan = plan(client, part).await;
        assert!(!plan.contains("Seq Scan"), "{statistics}: {}:\n{plan}", part.name);
        let lines: Vec<&str> = plan.lines().collect();
        let found = lines.iter().enumerate().filter(|(_, line)| line.contains(" Scan using ") && !is_small(line));
        for (i, line) in found {
            let by_key = lines[i + 1].contains("Index Cond")
                && ["_uid", "blocked_on", "request_id", "record_id", "key_id"]
                    .iter()
                    .any(|column| lines[i + 1].contains(column));
            // Whether a namespace is empty is asked of all its jobs.
            assert!(by_key || part.name == "empty_namespaces", "{statistics}: {}: {line}\n{plan}", part.name);
            scans += 1;
        }
    }
    assert!(scans > 15, "only {scans} scans were looked at");
}

#[tokio::test]
async fn parts_find_rows_by_their_keys_without_statistics() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    check(&target.connect(WRITER_SETUP).await.expect("Postgres listens"), "empty").await;
}
