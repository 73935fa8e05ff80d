//! Sessions and segments: what is stored, once and whole.

use std::collections::BTreeMap;

use interlock::proto::{self, SegmentKind, SegmentSkip, SegmentStatus, SessionState};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use crate::harness::*;

fn create(session_id: &str) -> proto::CreateSessionRequest {
    proto::CreateSessionRequest { session_id: Some(session_id.to_owned()), ..Default::default() }
}

fn id() -> Option<String> {
    Some(Uuid::new_v4().to_string())
}

#[tokio::test]
async fn session_lives_from_its_creation_to_its_deletion() {
    let server = Server::start().await;
    let (api, mut timelines) = (&server.api, server.api.timelines());
    let labels = BTreeMap::from([("team".to_owned(), "acme".to_owned())]);
    let request = proto::CreateSessionRequest {
        title: "Stand-up".into(),
        labels: labels.clone(),
        request_id: id(),
        ..create(SESSION)
    };
    let made = ok(timelines.create_session(request.clone()).await);
    let session = made.session.expect("a session");
    assert_eq!((session.version, session.state(), session.labels), (1, SessionState::Open, labels));
    assert_eq!(session.retention, seconds(365 * 24 * 3600));
    let again = ok(timelines.create_session(request).await);
    assert!(again.replayed && again.applied_version == 1 && again.session.is_some());
    refused(timelines.create_session(create(SESSION)).await, Code::AlreadyExists, "SESSION_ALREADY_EXISTS");
    let chosen =
        ok(timelines.create_session(proto::CreateSessionRequest { request_id: id(), ..Default::default() }).await);
    assert!(Uuid::try_parse(&chosen.session.expect("a session").session_id).is_ok());

    let update = proto::UpdateSessionRequest {
        session_id: SESSION.into(),
        title: "Retro".into(),
        expected_version: Some(1),
        request_id: id(),
        ..Default::default()
    };
    for replayed in [false, true] {
        let updated = ok(timelines.update_session(update.clone()).await);
        assert_eq!((updated.applied, updated.replayed, updated.applied_version), (true, replayed, 2));
    }
    let stale = proto::UpdateSessionRequest { request_id: None, ..update };
    refused(timelines.update_session(stale).await, Code::Aborted, "VERSION_MISMATCH");
    api.append_segments(vec![segment("a")]).await;
    let ended = api.end_session().await;
    let session = ended.session.expect("a session");
    assert_eq!((session.state(), session.segment_count, session.title), (SessionState::Ended, 1, "Retro".into()));
    assert!(session.expire_time.is_some() && !api.end_session().await.applied);
    let late = timelines.append_segments(append_request(vec![segment("b")])).await;
    refused(late, Code::FailedPrecondition, "INVALID_TRANSITION");

    let delete = proto::DeleteSessionRequest { session_id: SESSION.into(), request_id: id(), ..Default::default() };
    for replayed in [false, true] {
        assert_eq!(ok(timelines.delete_session(delete.clone()).await).replayed, replayed);
    }
    let get = proto::GetSessionRequest { session_id: SESSION.into(), ..Default::default() };
    refused(timelines.get_session(get).await, Code::NotFound, "SESSION_NOT_FOUND");
    let get = proto::GetSegmentRequest { session_id: SESSION.into(), key: "a".into(), ..Default::default() };
    refused(timelines.get_segment(get).await, Code::NotFound, "SESSION_NOT_FOUND");
    assert_eq!(server.column("SELECT count(*)::text FROM segments").await, ["0"]);
    // Its id is free, and nothing of the old session is left.
    api.append_segments(vec![segment("a")]).await;
    assert_eq!((api.session(SESSION).await.version, api.segment("a").await.arrival), (1, 1));
}

