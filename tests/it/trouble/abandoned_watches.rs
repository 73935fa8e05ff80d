//! Watches that cannot begin, because their reads are blocked: they leave connections to other reads, and go when their clients go.

use std::time::Duration;

use interlock::proto::{ListRecordsRequest, WatchJobRequest};
use tokio::task::JoinSet;

use crate::harness::*;

/// Each of another job.
const WATCHES: usize = 200;

async fn watch(api: Api, job_id: String) {
    let request = WatchJobRequest { job_id, from_version: 0 };
    let mut stream = ok(api.jobs().watch_job(request).await);
    let _first = stream.message().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_cannot_begin_leave_connections_to_other_reads() {
    let server = Server::with(|config| config.pool_max = 4).await;
    let api = &server.api;
    for i in 0..WATCHES {
        api.submit(new_job(&format!("job-{i}"), vec![new_stage("s")])).await;
    }
    // Snapshots read this table.
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute("BEGIN; LOCK TABLE job_documents").await.expect("a lock");
    let mut watches = JoinSet::new();
    for i in 0..WATCHES {
        watches.spawn(watch(api.clone(), format!("job-{i}")));
    }
    eventually("watches wait", async || {
        let watchers = api.statistics().await.feed.expect("figures of the feed").watchers;
        (watchers == WATCHES as i64).then_some(())
    })
    .await;
    let reads = async {
        for _ in 0..20 {
            let list = ListRecordsRequest { collection: COLLECTION.to_owned(), ..Default::default() };
            ok(api.records().list_records(list).await);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reads).await.expect("reads of others are answered");

    // Their clients leave: nothing is read for them any more, although the lock is still there.
    watches.shutdown().await;
    let busy = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("no statement runs for watches that have gone", async || {
        server.column(busy).await.is_empty().then_some(())
    })
    .await;
    foreign.batch_execute("ROLLBACK").await.expect("no lock");
    let mut last = Watch::begin(api, "job-7", 0).await.expect("a watch");
    assert_eq!(last.next().await.expect("a snapshot").snapshot().job_id, "job-7");
    let read = api.statistics().await.feed.expect("figures of the feed").snapshots_read;
    assert!(read <= 10, "{read} reads for {WATCHES} watches");
}
