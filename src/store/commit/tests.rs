//! Every part of the commit statement is prepared, alone and with all others.

use super::plan::PARTS;
use super::statement::text;
use crate::store::connection::{Run, Target};
use crate::store::tests::database;

#[tokio::test]
async fn every_part_fits_the_schema_and_the_others() {
    let database = database().await;
    let client = Target::parse(database.url()).expect("our own URL").connect("").await.expect("Postgres listens");
    let guard = 1u64 << PARTS.iter().position(|part| part.name == "lock_jobs").expect("a guard");
    for (i, part) in PARTS.iter().enumerate() {
        assert!(part.sql.starts_with(&format!("-- {}: ", part.name)), "{} begins with its name", part.name);
        let sql = text(guard | 1 << i);
        client.anew(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}\n{sql}", part.name));
    }
    let all = PARTS.iter().enumerate().map(|(i, _)| 1u64 << i).sum();
    client.anew(&text(all)).await.expect("all parts together");
}

#[test]
fn parameters_are_counted_on() {
    let guard = PARTS.iter().position(|part| part.name == "lock_jobs").expect("a guard");
    let write = PARTS.iter().position(|part| part.name == "delete_jobs").expect("a write");
    let sql = text(1 << guard | 1 << write);
    assert!(sql.contains("$4::int4[], $5::int4[], $6::uuid[], $7::int8[]"), "{sql}");
    assert!(sql.contains("$8::int4[], $9::int4[], $10::uuid[]"), "{sql}");
}
