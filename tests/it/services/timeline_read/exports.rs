//! ExportTimeline: files of several formats, of sessions of any length.

use interlock::proto::{ExportFormat, ExportTimelineRequest, SegmentStatus};
use tonic::Code;

use super::*;

fn export_of(language: &str, format: ExportFormat) -> ExportTimelineRequest {
    ExportTimelineRequest {
        session_id: SESSION.to_owned(),
        language: language.to_owned(),
        format: format.into(),
        ..Default::default()
    }
}

async fn file(api: &Api, request: ExportTimelineRequest) -> String {
    let mut stream = ok(timelines(api).export_timeline(request).await);
    let mut file = Vec::new();
    while let Some(part) = stream.message().await.expect("a part") {
        assert!(!part.data.is_empty() && part.data.len() <= 64 * 1024);
        file.extend(part.data);
    }
    String::from_utf8(file).expect("UTF-8")
}

fn cue(key: &str, times: (Option<i64>, Option<i64>), text: &str) -> Segment {
    Segment { speaker: "Ann".into(), language: "en".into(), text: text.into(), ..transcript(key, times.0, times.1) }
}

#[tokio::test]
async fn the_final_texts_of_a_language_become_a_file() {
    let server = Server::start().await;
    let api = &server.api;
    let translation = Segment {
        kind: SegmentKind::Translation.into(),
        language: "de-AT".into(),
        parent_key: Some("a".into()),
        ..cue("t", (Some(1_000), Some(2_000)), "Hallo")
    };
    append_to(
        api,
        SESSION,
        vec![
            cue("b", (Some(62_000), None), "a --> b"),
            cue("a", (Some(1_000), Some(2_000)), "Hello\n\nworld"),
            translation,
            cue("untimed", (None, None), "when?"),
            Segment { status: SegmentStatus::Interim.into(), ..cue("interim", (Some(3_000), None), "interim") },
            Segment { kind: SegmentKind::Note.into(), ..cue("note", (Some(3_000), None), "a note") },
        ],
    )
    .await;
    assert_eq!(
        file(api, export_of("", ExportFormat::Webvtt)).await,
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n<v Ann>Hello\nworld\n\n00:01:02.000 --> 00:01:07.000\n<v Ann>a --&gt; b\n\n"
    );
    assert_eq!(file(api, export_of("DE", ExportFormat::Srt)).await, "1\n00:00:01,000 --> 00:00:02,000\nAnn: Hallo\n\n");
    assert_eq!(file(api, export_of("en", ExportFormat::Text)).await, "Ann: Hello world\nAnn: a --> b\nAnn: when?\n");
    let lines = file(api, export_of("en", ExportFormat::JsonLines)).await;
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        lines.iter().map(|line| line["key"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
        ["a", "b", "untimed"]
    );
    assert_eq!((&lines[0]["start"], &lines[0]["kind"]), (&"1s".into(), &"SEGMENT_KIND_TRANSCRIPT".into()));
    assert_eq!(file(api, export_of("fr", ExportFormat::Webvtt)).await, "WEBVTT\n\n");
}

#[tokio::test]
async fn long_sessions_are_exported_in_parts_without_loss() {
    let server = Server::start().await;
    let api = &server.api;
    let segments = (0..1_500)
        .map(|i| cue(&i.to_string(), ((i % 3 > 0).then_some(i * 7), None), &format!("line {i} {}", "x".repeat(200))));
    append_to(api, SESSION, segments.collect()).await;
    let text = file(api, export_of("en", ExportFormat::Text)).await;
    let numbers: Vec<i64> = text
        .lines()
        .map(|line| line.split(' ').nth(2).and_then(|number| number.parse().ok()).expect("a number"))
        .collect();
    let timed = (0..1_500).filter(|i| i % 3 > 0);
    assert_eq!(numbers, timed.chain((0..1_500).filter(|i| i % 3 == 0)).collect::<Vec<i64>>());
    let vtt = file(api, export_of("en", ExportFormat::Webvtt)).await;
    assert_eq!(vtt.matches(" --> ").count(), 1_000);
}

#[tokio::test]
async fn bad_exports_are_refused_before_the_stream() {
    let server = Server::start().await;
    let api = &server.api;
    append_to(api, SESSION, vec![cue("a", (None, None), "x")]).await;
    let refuse = |request: ExportTimelineRequest| async move {
        timelines(api).export_timeline(request).await.map(|answer| answer.map(drop))
    };
    field(refuse(export_of("", ExportFormat::Unspecified)).await, "format");
    field(refuse(ExportTimelineRequest { format: 99, ..export_of("", ExportFormat::Srt) }).await, "format");
    field(refuse(export_of("not a tag", ExportFormat::Srt)).await, "language");
    let missing = ExportTimelineRequest { session_id: "missing".into(), ..export_of("", ExportFormat::Srt) };
    refused(refuse(missing).await, Code::NotFound, "SESSION_NOT_FOUND");
}
