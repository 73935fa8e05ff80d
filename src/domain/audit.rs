//! The audit log: who changed what by the rpcs of operators.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::access::{Principal, Role};
use super::id::{Name, NamespaceId};
use super::time::Timestamp;

/// Who asks for a write.
#[derive(Clone, Debug, Default)]
pub enum Actor {
    /// The server itself: a background loop, or what follows from a write.
    #[default]
    Server,
    /// A principal whose credential was checked, or an operator who has the database itself.
    Principal(Arc<Principal>),
    /// A caller without a credential, where none is required. None: its address is not known.
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

/// What an operation tells the audit log of itself. Who asked for it and when is added where it is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// The rpc, as in `AdminService/CreateKey`.
    pub method: &'static str,
    /// The namespace that the change is in. None: it is in none.
    pub namespace: Option<NamespaceId>,
    /// What was changed: the name or id, as the rpc has it.
    pub target: String,
    /// What else is worth knowing: an object without secrets.
    pub details: serde_json::Value,
    /// Whether it is noted only where an operator asked for it: others do the same in the course of work.
    pub of_operators_alone: bool,
}

impl AuditEntry {
    /// An entry without details.
    pub fn new(method: &'static str, target: impl fmt::Display) -> Self {
        let details = serde_json::Value::Object(serde_json::Map::new());
        Self { method, namespace: None, target: target.to_string(), details, of_operators_alone: false }
    }

    /// In a namespace.
    pub fn within(self, namespace: NamespaceId) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    /// Noted only if a caller with the role operate or admin asked for it.
    pub fn of_operators_alone(self) -> Self {
        Self { of_operators_alone: true, ..self }
    }

    /// Whether it is noted if this one asked for it.
    pub fn is_noted_of(&self, actor: &Actor) -> bool {
        !self.of_operators_alone
            || matches!(actor, Actor::Principal(principal) if principal.roles.permits(Role::Operate))
    }

    /// With a detail.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        if let Some(details) = self.details.as_object_mut() {
            details.insert(name.to_owned(), value.into());
        }
        self
    }
}

/// An entry of the audit log, as it is stored.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// Tells apart entries of one moment.
    pub id: i64,
    /// When it was decided.
    pub time: Timestamp,
    /// Who: see [`Actor`].
    pub principal: Name,
    /// The rpc.
    pub method: Name,
    /// The name of the namespace. None: it is in none.
    pub namespace: Option<Name>,
    /// What was changed.
    pub target: String,
    /// What else is known, as a JSON object.
    pub details: super::json::Document,
}

/// Which entries are asked for. None: all.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Of this principal.
    pub principal: Option<String>,
    /// Of this rpc.
    pub method: Option<String>,
    /// Not before this moment.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
}
