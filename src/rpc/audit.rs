//! The audit log for operators.

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{document, text, time};
use super::limits;
use super::page::{self, Binding};
use crate::domain::audit::{AuditEvent, AuditQuery};
use crate::domain::id::NamespaceId;
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::proto;
use crate::store::audit::AuditPlace;

pub async fn list_audit_events(
    caller: Caller,
    request: proto::ListAuditEventsRequest,
) -> Result<proto::ListAuditEventsResponse> {
    let limit = page::size(request.page_size)?;
    let query = query(&request)?;
    let moments = [request.start_time, request.end_time].map(|at| format!("{at:?}"));
    let fields = [&request.principal, &request.method, &moments[0], &moments[1]].map(String::as_str);
    let binding = Binding::of("ListAuditEvents", NamespaceId(0), &fields);
    let after: Option<AuditPlace> = binding.cursor(&request.page_token)?;
    let (found, next) = caller.services.store.audit_events(&query, after, limit).await?;
    let next_page_token = next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default();
    Ok(proto::ListAuditEventsResponse { events: found.iter().map(event).collect::<Result<_>>()?, next_page_token })
}

fn query(request: &proto::ListAuditEventsRequest) -> std::result::Result<AuditQuery, Refusal> {
    let root = Path::Root;
    let words = |given: &str, bytes: usize, name: &str| {
        let words: String = text::line(given, bytes, &root.field(name))?;
        Ok::<_, Refusal>((!words.is_empty()).then_some(words))
    };
    let moment = |given: Option<&prost_types::Timestamp>, name: &str| {
        given.map(|given| time::parse_timestamp(given, &root.field(name))).transpose()
    };
    Ok(AuditQuery {
        principal: words(&request.principal, limits::PRINCIPAL_BYTES, "principal")?,
        method: words(&request.method, limits::NAME_BYTES, "method")?,
        since: moment(request.start_time.as_ref(), "start_time")?,
        until: moment(request.end_time.as_ref(), "end_time")?,
    })
}

fn event(event: &AuditEvent) -> Result<proto::AuditEvent> {
    Ok(proto::AuditEvent {
        event_time: Some(time::timestamp(event.time)),
        principal: event.principal.to_string(),
        method: event.method.to_string(),
        namespace: event.namespace.as_deref().unwrap_or_default().to_owned(),
        target: event.target.clone(),
        details: Some(document::object(&event.details)?),
    })
}
