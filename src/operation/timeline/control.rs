//! Creates, changes, ends and deletes sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{NamedSession, about};
use crate::domain::audit::AuditEntry;
use crate::domain::id::Name;
use crate::domain::refusal::{Refusal, expect_version};
use crate::domain::request::RequestIdentity;
use crate::domain::session::{Session, SessionKey, SessionMeta, SessionState};
use crate::operation::overlay::{Key, Overlay};
use crate::operation::{Operation, Reply};

#[derive(Debug)]
pub struct CreateSession {
    pub session: NamedSession,
    pub meta: SessionMeta,
    pub request: Option<RequestIdentity>,
}

impl Operation for CreateSession {
    fn name(&self) -> &'static str {
        "create_session"
    }

    fn keys(&self) -> Vec<Key> {
        let key = self.session.key;
        vec![Key::Session(key), Key::Namespace(key.namespace)]
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn remembered_ids(&self) -> Vec<uuid::Uuid> {
        vec![self.session.key.uid]
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let NamedSession { key, session_id } = &self.session;
        if let Some(session) = overlay.session(*key) {
            let is_deleted = !session.is_visible();
            return Err(Refusal::SessionAlreadyExists { session_id: session_id.to_string(), is_deleted });
        }
        if !overlay.has_namespace(key.namespace) {
            return Err(Refusal::NamespaceNotFound { name: String::new() });
        }
        let session = Arc::new(Session::new(*key, session_id.clone(), self.meta.clone(), overlay.now()));
        let edit = overlay.begin_session(&session);
        Ok(about(&session, overlay.write_session(edit)))
    }
}

/// A change of what callers set of a session. None: it stays.
#[derive(Clone, Debug, Default)]
pub struct SessionPatch {
    /// Inside, None: it has none any more.
    pub title: Option<Option<Name>>,
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    pub retention: Option<Duration>,
}

/// What is done to a session as a whole.
#[derive(Clone, Debug)]
pub enum SessionControl {
    Update(SessionPatch),
    End,
    /// Hides it. Its segments and its row are deleted afterwards.
    Delete,
}

#[derive(Debug)]
pub struct ControlSession {
    pub session: NamedSession,
    pub control: SessionControl,
    /// The version the session must have. None: any.
    pub expected_version: Option<i64>,
    pub request: Option<RequestIdentity>,
}

impl Operation for ControlSession {
    fn name(&self) -> &'static str {
        match self.control {
            SessionControl::Update(_) => "update_session",
            SessionControl::End => "end_session",
            SessionControl::Delete => "delete_session",
        }
    }

    fn audit(&self) -> Option<AuditEntry> {
        // As for DeleteJob.
        let entry = || AuditEntry::new("TimelineService/DeleteSession", &self.session.session_id);
        matches!(self.control, SessionControl::Delete)
            .then(|| entry().within(self.session.key.namespace).of_operators_alone())
    }

    fn keys(&self) -> Vec<Key> {
        let key = self.session.key;
        let mut keys = vec![Key::Session(key)];
        // For the audit log.
        keys.extend(matches!(self.control, SessionControl::Delete).then_some(Key::Namespace(key.namespace)));
        keys
    }

    fn request(&self) -> Option<RequestIdentity> {
        self.request
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let session = self.session.existing(overlay)?;
        expect_version(session.version, self.expected_version)?;
        let mut edit = overlay.begin_session(&session);
        match &self.control {
            SessionControl::Update(patch) => {
                let mut meta = session.meta.clone();
                if let Some(title) = &patch.title {
                    meta.title.clone_from(title);
                }
                if let Some(labels) = &patch.labels {
                    meta.labels.clone_from(labels);
                }
                meta.retention = patch.retention.unwrap_or(meta.retention);
                edit.update(meta);
            }
            SessionControl::End => edit.end(),
            SessionControl::Delete => edit.delete(),
        }
        Ok(about(&session, overlay.write_session(edit)))
    }
}

/// Deletes a session whose retention is over, for the clean-up. The commit checks that it still is.
#[derive(Debug)]
pub struct ExpireSession {
    pub key: SessionKey,
}

impl Operation for ExpireSession {
    fn name(&self) -> &'static str {
        "expire_session"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Session(self.key)]
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let now = overlay.now();
        let due = |session: &Arc<Session>| {
            session.state == SessionState::Ended && session.expire_time.is_some_and(|expire_time| expire_time <= now)
        };
        let Some(session) = overlay.session(self.key).filter(due) else { return Ok(Reply::default()) };
        let mut edit = overlay.begin_session(&session);
        edit.delete();
        Ok(about(&session, overlay.write_session(edit)))
    }
}

/// Deletes the row of a deleted session of which no segment is left. Nothing is added to such a session, so that stays true.
#[derive(Debug)]
pub struct RemoveSession {
    pub key: SessionKey,
}

impl Operation for RemoveSession {
    fn name(&self) -> &'static str {
        "remove_session"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Session(self.key)]
    }

    fn decide(&self, overlay: &mut Overlay) -> Result<Reply, Refusal> {
        let Some(session) = overlay.session(self.key).filter(|session| !session.is_visible()) else {
            return Ok(Reply::default());
        };
        overlay.remove_session(session.key);
        Ok(Reply { applied: true, ..Reply::default() })
    }
}
