//! Sessions of timelines.

use uuid::Uuid;

use super::path::Path;
use super::{text, time};
use crate::domain::id::{Name, NamespaceId};
use crate::domain::refusal::Refusal;
use crate::domain::session::{DEFAULT_SESSION_RETENTION, Session, SessionKey, SessionMeta, SessionState};
use crate::operation::timeline::NamedSession;
use crate::operation::timeline::control::SessionPatch;
use crate::proto;
use crate::rpc::limits;

/// Reads the `session_id` of a request.
pub fn named(namespace: NamespaceId, session_id: &str) -> Result<NamedSession, Refusal> {
    let session_id = text::job_id(session_id, &Path::Root.field("session_id"))?;
    Ok(NamedSession { key: SessionKey::of(namespace, &session_id), session_id })
}

/// Reads a CreateSession. Without an id the session gets a new one, which is a UUID of version 7.
pub fn created(
    namespace: NamespaceId,
    request: proto::CreateSessionRequest,
) -> Result<(NamedSession, SessionMeta), Refusal> {
    let root = Path::Root;
    let session = match request.session_id.as_deref() {
        None => {
            let session_id: Name = Uuid::now_v7().to_string().into();
            NamedSession { key: SessionKey::of(namespace, &session_id), session_id }
        }
        Some("") => return Err(root.field("session_id").empty()),
        Some(given) => named(namespace, given)?,
    };
    let path = root.field("retention");
    let retention = time::parse_optional_duration(request.retention.as_ref(), time::SESSION_RETENTION, &path)?;
    let meta = SessionMeta {
        title: title(&request.title)?,
        labels: text::labels(request.labels, &root.field("labels"))?,
        retention: retention.unwrap_or(DEFAULT_SESSION_RETENTION),
    };
    Ok((session, meta))
}

fn title(given: &str) -> Result<Option<Name>, Refusal> {
    let title: Name = text::line(given, limits::MESSAGE_BYTES, &Path::Root.field("title"))?;
    Ok(Some(title).filter(|title| !title.is_empty()))
}

/// Reads an UpdateSession. Without a mask the fields that are set are changed; with one, those that it names, and unset ones are cleared.
pub fn patch(request: proto::UpdateSessionRequest) -> Result<SessionPatch, Refusal> {
    let root = Path::Root;
    let mut title_changes = !request.title.is_empty();
    let (mut labels_change, mut retention_changes) = (!request.labels.is_empty(), request.retention.is_some());
    if let Some(mask) = &request.update_mask {
        (title_changes, labels_change, retention_changes) = (false, false, false);
        let path = root.field("update_mask");
        let path = path.field("paths");
        for (i, name) in mask.paths.iter().enumerate() {
            match name.as_str() {
                "title" => title_changes = true,
                "labels" => labels_change = true,
                "retention" => retention_changes = true,
                "*" => (title_changes, labels_change, retention_changes) = (true, true, true),
                _ => return Err(path.index(i).refuse("must be title, labels, retention or *")),
            }
        }
    }
    let path = root.field("retention");
    let retention = time::parse_optional_duration(request.retention.as_ref(), time::SESSION_RETENTION, &path)?;
    let (title, labels) = (title(&request.title)?, text::labels(request.labels, &root.field("labels"))?);
    Ok(SessionPatch {
        title: title_changes.then_some(title),
        labels: labels_change.then_some(labels),
        retention: retention_changes.then_some(retention.unwrap_or(DEFAULT_SESSION_RETENTION)),
    })
}

/// A session as a message.
pub fn session(session: &Session) -> proto::Session {
    let state = match session.state {
        SessionState::Open => proto::SessionState::Open,
        // A session that is being deleted is shown by nothing but the response of what deleted it.
        SessionState::Ended | SessionState::Deleted => proto::SessionState::Ended,
    };
    proto::Session {
        session_id: session.session_id.to_string(),
        title: session.meta.title.as_deref().unwrap_or_default().to_owned(),
        labels: session.meta.labels.as_ref().clone(),
        state: state.into(),
        version: session.version,
        segment_count: session.segment_count,
        create_time: Some(time::timestamp(session.create_time)),
        update_time: Some(time::timestamp(session.update_time)),
        end_time: session.end_time.map(time::timestamp),
        retention: Some(time::duration(session.meta.retention)),
        expire_time: session.expire_time.map(time::timestamp),
    }
}
