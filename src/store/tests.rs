//! Every statement is prepared against the migrated schema.

use super::connection::{Run, Target};
use super::migrate::migrate;
use crate::dev::{TestCluster, TestDatabase};

/// A migrated database of one's own.
pub(crate) async fn database() -> TestDatabase {
    let cluster = TestCluster::shared().await.expect("Postgres starts");
    let migrated = |url: String| async move {
        migrate(&Target::parse(&url).expect("our own URL")).await.expect("the migrations run");
        Ok::<(), crate::dev::Error>(())
    };
    cluster.database(migrated).await.expect("a copy of the template")
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = database().await;
    let client = Target::parse(database.url()).expect("our own URL").connect("").await.expect("Postgres listens");
    let mut prepared = 0;
    for entry in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/sql")).expect("the folder of the SQL")
    {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        let sql = std::fs::read_to_string(&path).expect("text");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(sql.starts_with(&format!("-- {name}: ")), "{name} begins with its name and what it is for");
        client.anew(&sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        prepared += 1;
    }
    assert!(prepared > 15, "only {prepared} files were found");
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = database().await;
    let applied = migrate(&Target::parse(database.url()).expect("our own URL")).await.expect("a second run");
    assert_eq!(applied, Vec::<String>::new());
}
