//! Timelines with fewer words.

use interlock::proto::timeline_service_client::TimelineServiceClient;
use interlock::proto::watch_session_response::Update;
use interlock::proto::{self, SegmentKind, SegmentStatus};
use tonic::Streaming;
use tonic::transport::Channel;

use super::{Api, PATIENCE, ok};

/// The session of most tests.
pub const SESSION: &str = "standup";

/// A final transcript.
pub fn segment(key: &str) -> proto::Segment {
    let kind = SegmentKind::Transcript.into();
    proto::Segment { key: key.to_owned(), kind, text: format!("text of {key}"), ..Default::default() }
}

/// A segment of a kind that was made from another one.
pub fn segment_below(key: &str, kind: SegmentKind, parent: &str) -> proto::Segment {
    let parent_key = (!parent.is_empty()).then(|| parent.to_owned());
    proto::Segment { kind: kind.into(), parent_key, ..segment(key) }
}

/// A transcript that is not final.
pub fn interim(key: &str, sequence: i64) -> proto::Segment {
    let (status, text) = (SegmentStatus::Interim.into(), format!("{key} {sequence}"));
    proto::Segment { status, sequence, text, ..segment(key) }
}

/// An append to the session of most tests, which is created if it does not exist.
pub fn append_request(segments: Vec<proto::Segment>) -> proto::AppendSegmentsRequest {
    let session_id = SESSION.to_owned();
    proto::AppendSegmentsRequest { session_id, segments, allow_missing: true, ..Default::default() }
}

impl Api {
    pub fn timelines(&self) -> TimelineServiceClient<Channel> {
        TimelineServiceClient::new(self.channel.clone())
    }

    pub async fn append_segments(&self, segments: Vec<proto::Segment>) -> proto::AppendSegmentsResponse {
        ok(self.timelines().append_segments(append_request(segments)).await)
    }

    pub async fn session(&self, session_id: &str) -> proto::Session {
        let request = proto::GetSessionRequest { session_id: session_id.to_owned(), ..Default::default() };
        ok(self.timelines().get_session(request).await).session.expect("a session")
    }

    pub async fn segment(&self, key: &str) -> proto::Segment {
        let request =
            proto::GetSegmentRequest { session_id: SESSION.to_owned(), key: key.to_owned(), ..Default::default() };
        ok(self.timelines().get_segment(request).await).segment.expect("a segment")
    }

    pub async fn end_session(&self) -> proto::EndSessionResponse {
        let request = proto::EndSessionRequest { session_id: SESSION.to_owned(), ..Default::default() };
        ok(self.timelines().end_session(request).await)
    }
}

/// A watch of the session of most tests.
pub struct SessionWatch(pub Streaming<proto::WatchSessionResponse>);

impl SessionWatch {
    pub async fn begin(api: &Api, from_version: i64) -> SessionWatch {
        let session_id = SESSION.to_owned();
        let request = proto::WatchSessionRequest { session_id, from_version, ..Default::default() };
        SessionWatch(ok(api.timelines().watch_session(request).await))
    }

    /// The next update that is no keepalive. None: the stream has ended.
    pub async fn next(&mut self) -> Option<Update> {
        let update = async {
            loop {
                match self.0.message().await.expect("no error")?.update.expect("an update") {
                    Update::Keepalive(_) => {}
                    update => return Some(update),
                }
            }
        };
        tokio::time::timeout(PATIENCE, update).await.expect("an update in time")
    }

    pub async fn changes(&mut self) -> proto::SegmentChanges {
        match self.next().await {
            Some(Update::Changes(changes)) => changes,
            other => panic!("{other:?} are no changes"),
        }
    }

    pub async fn session(&mut self) -> proto::Session {
        match self.next().await {
            Some(Update::Session(session)) => session,
            other => panic!("{other:?} is no session"),
        }
    }

    pub async fn removal(&mut self) {
        let update = self.next().await;
        assert!(matches!(update, Some(Update::Removal(_))), "{update:?} is no removal");
    }
}

/// The keys of changed segments.
pub fn keys_of(changes: &proto::SegmentChanges) -> Vec<&str> {
    changes.segments.iter().map(|segment| segment.key.as_str()).collect()
}
