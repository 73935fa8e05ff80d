//! Reads that may be stale, with a streaming replica that lags, dies and comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use interlock::config::DatabaseUrl;
use interlock::dev::{Durability, TestCluster};
use interlock::proto::{self, ExportFormat};
use serde_json::json;

use crate::harness::*;
use crate::operators::exposition::scrape;

/// Longer than any test here.
const LONG: u64 = 60;

struct Scene {
    server: Server,
    metrics: SocketAddr,
    standby: Standby,
    _primary: TestCluster,
}

impl Scene {
    async fn set() -> Scene {
        let (database, primary) = Database::on_own_cluster(Durability::Full).await;
        let standby = Standby::of(primary.postgres(), &database).await;
        let url = DatabaseUrl::new(standby.url());
        let server = Server::over(database, |config| config.read_database_url = Some(url)).await;
        let metrics = server.operators_port().await;
        Scene { server, metrics, standby, _primary: primary }
    }

    fn api(&self) -> &Api {
        &self.server.api
    }

    async fn write(&self, number: i64) {
        self.api().update_record("one", vec![set("number", json!(number))]).await;
    }

    /// The number of the record in a state that may be so old.
    async fn read(&self, max_staleness: Option<prost_types::Duration>) -> Option<i64> {
        let (collection, record_id) = (COLLECTION.to_owned(), "one".to_owned());
        let request = proto::GetRecordRequest { collection, record_id, max_staleness };
        let record = self.api().records().get_record(request).await.ok()?.into_inner().record?;
        fields_of(&record)["number"].as_f64().map(|number| number as i64)
    }

    /// The number of reads that the replica has answered.
    async fn replica_reads(&self) -> f64 {
        scrape(self.metrics).await.value("interlock_replica_reads_total", &[])
    }

    /// Waits until the replica shows all that was written.
    async fn is_replayed(&self) {
        let end = self.server.column("SELECT pg_current_wal_insert_lsn()::text").await.remove(0);
        let standby = sql(self.standby.url()).await;
        eventually("the replay", async || {
            let query = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
            standby.query_one(&query, &[]).await.expect("a standby").get::<_, bool>(0).then_some(())
        })
        .await;
    }

