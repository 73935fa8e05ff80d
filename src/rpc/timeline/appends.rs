//! AppendSegments and WriteSegments.

use tonic::Status;
use tonic_types::pb;

use crate::domain::refusal::Refusal;
use crate::domain::request::RequestRecord;
use crate::error::{Error, Result};
use crate::operation::timeline::append::{AppendMode, AppendSegments};
use crate::operation::timeline::{NamedSession, SegmentOutcome};
use crate::proto;
use crate::rpc::caller::Caller;
use crate::rpc::convert::digest::identity;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{segment, session};
use crate::rpc::record_writes::in_a_message;

/// The operation of an AppendSegments, without its `request_id`.
pub(in crate::rpc) fn append(
    namespace: crate::domain::id::NamespaceId,
    request: &proto::AppendSegmentsRequest,
) -> std::result::Result<AppendSegments, Refusal> {
    let session = session::named(namespace, &request.session_id)?;
    let segments = segment::segments(session.key, &request.segments, &Path::Root.field("segments"))?;
    let (allow_missing, mode) = (request.allow_missing, AppendMode::AllOrNone);
    Ok(AppendSegments { session, segments, allow_missing, mode, request: None })
}

pub async fn append_segments(
    caller: Caller,
    mut request: proto::AppendSegmentsRequest,
) -> Result<proto::AppendSegmentsResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let operation = AppendSegments { request: identity, ..append(caller.namespace, &request)? };
    let reply = caller.execute(operation).await?;
    let keys = request.segments.into_iter().map(|segment| segment.key);
    let (results, revision) = match &reply.replayed {
        Some(record) => (replayed(keys, record), record.revision),
        None => (results(keys, &reply.segments), reply.revision()),
    };
    let applied_version = if reply.applied { revision } else { 0 };
    let (applied, replayed) = (reply.applied, reply.replayed.is_some());
    Ok(proto::AppendSegmentsResponse { results, applied, replayed, applied_version })
}

/// The results of segments, none of which was refused.
pub(in crate::rpc) fn results(
    keys: impl Iterator<Item = String>,
    outcomes: &[SegmentOutcome],
) -> Vec<proto::SegmentResult> {
    keys.zip(outcomes).filter_map(|(key, outcome)| result(key, outcome).ok()).collect()
}

/// The result of a segment, or its refusal.
fn result(key: String, outcome: &SegmentOutcome) -> std::result::Result<proto::SegmentResult, Refusal> {
    match outcome {
        SegmentOutcome::Stored(version) => {
            Ok(proto::SegmentResult { key, applied: true, version: *version, ..Default::default() })
        }
        SegmentOutcome::Skipped(reason, version) => {
            Ok(proto::SegmentResult { key, applied: false, skip: *reason as i32, version: *version })
        }
        SegmentOutcome::Refused(refusal) => Err(refusal.clone()),
    }
}

/// The results of a repeated call, as far as they are remembered.
fn replayed(keys: impl Iterator<Item = String>, record: &RequestRecord) -> Vec<proto::SegmentResult> {
    let result = |(i, key)| {
        let version = record.versions.get(i).copied().unwrap_or(0);
        proto::SegmentResult { key, applied: version > 0, version, ..Default::default() }
    };
    keys.enumerate().map(result).collect()
}

/// The outcomes of segments that were written each for itself.
pub(super) struct WrittenSegments {
    /// In the order of the segments.
    pub results: Vec<std::result::Result<proto::SegmentResult, Refusal>>,
    /// The version of the session after it. 0: nothing changed.
    pub applied_version: i64,
}

/// Writes segments, each for itself.
pub(super) async fn write(
    caller: &Caller,
    session: NamedSession,
    given: Vec<proto::Segment>,
    allow_missing: bool,
) -> Result<WrittenSegments> {
    let read = segment::each(session.key, &given, &Path::Root.field("segments"))?;
    let mut results = Vec::with_capacity(read.len());
    let (mut segments, mut places) = (Vec::with_capacity(read.len()), Vec::with_capacity(read.len()));
    for (place, read) in read.into_iter().enumerate() {
        match read {
            Ok(segment) => {
                segments.push(segment);
                places.push(place);
                results.push(Ok(proto::SegmentResult::default()));
            }
            Err(refusal) => results.push(Err(refusal)),
        }
    }
    if segments.is_empty() {
        return Ok(WrittenSegments { results, applied_version: 0 });
    }
    let mode = AppendMode::EachForItself;
    let reply = caller.execute(AppendSegments { session, segments, allow_missing, mode, request: None }).await?;
    let mut given = given;
    for (place, outcome) in places.into_iter().zip(&reply.segments) {
        results[place] = result(std::mem::take(&mut given[place].key), outcome);
    }
    Ok(WrittenSegments { results, applied_version: if reply.applied { reply.revision() } else { 0 } })
}

/// A refusal as the status of one segment.
pub(super) fn status(refusal: Refusal) -> pb::Status {
    in_a_message(&Status::from(Error::from(refusal)))
}

pub async fn write_segments(
    caller: Caller,
    request: proto::WriteSegmentsRequest,
) -> Result<proto::WriteSegmentsResponse> {
    let session = session::named(caller.namespace, &request.session_id)?;
    let WrittenSegments { results, applied_version } =
        write(&caller, session, request.segments, request.allow_missing).await?;
    let results = results.into_iter().map(|result| match result {
        Ok(result) => proto::SegmentWriteResult { status: Some(pb::Status::default()), result: Some(result) },
        Err(refusal) => proto::SegmentWriteResult { status: Some(status(refusal)), result: None },
    });
    Ok(proto::WriteSegmentsResponse { results: results.collect(), applied_version })
}
