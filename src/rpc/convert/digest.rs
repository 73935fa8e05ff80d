//! Recognising a repeat: `request_id`s, and digests of what was asked.
//!
//! **Invariants.** Two requests with the same rpc and content have the same digest in every run and on every server:
//! messages are encoded in the order of their field numbers and maps are sorted. The `request_id` is no part of it.

use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::path::Path;
use super::text;
use crate::domain::id::NamespaceId;
use crate::domain::refusal::Refusal;
use crate::domain::request::{RequestIdentity, RequestKey};
use crate::proto;

/// A request that can carry a `request_id`.
pub trait Repeatable: Message {
    /// The rpc's name, which keeps two rpcs with equal messages apart.
    const RPC: &'static str;

    /// The `request_id` of the request. None: a repeat is a new call.
    fn request_id(&mut self) -> &mut Option<String>;
}

macro_rules! repeatable {
    ($($request:ident of $rpc:literal),* $(,)?) => {
        $(impl Repeatable for proto::$request {
            const RPC: &'static str = $rpc;

            fn request_id(&mut self) -> &mut Option<String> {
                &mut self.request_id
            }
        })*
    };
}

repeatable!(
    SubmitJobRequest of "JobService/SubmitJob",
    BatchSubmitJobsRequest of "JobService/BatchSubmitJobs",
    UpdateJobRequest of "JobService/UpdateJob",
    CancelJobRequest of "JobService/CancelJob",
    PauseJobRequest of "JobService/PauseJob",
    ResumeJobRequest of "JobService/ResumeJob",
    RetryJobRequest of "JobService/RetryJob",
    DeleteJobRequest of "JobService/DeleteJob",
    LeaseStagesRequest of "WorkerService/LeaseStages",
    StartStageRequest of "WorkerService/StartStage",
    UpdateStageProgressRequest of "WorkerService/UpdateStageProgress",
    CompleteStageRequest of "WorkerService/CompleteStage",
    CompleteStagesRequest of "WorkerService/CompleteStages",
    FailStageRequest of "WorkerService/FailStage",
    ReleaseStageRequest of "WorkerService/ReleaseStage",
    AddStagesRequest of "WorkerService/AddStages",
    UpdateRecordRequest of "RecordService/UpdateRecord",
    BatchUpdateRecordsRequest of "RecordService/BatchUpdateRecords",
    DeleteRecordRequest of "RecordService/DeleteRecord",
    AcquirePermitRequest of "PermitService/AcquirePermit",
    ReleasePermitRequest of "PermitService/ReleasePermit",
    UpdateResourceRequest of "PermitService/UpdateResource",
    DeleteResourceRequest of "PermitService/DeleteResource",
    ResetBreakerRequest of "PermitService/ResetBreaker",
    RevokePermitRequest of "PermitService/RevokePermit",
    CreateSessionRequest of "TimelineService/CreateSession",
    UpdateSessionRequest of "TimelineService/UpdateSession",
    EndSessionRequest of "TimelineService/EndSession",
    DeleteSessionRequest of "TimelineService/DeleteSession",
    AppendSegmentsRequest of "TimelineService/AppendSegments",
    UpdateSegmentRequest of "TimelineService/UpdateSegment",
    DeleteSegmentRequest of "TimelineService/DeleteSegment",
    CommitRequest of "TransactionService/Commit",
    CreateNamespaceRequest of "AdminService/CreateNamespace",
    DeleteNamespaceRequest of "AdminService/DeleteNamespace",
    CreateKeyRequest of "AdminService/CreateKey",
    RevokeKeyRequest of "AdminService/RevokeKey",
    RotateKeyRequest of "AdminService/RotateKey",
);

/// Takes the `request_id` out of a request and says what it stands for; `None` if there is none.
pub fn identity<R: Repeatable>(namespace: NamespaceId, request: &mut R) -> Result<Option<RequestIdentity>, Refusal> {
    let Some(given) = request.request_id().take() else { return Ok(None) };
    let request_id = text::uuid(&given, &Path::Root.field("request_id"))?;
    Ok(Some(RequestIdentity { key: RequestKey { namespace, request_id }, digest: digest(R::RPC, request) }))
}

/// The digest of what a request asks for, to recognise a repeat that carries no `request_id`, or another one.
/// The id has to be taken out before, see [`identity`].
pub fn content<R: Repeatable>(request: &mut R) -> Uuid {
    debug_assert!(request.request_id().is_none(), "identity() comes first");
    digest(R::RPC, request)
}

/// 128 bits of SHA-256 over the rpc's name and the request's encoding.
fn digest(rpc: &str, request: &impl Message) -> Uuid {
    let mut sha = Sha256::new();
    sha.update(rpc.as_bytes());
    // No name of an rpc has a NUL, so name and content cannot be mistaken for each other.
    sha.update([0]);
    sha.update(request.encode_to_vec());
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&sha.finalize()[..16]);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: NamespaceId = NamespaceId(1);

    fn pause(job_id: &str, request_id: Option<&str>) -> proto::PauseJobRequest {
        proto::PauseJobRequest { job_id: job_id.into(), request_id: request_id.map(Into::into), ..Default::default() }
    }

    fn of<R: Repeatable>(mut request: R) -> RequestIdentity {
        identity(NAMESPACE, &mut request).expect("valid").expect("an id")
    }

    #[test]
    fn the_same_content_has_the_same_digest_under_any_id() {
        let (one, two) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        assert_eq!(of(pause("a", Some(&one))).digest, of(pause("a", Some(&two))).digest);
        assert_ne!(of(pause("a", Some(&one))).digest, of(pause("b", Some(&one))).digest);
        let resume =
            proto::ResumeJobRequest { job_id: "a".into(), request_id: Some(one.clone()), ..Default::default() };
        assert_ne!(of(pause("a", Some(&one))).digest, of(resume).digest);
    }

    #[test]
    fn maps_are_digested_in_order() {
        let id = Uuid::new_v4().to_string();
        let submit = |labels: &[&str]| proto::SubmitJobRequest {
            request_id: Some(id.clone()),
            labels: labels.iter().map(|key| ((*key).to_owned(), String::new())).collect(),
            ..Default::default()
        };
        assert_eq!(of(submit(&["a", "b", "c"])), of(submit(&["c", "b", "a"])));
    }

    #[test]
    fn an_id_is_a_uuid_or_nothing() {
        assert_eq!(identity(NAMESPACE, &mut pause("a", None)), Ok(None));
        for bad in ["", "x", "1234", &"a".repeat(1_000_000)] {
            let refused = identity(NAMESPACE, &mut pause("a", Some(bad)));
            assert!(matches!(refused, Err(Refusal::InvalidField { path, .. }) if path == "request_id"));
        }
        let shouted = Uuid::from_u128(0xabc).to_string().to_uppercase();
        assert_eq!(of(pause("a", Some(&shouted))).key.request_id, Uuid::from_u128(0xabc));
    }

    #[test]
    fn content_is_what_identity_leaves() {
        let mut request =
            proto::CompleteStageRequest { request_id: Some(Uuid::new_v4().to_string()), ..Default::default() };
        let digest = identity(NAMESPACE, &mut request).expect("valid").expect("an id").digest;
        assert_eq!(content(&mut request), digest);
    }
}
