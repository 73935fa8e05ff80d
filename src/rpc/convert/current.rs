//! The detail of a refused compare-and-set.

use prost::{Message, Name};

use super::{job, record, stage};
use crate::domain::current::ComparedState;
use crate::domain::documents::JobDocuments;
use crate::error::Result;
use crate::proto::{CurrentState, current_state::State};

/// The largest state that an error carries, in bytes: with the rest of the status it stays below 8 KiB in the trailers, as base64.
const STATE_BYTES: usize = 3 * 1024;

/// The detail for the current state.
pub fn detail(current: &ComparedState) -> Result<prost_types::Any> {
    let state = match current {
        ComparedState::Record(current) => State::Record(record::record(current)?),
        ComparedState::Job(current) => State::Job(job::summary(current, &JobDocuments::default())?),
        ComparedState::Stage(job, no) => State::Stage(stage::stage(job, &job.stages[*no], None, None)?),
    };
    let fits = state.encoded_len() <= STATE_BYTES;
    let state = CurrentState { state: fits.then_some(state) };
    Ok(prost_types::Any { type_url: CurrentState::type_url(), value: state.encode_to_vec() })
}
