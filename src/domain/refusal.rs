//! Every way in which a decision says no. A refusal changes nothing.

use std::time::Duration;

use thiserror::Error;

use super::current::Current;
use super::id::Name;

/// Why an operation was not applied.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// A field of the request cannot be as it is; `path` is the field's path in the request.
    #[error("{path}: {why}")]
    InvalidField {
        /// For example `stages[3].depends_on[0]`.
        path: String,
        /// What is wrong with it, and what is allowed.
        why: String,
    },
    /// No such job in this namespace.
    #[error("there is no job {job_id:?}")]
    JobNotFound {
        /// As the caller named it.
        job_id: String,
    },
    /// No such stage in the job.
    #[error("job {job_id:?} has no stage {stage_name:?}")]
    StageNotFound {
        /// The job.
        job_id: String,
        /// As the caller named it.
        stage_name: String,
    },
    /// The id is taken.
    #[error("job {job_id:?} exists already")]
    JobAlreadyExists {
        /// The id.
        job_id: String,
    },
    /// The job has a stage of this name already.
    #[error("the job has a stage {stage_name:?} already")]
    StageAlreadyExists {
        /// The name.
        stage_name: String,
    },
    /// The namespace does not exist.
    #[error("there is no namespace {name:?}")]
    NamespaceNotFound {
        /// Its name.
        name: String,
    },
    /// The name is taken.
    #[error("namespace {name:?} exists already")]
    NamespaceAlreadyExists {
        /// Its name.
        name: String,
    },
    /// The namespace still holds jobs, or is the one that must stay.
    #[error("namespace {name:?} cannot be deleted: {why}")]
    NamespaceInUse {
        /// Its name.
        name: String,
        /// What holds it.
        why: &'static str,
    },
    /// The credential of the caller does not permit it.
    #[error("{why}")]
    RoleDenied {
        /// Whom the call was made as.
        principal: Name,
        /// The roles any of which would be enough, by name, with commas between. Empty: the namespace is the reason.
        roles: String,
        /// What the principal has and what it would need.
        why: String,
    },
    /// No such API key.
    #[error("there is no API key {key_id:?}")]
    KeyNotFound {
        /// As the caller named it.
        key_id: String,
    },
    /// The id or the name in the certificate is taken.
    #[error("{what} exists already")]
    KeyAlreadyExists {
        /// What it is taken by.
        what: String,
    },
    /// As many API keys are stored as there may be.
    #[error(
        "{limit} API keys are stored, as many as there may be; a key is deleted 90 days after it expired or was revoked"
    )]
    TooManyKeys {
        /// How many there may be.
        limit: usize,
    },
    /// A watch asked for the changes after a version that the job does not have yet.
    #[error("from_version is {from}, but the job is at version {actual}: watch again without it")]
    RevisionInFuture {
        /// What the caller named.
        from: i64,
        /// What is stored.
        actual: i64,
    },
    /// More jobs match than one stream may watch.
    #[error("more than {limit} jobs match; a narrower filter is needed")]
    TooManyWatched {
        /// How many may.
        limit: usize,
    },
    /// `expected_version` is not the current one.
    #[error("expected version {expected}, the current one is {actual}")]
    VersionMismatch {
        /// What the caller based its request on.
        expected: i64,
        /// What is stored.
        actual: i64,
    },
    /// No such record in this namespace.
    #[error("there is no record {record_id:?} in collection {collection:?}")]
    RecordNotFound {
        /// Where it was looked for.
        collection: String,
        /// As the caller named it.
        record_id: String,
    },
    /// `expected_field_version` is not the current one.
    #[error("{path}: expected version {expected} of field {field:?}, the current one is {actual}")]
    FieldVersionMismatch {
        /// The operation's path in the request.
        path: String,
        /// The field's name.
        field: String,
        /// What the caller based its request on; 0 if it expected no such field.
        expected: i64,
        /// What is stored; 0 if there is no such field.
        actual: i64,
    },
    /// The field has another type than the operation needs.
    #[error("{path}: field {field:?} is {is}, the operation needs {needs}")]
    WrongType {
        /// The operation's path in the request.
        path: String,
        /// The field's name.
        field: String,
        /// The type that the operation needs.
        needs: &'static str,
        /// The type that is there.
        is: &'static str,
    },
    /// What is stored would grow beyond a limit.
    #[error("{path}: {why}")]
    LimitExceeded {
        /// The path of what makes it grow.
        path: String,
        /// Which limit, and what is allowed.
        why: String,
    },
    /// The token is not the stage's newest: somebody else has the stage, or may have.
    #[error("the lease is lost: the token is not the newest of its stage")]
    LeaseLost,
    /// The permit is not held, or is no longer.
    #[error("the permit is lost: it has expired or was revoked, or is not one of this namespace")]
    PermitLost,
    /// A stage cannot be started by name without the permits it needs.
    #[error("stage {stage_name:?} needs a permit of {resource:?}, which is in use or closed: {reason}")]
    PermitDenied {
        /// The stage.
        stage_name: String,
        /// What is in the way.
        resource: String,
        /// The name of the reason on the wire, without its prefix.
        reason: &'static str,
        /// When it is worth trying again, if that is known.
        retry_after: Option<Duration>,
    },
    /// No such resource in this namespace.
    #[error("there is no resource {name:?}: it was never used and has no policy")]
    ResourceNotFound {
        /// As the caller named it.
        name: String,
    },
    /// Permits of the resource are held, or somebody waits for one.
    #[error("resource {name:?} cannot be deleted while permits of it are held or waited for")]
    ResourceInUse {
        /// Its name.
        name: String,
    },
    /// The state does not allow it.
    #[error("{what} is {state} and {why}")]
    InvalidTransition {
        /// The job or stage, for a person.
        what: String,
        /// The state's name on the wire, without its prefix.
        state: &'static str,
        /// Why that is in the way.
        why: &'static str,
    },
    /// One of several things that stand or fall together was refused.
    #[error("{path}: {refusal}")]
    At {
        /// Its place among them, from 0.
        index: usize,
        /// Its path in the request; paths in the refusal itself are relative to it.
        path: String,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// A version was not the expected one, and the caller asked for what is there.
    #[error("{refusal}")]
    WithCurrent {
        /// Why.
        refusal: Box<Refusal>,
        /// What the version was compared with.
        current: Current,
    },
    /// The `request_id` was used for something else.
    #[error("the request_id was used before with other content or for another rpc: use a new UUID for a new request")]
    RequestIdReused,
}

impl Refusal {
    /// A field that cannot be as it is.
    pub fn field(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidField { path: path.into(), why: why.into() }
    }

    /// This, as the refusal of one of several things.
    pub fn at(self, index: usize, path: impl Into<String>) -> Self {
        Self::At { index, path: path.into(), refusal: Box::new(self) }
    }
}