#[tokio::test]
async fn segment_set_is_stored_as_it_was_sent() {
    let server = Server::start().await;
    let api = &server.api;
    let data = proto::segment_content::Source::InlineData(b"RIFF".to_vec().into());
    let sound = proto::Segment {
        start: millis(1_500),
        content: Some(proto::SegmentContent {
            source: Some(data),
            media_type: "audio/wav".into(),
            ..Default::default()
        }),
        ..segment_below("sound", SegmentKind::Audio, "")
    };
    let word = proto::SegmentWord {
        text: "Grüße".into(),
        start: millis(0),
        confidence: Some(0.1 + 0.2),
        ..Default::default()
    };
    let transcript = proto::Segment {
        start: millis(1_500),
        end: Some(prost_types::Duration { seconds: 2, nanos: 1 }),
        speaker: "Ada".into(),
        language: "de-AT".into(),
        words: vec![word],
        confidence: Some(0.9),
        metadata: struct_of(json!({ "engine": { "beam": 5 } })),
        ..segment_below("de", SegmentKind::Transcript, "sound")
    };
    let translation = proto::Segment { language: "tlh".into(), ..segment_below("tlh", SegmentKind::Translation, "de") };
    let sent = vec![translation, transcript, sound];
    let stored = api.append_segments(sent.clone()).await;
    assert_eq!((stored.applied_version, stored.results.len()), (1, 3));
    assert!(stored.results.iter().zip(&sent).all(|(result, sent)| result.applied && result.key == sent.key));
    for sent in sent {
        let mut got = api.segment(&sent.key).await;
        assert!(got.version == 1 && got.create_time.is_some());
        let duration = (sent.key == "de").then_some(prost_types::Duration { seconds: 0, nanos: 500_000_001 });
        assert_eq!(got.duration, duration);
        if let Some(content) = &mut got.content {
            assert_eq!((content.size_bytes.take(), content.sha256.len()), (Some(4), 64));
            content.sha256.clear();
        }
        let (version, arrival, create_time, update_time) = (got.version, got.arrival, got.create_time, got.update_time);
        let status = SegmentStatus::Final.into();
        assert_eq!(got, proto::Segment { version, arrival, create_time, update_time, duration, status, ..sent });
    }
}

