//! The gate before the database, the cache of segments, and what GetStatistics and the metrics say of both.

use std::time::Duration;

use interlock::proto::{ClearSessionCacheRequest, GetStatisticsRequest, QueryTimelineRequest};
use tonic::Code;
use tonic_types::StatusExt;

use super::*;

async fn statistics(api: &Api) -> proto::GetStatisticsResponse {
    ok(api.admin().get_statistics(GetStatisticsRequest::default()).await)
}

fn query() -> QueryTimelineRequest {
    QueryTimelineRequest { session_id: SESSION.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_bound_wait_in_line_and_are_rejected_clearly() {
    let bounds = |config: &mut interlock::config::Config| {
        (config.timeline_operations, config.timeline_wait) = (1, Duration::from_millis(300));
    };
    let server = Server::with(bounds).await;
    let api = &server.api;
    append_to(api, SESSION, vec![transcript("a", None, None)]).await;
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute("BEGIN; LOCK TABLE segments IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let held = tokio::spawn({
        let mut timelines = timelines(api);
        async move { timelines.query_timeline(query()).await }
    });
    let figures = async || statistics(api).await.timelines.expect("figures");
    eventually("a call at the database", async || (figures().await.operations == 1).then_some(())).await;
    let waiting = tokio::spawn({
        let mut timelines = timelines(api);
        async move { timelines.query_timeline(query()).await }
    });
    eventually("a call in line", async || (figures().await.waiting == 1).then_some(())).await;
    let rejected = waiting.await.expect("no panic");
    let retry =
        rejected.as_ref().err().and_then(|status| status.get_details_retry_info()).and_then(|info| info.retry_delay);
    assert_eq!(retry, Some(Duration::from_secs(1)));
    refused(rejected, Code::ResourceExhausted, "OVERLOADED");
    foreign.batch_execute("ROLLBACK").await.expect("no lock");
    assert_eq!(keys(&ok(held.await.expect("no panic")).segments), ["a"]);
    let figures = figures().await;
    assert_eq!((figures.max_operations, figures.operations, figures.waiting, figures.rejected), (1, 0, 0, 1));
    // The append and the query.
    assert_eq!((figures.completed, figures.rejection_rate), (2, 1.0 / 3.0));
}

#[tokio::test]
async fn segments_are_cached_within_bounds_and_a_session_can_be_dropped() {
    let server = Server::with(|config| config.segment_cache_entries = 10).await;
    let api = &server.api;
    let segments = |from: i64, to: i64| (from..to).map(|i| transcript(&i.to_string(), None, None)).collect::<Vec<_>>();
    append_to(api, SESSION, segments(0, 8)).await;
    append_to(api, "other", segments(0, 1)).await;
    let figures = async || statistics(api).await.segment_cache.expect("figures");
    let before = figures().await;
    assert_eq!((before.max_entries, before.entries), (10, 9));
    // A repeat of what is stored is found there.
    let repeat =
        proto::AppendSegmentsRequest { session_id: SESSION.into(), segments: segments(0, 8), ..Default::default() };
    assert!(!ok(timelines(api).append_segments(repeat).await).applied);
    let after = figures().await;
    assert_eq!((after.hits - before.hits, after.misses), (8, before.misses));
    let clear = |session_id: &str| ClearSessionCacheRequest { session_id: session_id.to_owned() };
    assert_eq!(ok(api.admin().clear_session_cache(clear(SESSION)).await).cleared_count, 8);
    assert_eq!(ok(api.admin().clear_session_cache(clear(SESSION)).await).cleared_count, 0);
    assert_eq!(figures().await.entries, 1);
    append_to(api, SESSION, segments(8, 30)).await;
    let full = figures().await;
    assert_eq!((full.entries, full.misses), (10, after.misses), "new segments of a session in use are not looked up");
    assert!(full.evictions >= 13 && full.hit_rate > 0.0 && full.hit_rate < 1.0, "{full:?}");
    assert_eq!(keys(&ok(timelines(api).query_timeline(query()).await).segments).len(), 30, "nothing depends on it");
    field(api.admin().clear_session_cache(clear("")).await, "session_id");
}
