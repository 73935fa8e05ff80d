//! Documents of callers that are stored beside a job and loaded only when a request needs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::id::StageNo;
use super::json::Document;
use super::record::Record;

/// Documents of a job. Empty fields: not loaded, or not set.
#[derive(Clone, Debug, Default)]
pub struct JobDocuments {
    /// Payload that was submitted with the job.
    pub payload: Option<Document>,
    /// Result that a completion has set.
    pub result: Option<Document>,
    /// Artifacts of completed stages, by stage number.
    pub artifacts: BTreeMap<StageNo, Document>,
    /// Context of the job: the record that UpdateJob changes.
    pub context: Option<Arc<Record>>,
}

/// Documents that a worker receives with a lease.
#[derive(Clone, Debug, Default)]
pub struct LeaseDocuments {
    /// Payload of the job.
    pub payload: Option<Document>,
    /// Input of the leased stage.
    pub input: Option<Document>,
    /// Artifacts of the stages that the leased stage depends on, by stage number.
    pub artifacts: BTreeMap<StageNo, Document>,
}