    /// Stops the replica's replay, writes, and waits until reads that may be stale show the state before.
    async fn lags(&self, before: i64, now: i64) {
        self.write(before).await;
        self.is_replayed().await;
        // Once it has answered one read, its state is new enough for all that allow as much.
        let answered = self.replica_reads().await;
        eventually("an answer of the replica", async || {
            self.read(seconds(LONG)).await;
            (self.replica_reads().await > answered).then_some(())
        })
        .await;
        self.standby.pause().await;
        self.write(now).await;
        eventually("the replica's state", async || (self.read(seconds(LONG)).await == Some(before)).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_reads_are_as_new_as_they_ask_for() {
    let scene = Scene::set().await;
    assert!(scene.read(seconds(LONG)).await.is_none(), "there is no record");
    scene.lags(1, 2).await;
    let written = Instant::now();
    assert_eq!((scene.read(None).await, scene.read(seconds(0)).await), (Some(2), Some(2)));
    assert_eq!(scene.read(seconds(LONG)).await, Some(1), "the replica's");
    // A read must not show a state that is older than it allows, however late the replica is.
    let (mut checked, allowed) = (0, Duration::from_secs(2));
    while written.elapsed() < allowed * 2 {
        let began = written.elapsed();
        let shown = scene.read(seconds(2)).await;
        assert!(shown == Some(2) || (shown == Some(1) && began < allowed), "{shown:?} after {began:?}");
        checked += u32::from(began >= allowed);
    }
    assert!(checked > 10, "{checked}");
    scene.standby.resume().await;
    eventually("the new state", async || (scene.read(seconds(LONG)).await == Some(2)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_that_is_away_is_no_fault_and_is_used_again() {
    let scene = Scene::set().await;
    scene.lags(1, 2).await;
    scene.standby.postgres().kill().await;
    for number in 3..20 {
        scene.write(number).await;
        let began = Instant::now();
        assert_eq!(scene.read(seconds(LONG)).await, Some(number), "the primary answers");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    scene.standby.postgres().start_again().await.expect("it starts");
    scene.lags(30, 31).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_is_no_replica_is_not_used() {
    let (database, cluster) = Database::on_own_cluster(Durability::None).await;
    let (other, _strangers) = Database::on_own_cluster(Durability::None).await;
    for url in [database.url(), other.url()] {
        let url = DatabaseUrl::new(url);
        let server = Server::over(database.clone(), |config| config.read_database_url = Some(url)).await;
        let write = update("one", vec![set("number", json!(7))]);
        ok(server.api.records().update_record(write).await);
        for _ in 0..20 {
            let (collection, record_id) = (COLLECTION.to_owned(), "one".to_owned());
            let request = proto::GetRecordRequest { collection, record_id, max_staleness: seconds(LONG) };
            assert!(ok(server.api.records().get_record(request).await).record.is_some());
        }
        let figures = scrape(server.operators_port().await).await;
        let [usable, reads] =
            ["interlock_replica_usable", "interlock_replica_reads_total"].map(|it| figures.value(it, &[]));
        assert_eq!((usable, reads), (0.0, 0.0));
    }
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_read_that_may_be_stale_is_answered_by_the_replica() {
    let scene = Scene::set().await;
    let api = scene.api();
    scene.lags(1, 2).await;
    api.submit(new_job("late", vec![new_stage("s")])).await;
    assert_eq!(api.lease_now("default", 1).await.len(), 1);
    api.update_record("late", vec![set("number", json!(1))]).await;
    api.append_segments(vec![segment("late")]).await;
    let id = || "late".to_owned();
    let (collection, session_id) = (COLLECTION.to_owned(), SESSION.to_owned());
    for is_stale in [true, false] {
        let max_staleness = is_stale.then(|| seconds(LONG)).flatten();
        let mut shown = Vec::new();
        let job = proto::GetJobRequest { job_id: id(), max_staleness };
        shown.push(("GetJob", api.jobs().get_job(job).await.is_ok()));
        let jobs = proto::ListJobsRequest { max_staleness, ..Default::default() };
        shown.push(("ListJobs", !ok(api.jobs().list_jobs(jobs).await).jobs.is_empty()));
        let record = proto::GetRecordRequest { collection: collection.clone(), record_id: id(), max_staleness };
        shown.push(("GetRecord", api.records().get_record(record).await.is_ok()));
        let records = vec![proto::RecordRef { collection: collection.clone(), record_id: id() }];
        let records = proto::BatchGetRecordsRequest { records, max_staleness };
        shown.push(("BatchGetRecords", !ok(api.records().batch_get_records(records).await).records.is_empty()));
        let records = proto::ListRecordsRequest { collection: collection.clone(), max_staleness, ..Default::default() };
        shown.push(("ListRecords", ok(api.records().list_records(records).await).records.len() == 2));
        let queues = proto::ListQueuesRequest { max_staleness, ..Default::default() };
        shown.push(("ListQueues", !ok(api.jobs().list_queues(queues).await).queues.is_empty()));
        let workers = proto::ListWorkersRequest { max_staleness, ..Default::default() };
        shown.push(("ListWorkers", !ok(api.workers().list_workers(workers).await).workers.is_empty()));
        let collections = proto::ListCollectionsRequest { max_staleness, ..Default::default() };
        let collections = ok(api.records().list_collections(collections).await).collections;
        shown.push(("ListCollections", collections.iter().any(|found| found.record_count == 2)));
        let session = proto::GetSessionRequest { session_id: session_id.clone(), max_staleness };
        shown.push(("GetSession", api.timelines().get_session(session).await.is_ok()));
        let sessions = proto::ListSessionsRequest { max_staleness, ..Default::default() };
        shown.push(("ListSessions", !ok(api.timelines().list_sessions(sessions).await).sessions.is_empty()));
        let one = proto::GetSegmentRequest { session_id: session_id.clone(), key: id(), max_staleness };
        shown.push(("GetSegment", api.timelines().get_segment(one).await.is_ok()));
        let query = proto::QueryTimelineRequest { session_id: session_id.clone(), max_staleness, ..Default::default() };
        shown.push(("QueryTimeline", api.timelines().query_timeline(query).await.is_ok()));
        let search = proto::SearchSegmentsRequest { query: id(), max_staleness, ..Default::default() };
        shown.push(("SearchSegments", !ok(api.timelines().search_segments(search).await).results.is_empty()));
        let figures = proto::GetSessionStatisticsRequest { session_id: session_id.clone(), max_staleness };
        shown.push(("GetSessionStatistics", api.timelines().get_session_statistics(figures).await.is_ok()));
        let format = ExportFormat::Text.into();
        let export = proto::ExportTimelineRequest {
            session_id: session_id.clone(),
            format,
            max_staleness,
            ..Default::default()
        };
        shown.push(("ExportTimeline", api.timelines().export_timeline(export).await.is_ok()));
        for (rpc, shows_what_is_late) in shown {
            assert_eq!(shows_what_is_late, !is_stale, "{rpc}, stale: {is_stale}");
        }
    }
}
