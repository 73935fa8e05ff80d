//! A record's row that a foreign session holds: its writers wait for a bounded time; other writes do not wait.

use std::time::Duration;

use interlock::proto::BatchUpdateRecordsRequest;
use serde_json::json;
use tonic::Code;

use crate::harness::*;

const LOCK: &str = "BEGIN; SELECT * FROM records WHERE record_id = 'locked' FOR UPDATE";

#[tokio::test(flavor = "multi_thread")]
async fn locked_record_blocks_no_other_write() {
    let server = Server::start().await;
    let api = &server.api;
    for record_id in ["locked", "free"] {
        api.update_record(record_id, vec![increment("n", 0.0)]).await;
    }
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute(LOCK).await.expect("a lock");
    // A batch with it is refused as a whole; nothing of it is applied.
    let updates = ["free", "locked"].map(|record_id| update(record_id, vec![increment("n", 100.0)])).to_vec();
    let held = async {
        let batch = BatchUpdateRecordsRequest { updates, ..Default::default() };
        refused(api.records().batch_update_records(batch).await, Code::Aborted, "CONFLICT");
    };
    let beside = async {
        for i in 1..=100 {
            // The batch wants this one too, but it has not got it.
            let written = api.update_record("free", vec![increment("n", 1.0)]).await;
            assert_eq!(written.applied_version, i + 1);
            assert_eq!(fields_of(&api.record("locked").await), json!({ "n": 0 }));
        }
    };
    futures::join!(held, beside);
    assert_eq!(fields_of(&api.record("free").await), json!({ "n": 100 }));
    // Once it is free, the write goes through.
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        foreign.batch_execute("ROLLBACK").await.expect("no lock");
    };
    let (written, ()) = futures::join!(api.update_record("locked", vec![increment("n", 1.0)]), release);
    assert_eq!(written.applied_version, 2);
}
