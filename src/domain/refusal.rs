//! Refusals of operations. A refused operation changes nothing.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::id::Name;

/// Reason that an operation was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// A field of the request is invalid.
    #[error("{path}: {why}")]
    InvalidField {
        /// Path of the field in the request, such as `stages[3].depends_on[0]`.
        path: String,
        /// The value found and what is allowed.
        why: String,
    },
    /// The job does not exist in this namespace.
    #[error("job {job_id:?} does not exist")]
    JobNotFound {
        /// Name or id as the caller wrote it.
        job_id: String,
    },
    /// The job has no stage with this name.
    #[error("job {job_id:?} has no stage {stage_name:?}")]
    StageNotFound {
        /// Id of the job.
        job_id: String,
        /// Name or id as the caller wrote it.
        stage_name: String,
    },
    /// A job with this id exists.
    #[error("job {job_id:?} already exists")]
    JobAlreadyExists {
        /// Id of the job.
        job_id: String,
    },
    /// The job has a stage with this name.
    #[error("the job already has a stage {stage_name:?}")]
    StageAlreadyExists {
        /// Name of the stage.
        stage_name: String,
    },
    /// The namespace does not exist.
    #[error("namespace {name:?} does not exist")]
    NamespaceNotFound {
        /// Name of the namespace.
        name: String,
    },
    /// A namespace with this name exists.
    #[error("namespace {name:?} already exists")]
    NamespaceAlreadyExists {
        /// Name of the namespace.
        name: String,
    },
    /// The namespace is not empty, or is the default one.
    #[error("namespace {name:?} cannot be deleted: {why}")]
    NamespaceInUse {
        /// Name of the namespace.
        name: String,
        /// What prevents the deletion.
        why: &'static str,
    },
    /// The caller's credential does not permit the call.
    #[error("{why}")]
    RoleDenied {
        /// Principal of the call.
        principal: Name,
        /// Names of the roles that are sufficient, separated by commas. Empty: the credential is not valid in the namespace.
        roles: String,
        /// Roles or namespaces of the principal, and those that are required.
        why: String,
    },
    /// The API key does not exist.
    #[error("API key {key_id:?} does not exist")]
    KeyNotFound {
        /// Name or id as the caller wrote it.
        key_id: String,
    },
    /// The id, or the name in the certificate, belongs to another key.
    #[error("{what} already exists")]
    KeyAlreadyExists {
        /// The existing key, for people.
        what: String,
    },
    /// The maximum number of API keys is stored.
    #[error(
        "{limit} API keys are stored, which is the maximum; a key is deleted 90 days after it expired or was revoked"
    )]
    TooManyKeys {
        /// Maximum number of API keys.
        limit: usize,
    },
    /// A watch asked for the changes after a version that the job does not have yet.
    #[error("from_version is {from}, but the job is at version {actual}: watch again without it")]
    RevisionInFuture {
        /// Revision in the request.
        from: i64,
        /// Revision of the stored job.
        actual: i64,
    },
    /// More jobs match than one stream can watch.
    #[error("more than {limit} jobs match, the maximum of one watch; use a narrower filter")]
    TooManyWatched {
        /// Maximum number of watched jobs.
        limit: usize,
    },
    /// The expected version is not the stored one.
    #[error("expected version {expected}, the current one is {actual}")]
    VersionMismatch {
        /// Version that the caller expects.
        expected: i64,
        /// Version that is stored.
        actual: i64,
    },
    /// The record does not exist in this namespace.
    #[error("record {record_id:?} does not exist in collection {collection:?}")]
    RecordNotFound {
        /// Collection of the record.
        collection: String,
        /// Name or id as the caller wrote it.
        record_id: String,
    },
    /// The session does not exist in this namespace.
    #[error("session {session_id:?} does not exist")]
    SessionNotFound {
        /// Id as the caller wrote it.
        session_id: String,
    },
    /// A session with this id exists, or is still being deleted.
    #[error("session {session_id:?} already exists{}", if *.is_deleted { ": it is being deleted" } else { "" })]
    SessionAlreadyExists {
        /// Id of the session.
        session_id: String,
        /// Whether it is being deleted, so that its id is free soon.
        is_deleted: bool,
    },
    /// The session has no segment with this key.
    #[error("session {session_id:?} has no segment {key:?}")]
    SegmentNotFound {
        /// Id of the session.
        session_id: String,
        /// Key as the caller wrote it.
        key: String,
    },
    /// The expected version of a field is not the stored one.
    #[error("{path}: expected version {expected} of field {field:?}, the current one is {actual}")]
    FieldVersionMismatch {
        /// Path of the operation in the request.
        path: String,
        /// Name of the field.
        field: String,
        /// Version that the caller expects; 0: no such field.
        expected: i64,
        /// Version that is stored; 0: no such field.
        actual: i64,
    },
    /// The field has another type than the operation needs.
    #[error("{path}: field {field:?} is {is}, the operation needs {needs}")]
    WrongType {
        /// Path of the operation in the request.
        path: String,
        /// Name of the field.
        field: String,
        /// Type that the operation needs.
        needs: &'static str,
        /// Type of the stored value.
        is: &'static str,
    },
    /// The stored state would exceed a limit.
    #[error("{path}: {why}")]
    LimitExceeded {
        /// Path of the request field that exceeds the limit.
        path: String,
        /// The limit and the value found.
        why: String,
    },
    /// The lease token is not the newest of its stage: another worker has the stage, or may have it.
    #[error("the lease is lost: the token is not the newest of its stage")]
    LeaseLost,
    /// The permit is not held, or not any more.
    #[error("the permit is lost: it has expired or was revoked, or is not one of this namespace")]
    PermitLost,
    /// A permit that the stage needs cannot be granted now.
    #[error("stage {stage_name:?} needs a permit of {resource:?}, which cannot be granted now: {reason}")]
    PermitDenied {
        /// Name of the stage.
        stage_name: String,
        /// Name of the resource.
        resource: String,
        /// Name of the reason on the wire, without its prefix.
        reason: &'static str,
        /// Time after which a retry can succeed. `None`: not known.
        retry_after: Option<Duration>,
    },
    /// The resource does not exist in this namespace.
    #[error("resource {name:?} does not exist: it was never used and has no policy")]
    ResourceNotFound {
        /// Name or id as the caller wrote it.
        name: String,
    },
    /// Permits of the resource are held or waited for.
    #[error("resource {name:?} cannot be deleted while permits of it are held or waited for")]
    ResourceInUse {
        /// Name of the resource.
        name: String,
    },
    /// The state does not allow the transition.
    #[error("{what} is {state} and {why}")]
    InvalidTransition {
        /// The job, stage or resource, for people.
        what: String,
        /// Name of the state on the wire, without its prefix.
        state: &'static str,
        /// Why the state does not allow it.
        why: &'static str,
    },
    /// One item of a request that is applied as a whole was refused.
    #[error("{}", text_of_item(path, refusal))]
    At {
        /// Index of the item, from 0.
        index: usize,
        /// Path of the item in the request. Paths in `refusal` are relative to it.
        path: String,
        /// The refusal of the item.
        refusal: Box<Refusal>,
    },
    /// The expected version is not the stored one, and the caller asked for the stored state.
    #[error("{refusal}")]
    WithCurrent {
        /// The refusal of the request.
        refusal: Box<Refusal>,
        /// The stored state, for the response.
        current: AttachedState,
    },
    /// The `request_id` was used for something else.
    #[error("the request_id was used before with other content or for another rpc: use a new UUID for a new request")]
    RequestIdReused,
}

