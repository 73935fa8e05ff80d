//! What is stored beside a job and loaded only for those who ask: the users' own documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::id::StageNo;
use super::json::Document;
use super::record::Record;

/// The documents of a job, as far as they were loaded.
#[derive(Clone, Debug, Default)]
pub struct JobDocuments {
    /// What was submitted.
    pub payload: Option<Document>,
    /// What a completion has set.
    pub result: Option<Document>,
    /// What completed stages have produced.
    pub artifacts: BTreeMap<StageNo, Document>,
    /// The fields that updates have changed.
    pub context: Option<Arc<Record>>,
}

/// The documents that a worker gets with a lease.
#[derive(Clone, Debug, Default)]
pub struct LeaseDocuments {
    /// The job's payload.
    pub payload: Option<Document>,
    /// The stage's input.
    pub input: Option<Document>,
    /// What the stages it depends on have produced.
    pub artifacts: BTreeMap<StageNo, Document>,
}
