//! Watches of sessions: what is there, then every change, through any server.

use std::collections::BTreeMap;

use interlock::proto::watch_session_response::Update;
use interlock::proto::{self, SegmentStatus, SessionState};

use crate::harness::*;

#[tokio::test]
async fn watch_of_a_session_sends_what_is_there_then_each_change() {
    let server = Server::start().await;
    let api = &server.api;
    let mut early = SessionWatch::begin(api, 0).await;
    early.removal().await;
    api.append_segments(vec![interim("a", 1), segment("b")]).await;
    for watch in [&mut early, &mut SessionWatch::begin(api, 0).await] {
        let session = watch.session().await;
        assert_eq!((session.version, session.state()), (1, SessionState::Open));
        let changes = watch.changes().await;
        assert_eq!((changes.previous_version, changes.version, keys_of(&changes)), (0, 1, vec!["a", "b"]));
        assert_eq!(changes.segments[0], api.segment("a").await);
    }
    api.append_segments(vec![interim("a", 2)]).await;
    let changes = early.changes().await;
    assert_eq!((changes.previous_version, changes.version, &*changes.segments[0].text), (1, 2, "a 2"));
    let delete = proto::DeleteSegmentRequest { session_id: SESSION.into(), key: "b".into(), ..Default::default() };
    ok(api.timelines().delete_segment(delete).await);
    assert_eq!(early.changes().await.deleted_keys, ["b"]);
    let title = proto::UpdateSessionRequest { session_id: SESSION.into(), title: "t".into(), ..Default::default() };
    ok(api.timelines().update_session(title).await);
    assert_eq!(early.session().await.title, "t");
    api.append_segments(vec![segment("c")]).await;
    api.end_session().await;
    assert_eq!(keys_of(&early.changes().await), ["c"]);
    assert_eq!((early.session().await.state(), early.next().await), (SessionState::Ended, None));
    // One that has ended sends what is missing, and ends.
    let mut again = SessionWatch::begin(api, 2).await;
    let changes = again.changes().await;
    assert_eq!((keys_of(&changes), changes.deleted_keys.clone()), (vec!["c"], vec!["b".to_owned()]));
    assert_eq!((again.session().await.state(), again.next().await), (SessionState::Ended, None));
}

#[tokio::test]
async fn watch_resumes_behind_its_version_on_another_server() {
    let server = Server::start().await;
    let other = server.beside().await;
    for i in 0..3 {
        server.api.append_segments(vec![segment(&i.to_string()), interim("hot", i)]).await;
    }
    let mut watch = SessionWatch::begin(&other.api, 2).await;
    watch.session().await;
    let changes = watch.changes().await;
    assert_eq!((changes.previous_version, changes.version, keys_of(&changes)), (2, 3, vec!["hot", "2"]));
    server.api.append_segments(vec![segment("3")]).await;
    assert_eq!(keys_of(&watch.changes().await), ["3"]);
}

#[tokio::test]
async fn reader_of_another_session_of_the_same_id_starts_over() {
    let server = Server::start().await;
    let api = &server.api;
    api.append_segments(vec![segment("old")]).await;
    let old = api.session(SESSION).await;
    let mut watch = SessionWatch::begin(api, 1).await;
    watch.session().await;
    let delete = proto::DeleteSessionRequest { session_id: SESSION.into(), ..Default::default() };
    ok(api.timelines().delete_session(delete).await);
    watch.removal().await;
    api.append_segments(vec![segment("new")]).await;
    watch.session().await;
    assert_eq!(keys_of(&watch.changes().await), ["new"]);
    for (from_version, from_create_time) in [(1, old.create_time), (9, None)] {
        let session_id = SESSION.to_owned();
        let request = proto::WatchSessionRequest { session_id, from_version, from_create_time };
        let mut watch = SessionWatch(ok(api.timelines().watch_session(request).await));
        assert!(matches!(watch.next().await, Some(Update::Reset(_))));
        watch.session().await;
        assert_eq!(keys_of(&watch.changes().await), ["new"]);
    }
}

/// A snapshot of many segments comes in pages, of which one ends within a version; a reader that stops and resumes after any of them misses nothing.
#[tokio::test]
async fn large_session_is_sent_in_pages_that_can_be_resumed() {
    let server = Server::start().await;
    let api = &server.api;
    for call in 0..3 {
        let segments = (0..450).map(|i| proto::Segment { text: "x".repeat(5_000), ..segment(&format!("{call}-{i}")) });
        api.append_segments(segments.collect()).await;
    }
    let mut seen = BTreeMap::new();
    let (mut from_version, mut messages) = (0, 0);
    while seen.len() < 1_350 || from_version < 3 {
        let mut watch = SessionWatch::begin(api, from_version).await;
        watch.session().await;
        // More messages of each stream than a version has.
        for _ in 0..50 {
            if from_version == 3 {
                break;
            }
            let changes = watch.changes().await;
            assert!(changes.version >= changes.previous_version && changes.previous_version >= from_version);
            from_version = changes.version;
            seen.extend(changes.segments.into_iter().map(|segment| (segment.key.clone(), segment.version)));
            messages += 1;
        }
    }
    assert_eq!((seen.len(), messages > 3), (1_350, true));
}

/// Bots write through two servers; every watch ends with what is stored, its versions only grow, and each final segment was sent.
#[tokio::test(flavor = "multi_thread")]
async fn watches_on_two_servers_end_with_what_is_stored() {
    let server = Server::start().await;
    let other = server.beside().await;
    let apis = [server.api.clone(), other.api.clone()];
    let watches = apis.iter().map(|api| async {
        let mut watch = SessionWatch::begin(api, 0).await;
        let (mut segments, mut version) = (BTreeMap::new(), 0);
        while let Some(update) = watch.next().await {
            match update {
                Update::Changes(changes) => {
                    assert!(changes.previous_version == version && changes.version >= version);
                    version = changes.version;
                    for segment in changes.segments {
                        let before = segments.insert(segment.key.clone(), segment.clone());
                        let before: Option<proto::Segment> = before;
                        assert!(before.is_none_or(|before| before.version < segment.version), "{}", segment.key);
                    }
                }
                Update::Session(_) | Update::Removal(_) => {}
                other => panic!("{other:?}"),
            }
        }
        segments
    });
    let writers = async {
        let bots = (0..10).map(|bot| {
            let api = &apis[bot % 2];
            async move {
                let key = bot.to_string();
                for i in 1..8 {
                    api.append_segments(vec![interim(&key, i)]).await;
                }
                let done = proto::Segment { status: SegmentStatus::Final.into(), ..interim(&key, 8) };
                api.append_segments(vec![done, segment(&format!("{bot}-more"))]).await;
            }
        });
        futures::future::join_all(bots).await;
        server.api.end_session().await;
    };
    let (seen, ()) = futures::future::join(futures::future::join_all(watches), writers).await;
    for segments in seen {
        assert_eq!(segments.len(), 20);
        for (key, segment) in segments {
            assert_eq!(segment, server.api.segment(&key).await);
            assert_eq!(segment.status(), SegmentStatus::Final);
        }
    }
}
