//! ImportSegments: a stream of messages, each of which is one commit. The next message is read when it is done.

use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

use super::appends::{WrittenSegments, status, write};
use crate::admission::StreamCharge;
use crate::error::{Error, Result};
use crate::proto;
use crate::rpc::caller::Caller;
use crate::rpc::convert::path::beginning;
use crate::rpc::convert::session;
use crate::rpc::limits;
use crate::rpc::streams::unread;

/// What became of the whole stream. A status: a message could not be read.
pub(super) type Imported = std::result::Result<proto::ImportSegmentsResponse, Status>;

pub async fn import_segments(
    caller: Caller,
    charge: Option<StreamCharge>,
    inbound: Streaming<proto::ImportSegmentsRequest>,
) -> Result<Imported> {
    let mut response = proto::ImportSegmentsResponse::default();
    let ended = take_all(&caller, charge, inbound, &mut response).await;
    Ok(match ended {
        Ok(()) => Ok(response),
        Err(status) => Err(with_counts(status, &response)),
    })
}

/// Writes all messages, and counts what became of their segments.
async fn take_all(
    caller: &Caller,
    charge: Option<StreamCharge>,
    mut inbound: Streaming<proto::ImportSegmentsRequest>,
    response: &mut proto::ImportSegmentsResponse,
) -> std::result::Result<(), Status> {
    let mut session_id = String::new();
    let shutdown = caller.services.shutdown.clone();
    loop {
        let message = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Error::Draining.into()),
            message = inbound.message() => message.map_err(unread)?,
        };
        let Some(message) = message else { return Ok(()) };
        if !message.session_id.is_empty() {
            session_id.clone_from(&message.session_id);
        }
        if let Some(charge) = &charge {
            charge.take(message.segments.len()).await;
        }
        take(caller, &session_id, message, response).await?;
    }
}

/// The error of a message, with what became of those before it. Without any, it is the error of the whole call.
fn with_counts(status: Status, before: &proto::ImportSegmentsResponse) -> Status {
    let counts = [
        ("applied_count", before.applied_count),
        ("unchanged_count", before.unchanged_count),
        ("failed_count", before.failed_count),
    ];
    if counts.iter().all(|(_, count)| *count == 0) {
        return status;
    }
    let mut details = status.get_error_details();
    let Some(info) = details.error_info() else { return status };
    let mut info = info.clone();
    info.metadata.extend(counts.map(|(name, count)| (name.to_owned(), count.to_string())));
    if before.applied_count > 0 {
        // Of the whole call neither is true: part of it was applied.
        info.metadata.insert("outcome".to_owned(), "UNKNOWN".to_owned());
    }
    details.set_error_info(info.reason, info.domain, info.metadata);
    Status::with_error_details_and_metadata(status.code(), status.message(), details, status.metadata().clone())
}

/// Writes one message, and counts what became of its segments.
async fn take(
    caller: &Caller,
    session_id: &str,
    message: proto::ImportSegmentsRequest,
    response: &mut proto::ImportSegmentsResponse,
) -> Result<()> {
    let session = session::named(caller.namespace, session_id)?;
    let keys: Vec<String> =
        message.segments.iter().map(|segment| beginning(&segment.key, limits::NAME_BYTES).to_owned()).collect();
    // Each message is a call of its own to the database. The deadline of the call was for its beginning.
    let _place = caller.services.timeline_gate.enter(None).await?;
    let WrittenSegments { results, .. } = write(caller, session, message.segments, message.allow_missing).await?;
    let before = response.applied_count + response.unchanged_count + response.failed_count;
    for (index, (result, key)) in (before..).zip(results.into_iter().zip(keys)) {
        match result {
            Ok(result) if result.applied => response.applied_count += 1,
            Ok(_) => response.unchanged_count += 1,
            Err(refusal) => {
                response.failed_count += 1;
                if response.faults.len() < limits::FAULTS_PER_IMPORT {
                    let session_id = session_id.to_owned();
                    let status = Some(status(refusal));
                    response.faults.push(proto::ImportFault { index, session_id, key, status });
                }
            }
        }
    }
    Ok(())
}
