//! Reading timelines: ranges against a model, pages, statistics and exports.

mod backpressure;
mod exports;
mod queries;
mod searches;

use interlock::proto::timeline_service_client::TimelineServiceClient;
use interlock::proto::{self, Segment, SegmentKind};
use tonic::transport::Channel;

use crate::harness::*;

const SESSION: &str = "standup";

fn timelines(api: &Api) -> TimelineServiceClient<Channel> {
    TimelineServiceClient::new(api.channel.clone())
}

/// A transcript with times in milliseconds.
fn transcript(key: &str, start: Option<i64>, end: Option<i64>) -> Segment {
    Segment {
        key: key.to_owned(),
        kind: SegmentKind::Transcript.into(),
        start: start.and_then(millis),
        end: end.and_then(millis),
        ..Default::default()
    }
}

/// A transcript of a language.
fn said(key: &str, language: &str, text: &str) -> Segment {
    Segment { language: language.to_owned(), text: text.to_owned(), ..transcript(key, None, None) }
}

async fn append_to(api: &Api, session_id: &str, segments: Vec<Segment>) {
    for some in segments.chunks(500) {
        let request = proto::AppendSegmentsRequest {
            session_id: session_id.to_owned(),
            segments: some.to_vec(),
            allow_missing: true,
            ..Default::default()
        };
        let answer = ok(timelines(api).append_segments(request).await);
        assert!(answer.results.iter().all(|result| result.applied), "{answer:?}");
    }
}

fn keys(segments: &[Segment]) -> Vec<&str> {
    segments.iter().map(|segment| segment.key.as_str()).collect()
}
