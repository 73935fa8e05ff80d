//! What a segment may say, field by field.

use prost_types::Duration;
use uuid::Uuid;

use super::*;
use crate::domain::id::NamespaceId;
use crate::proto::segment_content::Source;

const SESSION: SessionKey = SessionKey { namespace: NamespaceId(1), uid: Uuid::nil() };

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn valid() -> proto::Segment {
    proto::Segment { key: "a/1".into(), kind: 2, start: seconds(1), end: seconds(2), ..Default::default() }
}

fn read(given: proto::Segment) -> Result<NewSegment, Refusal> {
    let root = Path::Root;
    segments(SESSION, &[given], &root.field("segments")).map(|mut read| read.remove(0))
}

/// The path of the refusal of a segment.
fn refused(given: proto::Segment) -> String {
    match read(given) {
        Err(Refusal::At { path, refusal, .. }) => match *refusal {
            Refusal::InvalidField { path: within, .. } => format!("{path}.{within}"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn inline(data: &[u8]) -> proto::SegmentContent {
    proto::SegmentContent { source: Some(Source::InlineData(data.to_vec().into())), ..Default::default() }
}

fn content(content: proto::SegmentContent) -> proto::Segment {
    proto::Segment { content: Some(content), ..valid() }
}

fn word(text: &str) -> proto::SegmentWord {
    proto::SegmentWord { text: text.to_owned(), ..Default::default() }
}

#[test]
fn each_field_is_refused_by_its_path() {
    let week = 7 * 24 * 3600;
    let nanos = |nanos| Some(Duration { seconds: 1, nanos });
    for (given, path) in [
        (proto::Segment { key: String::new(), ..valid() }, "key"),
        (proto::Segment { key: "a b".into(), ..valid() }, "key"),
        (proto::Segment { key: "k".repeat(129), ..valid() }, "key"),
        (proto::Segment { kind: 0, ..valid() }, "kind"),
        (proto::Segment { kind: 9, ..valid() }, "kind"),
        (proto::Segment { status: 3, ..valid() }, "status"),
        (proto::Segment { sequence: -1, ..valid() }, "sequence"),
        (proto::Segment { parent_key: Some(String::new()), ..valid() }, "parent_key"),
        (proto::Segment { start: seconds(-1), ..valid() }, "start"),
        (proto::Segment { start: nanos(-1), ..valid() }, "start"),
        (proto::Segment { start: nanos(1_000_000_000), ..valid() }, "start"),
        (proto::Segment { start: seconds(i64::MAX), end: None, ..valid() }, "start"),
        (proto::Segment { start: seconds(3), ..valid() }, "end"),
        (proto::Segment { end: seconds(week + 1), ..valid() }, "end"),
        (proto::Segment { speaker: "s".repeat(257), ..valid() }, "speaker"),
        (proto::Segment { speaker: "a\nb".into(), ..valid() }, "speaker"),
        (proto::Segment { language: "en_US".into(), ..valid() }, "language"),
        (proto::Segment { language: "toolongtag".into(), ..valid() }, "language"),
        (proto::Segment { text: "t".repeat(MAX_TEXT_BYTES + 1), ..valid() }, "text"),
        (proto::Segment { text: "a\0".into(), ..valid() }, "text"),
        (proto::Segment { confidence: Some(f64::NAN), ..valid() }, "confidence"),
        (proto::Segment { confidence: Some(1.1), ..valid() }, "confidence"),
        (proto::Segment { words: vec![word("a"), word("")], ..valid() }, "words[1].text"),
        (proto::Segment { words: vec![word("a"); 2_001], ..valid() }, "words"),
        (proto::Segment { words: vec![word(&"a".repeat(256)); 300], ..valid() }, "words"),
        (
            proto::Segment {
                words: vec![proto::SegmentWord { start: seconds(2), end: seconds(1), ..word("a") }],
                ..valid()
            },
            "words[0].end",
        ),
        (content(proto::SegmentContent::default()), "content.source"),
        (content(inline(&[])), "content.inline_data"),
        (content(inline(&vec![0; 256 * 1024 + 1])), "content.inline_data"),
        (content(proto::SegmentContent { size_bytes: Some(2), ..inline(b"abc") }), "content.size_bytes"),
        (content(proto::SegmentContent { size_bytes: Some(-1), ..inline(b"abc") }), "content.size_bytes"),
        (content(proto::SegmentContent { sha256: "0".repeat(64), ..inline(b"abc") }), "content.sha256"),
        (content(proto::SegmentContent { sha256: "abc".into(), ..inline(b"abc") }), "content.sha256"),
        (
            content(proto::SegmentContent { source: Some(Source::Uri(String::new())), ..Default::default() }),
            "content.uri",
        ),
    ] {
        assert_eq!(refused(given.clone()), format!("segments[0].{path}"), "{given:?}");
    }
}

#[test]
fn size_and_digest_of_inline_data_are_set() {
    let sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
    let given = content(proto::SegmentContent { sha256: sha256.into(), ..inline(b"abc") });
    let read = read(given).expect("valid").body.content.expect("a recording");
    assert_eq!((read.size_bytes, read.sha256.as_deref()), (Some(3), Some(&*sha256.to_lowercase())));
}

#[test]
fn unset_is_unset_and_never_0() {
    let given = proto::Segment { start: None, end: seconds(0), ..valid() };
    let body = read(given).expect("valid").body;
    assert_eq!((body.start_ns, body.end_ns, body.text, body.words), (None, Some(0), None, None));
    let stored = |start_ns| Segment {
        arrival: 1,
        version: 1,
        key: SegmentKey { session: SESSION, key: "a".into() },
        kind: SegmentKind::Audio,
        status: SegmentStatus::Final,
        sequence: 0,
        body: SegmentBody { start_ns, end_ns: Some(2_500_000_001), ..SegmentBody::default() },
        create_time: crate::domain::time::Timestamp(0),
        update_time: crate::domain::time::Timestamp(0),
        delete_time: None,
    };
    let shown = segment_to_proto(&stored(None)).expect("a message");
    assert_eq!((shown.start, shown.duration), (None, None));
    let shown = segment_to_proto(&stored(Some(1))).expect("a message");
    assert_eq!(shown.duration, Some(Duration { seconds: 2, nanos: 500_000_000 }));
}

#[test]
fn a_call_names_each_key_once() {
    let root = Path::Root;
    let twice = segments(SESSION, &[valid(), valid()], &root.field("segments"));
    assert!(matches!(twice, Err(Refusal::At { index: 1, path, .. }) if path == "segments[1]"));
    for many in [0, 501] {
        let given = vec![valid(); many];
        assert!(matches!(
            segments(SESSION, &given, &root.field("segments")),
            Err(Refusal::InvalidField { path, .. }) if path == "segments"
        ));
    }
}
