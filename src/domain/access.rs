//! Authorization: roles, the namespaces that they are valid in, and the principal of a call.

use std::sync::Arc;

/// A permission of a credential. Each rpc requires one of the roles listed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Read and watch. Part of every other role.
    Read = 1,
    /// Submit jobs and control them; write records; hold permits.
    Submit = 2,
    /// Lease stages and end attempts; write records; hold permits.
    Work = 3,
    /// Change policies of resources, reset breakers, revoke permits, delete what others made.
    Operate = 4,
    /// Everything, namespaces and API keys included.
    Admin = 5,
}

impl Role {
    /// All roles, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Read, Self::Submit, Self::Work, Self::Operate, Self::Admin];

    /// Name of the role in flags and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Work => "work",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// Parses the name of a role. `None`: there is no such role.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

impl Roles {
    /// The set without any role.
    pub const NONE: Self = Self(0);

    /// This set with one more role.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | 1 << role as u8)
    }

    /// Whether the set contains this very role.
    pub fn contains(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }

    /// Whether the set permits what `role` permits: admin includes every role, and every role includes read.
    pub fn permits(self, role: Role) -> bool {
        self.contains(role) || self.contains(Role::Admin) || role == Role::Read && self != Self::NONE
    }

    /// The roles of the set, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Namespaces that a credential is valid in: one name, or all names with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamespacePattern {
    /// The namespace with this name.
    Exact(Arc<str>),
    /// All namespaces with names that begin with this text. Empty: all namespaces.
    Prefix(Arc<str>),
}

impl NamespacePattern {
    /// Parses `name` or `prefix*`. `None`: the text is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        let is_name = name.len() <= 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match (is_name, is_prefix, name.is_empty()) {
            (true, true, _) => Some(Self::Prefix(name.into())),
            (true, false, false) => Some(Self::Exact(name.into())),
            _ => None,
        }
    }

    /// Whether the pattern covers the namespace of this name.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Exact(name) => &**name == namespace,
            Self::Prefix(prefix) => namespace.starts_with(&**prefix),
        }
    }
}

impl std::fmt::Display for NamespacePattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => formatter.write_str(name),
            Self::Prefix(prefix) => write!(formatter, "{prefix}*"),
        }
    }
}

/// Calls per second that a credential may make, by class. `None`: the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Calls that only read.
    pub read: Option<u32>,
    /// Calls that write; a batch counts its items.
    pub write: Option<u32>,
    /// Watches that are opened.
    pub watch: Option<u32>,
    /// Heartbeats, ends of attempts, renewals and releases.
    pub essential: Option<u32>,
}

/// Identity of a caller, after its credential was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `key:` and the id of an API key, or `cert:` and the name in a client certificate. Not secret: audits, metrics and logs contain it.
    pub name: Arc<str>,
    /// Roles of the credential.
    pub roles: Roles,
    /// Namespaces that the credential is valid in.
    pub namespaces: Arc<[NamespacePattern]>,
    /// Rate limits of the credential.
    pub rates: RateLimits,
}

impl Principal {
    /// Whether the credential is valid in the namespace of this name.
    pub fn covers(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|pattern| pattern.covers(namespace))
    }

    /// Whether the credential is valid in all namespaces, those that do not exist yet included.
    pub fn covers_all(&self) -> bool {
        self.namespaces.iter().any(|pattern| matches!(pattern, NamespacePattern::Prefix(prefix) if prefix.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_includes_every_role_and_every_role_includes_read() {
        for role in Role::ALL {
            assert_eq!(Role::of(role.name()), Some(role));
            let one = Roles::NONE.with(role);
            for other in Role::ALL {
                let expected = role == other || role == Role::Admin || other == Role::Read;
                assert_eq!(one.permits(other), expected, "{role:?} {other:?}");
            }
            assert!(!Roles::NONE.permits(role));
            assert_eq!(one.iter().collect::<Vec<_>>(), [role]);
        }
    }

    #[test]
    fn patterns_cover_a_name_or_a_prefix() {
        let covers = |pattern: &str, name| NamespacePattern::parse(pattern).expect("a pattern").covers(name);
        assert!(covers("team", "team") && !covers("team", "team-a"));
        assert!(covers("team-*", "team-a") && !covers("team-*", "tea") && covers("*", "anything"));
        for bad in ["", "a b", "a*b", "**", &"x".repeat(64)] {
            assert_eq!(NamespacePattern::parse(bad), None, "{bad:?}");
        }
        assert_eq!(NamespacePattern::parse("team-*").expect("a pattern").to_string(), "team-*");
    }
}
