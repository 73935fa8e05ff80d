//! ImportSegments: what is counted, and what an import that fails says of the part before.

use interlock::proto;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::*;

#[tokio::test]
async fn import_counts_what_became_of_each_segment() {
    let server = Server::start().await;
    let api = &server.api;
    api.append_segments(vec![segment("0-0")]).await;
    let message = |i: usize| {
        let segments = (0..400).map(|k| match k % 4 {
            3 => proto::Segment { text: "\0".into(), ..segment(&format!("{i}-{k}")) },
            _ => segment(&format!("{i}-{k}")),
        });
        let session_id = if i == 0 { SESSION.to_owned() } else { String::new() };
        proto::ImportSegmentsRequest { session_id, segments: segments.collect(), allow_missing: true }
    };
    let messages: Vec<_> = (0..11).map(message).collect();
    let done = ok(api.timelines().import_segments(tokio_stream::iter(messages.clone())).await);
    assert_eq!((done.applied_count, done.unchanged_count, done.failed_count), (3_299, 1, 1_100));
    assert_eq!((done.faults.len(), done.faults[0].index, &*done.faults[1].key), (1_000, 3, "0-7"));
    let again = ok(api.timelines().import_segments(tokio_stream::iter(messages)).await);
    assert_eq!((again.applied_count, again.unchanged_count), (0, 3_300));
    let unnamed = proto::ImportSegmentsRequest { segments: vec![segment("x")], ..Default::default() };
    field(api.timelines().import_segments(tokio_stream::iter([unnamed])).await, "session_id");
}

/// A message that fails does not hide what became of those before it.
#[tokio::test]
async fn an_import_that_fails_says_what_was_stored() {
    let server = Server::start().await;
    let api = &server.api;
    let message = |session_id: &str, keys: &[&str]| proto::ImportSegmentsRequest {
        session_id: session_id.to_owned(),
        segments: keys.iter().map(|key| segment(key)).collect(),
        allow_missing: session_id == SESSION,
    };
    let elsewhere = message("elsewhere", &["c"]);
    for (applied, unchanged, outcome) in [("2", "0", "UNKNOWN"), ("0", "2", "NOT_APPLIED")] {
        let messages = [message(SESSION, &["a", "b"]), elsewhere.clone()];
        let answer = api.timelines().import_segments(tokio_stream::iter(messages)).await;
        let status = answer.expect_err("there is no such session");
        let info = status.get_error_details().error_info().cloned().expect("an ErrorInfo");
        assert_eq!((status.code(), &*info.reason), (Code::NotFound, "SESSION_NOT_FOUND"));
        let counts = ["applied_count", "unchanged_count", "failed_count", "outcome"].map(|name| &*info.metadata[name]);
        assert_eq!(counts, [applied, unchanged, "0", outcome]);
    }
    let info = refused(
        api.timelines().import_segments(tokio_stream::iter([elsewhere])).await,
        Code::NotFound,
        "SESSION_NOT_FOUND",
    );
    assert!(!info.metadata.contains_key("applied_count"), "{info:?}");
}
