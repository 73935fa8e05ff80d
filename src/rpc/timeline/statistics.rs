//! GetSessionStatistics: who spoke for how long, and how much there is in each language and of each kind.

use crate::domain::session::segment::{SegmentKind, SegmentStatus};
use crate::domain::timeline::search_text::word_count;
use crate::domain::timeline::statistics::{CountedSegment, SessionCounts};
use crate::error::Result;
use crate::proto;
use crate::rpc::caller::Caller;
use crate::rpc::convert::{session, time};
use crate::store::timeline::ReadSegment;

/// GetSessionStatistics.
pub async fn get_session_statistics(
    caller: Caller,
    request: proto::GetSessionStatisticsRequest,
) -> Result<proto::GetSessionStatisticsResponse> {
    let named = session::named(caller.namespace, &request.session_id)?;
    let mut counts = SessionCounts::default();
    let version = caller.services.store.read_session(named.key, |segment| counts.add(counted(segment))).await?;
    match version {
        Some(version) => Ok(response(counts, version)),
        None => Err(named.not_found().into()),
    }
}

fn counted(segment: ReadSegment) -> CountedSegment {
    CountedSegment {
        is_transcript: segment.kind == SegmentKind::Transcript as i16,
        is_interim: segment.status == SegmentStatus::Interim as i16,
        words: word_count(&segment.text).into(),
        has_text: !segment.text.is_empty(),
        kind: segment.kind,
        start: segment.start,
        end: segment.end,
        speaker: segment.speaker,
        language: segment.language,
    }
}

fn response(counts: SessionCounts, session_version: i64) -> proto::GetSessionStatisticsResponse {
    let speakers = counts.speakers.into_iter().map(|(speaker, count)| proto::SpeakerStatistics {
        speaker,
        segment_count: count.segments,
        word_count: count.words,
        spoken: Some(time::duration(count.spoken.total())),
        untimed_count: count.untimed,
    });
    let languages = counts.languages.into_iter().map(|(language, count)| proto::LanguageStatistics {
        language,
        segment_count: count.segments,
        word_count: count.words,
    });
    let kinds = counts.kinds.into_iter().map(|(kind, count)| proto::KindStatistics {
        kind: kind.into(),
        segment_count: count.segments,
        interim_count: count.interim,
    });
    proto::GetSessionStatisticsResponse {
        speakers: speakers.collect(),
        languages: languages.collect(),
        kinds: kinds.collect(),
        session_version,
        other_speakers_segment_count: counts.other_speakers,
        other_languages_segment_count: counts.other_languages,
    }
}
