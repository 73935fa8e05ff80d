//! What the list calls ask for, put together: which, in which order, from where on, how many.

use std::collections::BTreeSet;

use super::convert::path::Path;
use super::convert::{steer, text, time};
use super::filter::{self, filter, order, record_order};
use super::limits::PRIORITY;
use super::page::{self, Binding};
use crate::domain::graph::MAX_STAGES;
use crate::domain::id::{NamespaceId, StageNo, is_job_id};
use crate::domain::query::{JobCursor, JobQuery, OrderField};
use crate::domain::record_query::{RecordCursor, RecordQuery};
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase;
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::proto;
use crate::store::bounded::NameCursor;
use crate::store::permit::waiters::WaiterCursor;

/// Reads a ListJobs; the binding makes the token of the next page.
pub fn jobs(namespace: NamespaceId, request: &proto::ListJobsRequest) -> Result<(JobQuery, Binding)> {
    let binding = Binding::of("ListJobs", namespace, &[&request.filter, &request.order_by]);
    let order = order(&request.order_by)?;
    let after: Option<JobCursor> = binding.cursor(&request.page_token)?;
    if after.as_ref().is_some_and(|cursor| !is_possible(cursor, order.field)) {
        return Err(forged());
    }
    let (filter, limit) = (filter(&request.filter)?, page::size(request.page_size)?);
    Ok((JobQuery { filter, order, after, limit }, binding))
}

/// Whether a cursor can be one of ours. Tokens are not signed, and what is in them goes into a query, where a value
/// that the database cannot hold would look like a fault of the server.
fn is_possible(cursor: &JobCursor, field: OrderField) -> bool {
    let in_range = |value: i64| match field {
        OrderField::CreateTime | OrderField::EndTime => time::is_representable(Timestamp(value)),
        OrderField::Priority => (-i64::from(PRIORITY)..=i64::from(PRIORITY)).contains(&value),
    };
    // A token of a version before says no creation, which most orders do not need.
    let needs_creation = field == OrderField::Priority || cursor.value.is_none();
    let is_created = cursor.created.map_or(!needs_creation, |at| time::is_representable(Timestamp(at)));
    is_job_id(&cursor.job_id) && cursor.value.is_none_or(in_range) && is_created
}

fn forged() -> Error {
    Error::InvalidCursor { path: "page_token", why: "is not a page token" }
}

/// Reads a ListRecords; the binding makes the token of the next page.
pub fn records(namespace: NamespaceId, request: &proto::ListRecordsRequest) -> Result<(RecordQuery, Binding)> {
    let binding = Binding::of("ListRecords", namespace, &[&request.collection, &request.filter, &request.order_by]);
    let collection = text::name(&request.collection, &Path::Root.field("collection"))?;
    let order = record_order(&request.order_by)?;
    let after: Option<RecordCursor> = binding.cursor(&request.page_token)?;
    let is_possible =
        |cursor: &RecordCursor| is_job_id(&cursor.record_id) && time::is_representable(Timestamp(cursor.value));
    if after.as_ref().is_some_and(|cursor| !is_possible(cursor)) {
        return Err(forged());
    }
    let (clauses, limit) = (filter::records(&request.filter)?, page::size(request.page_size)?);
    Ok((RecordQuery { namespace, collection, clauses, order, after, limit }, binding))
}

/// A page of a list by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamesQuery {
    /// The name behind which the page begins. Empty: the first page.
    pub after: String,
    /// How many at most.
    pub limit: u32,
}

/// Reads a list by name that has no other fields than those of its page: ListQueues, ListCollections.
pub fn by_name(rpc: &str, namespace: NamespaceId, page_token: &str, page_size: i32) -> Result<(NamesQuery, Binding)> {
    // Names of queues and collections have the characters of ids.
    named(rpc, namespace, page_token, page_size, is_job_id)
}

/// Reads a ListWorkers.
pub fn workers(namespace: NamespaceId, request: &proto::ListWorkersRequest) -> Result<(NamesQuery, Binding)> {
    let is_worker_id = |id: &str| text::worker_id(id, &Path::Root).is_ok();
    named("ListWorkers", namespace, &request.page_token, request.page_size, is_worker_id)
}

fn named(
    rpc: &str,
    namespace: NamespaceId,
    page_token: &str,
    page_size: i32,
    is_name: impl Fn(&str) -> bool,
) -> Result<(NamesQuery, Binding)> {
    let binding = Binding::of(rpc, namespace, &[]);
    let after: Option<NameCursor> = binding.cursor(page_token)?;
    if after.as_ref().is_some_and(|cursor| !is_name(&cursor.name)) {
        return Err(forged());
    }
    let after = after.map(|cursor| cursor.name).unwrap_or_default();
    Ok((NamesQuery { after, limit: page::size(page_size)? }, binding))
}

