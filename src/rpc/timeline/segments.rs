//! The rpcs about single segments.

use super::sessions::existing;
use crate::domain::refusal::Refusal;
use crate::error::{Result, after_commit};
use crate::operation::timeline::NamedSession;
use crate::operation::timeline::correct::{BodyField, CorrectSegment, DeleteSegment, SegmentPatch};
use crate::proto;
use crate::rpc::caller::Caller;
use crate::rpc::convert::digest::identity;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{segment as convert, session};

/// The fields that a mask may name, beside the status.
const FIELDS: [(&str, BodyField); 10] = [
    ("parent_key", BodyField::ParentKey),
    ("start", BodyField::Start),
    ("end", BodyField::End),
    ("speaker", BodyField::Speaker),
    ("language", BodyField::Language),
    ("text", BodyField::Text),
    ("words", BodyField::Words),
    ("confidence", BodyField::Confidence),
    ("content", BodyField::Content),
    ("metadata", BodyField::Metadata),
];

pub async fn get_segment(caller: Caller, request: proto::GetSegmentRequest) -> Result<proto::GetSegmentResponse> {
    let named = session::named(caller.namespace, &request.session_id)?;
    let key = convert::key(named.key, &request.key, &Path::Root.field("key"))?;
    existing(&caller, &named).await?;
    let found = caller.services.store.segment(&key).await?;
    let segment = found.ok_or_else(|| not_found(&named, &request.key))?;
    Ok(proto::GetSegmentResponse { segment: Some(convert::segment_to_proto(&segment)?) })
}

fn not_found(session: &NamedSession, key: &str) -> Refusal {
    Refusal::SegmentNotFound { session_id: session.session_id.to_string(), key: key.to_owned() }
}

/// Reads an UpdateSegment. Without a mask the fields that are set are changed; with one, those that it names, and unset ones are removed.
fn correction(
    session: NamedSession,
    request: &proto::UpdateSegmentRequest,
) -> std::result::Result<CorrectSegment, Refusal> {
    let root = Path::Root;
    let path = root.field("segment");
    let given = request.segment.as_ref().ok_or_else(|| path.missing())?;
    let key = convert::key(session.key, &given.key, &path.field("key"))?;
    if request.expected_version < 1 {
        return Err(root.field("expected_version").outside("1 or more", request.expected_version));
    }
    let status = convert::status(given.status, &path.field("status"))?;
    let (fields, status) = match &request.update_mask {
        None => (fields_set(given), status),
        Some(mask) => {
            let (fields, has_status) = masked(&mask.paths)?;
            if status.is_none() && mask.paths.iter().any(|name| name == "status") {
                return Err(path.field("status").missing());
            }
            (fields, status.filter(|_| has_status))
        }
    };
    let kind = convert::kind(given.kind, &path.field("kind"))?;
    // It does not change, but a value that no segment can have is a mistake.
    convert::sequence(given.sequence, &path.field("sequence"))?;
    let patch = SegmentPatch { status, fields, body: convert::body(given, &path)? };
    Ok(CorrectSegment { session, key, kind, patch, expected_version: request.expected_version, request: None })
}

/// The fields that a mask names, and whether it covers the status.
fn masked(paths: &[String]) -> std::result::Result<(Vec<BodyField>, bool), Refusal> {
    let root = Path::Root;
    let mask = root.field("update_mask");
    let list = mask.field("paths");
    let (mut fields, mut has_status) = (Vec::new(), false);
    for (i, name) in paths.iter().enumerate() {
        match (name.as_str(), FIELDS.iter().find(|(field, _)| field == name)) {
            ("status", _) => has_status = true,
            ("*", _) => {
                fields.extend(FIELDS.map(|(_, field)| field));
                has_status = true;
            }
            (_, Some((_, field))) => fields.push(*field),
            (_, None) => {
                let names = FIELDS.map(|(name, _)| name).join(", ");
                return Err(list.index(i).refuse(format!("must be status, {names} or *")));
            }
        }
    }
    Ok((fields, has_status))
}

/// The fields that are set in a segment.
fn fields_set(given: &proto::Segment) -> Vec<BodyField> {
    let is_set = |field: &BodyField| match field {
        BodyField::ParentKey => given.parent_key.is_some(),
        BodyField::Start => given.start.is_some(),
        BodyField::End => given.end.is_some(),
        BodyField::Speaker => !given.speaker.is_empty(),
        BodyField::Language => !given.language.is_empty(),
        BodyField::Text => !given.text.is_empty(),
        BodyField::Words => !given.words.is_empty(),
        BodyField::Confidence => given.confidence.is_some(),
        BodyField::Content => given.content.is_some(),
        BodyField::Metadata => given.metadata.is_some(),
    };
    FIELDS.into_iter().map(|(_, field)| field).filter(is_set).collect()
}

pub async fn update_segment(
    caller: Caller,
    mut request: proto::UpdateSegmentRequest,
) -> Result<proto::UpdateSegmentResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let session = session::named(caller.namespace, &request.session_id)?;
    let operation = CorrectSegment { request: identity, ..correction(session, &request)? };
    let key = operation.key.clone();
    let reply = caller.execute(operation).await?;
    let revision = reply.replayed.as_ref().map_or_else(|| reply.revision(), |record| record.revision);
    let (applied, replayed) = (reply.applied, reply.replayed.is_some());
    let now = match reply.replayed {
        Some(_) => caller.services.store.segment(&key).await.map_err(after_commit)?,
        None => reply.segment,
    };
    Ok(proto::UpdateSegmentResponse {
        segment: now.map(|now| convert::segment_to_proto(&now)).transpose()?,
        applied,
        replayed,
        applied_version: if applied { revision } else { 0 },
    })
}

pub async fn delete_segment(
    caller: Caller,
    mut request: proto::DeleteSegmentRequest,
) -> Result<proto::DeleteSegmentResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let session = session::named(caller.namespace, &request.session_id)?;
    let key = convert::key(session.key, &request.key, &Path::Root.field("key"))?;
    let expected_version = request.expected_version;
    let reply = caller.execute(DeleteSegment { session, key, expected_version, request: identity }).await?;
    let applied_version = reply.replayed.as_ref().map_or_else(|| reply.revision(), |record| record.revision);
    Ok(proto::DeleteSegmentResponse { replayed: reply.replayed.is_some(), applied_version })
}
