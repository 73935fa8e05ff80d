//! QueryTimeline: the segments of a session in order, in pages.

use super::conditions::{conditions, each_once};
use crate::domain::session::SessionKey;
use crate::domain::session::segment::MAX_TIME_NANOS;
use crate::domain::timeline::query::{TimelineCursor, TimelineQuery, UntimedChoice};
use crate::error::{Error, Result};
use crate::proto::{self, Untimed};
use crate::rpc::caller::Caller;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{segment, session};
use crate::rpc::limits;
use crate::rpc::page::{self, Binding, Budget};
use crate::store::timeline::TimelinePage;

/// QueryTimeline.
pub async fn query_timeline(
    caller: Caller,
    request: proto::QueryTimelineRequest,
) -> Result<proto::QueryTimelineResponse> {
    let session = session::named(caller.namespace, &request.session_id)?;
    let (query, binding) = read(session.key, request)?;
    let page = caller.services.store.query_timeline(&query).await?.ok_or_else(|| session.not_found())?;
    let (segments, next) = fitting(&page)?;
    let next_page_token = next.map(|next| binding.token(&next)).transpose()?.unwrap_or_default();
    Ok(proto::QueryTimelineResponse { segments, next_page_token, session_version: page.session_version })
}

/// The segments of a page that fit into a response, and the position after which the next page starts.
fn fitting(page: &TimelinePage) -> Result<(Vec<proto::Segment>, Option<TimelineCursor>)> {
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let (mut segments, mut last) = (Vec::new(), None);
    for segment in &page.segments {
        let message = segment::segment_to_proto(segment)?;
        if !budget.takes(&message) {
            return Ok((segments, last));
        }
        segments.push(message);
        last = Some(TimelineCursor::of(segment));
    }
    Ok((segments, page.next))
}

fn read(session: SessionKey, request: proto::QueryTimelineRequest) -> Result<(TimelineQuery, Binding)> {
    let root = Path::Root;
    let binding = binding(session, &request);
    let position = |given: &Option<prost_types::Duration>, field: &'static str| {
        given.as_ref().map(|given| segment::nanos(given, &root.field(field))).transpose()
    };
    let (start_ns, end_ns) = (position(&request.start, "start")?, position(&request.end, "end")?);
    if let (Some(start), Some(end)) = (start_ns, end_ns)
        && end <= start
    {
        return Err(root.field("end").refuse("must be after start").into());
    }
    let untimed = match Untimed::try_from(request.untimed) {
        Ok(Untimed::Unspecified | Untimed::Include) => UntimedChoice::Include,
        Ok(Untimed::Exclude) => UntimedChoice::Exclude,
        Ok(Untimed::Only) => UntimedChoice::Only,
        Err(_) => return Err(root.field("untimed").unknown(request.untimed).into()),
    };
    if untimed == UntimedChoice::Only && (start_ns.is_some() || end_ns.is_some()) {
        return Err(root.field("untimed").refuse("ONLY has no range: leave start and end unset").into());
    }
    let mut conditions = conditions(&request.kinds, &request.languages, request.speakers)?;
    let status = |given, path: &Path| Ok(segment::status(given, path)?.map(|status| status as i16));
    conditions.statuses = each_once(&request.statuses, "statuses", status)?;
    let after: Option<TimelineCursor> = binding.cursor(&request.page_token)?;
    if after.is_some_and(|after| !is_possible(after, untimed)) {
        return Err(Error::InvalidCursor { path: "page_token", why: "is not a page token" });
    }
    let limit = page::size(request.page_size)?;
    Ok((TimelineQuery { session, start_ns, end_ns, untimed, conditions, after, limit }, binding))
}

/// Whether a cursor can be one of ours: tokens are not signed.
fn is_possible(cursor: TimelineCursor, untimed: UntimedChoice) -> bool {
    let is_of_section = match untimed {
        UntimedChoice::Include => true,
        UntimedChoice::Exclude => cursor.start_ns.is_some(),
        UntimedChoice::Only => cursor.start_ns.is_none(),
    };
    is_of_section && cursor.start_ns.is_none_or(|start| (0..=MAX_TIME_NANOS).contains(&start)) && cursor.arrival > 0
}

/// The binding of page tokens to everything but size and token of the page.
fn binding(session: SessionKey, request: &proto::QueryTimelineRequest) -> Binding {
    let query =
        proto::QueryTimelineRequest { page_size: 0, page_token: String::new(), max_staleness: None, ..request.clone() };
    Binding::of_message("QueryTimeline", session.namespace, &query)
}
