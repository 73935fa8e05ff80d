//! Reads that may be stale: the read replica answers them where it is new enough, and the primary otherwise.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::caller::{Caller, answer};
use super::convert::path::Path;
use super::convert::time;
use super::services::Services;
use crate::error::{Error, Result};
use crate::proto;

/// A request with a `max_staleness`.
pub trait MayBeStale: Clone {
    /// How old the answer may be. None: it must be current.
    fn max_staleness(&self) -> Option<&prost_types::Duration>;
}

macro_rules! may_be_stale {
    ($($request:ident)*) => {
        $(impl MayBeStale for proto::$request {
            fn max_staleness(&self) -> Option<&prost_types::Duration> {
                self.max_staleness.as_ref()
            }
        })*
    };
}

may_be_stale! {
    GetJobRequest ListJobsRequest ListQueuesRequest ListWorkersRequest
    GetRecordRequest BatchGetRecordsRequest ListRecordsRequest ListCollectionsRequest
    GetSessionRequest ListSessionsRequest GetSegmentRequest
    QueryTimelineRequest SearchSegmentsRequest GetSessionStatisticsRequest ExportTimelineRequest
}

/// Answers a call of one namespace by `rpc`, as [`read`].
pub async fn answer_stale<Q, A, F>(
    services: &Arc<Services>,
    request: Request<Q>,
    rpc: impl Fn(Caller, Q) -> F,
) -> std::result::Result<Response<A>, Status>
where
    Q: MayBeStale,
    F: Future<Output = Result<A>>,
{
    answer(services, request, |caller, request| read(caller, request, rpc)).await
}

/// Answers a read. What the replica cannot answer, because it is too far behind or fails, is read from the primary, so a replica that is away is no
/// fault of the call.
pub async fn read<Q, A, F>(caller: Caller, request: Q, rpc: impl Fn(Caller, Q) -> F) -> Result<A>
where
    Q: MayBeStale,
    F: Future<Output = Result<A>>,
{
    let path = Path::Root;
    let staleness =
        time::parse_optional_duration(request.max_staleness(), time::STALENESS, &path.field("max_staleness"))?;
    let replica = caller.services.replica.clone();
    if let (Some(replica), Some(staleness)) = (replica, staleness.filter(|staleness| !staleness.is_zero()))
        && let Some(store) = replica.for_read(staleness)
    {
        let primary = Some(caller.services.clone());
        let services = Services { store, primary, ..(*caller.services).clone() };
        match rpc(Caller { services: services.into(), ..caller.clone() }, request.clone()).await {
            Err(error) if !is_answer(&error) => {
                tracing::debug!(%error, "the read replica did not answer");
                replica.figures.fallbacks.inc();
            }
            answer => {
                replica.figures.reads.inc();
                return answer;
            }
        }
    }
    rpc(caller, request).await
}

/// Whether an error is the answer to the call, which the primary would give too.
fn is_answer(error: &Error) -> bool {
    match error {
        Error::Refused(_) | Error::InvalidCursor { .. } | Error::DeadlineExceeded(_) | Error::Draining => true,
        Error::Conflict
        | Error::Overloaded { .. }
        | Error::StoreUnavailable
        | Error::StoreReadOnly
        | Error::OutcomeUnknown
        | Error::Bug { .. } => false,
    }
}