/// A page of the waiters of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitersQuery {
    /// The position behind which the page begins.
    pub after: WaiterCursor,
    /// How many at most.
    pub limit: u32,
}

/// Reads a ListWaiters, but for its resource.
pub fn waiters(namespace: NamespaceId, request: &proto::ListWaitersRequest) -> Result<(WaitersQuery, Binding)> {
    let binding = Binding::of("ListWaiters", namespace, &[&request.name]);
    let after: Option<WaiterCursor> = binding.cursor(&request.page_token)?;
    if after.as_ref().is_some_and(|cursor| !time::is_representable(cursor.since)) {
        return Err(forged());
    }
    let after = after.unwrap_or(WaiterCursor::START);
    Ok((WaitersQuery { after, limit: page::size(request.page_size)? }, binding))
}

/// A page of the stages of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagesQuery {
    /// Only those in one of these states, each listed once. Empty: all.
    pub states: Vec<StagePhase>,
    /// The last stage of the page before. `None`: the first page.
    pub after: Option<StageNo>,
    /// How many at most.
    pub limit: u32,
}

/// Reads a ListStages, but for its job.
pub fn stages(namespace: NamespaceId, request: &proto::ListStagesRequest) -> Result<(StagesQuery, Binding)> {
    let wanted = wanted(&request.states)?;
    let states: Vec<StagePhase> =
        StagePhase::ALL.into_iter().filter(|phase| wanted.contains(&(*phase as i32))).collect();
    let names = states.iter().map(|phase| phase.name()).collect::<Vec<_>>().join(" ");
    let binding = Binding::of("ListStages", namespace, &[&request.job_id, &names]);
    let after: Option<StageNo> = binding.cursor(&request.page_token)?;
    if after.is_some_and(|no| no as usize >= MAX_STAGES) {
        return Err(forged());
    }
    Ok((StagesQuery { states, after, limit: page::size(request.page_size)? }, binding))
}

fn wanted(states: &[i32]) -> std::result::Result<BTreeSet<i32>, Refusal> {
    let root = Path::Root;
    let path = root.field("states");
    for (i, &number) in states.iter().enumerate() {
        if StagePhase::from_number(number).is_none() {
            return Err(path.index(i).unknown(number));
        }
    }
    Ok(states.iter().copied().collect())
}

/// A page of the history of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsQuery {
    /// Only events after this revision.
    pub after: i64,
    /// How many at most.
    pub limit: u32,
}

