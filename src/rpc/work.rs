//! Work: the session of one worker as a stream. The server sends leases while the worker has free capacity. The worker sends outcomes and
//! renewals, which are acknowledged in order. Each is the same operation as that of its unary rpc.
//!
//! Layout: this file begins a stream and decodes its messages; `session` is the loop of one stream; `held` has the leases that its worker holds.
//!
//! **Invariants.** All buffers of a stream are bounded: unanswered messages by [`session`], responses by the channel to their reader, leases by
//! the capacity. A reader that stops reading ends its stream. However a stream ends, leases whose receipt was not confirmed are released, and
//! outcomes that an engine has accepted are committed.

mod held;
mod session;

use futures::StreamExt;
use futures::stream;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::worker::{self, WorkParameters};
use super::limits::{OUTCOMES_PER_CALL, RENEWALS_PER_WORK_MESSAGE, WORK_CAPACITY};
use super::streams::{Messages, unread};
use crate::admission::StreamCharge;
use crate::domain::id::{LeaseToken, NamespaceId};
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::proto;
use crate::proto::stage_outcome::Outcome;
use crate::proto::stage_target::Target;
use session::WorkSession;

/// Responses that wait for their reader, at most.
const RESPONSES: usize = 4;

/// A decoded message of a stream, without its `begin`.
struct Message {
    capacity: Option<usize>,
    leases_received: Option<i64>,
    outcomes: Vec<proto::StageOutcome>,
    renewals: Vec<worker::Renewal>,
    /// Encoded size in bytes, without the `begin`.
    bytes: usize,
}

/// The first message of a stream. Fails if the stream ends before it, or if it cannot be decoded.
pub async fn first(inbound: &mut Streaming<proto::WorkRequest>) -> std::result::Result<proto::WorkRequest, Status> {
    match inbound.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Error::from(Path::Root.field("begin").missing()).into()),
        Err(status) => Err(unread(status)),
    }
}

pub async fn work(
    mut caller: Caller,
    charge: Option<StreamCharge>,
    first: proto::WorkRequest,
    inbound: Streaming<proto::WorkRequest>,
) -> Result<Messages<proto::WorkResponse>> {
    let (begin, message) = begin(caller.namespace, first)?;
    // The deadline of the call ends the stream from outside. It does not apply to the operations of the stream.
    caller.deadline = None;
    let (responses, mut reader) = mpsc::channel(RESPONSES);
    let (end, ended) = oneshot::channel();
    let session = WorkSession::new(caller, begin, charge, inbound, responses);
    tokio::spawn(async move {
        let _gone = end.send(session.run(message).await);
    });
    let messages = stream::poll_fn(move |context| reader.poll_recv(context)).map(Ok);
    let end = stream::once(ended).filter_map(async |end| match end {
        Ok(status) => status.map(Err),
        Err(_) => Some(Err(Error::bug("a session ended without a status").into())),
    });
    Ok(Box::pin(messages.chain(end)))
}

fn begin(
    namespace: NamespaceId,
    mut first: proto::WorkRequest,
) -> std::result::Result<(WorkParameters, Message), Refusal> {
    let root = Path::Root;
    let path = root.field("begin");
    let given = first.begin.take().ok_or_else(|| path.missing())?;
    Ok((worker::work_begin(&given, &path)?, message(namespace, first)?))
}

fn message(namespace: NamespaceId, given: proto::WorkRequest) -> std::result::Result<Message, Refusal> {
    let root = Path::Root;
    if given.begin.is_some() {
        return Err(root.field("begin").refuse("must be unset after the first message"));
    }
    let bytes = prost::Message::encoded_len(&given);
    let capacity = given.capacity.map(capacity).transpose()?;
    if given.leases_received.is_some_and(|received| received < 0) {
        return Err(root.field("leases_received").refuse("must not be negative"));
    }
    at_most(given.outcomes.len(), OUTCOMES_PER_CALL, "outcomes")?;
    at_most(given.renewals.len(), RENEWALS_PER_WORK_MESSAGE, "renewals")?;
    let renewals = worker::each_renewal(namespace, &given.renewals)?;
    Ok(Message { capacity, leases_received: given.leases_received, outcomes: given.outcomes, renewals, bytes })
}

fn capacity(given: i32) -> std::result::Result<usize, Refusal> {
    let capacity = usize::try_from(given).ok().filter(|capacity| *capacity <= WORK_CAPACITY);
    capacity.ok_or_else(|| Path::Root.field("capacity").outside(format_args!("0 to {WORK_CAPACITY}"), given))
}

fn at_most(given: usize, most: usize, list: &str) -> std::result::Result<(), Refusal> {
    match given <= most {
        true => Ok(()),
        false => Err(Path::Root.field(list).refuse(format!("has {given} {list}, {most} are allowed"))),
    }
}

/// Lease token of an outcome. None: the outcome names its stage instead, or is malformed.
fn token_of(outcome: &proto::StageOutcome) -> Option<LeaseToken> {
    let target = match outcome.outcome.as_ref()? {
        Outcome::CompleteStage(request) => &request.target,
        Outcome::FailStage(request) => &request.target,
        Outcome::ReleaseStage(request) => &request.target,
    };
    match target.as_ref()?.target.as_ref()? {
        Target::LeaseToken(token) => LeaseToken::parse(token),
        Target::StageRef(_) => None,
    }
}
