//! The memory of requests that carried a `request_id`, so that a repeat is answered and not applied again.

use uuid::Uuid;

use super::id::{NamespaceId, StageNo, hashed};

/// Who repeats what: the identity of one mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// The caller's namespace.
    pub namespace: NamespaceId,
    /// The caller's `request_id`.
    pub request_id: Uuid,
}

impl RequestKey {
    /// Where the lease number `index` of a LeaseStages call is remembered, from 0. The first one is remembered under the `request_id`
    /// itself, so that its use for another request is noticed; the others under ids that follow from it. A repeat that finds no
    /// lease held any more is a new call and has the next `round`, from 0.
    pub fn slot(self, round: u32, index: u32) -> Self {
        if (round, index) == (0, 0) {
            return self;
        }
        let mut content = Vec::with_capacity(24);
        content.extend_from_slice(self.request_id.as_bytes());
        content.extend_from_slice(&round.to_be_bytes());
        content.extend_from_slice(&index.to_be_bytes());
        Self { request_id: hashed(&content), ..self }
    }
}

/// What a caller asked under a `request_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdentity {
    /// The namespace and the id.
    pub key: RequestKey,
    /// 128 bits of a digest over the rpc's name and the request's canonical content.
    pub digest: Uuid,
}

/// What is stored with the write of a request that carried an id. Only applied requests are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// What was asked.
    pub digest: Uuid,
    /// The jobs that were written, in the order of the request.
    pub jobs: Vec<Uuid>,
    /// The stage, for requests about one.
    pub stage_no: Option<StageNo>,
    /// The revision of the (first) job, or the version of the (first) record, after the write.
    pub revision: i64,
    /// For requests about several records, or several operations: the version of each after it, 0 where it changed nothing. For a
    /// lease that LeaseStages granted: its fencing token.
    pub versions: Vec<i64>,
    /// Whether anything changed; a no-op that was OK is remembered as one.
    pub applied: bool,
}