/// Reads a ListJobEvents, but for its job; the cursor of its pages is the revision of the last event.
pub fn events(namespace: NamespaceId, request: &proto::ListJobEventsRequest) -> Result<(EventsQuery, Binding)> {
    let from = steer::from_version(request.from_version)?;
    let binding = Binding::of("ListJobEvents", namespace, &[&request.job_id, &from.to_string()]);
    let cursor: Option<i64> = binding.cursor(&request.page_token)?;
    // A token cannot lead before what the request asks for.
    let after = cursor.map_or(from, |cursor| cursor.max(from));
    Ok((EventsQuery { after, limit: page::size(request.page_size)? }, binding))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NAMESPACE: NamespaceId = NamespaceId(1);

    #[test]
    fn a_token_is_bound_to_filter_and_order() {
        let mut request = proto::ListJobsRequest { filter: "kind = film".into(), ..Default::default() };
        let (query, binding) = jobs(NAMESPACE, &request).expect("valid");
        assert_eq!((query.limit, &query.after), (50, &None));
        let cursor = JobCursor { value: Some(1), created: Some(1), job_id: "a".into() };
        request.page_token = binding.token(&cursor).expect("a token");
        request.page_size = 7;
        assert_eq!(jobs(NAMESPACE, &request).map(|(query, _)| query.after), Ok(Some(cursor)));
        request.order_by = "priority".into();
        assert!(matches!(jobs(NAMESPACE, &request), Err(Error::InvalidCursor { .. })));
    }

    #[test]
    fn a_forged_cursor_never_reaches_the_database() {
        let forge = |order_by: &str, value, job_id: &str| {
            let mut request = proto::ListJobsRequest { order_by: order_by.into(), ..Default::default() };
            let (_, binding) = jobs(NAMESPACE, &request).expect("valid");
            let cursor = JobCursor { value, created: Some(1), job_id: job_id.to_owned() };
            request.page_token = binding.token(&cursor).expect("a token");
            jobs(NAMESPACE, &request)
        };
        assert!(forge("end_time", None, "a").is_ok());
        assert!(forge("priority", Some(-1_000), "a").is_ok());
        for (order_by, value, job_id) in [
            ("", Some(1), "a\0"),
            ("", Some(i64::MAX), "a"),
            ("end_time", Some(i64::MIN), "a"),
            ("priority", Some(1_001), "a"),
        ] {
            assert!(matches!(forge(order_by, value, job_id), Err(Error::InvalidCursor { .. })));
        }
    }

    #[test]
    fn a_list_by_name_goes_on_behind_the_cursor_of_its_own_rpc() {
        let (query, binding) = by_name("ListQueues", NAMESPACE, "", 0).expect("valid");
        assert_eq!(query, NamesQuery { after: String::new(), limit: 50 });
        let token = |name: &str| binding.token(&NameCursor { name: name.to_owned() }).expect("a token");
        let after = |token: &str| by_name("ListQueues", NAMESPACE, token, 7).map(|(query, _)| query.after);
        assert_eq!(after(&token("video.hd")), Ok("video.hd".to_owned()));
        for forged in ["", "a\0", "a b", &"a".repeat(129)] {
            assert!(matches!(after(&token(forged)), Err(Error::InvalidCursor { .. })), "{forged:?}");
        }
        let other = by_name("ListCollections", NAMESPACE, &token("video.hd"), 7);
        assert!(matches!(other, Err(Error::InvalidCursor { .. })));
    }

    #[test]
    fn a_list_of_workers_goes_on_behind_any_worker_id() {
        let request = |page_token: String| proto::ListWorkersRequest { page_token, ..Default::default() };
        let (_, binding) = workers(NAMESPACE, &request(String::new())).expect("valid");
        let after = |name: &str| {
            let token = binding.token(&NameCursor { name: name.to_owned() }).expect("a token");
            workers(NAMESPACE, &request(token)).map(|(query, _)| query.after)
        };
        assert_eq!(after("host 7 (Zürich)"), Ok("host 7 (Zürich)".to_owned()));
        for forged in ["", "a\0", "a\nb", &"a".repeat(129)] {
            assert!(matches!(after(forged), Err(Error::InvalidCursor { .. })), "{forged:?}");
        }
    }

    #[test]
    fn a_list_of_waiters_goes_on_behind_a_position_of_its_resource() {
        let request =
            |name: &str, page_token| proto::ListWaitersRequest { name: name.into(), page_token, page_size: 0 };
        let (first, binding) = waiters(NAMESPACE, &request("gpu", String::new())).expect("valid");
        assert_eq!((first.after, first.limit), (WaiterCursor::START, 50));
        let cursor = WaiterCursor { priority: -1, since: Timestamp(7), job: Uuid::from_u128(1), stage: 9 };
        let token = binding.token(&cursor).expect("a token");
        assert_eq!(
            waiters(NAMESPACE, &request("gpu", token.clone())).map(|(query, _)| query.after),
            Ok(cursor.clone())
        );
        let forged = binding.token(&WaiterCursor { since: Timestamp(i64::MAX), ..cursor }).expect("a token");
        for (name, token) in [("gpus", token), ("gpu", forged)] {
            assert!(matches!(waiters(NAMESPACE, &request(name, token)), Err(Error::InvalidCursor { .. })), "{name}");
        }
    }

    #[test]
    fn stages_are_chosen_by_state() {
        let request = |states: &[i32]| proto::ListStagesRequest { states: states.to_vec(), ..Default::default() };
        let (query, binding) = stages(NAMESPACE, &request(&[6, 2, 6])).expect("valid");
        assert_eq!(query.states, [StagePhase::Ready, StagePhase::Failed]);
        assert_eq!(stages(NAMESPACE, &request(&[2, 6])).map(|(_, same)| same), Ok(binding));
        for bad in [0, 9, -1] {
            assert!(matches!(
                stages(NAMESPACE, &request(&[2, bad])),
                Err(Error::Refused(Refusal::InvalidField { path, .. })) if path == "states[1]"
            ));
        }
        assert!(stages(NAMESPACE, &request(&vec![2; 500_000])).is_ok());
    }

    #[test]
    fn history_goes_on_behind_the_cursor() {
        let mut request = proto::ListJobEventsRequest { from_version: 5, ..Default::default() };
        let (query, binding) = events(NAMESPACE, &request).expect("valid");
        assert_eq!(query.after, 5);
        request.page_token = binding.token(&9).expect("a token");
        assert_eq!(events(NAMESPACE, &request).map(|(query, _)| query.after), Ok(9));
        request.from_version = -1;
        assert!(events(NAMESPACE, &request).is_err());
    }
}
