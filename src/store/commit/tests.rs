//! Every part of the commit statement is prepared, alone and with all others.

use tokio_postgres::SimpleQueryMessage;

use super::plan::{PARTS, Part};
use super::statement::{text, weight};
use crate::store::connection::{Client, Run, Target, WRITER_SETUP};
use crate::store::tests::database;

#[tokio::test]
async fn every_part_fits_the_schema_and_the_others() {
    let database = database().await;
    let client = Target::parse(database.url()).expect("our own URL").connect("").await.expect("Postgres listens");
    let guard = 1u128 << PARTS.iter().position(|part| part.name == "lock_jobs").expect("a guard");
    for (i, part) in PARTS.iter().enumerate() {
        assert!(part.sql.starts_with(&format!("-- {}: ", part.name)), "{} begins with its name", part.name);
        let sql = text(guard | 1 << i);
        client.anew(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", part.name));
    }
    for (i, part) in PARTS.iter().enumerate().filter(|(_, part)| part.proves_itself) {
        let sql = text(1 << i);
        assert!(!sql.contains("JOIN ok"), "{} has nothing to wait for", part.name);
        client.anew(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", part.name));
    }
    let all = PARTS.iter().enumerate().map(|(i, _)| 1u128 << i).sum();
    client.anew(&text(all)).await.expect("all parts together");
}

#[test]
fn parameters_are_counted_on() {
    let guard = PARTS.iter().position(|part| part.name == "lock_jobs").expect("a guard");
    let write = PARTS.iter().position(|part| part.name == "delete_jobs").expect("a write");
    let sql = text(1 << guard | 1 << write);
    let params = |numbers: &[&str]| numbers.iter().all(|number| sql.contains(&format!("unnest(${number}[]) AS")));
    assert!(params(&["5::int4", "6::int4", "7::uuid", "8::int8", "9::timestamptz"]), "{sql}");
    assert!(params(&["10::int4", "11::int4", "12::uuid"]), "{sql}");
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
async fn plan(client: &Client, part: &Part) -> String {
    let body: Vec<&str> = part.sql.lines().filter(|line| !line.starts_with("--")).collect();
    let body = body.join("\n");
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
async fn rows_are_found_by_their_keys_from_the_first_group_on() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    check(&target.connect(WRITER_SETUP).await.expect("Postgres listens"), "empty").await;
}
