//! Segments of timelines.

use std::collections::HashSet;
use std::sync::Arc;

use super::path::Path;
use super::{document, record, text, time};
use crate::domain::refusal::Refusal;
use crate::domain::session::SessionKey;
use crate::domain::session::segment::{
    MAX_TEXT_BYTES, MAX_TIME_NANOS, NewSegment, Segment, SegmentBody, SegmentKey, SegmentKind, SegmentStatus, Word,
};
use crate::domain::short::Short;
use crate::error::Result as Answer;
use crate::proto;
use crate::rpc::convert::recording;
use crate::rpc::limits;

const NANOS: i64 = 1_000_000_000;

/// Reads the key of a segment.
pub fn key(session: SessionKey, given: &str, path: &Path) -> Result<SegmentKey, Refusal> {
    Ok(SegmentKey { session, key: text::segment_key(given, path)? })
}

/// Reads the segments of one call, which have different keys.
///
/// # Errors
/// The refusal of the first segment at fault, by its full path.
pub fn segments(session: SessionKey, given: &[proto::Segment], list: &Path) -> Result<Vec<NewSegment>, Refusal> {
    let mut seen = HashSet::with_capacity(given.len());
    let mut once = |one: NewSegment| match seen.insert(one.key.key.clone()) {
        true => Ok(one),
        false => Err(Path::Root.field("key").refuse("another segment of the call has the same key")),
    };
    each(session, given, list)?
        .into_iter()
        .enumerate()
        .map(|(i, one)| one.and_then(&mut once).map_err(|one| one.at(i, list.index(i).to_string())))
        .collect()
}

/// As [`segments`], each with its own outcome; paths are within the segment.
///
/// # Errors
/// If there are none or too many.
pub fn each(
    session: SessionKey,
    given: &[proto::Segment],
    list: &Path,
) -> Result<Vec<Result<NewSegment, Refusal>>, Refusal> {
    record::bounded(given.len(), limits::SEGMENTS_PER_CALL, "segments", list)?;
    Ok(given.iter().map(|given| segment(session, given)).collect())
}

fn segment(session: SessionKey, given: &proto::Segment) -> Result<NewSegment, Refusal> {
    let root = Path::Root;
    Ok(NewSegment {
        key: key(session, &given.key, &root.field("key"))?,
        kind: kind(given.kind, &root.field("kind"))?.ok_or_else(|| root.field("kind").missing())?,
        status: status(given.status, &root.field("status"))?.unwrap_or(SegmentStatus::Final),
        sequence: sequence(given.sequence, &root.field("sequence"))?,
        body: body(given, &root)?,
    })
}

/// Reads a kind. None: it is unset.
pub fn kind(given: i32, path: &Path) -> Result<Option<SegmentKind>, Refusal> {
    match given {
        0 => Ok(None),
        number => SegmentKind::from_number(number).map(Some).ok_or_else(|| path.unknown(number)),
    }
}

/// Reads a status. None: it is unset.
pub fn status(given: i32, path: &Path) -> Result<Option<SegmentStatus>, Refusal> {
    match proto::SegmentStatus::try_from(given) {
        Ok(proto::SegmentStatus::Unspecified) => Ok(None),
        Ok(proto::SegmentStatus::Interim) => Ok(Some(SegmentStatus::Interim)),
        Ok(proto::SegmentStatus::Final) => Ok(Some(SegmentStatus::Final)),
        Err(_) => Err(path.unknown(given)),
    }
}

/// Reads the sequence of a segment.
pub fn sequence(given: i64, path: &Path) -> Result<i64, Refusal> {
    if given < 0 { Err(path.outside("0 or more", given)) } else { Ok(given) }
}

/// Reads what a segment has beside key, kind, status and sequence.
pub fn body(given: &proto::Segment, path: &Path) -> Result<SegmentBody, Refusal> {
    let parent_path = path.field("parent_key");
    let parent_key = match given.parent_key.as_deref() {
        None => None,
        Some("") => return Err(parent_path.empty()),
        Some(parent) => Some(text::segment_key(parent, &parent_path)?),
    };
    let (start_ns, end_ns) = range((given.start.as_ref(), given.end.as_ref()), path)?;
    let text: Arc<str> = text::prose(&given.text, MAX_TEXT_BYTES, &path.field("text"))?;
    let speaker: Short = text::line(&given.speaker, limits::SPEAKER_BYTES, &path.field("speaker"))?;
    let metadata = document::optional(given.metadata.as_ref(), limits::METADATA_BYTES, &path.field("metadata"))?;
    Ok(SegmentBody {
        parent_key,
        start_ns,
        end_ns,
        speaker: Some(speaker).filter(|speaker| !speaker.is_empty()),
        language: text::language(&given.language, &path.field("language"))?,
        text: Some(text).filter(|text| !text.is_empty()),
        words: words(&given.words, &path.field("words"))?,
        confidence: confidence(given.confidence, &path.field("confidence"))?,
        content: recording::optional(given.content.as_ref(), &path.field("content"))?,
        metadata,
    })
}

