//! Keys: how operations name what they read and write.

use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::lease::LeaseKey;
use crate::domain::permit::ResourceKey;
use crate::domain::record::RecordKey;
use crate::domain::request::RequestKey;

/// The root of something with a version of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A job with its stages and leases.
    Job(JobKey),
    /// A lease alone: how long it lasts, which is no part of the job's revision.
    Lease(LeaseKey),
    /// A record with its fields.
    Record(RecordKey),
    /// A resource with its permits and those who wait for one.
    Resource(ResourceKey),
    /// A remembered request.
    Request(RequestKey),
    /// A namespace by number.
    Namespace(NamespaceId),
    /// A namespace by name, to create one.
    NamespaceName(Name),
    /// The key ring: the root of all credentials.
    KeyRing,
    /// The audit log, which is only added to.
    AuditLog,
}

impl Key {
    /// Whether it is the key of an aggregate, whose row is locked while what was decided on it is written.
    pub fn is_root(&self) -> bool {
        match self {
            Self::Job(_) | Self::Record(_) | Self::Resource(_) | Self::KeyRing => true,
            Self::Lease(_) | Self::Request(_) | Self::Namespace(_) | Self::NamespaceName(_) | Self::AuditLog => false,
        }
    }

    /// The namespace that it is in. None: it is of the server as a whole, or a namespace by its name, which may not exist.
    pub fn namespace(&self) -> Option<NamespaceId> {
        match self {
            Self::Job(key) => Some(key.namespace),
            Self::Lease(key) => Some(key.job.namespace),
            Self::Record(key) => Some(key.namespace),
            Self::Resource(key) => Some(key.namespace),
            Self::Request(key) => Some(key.namespace),
            Self::Namespace(id) => Some(*id),
            Self::NamespaceName(_) | Self::KeyRing | Self::AuditLog => None,
        }
    }
}
