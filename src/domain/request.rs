//! Requests that carried a `request_id`, as they are remembered: a repeat is answered and not applied again.

use uuid::Uuid;

use super::id::{NamespaceId, StageNo, hashed};

/// Key of a remembered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// Namespace of the call.
    pub namespace: NamespaceId,
    /// The `request_id` that the caller chose.
    pub request_id: Uuid,
}

impl RequestKey {
    /// Key under which lease number `index` (from 0) of a LeaseStages call is remembered. The first lease is remembered under the
    /// `request_id` itself, so that its use for another request is detected; the others under ids hashed from it. A repeat that finds none
    /// of the leases held is a new call and uses the next `round` (from 0).
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

/// Key and content of a request with a `request_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdentity {
    /// Namespace and `request_id` of the call.
    pub key: RequestKey,
    /// 122 bits of a digest over the name of the rpc and the canonical content of the request.
    pub digest: Uuid,
}

/// Stored in the same commit as the write of a request with a `request_id`. Refused requests are not remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Digest of the request, see [`RequestIdentity::digest`].
    pub digest: Uuid,
    /// Uids of the jobs that were written, in the order of the request, and of other things that a repeat has to find.
    pub jobs: Vec<Uuid>,
    /// Number of the stage. `None`: the request was not about one stage.
    pub stage_no: Option<StageNo>,
    /// Revision of the first job, or version of the first record, after the write.
    pub revision: i64,
    /// For a request with several records or operations: the version of each after the write, 0 where nothing changed. For a lease that
    /// LeaseStages granted: its fencing token.
    pub versions: Vec<i64>,
    /// Whether anything changed. False: the request succeeded without a change.
    pub applied: bool,
}