/// A time from the start of the session, and the end that belongs to it.
type Times<'a> = (Option<&'a prost_types::Duration>, Option<&'a prost_types::Duration>);

fn range((start, end): Times<'_>, path: &Path) -> Result<(Option<i64>, Option<i64>), Refusal> {
    let end_path = path.field("end");
    let start = start.map(|start| nanos(start, &path.field("start"))).transpose()?;
    let end = end.map(|end| nanos(end, &end_path)).transpose()?;
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        return Err(end_path.refuse(format!("must not be before start: {} is before {}", shown(end), shown(start))));
    }
    Ok((start, end))
}

/// Nanoseconds as errors show them, in seconds.
fn shown(nanos: i64) -> String {
    let fraction = format!("{:09}", nanos % NANOS);
    match fraction.trim_end_matches('0') {
        "" => format!("{} s", nanos / NANOS),
        fraction => format!("{}.{fraction} s", nanos / NANOS),
    }
}

/// Reads a time from the start of a session, in nanoseconds.
pub fn nanos(given: &prost_types::Duration, path: &Path) -> Result<i64, Refusal> {
    let outside = || path.outside("0 to 7 days", time::shown(given));
    if given.nanos.unsigned_abs() > 999_999_999 {
        return Err(path.refuse("nanos must be 0 to 999,999,999"));
    }
    let nanos = given.seconds.checked_mul(NANOS).and_then(|seconds| seconds.checked_add(given.nanos.into()));
    nanos.filter(|nanos| given.nanos >= 0 && (0..=MAX_TIME_NANOS).contains(nanos)).ok_or_else(outside)
}

fn confidence(given: Option<f64>, path: &Path) -> Result<Option<f64>, Refusal> {
    match given {
        // NaN is in no range.
        Some(given) if !(0.0..=1.0).contains(&given) => Err(path.outside("0 to 1", given)),
        given => Ok(given),
    }
}

fn words(given: &[proto::SegmentWord], path: &Path) -> Result<Option<Arc<[Word]>>, Refusal> {
    if given.is_empty() {
        return Ok(None);
    }
    record::bounded(given.len(), limits::WORDS_PER_SEGMENT, "words", path)?;
    let mut bytes = 0;
    let one = |(i, given): (usize, &proto::SegmentWord)| {
        let path = path.index(i);
        if given.text.is_empty() {
            return Err(path.field("text").missing());
        }
        bytes += given.text.len();
        let (start_ns, end_ns) = range((given.start.as_ref(), given.end.as_ref()), &path)?;
        let text = text::prose(&given.text, limits::WORD_BYTES, &path.field("text"))?;
        Ok(Word { text, start_ns, end_ns, confidence: confidence(given.confidence, &path.field("confidence"))? })
    };
    let words: Arc<[Word]> = given.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    if bytes > MAX_TEXT_BYTES {
        return Err(path.refuse(format!("have {bytes} bytes together, {MAX_TEXT_BYTES} are allowed")));
    }
    Ok(Some(words))
}

/// A segment as a message.
pub fn segment_to_proto(segment: &Segment) -> Answer<proto::Segment> {
    let body = &segment.body;
    let status = match segment.status {
        SegmentStatus::Interim => proto::SegmentStatus::Interim,
        SegmentStatus::Final => proto::SegmentStatus::Final,
    };
    let duration = body.end_ns.zip(body.start_ns).map(|(end, start)| duration(end - start));
    Ok(proto::Segment {
        key: segment.key.key.to_string(),
        kind: segment.kind as i32,
        status: status.into(),
        sequence: segment.sequence,
        parent_key: body.parent_key.as_ref().map(ToString::to_string),
        start: body.start_ns.map(self::duration),
        end: body.end_ns.map(self::duration),
        duration,
        speaker: owned(body.speaker.as_ref()),
        language: owned(body.language.as_ref()),
        text: body.text.as_deref().unwrap_or_default().to_owned(),
        words: body.words.iter().flat_map(|words| words.iter()).map(word).collect(),
        confidence: body.confidence,
        content: body.content.as_ref().map(recording::to_proto),
        metadata: document::optional_object(body.metadata.as_ref())?,
        version: segment.version,
        arrival: segment.arrival,
        create_time: Some(super::time::timestamp(segment.create_time)),
        update_time: Some(super::time::timestamp(segment.update_time)),
    })
}

fn owned(text: Option<&Short>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn word(word: &Word) -> proto::SegmentWord {
    proto::SegmentWord {
        text: word.text.to_string(),
        start: word.start_ns.map(duration),
        end: word.end_ns.map(duration),
        confidence: word.confidence,
    }
}

/// Nanoseconds as a message.
pub fn duration(nanos: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: nanos / NANOS, nanos: i32::try_from(nanos % NANOS).unwrap_or(0) }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
