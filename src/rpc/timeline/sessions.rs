//! The rpcs about sessions as a whole.

use std::sync::Arc;

use crate::domain::id::{NamespaceId, is_job_id};
use crate::domain::request::{RequestIdentity, RequestRecord};
use crate::domain::session::query::{SessionCursor, SessionQuery};
use crate::domain::session::{Session, SessionKey};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result, after_commit};
use crate::operation::Reply;
use crate::operation::timeline::NamedSession;
use crate::operation::timeline::control::{ControlSession, CreateSession, SessionControl};
use crate::proto;
use crate::rpc::caller::Caller;
use crate::rpc::convert::digest::identity;
use crate::rpc::convert::session as convert;
use crate::rpc::convert::time;
use crate::rpc::filter;
use crate::rpc::page::{self, Binding};
use crate::task::timelines::remove_session;

pub async fn create_session(
    caller: Caller,
    mut request: proto::CreateSessionRequest,
) -> Result<proto::CreateSessionResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let (session, meta) = convert::created(caller.namespace, request)?;
    let reply = caller.execute(CreateSession { session, meta, request: identity }).await?;
    if let Some(record) = &reply.replayed {
        // The id of the first call, which may be one that the server chose.
        let uid = record.jobs.first().copied().ok_or_else(|| Error::bug("a new session without its uid"))?;
        let key = SessionKey { namespace: caller.namespace, uid };
        let now = caller.services.store.session(key).await.map_err(after_commit)?;
        let (session, applied_version) = (now.map(|now| convert::session(&now)), record.revision);
        return Ok(proto::CreateSessionResponse { session, replayed: true, applied_version });
    }
    let session = reply.session.ok_or_else(|| Error::bug("a new session without its state"))?;
    let applied_version = session.version;
    Ok(proto::CreateSessionResponse { session: Some(convert::session(&session)), replayed: false, applied_version })
}

/// A session that has to exist.
pub(super) async fn existing(caller: &Caller, named: &NamedSession) -> Result<Arc<Session>> {
    let found = caller.services.store.session(named.key).await?;
    found.ok_or_else(|| named.not_found().into())
}

pub async fn get_session(caller: Caller, request: proto::GetSessionRequest) -> Result<proto::GetSessionResponse> {
    let named = convert::named(caller.namespace, &request.session_id)?;
    let session = existing(&caller, &named).await?;
    Ok(proto::GetSessionResponse { session: Some(convert::session(&session)) })
}

/// Reads a ListSessions; the binding makes the token of the next page.
fn query(namespace: NamespaceId, request: &proto::ListSessionsRequest) -> Result<(SessionQuery, Binding)> {
    let binding = Binding::of("ListSessions", namespace, &[&request.filter, &request.order_by]);
    let order = filter::session_order(&request.order_by)?;
    let after: Option<SessionCursor> = binding.cursor(&request.page_token)?;
    // Tokens are not signed, and what is in them goes into a query.
    let is_possible = |cursor: &SessionCursor| {
        let times = [Some(cursor.created), cursor.end];
        is_job_id(&cursor.session_id) && times.into_iter().flatten().all(|at| time::is_representable(Timestamp(at)))
    };
    if after.as_ref().is_some_and(|cursor| !is_possible(cursor)) {
        return Err(Error::InvalidCursor { path: "page_token", why: "is not a page token" });
    }
    let (clauses, limit) = (filter::sessions(&request.filter)?, page::size(request.page_size)?);
    Ok((SessionQuery { clauses, order, after, limit }, binding))
}

pub async fn list_sessions(caller: Caller, request: proto::ListSessionsRequest) -> Result<proto::ListSessionsResponse> {
    let (query, binding) = query(caller.namespace, &request)?;
    let page = caller.services.store.list_sessions(caller.namespace, &query).await?;
    let mut budget = page::Budget::new(crate::rpc::limits::REPLY_BYTES);
    let mut response = proto::ListSessionsResponse::default();
    let mut next = page.next;
    for session in &page.sessions {
        let message = convert::session(session);
        if !budget.takes(&message) {
            break;
        }
        response.sessions.push(message);
    }
    if let Some(last) = page.sessions.get(..response.sessions.len()).and_then(<[_]>::last)
        && response.sessions.len() < page.sessions.len()
    {
        next = Some(query.order.cursor(last));
    }
    response.next_page_token = next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default();
    Ok(response)
}

/// What responses about a changed session say.
struct Controlled {
    session: Option<proto::Session>,
    applied: bool,
    replayed: bool,
    applied_version: i64,
}

impl Controlled {
    /// Of a call that was not repeated.
    fn of(reply: &Reply) -> Self {
        let session = reply.session.as_ref().map(|session| convert::session(session));
        let applied_version = if reply.applied { reply.revision() } else { 0 };
        Self { session, applied: reply.applied, replayed: false, applied_version }
    }

    /// Of a repeated call, with the session as it is now.
    async fn replayed(caller: &Caller, key: SessionKey, record: &RequestRecord) -> Result<Self> {
        let now = caller.services.store.session(key).await.map_err(after_commit)?;
        let session = now.map(|now| convert::session(&now));
        let applied_version = if record.applied { record.revision } else { 0 };
        Ok(Self { session, applied: record.applied, replayed: true, applied_version })
    }
}

async fn control(
    caller: &Caller,
    session_id: &str,
    control: SessionControl,
    expected_version: Option<i64>,
    request: Option<RequestIdentity>,
) -> Result<(NamedSession, Controlled)> {
    let session = convert::named(caller.namespace, session_id)?;
    let operation = ControlSession { session: session.clone(), control, expected_version, request };
    let reply = caller.execute(operation).await?;
    let controlled = match &reply.replayed {
        Some(record) => Controlled::replayed(caller, session.key, record).await?,
        None => Controlled::of(&reply),
    };
    Ok((session, controlled))
}

pub async fn update_session(
    caller: Caller,
    mut request: proto::UpdateSessionRequest,
) -> Result<proto::UpdateSessionResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let (session_id, expected) = (std::mem::take(&mut request.session_id), request.expected_version);
    let update = SessionControl::Update(convert::patch(request)?);
    let (_, Controlled { session, applied, replayed, applied_version }) =
        control(&caller, &session_id, update, expected, identity).await?;
    Ok(proto::UpdateSessionResponse { session, applied, replayed, applied_version })
}

pub async fn end_session(caller: Caller, mut request: proto::EndSessionRequest) -> Result<proto::EndSessionResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let (_, Controlled { session, applied, replayed, applied_version }) =
        control(&caller, &request.session_id, SessionControl::End, request.expected_version, identity).await?;
    Ok(proto::EndSessionResponse { session, applied, replayed, applied_version })
}

pub async fn delete_session(
    caller: Caller,
    mut request: proto::DeleteSessionRequest,
) -> Result<proto::DeleteSessionResponse> {
    let identity = identity(caller.namespace, &mut request)?;
    let (session, controlled) =
        control(&caller, &request.session_id, SessionControl::Delete, request.expected_version, identity).await?;
    if !controlled.replayed
        && let Err(error) = remove_session(&caller.services.engine, session.key).await
    {
        // The clean-up goes on.
        tracing::debug!(%error, "a deleted session was not removed at once");
    }
    Ok(proto::DeleteSessionResponse { replayed: controlled.replayed })
}
