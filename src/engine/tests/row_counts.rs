//! Writes that change other rows than were meant never commit, and do not fail their neighbours in the group.

use futures::future::join_all;

use super::{Server, record, server, session};
use crate::error::Error;
use crate::store::tests::database;

async fn count(server: &Server, record_id: usize) -> Option<i64> {
    let found = server.engine.shared().store.records(&[record(record_id)]).await.expect("a read");
    found.values().next().map(|record| record.version)
}

#[tokio::test]
async fn missing_child_row_fails_its_own_operation_before_the_commit() {
    let database = database().await;
    let server = server(&database);
    server.add(0..20).await.expect("made");
    server.submit("film", &[("voice", &[])], None).await.expect("submitted");
    let lease = server.lease(std::time::Duration::from_secs(20)).await.remove(0);
    session(&database).await.batch_execute("DELETE FROM leases").await.expect("a fault");

    let add = |i: usize| server.add(i..i + 1);
    let (ended, added) = futures::join!(server.complete(&lease), join_all((0..20).map(add)));
    assert!(matches!(ended, Err(Error::Bug { .. })), "{ended:?}");
    assert!(added.iter().all(Result::is_ok), "{added:?}");
    for i in 0..20 {
        assert_eq!(count(&server, i).await, Some(2));
    }
    let job = session(&database).await.query_one("SELECT revision FROM jobs", &[]).await.expect("the job");
    assert_eq!(job.get::<_, i64>(0), 2, "nothing of it was committed");
}