#[tokio::test]
async fn repeated_and_late_messages_change_nothing() {
    let server = Server::start().await;
    let api = &server.api;
    let set = vec![interim("a", 1), segment_below("de", SegmentKind::Translation, "a")];
    api.append_segments(set.clone()).await;
    let again = api.append_segments(set).await;
    assert!(!again.applied && again.applied_version == 0);
    assert!(again.results.iter().all(|result| !result.applied && result.version == 1));
    assert_eq!(again.results[0].skip(), SegmentSkip::Sequence);
    api.append_segments(vec![interim("a", 3)]).await;
    let late = api.append_segments(vec![interim("a", 2)]).await;
    assert_eq!((late.results[0].skip(), api.segment("a").await.text.as_str()), (SegmentSkip::Sequence, "a 3"));
    let request =
        proto::AppendSegmentsRequest { request_id: id(), ..append_request(vec![interim("a", 4), segment("b")]) };
    for replayed in [false, true] {
        let stored = ok(api.timelines().append_segments(request.clone()).await);
        assert_eq!((stored.applied, stored.replayed, stored.applied_version), (true, replayed, 3));
        assert!(stored.results.iter().all(|result| result.applied && result.version == 3));
    }
    let other = proto::AppendSegmentsRequest { segments: vec![segment("c")], ..request };
    refused(api.timelines().append_segments(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!((api.session(SESSION).await.version, api.session(SESSION).await.segment_count), (3, 3));
}

#[tokio::test]
async fn nothing_of_a_refused_set_is_stored() {
    let server = Server::start().await;
    let api = &server.api;
    for (segments, path) in [
        (vec![segment("a"), segment_below("b", SegmentKind::Translation, "x")], "segments[1].parent_key"),
        (vec![segment("a"), segment("a")], "segments[1].key"),
        (vec![segment("a"), proto::Segment { start: millis(2), end: millis(1), ..segment("b") }], "segments[1].end"),
        (vec![], "segments"),
        ((0..501).map(|i| segment(&i.to_string())).collect(), "segments"),
    ] {
        field(api.timelines().append_segments(append_request(segments)).await, path);
    }
    let get = proto::GetSessionRequest { session_id: SESSION.into(), ..Default::default() };
    refused(api.timelines().get_session(get).await, Code::NotFound, "SESSION_NOT_FOUND");
    let closed = proto::AppendSegmentsRequest { allow_missing: false, ..append_request(vec![segment("a")]) };
    refused(api.timelines().append_segments(closed).await, Code::NotFound, "SESSION_NOT_FOUND");
    // The largest call is stored.
    let all: Vec<_> = (0..500).map(|i| segment(&i.to_string())).collect();
    assert_eq!(api.append_segments(all).await.applied_version, 1);
    assert_eq!(api.session(SESSION).await.segment_count, 500);
}

#[tokio::test]
async fn written_each_for_itself_good_segments_are_stored() {
    let server = Server::start().await;
    let api = &server.api;
    let segments = vec![
        segment("a"),
        proto::Segment { kind: 0, ..segment("b") },
        segment_below("c", SegmentKind::Translation, "b"),
        segment_below("d", SegmentKind::Translation, "a"),
    ];
    let request = proto::WriteSegmentsRequest { session_id: SESSION.into(), segments, allow_missing: true };
    let written = ok(api.timelines().write_segments(request).await);
    let codes: Vec<i32> = written.results.iter().map(|result| result.status.as_ref().expect("a status").code).collect();
    assert_eq!((codes, written.applied_version), (vec![0, 3, 3, 0], 1));
    assert!(written.results[1].result.is_none() && written.results[3].result.as_ref().is_some_and(|one| one.applied));
    assert_eq!(api.session(SESSION).await.segment_count, 2);
}

#[tokio::test]
async fn written_several_times_in_one_call_the_last_state_of_a_key_is_stored() {
    let server = Server::start().await;
    let api = &server.api;
    let last = proto::Segment { sequence: 3, ..segment("a") };
    let segments = vec![
        segment_below("b", SegmentKind::Translation, "a"),
        interim("a", 2),
        interim("a", 1),
        last.clone(),
        proto::Segment { sequence: 4, ..last.clone() },
    ];
    let request = proto::WriteSegmentsRequest { session_id: SESSION.into(), segments, allow_missing: true };
    let written = ok(api.timelines().write_segments(request).await);
    let applied: Vec<bool> =
        written.results.iter().map(|result| result.result.as_ref().is_some_and(|result| result.applied)).collect();
    assert_eq!((applied, written.applied_version), (vec![true, true, false, true, false], 1));
    let stored = api.segment("a").await;
    assert_eq!((stored.sequence, stored.status(), stored.text), (3, SegmentStatus::Final, last.text));
    assert_eq!(api.session(SESSION).await.segment_count, 2);
    let set = append_request(vec![interim("c", 1), segment("c")]);
    field(api.timelines().append_segments(set).await, "segments[1].key");
}

#[tokio::test]
async fn corrections_need_the_version_of_the_segment() {
    let server = Server::start().await;
    let (api, mut timelines) = (&server.api, server.api.timelines());
    api.append_segments(vec![proto::Segment { speaker: "Bo".into(), ..segment("a") }]).await;
    api.end_session().await;
    let request = |text: &str, expected_version| proto::UpdateSegmentRequest {
        session_id: SESSION.into(),
        segment: Some(proto::Segment { key: "a".into(), text: text.into(), ..Default::default() }),
        expected_version,
        ..Default::default()
    };
    field(timelines.update_segment(request("x", 0)).await, "expected_version");
    let mismatch = refused(timelines.update_segment(request("x", 2)).await, Code::Aborted, "VERSION_MISMATCH");
    assert_eq!((&*mismatch.metadata["expected"], &*mismatch.metadata["actual"]), ("2", "1"));
    let with_id = proto::UpdateSegmentRequest { request_id: id(), ..request("corrected", 1) };
    for replayed in [false, true] {
        let updated = ok(timelines.update_segment(with_id.clone()).await);
        let segment = updated.segment.expect("a segment");
        assert_eq!((&*segment.text, &*segment.speaker, segment.version), ("corrected", "Bo", 3));
        assert_eq!((updated.applied, updated.replayed, updated.applied_version), (true, replayed, 3));
    }
    let mask = |paths: &[&str]| Some(prost_types::FieldMask { paths: texts(paths) });
    let cleared = proto::UpdateSegmentRequest { update_mask: mask(&["speaker"]), ..request("ignored", 3) };
    let segment = ok(timelines.update_segment(cleared).await).segment.expect("a segment");
    assert_eq!((&*segment.text, &*segment.speaker), ("corrected", ""));
    let unknown = proto::UpdateSegmentRequest { update_mask: mask(&["sequence"]), ..request("x", 4) };
    field(timelines.update_segment(unknown).await, "update_mask.paths[0]");

    let delete = proto::DeleteSegmentRequest {
        session_id: SESSION.into(),
        key: "a".into(),
        expected_version: Some(4),
        request_id: id(),
    };
    for replayed in [false, true] {
        let deleted = ok(timelines.delete_segment(delete.clone()).await);
        assert_eq!((deleted.replayed, deleted.applied_version), (replayed, 5));
    }
    let get = proto::GetSegmentRequest { session_id: SESSION.into(), key: "a".into(), ..Default::default() };
    refused(timelines.get_segment(get).await, Code::NotFound, "SEGMENT_NOT_FOUND");
    let left = server.column("SELECT concat(text, speaker, search_vector::text) FROM segments").await;
    assert_eq!((left, api.session(SESSION).await.segment_count), (vec![String::new()], 0));
}

#[tokio::test]
async fn sessions_are_listed_by_filter_in_pages() {
    let server = Server::start().await;
    let mut timelines = server.api.timelines();
    for i in 0..7 {
        let labels = BTreeMap::from([("parity".to_owned(), ["even", "odd"][i % 2].to_owned())]);
        ok(timelines.create_session(proto::CreateSessionRequest { labels, ..create(&format!("s{i}")) }).await);
    }
    for i in [4, 1, 2] {
        let request = proto::EndSessionRequest { session_id: format!("s{i}"), ..Default::default() };
        ok(timelines.end_session(request).await);
    }
    for (filter, order_by, expected) in [
        ("", "", "s6 s5 s4 s3 s2 s1 s0"),
        ("", "create_time", "s0 s1 s2 s3 s4 s5 s6"),
        ("", "end_time", "s4 s1 s2 s0 s3 s5 s6"),
        ("", "end_time desc", "s2 s1 s4 s6 s5 s3 s0"),
        ("state = OPEN AND labels.parity = odd", "create_time", "s3 s5"),
        ("state = ENDED", "create_time", "s1 s2 s4"),
        ("session_id = s3 OR session_id >= s6", "create_time", "s3 s6"),
        ("end_time > \"2020-01-01T00:00:00Z\"", "end_time", "s4 s1 s2"),
    ] {
        for page_size in [2, 1_000] {
            let mut request = proto::ListSessionsRequest {
                filter: filter.to_owned(),
                order_by: order_by.to_owned(),
                page_size,
                ..Default::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = ok(timelines.list_sessions(request.clone()).await);
                seen.extend(page.sessions.into_iter().map(|session| session.session_id));
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen.join(" "), expected, "{filter} {order_by} {page_size}");
        }
    }
}

#[tokio::test]
async fn commit_stores_segments_only_with_everything_else() {
    use proto::commit_operation::Operation;
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", vec![new_stage("voice")])).await;
    let lease = api.lease("default").await;
    let operation = |operation| proto::CommitOperation { operation: Some(operation) };
    let complete = proto::CompleteStageRequest { target: token(&lease), ..Default::default() };
    let commit = |segments| proto::CommitRequest {
        operations: vec![
            operation(Operation::AppendSegments(append_request(segments))),
            operation(Operation::CompleteStage(complete.clone())),
        ],
        lease_fence: Some(lease.lease_token.clone()),
        ..Default::default()
    };
    let orphan = vec![segment("a"), segment_below("b", SegmentKind::Translation, "x")];
    field(api.transactions().commit(commit(orphan)).await, "operations[0].append_segments.segments[1].parent_key");
    let done = ok(api.transactions().commit(commit(vec![segment("a"), segment("b")])).await);
    assert_eq!((done.results[0].applied_version, done.results[0].segments.len()), (1, 2));
    // The lease is over: nothing of it is stored.
    let late = api.transactions().commit(commit(vec![segment("c")])).await;
    refused(late, Code::FailedPrecondition, "INVALID_TRANSITION");
    assert_eq!(
        (api.session(SESSION).await.segment_count, api.job("film").await.state()),
        (2, proto::JobState::Succeeded)
    );
}

#[tokio::test]
async fn many_bots_append_to_one_session_through_two_servers() {
    let server = Server::start().await;
    let other = server.beside().await;
    let apis = [server.api.clone(), other.api.clone()];
    let bots = (0..20).map(|bot| {
        let api = &apis[bot % 2];
        async move {
            for i in 0..5 {
                api.append_segments(vec![interim(&format!("{bot}"), i), segment(&format!("{bot}-{i}"))]).await;
            }
        }
    });
    futures::future::join_all(bots).await;
    let session = server.api.session(SESSION).await;
    assert_eq!((session.version, session.segment_count), (100, 120));
    let arrivals = server.column("SELECT arrival::text FROM segments ORDER BY segments.arrival").await;
    assert_eq!(arrivals, (1..=120).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn segment_that_a_server_does_not_know_of_is_not_taken_to_be_new() {
    let server = Server::with(|config| config.segment_cache_entries = 1).await;
    let other = server.beside().await;
    server.api.append_segments(vec![interim("evicted", 5)]).await;
    server.api.append_segments(vec![segment("a")]).await;
    other.api.append_segments(vec![interim("foreign", 5)]).await;
    for key in ["evicted", "foreign"] {
        let late = server.api.append_segments(vec![interim(key, 4), segment(&format!("beside-{key}"))]).await;
        assert_eq!((late.results[0].skip(), late.results[1].applied), (SegmentSkip::Sequence, true), "{key}");
    }
    let session = server.api.session(SESSION).await;
    assert_eq!((session.version, session.segment_count), (5, 5));
}

#[tokio::test]
async fn session_is_deleted_when_its_retention_is_over() {
    let server = Server::start().await;
    let api = &server.api;
    let retention = seconds(0);
    ok(api.timelines().create_session(proto::CreateSessionRequest { retention, ..create(SESSION) }).await);
    let many: Vec<_> = (0..500).map(|i| segment(&i.to_string())).collect();
    api.append_segments(many).await;
    api.end_session().await;
    eventually("the clean-up", async || {
        let left = server.column("SELECT session_id FROM sessions UNION ALL SELECT key FROM segments").await;
        left.is_empty().then_some(())
    })
    .await;
}
