//! ExportTimeline: subtitles and texts of one session.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::session::segment::{SegmentKind, SegmentStatus};
use crate::domain::timeline::export::{ExportWriter, ExportedSegment, TimelineFormat};
use crate::error::Result;
use crate::operation::timeline::NamedSession;
use crate::proto::{self, ExportFormat, ExportTimelineRequest, ExportTimelineResponse};
use crate::rpc::caller::Caller;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{session, text};
use crate::rpc::services::Services;
use crate::rpc::streams::{MessageSource, Messages, messages};
use crate::store::timeline::{ReadSegment, SegmentSteps};

/// Bytes of a message, at most.
const MAX_PART_BYTES: usize = 64 * 1024;

/// ExportTimeline.
pub async fn export_timeline(
    caller: Caller,
    request: ExportTimelineRequest,
) -> Result<Messages<ExportTimelineResponse>> {
    let root = Path::Root;
    let session = session::named(caller.namespace, &request.session_id)?;
    let language = text::language(&request.language, &root.field("language"))?;
    let format = match ExportFormat::try_from(request.format) {
        Ok(ExportFormat::Webvtt) => TimelineFormat::WebVtt,
        Ok(ExportFormat::Srt) => TimelineFormat::Srt,
        Ok(ExportFormat::Text) => TimelineFormat::Text,
        Ok(ExportFormat::JsonLines) => TimelineFormat::JsonLines,
        Ok(ExportFormat::Unspecified) => return Err(root.field("format").missing().into()),
        Err(_) => return Err(root.field("format").unknown(request.format).into()),
    };
    let place = caller.services.timeline_gate.enter(caller.deadline).await?;
    if caller.services.store.session_version(session.key).await?.is_none() {
        return Err(session.not_found().into());
    }
    drop(place);
    let steps = SegmentSteps::of(session.key);
    let services = caller.services;
    let language = language.map_or(String::new(), |tag| tag.to_ascii_lowercase());
    Ok(messages(Export {
        services,
        session,
        steps,
        language,
        writer: ExportWriter::new(format),
        parts: VecDeque::new(),
    }))
}

/// An export that is under way. It holds a step of segments and what subtitles wait for, however long the session is; a slow reader holds no
/// connection of the database.
struct Export {
    services: Arc<Services>,
    session: NamedSession,
    steps: SegmentSteps,
    /// In lower case. Empty: transcripts of any language.
    language: String,
    writer: ExportWriter,
    parts: VecDeque<Vec<u8>>,
}

impl Export {
    /// Whether a segment belongs to the file.
    fn has(&self, segment: &ReadSegment) -> bool {
        let is_said = segment.kind == SegmentKind::Transcript as i16;
        let is_translated = segment.kind == SegmentKind::Translation as i16;
        let is_final = segment.status == SegmentStatus::Final as i16;
        let tag = segment.language.to_ascii_lowercase();
        let rest = tag.strip_prefix(&self.language);
        let is_of_language = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        is_final && if self.language.is_empty() { is_said } else { (is_said || is_translated) && is_of_language }
    }

    /// Cuts what was written into parts.
    fn cut(&mut self) {
        let written = self.writer.take();
        self.parts.extend(written.chunks(MAX_PART_BYTES).map(<[u8]>::to_vec));
    }

    /// The next segments. If the read replica has become unable to answer, the primary goes on.
    async fn next_segments(&mut self) -> Result<Vec<ReadSegment>> {
        let read = self.services.store.next_segments(&mut self.steps).await;
        let Some(primary) = self.services.primary.clone().filter(|_| read.is_err()) else { return read };
        self.services = primary;
        self.services.store.next_segments(&mut self.steps).await
    }

    async fn step(&mut self) -> Result<()> {
        // The deadline of the call was for the beginning of the stream.
        let place = self.services.timeline_gate.enter(None).await?;
        let segments = self.next_segments().await?;
        if self.steps.is_over() && self.services.store.session_version(self.session.key).await?.is_none() {
            // It was deleted meanwhile, and the file would end too early without a word.
            return Err(self.session.not_found().into());
        }
        drop(place);
        for segment in segments {
            if self.has(&segment) {
                self.writer.write(exported(segment));
            }
        }
        if self.steps.is_over() {
            self.writer.finish();
        }
        if self.writer.len() >= MAX_PART_BYTES || self.steps.is_over() {
            self.cut();
        }
        Ok(())
    }
}

fn exported(segment: ReadSegment) -> ExportedSegment {
    let kind = proto::SegmentKind::try_from(i32::from(segment.kind)).unwrap_or_default();
    ExportedSegment {
        key: segment.key,
        kind: kind.as_str_name(),
        start: segment.start,
        end: segment.end,
        speaker: segment.speaker,
        language: segment.language,
        text: segment.text,
    }
}

impl MessageSource for Export {
    type Message = ExportTimelineResponse;

    async fn next(&mut self) -> Result<Option<ExportTimelineResponse>> {
        while self.parts.is_empty() && !self.steps.is_over() {
            self.step().await?;
        }
        Ok(self.parts.pop_front().map(|data| ExportTimelineResponse { data: data.into() }))
    }
}