/// State that a refusal carries to the response. Its type is not known here, because aggregates, which return refusals, are below it.
#[derive(Clone, Debug)]
pub struct AttachedState(Arc<dyn Any + Send + Sync>);

impl AttachedState {
    /// Attaches a state of any type.
    pub fn new(state: impl Any + Send + Sync) -> Self {
        Self(Arc::new(state))
    }

    /// The state, if it has this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl PartialEq for AttachedState {
    /// Equal if both are the same state, not an equal one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Refusal {
    /// Makes the refusal of an invalid field.
    pub fn field(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidField { path: path.into(), why: why.into() }
    }

    /// Makes this the refusal of one item of a request.
    pub fn at(self, index: usize, path: impl Into<String>) -> Self {
        Self::At { index, path: path.into(), refusal: Box::new(self) }
    }
}

/// The text about one item. A path within the item follows that of the item.
fn text_of_item(path: &str, refusal: &Refusal) -> String {
    match refusal {
        Refusal::InvalidField { path: inner, .. } | Refusal::At { path: inner, .. } if !inner.is_empty() => {
            format!("{path}.{refusal}")
        }
        _ => format!("{path}: {refusal}"),
    }
}

/// Checks the version that the caller expects against the stored one. `None`: the caller expects none.
pub fn expect_version(actual: i64, expected: Option<i64>) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != actual => Err(Refusal::VersionMismatch { expected, actual }),
        Some(_) | None => Ok(()),
    }
}
