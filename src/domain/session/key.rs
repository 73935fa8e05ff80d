//! The key of a session.

use uuid::Uuid;

use crate::domain::id::{NamespaceId, uid_of};

/// Key of a session. The `uid` is computed from the session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// Namespace of the session.
    pub namespace: NamespaceId,
    /// Uid of the session in its namespace, see [`uid_of`].
    pub uid: Uuid,
}

impl SessionKey {
    /// Computes the key of a session id.
    pub fn of(namespace: NamespaceId, session_id: &str) -> Self {
        Self { namespace, uid: uid_of(session_id) }
    }
}
