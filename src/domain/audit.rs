//! Audit log: which principal changed what by the rpcs of operators.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::access::{Principal, Role};
use super::id::{Name, NamespaceId};
use super::time::Timestamp;

/// Origin of a write.
#[derive(Clone, Debug, Default)]
pub enum Actor {
    /// The server itself: a background loop, or what follows from a write.
    #[default]
    Server,
    /// A principal with a checked credential, or an operator with access to the database.
    Principal(Arc<Principal>),
    /// A caller without a credential, on a server that requires none. `None`: its address is not known.
    Anonymous(Option<IpAddr>),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Principal(principal) => f.write_str(&principal.name),
            Self::Anonymous(Some(address)) => write!(f, "anonymous@{address}"),
            Self::Anonymous(None) => f.write_str("anonymous"),
        }
    }
}

/// Entry that an operation adds to the audit log. Principal and time are added when it is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Name of the rpc, such as `AdminService/CreateKey`.
    pub method: &'static str,
    /// Namespace of the change. `None`: the change is in no namespace.
    pub namespace: Option<NamespaceId>,
    /// Name or id of what was changed, as in the request.
    pub target: String,
    /// Further details: a JSON object without secrets.
    pub details: serde_json::Value,
    /// Whether the entry is written only for operators, because others make the same call in the course of work.
    pub of_operators_alone: bool,
}

impl AuditEntry {
    /// Makes an entry without details.
    pub fn new(method: &'static str, target: impl fmt::Display) -> Self {
        let details = serde_json::Value::Object(serde_json::Map::new());
        Self { method, namespace: None, target: target.to_string(), details, of_operators_alone: false }
    }

    /// Sets the namespace of the entry.
    pub fn within(self, namespace: NamespaceId) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    /// Makes the entry one that is written only if the caller has the role operate or admin.
    pub fn of_operators_alone(self) -> Self {
        Self { of_operators_alone: true, ..self }
    }

    /// Whether the entry is written for a request of this actor.
    pub fn is_noted_of(&self, actor: &Actor) -> bool {
        !self.of_operators_alone
            || matches!(actor, Actor::Principal(principal) if principal.roles.permits(Role::Operate))
    }

    /// Adds one member to the details.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        if let Some(details) = self.details.as_object_mut() {
            details.insert(name.to_owned(), value.into());
        }
        self
    }
}

/// Stored entry of the audit log.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// Id that makes entries of the same time unique.
    pub id: i64,
    /// Time of the decision.
    pub time: Timestamp,
    /// Text form of the [`Actor`].
    pub principal: Name,
    /// Name of the rpc.
    pub method: Name,
    /// Name of the namespace. `None`: the change was in no namespace.
    pub namespace: Option<Name>,
    /// Name or id of what was changed.
    pub target: String,
    /// Further details, as a JSON object.
    pub details: super::json::Document,
}

/// Filter of audit entries. `None`: all.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Entries of this principal only.
    pub principal: Option<String>,
    /// Entries of this rpc only.
    pub method: Option<String>,
    /// Entries at or after this time only.
    pub since: Option<Timestamp>,
    /// Entries before this time only.
    pub until: Option<Timestamp>,
}
