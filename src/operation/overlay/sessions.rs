//! Timelines in an overlay.

use std::sync::Arc;

use super::Overlay;
use crate::domain::session::edit::SessionEdit;
use crate::domain::session::segment::{Segment, SegmentKey};
use crate::domain::session::{Session, SessionKey};

impl Overlay {
    /// A session, which may be deleted already. None: there is none, or it was not loaded.
    pub fn session(&mut self, key: SessionKey) -> Option<Arc<Session>> {
        self.read(&key)
    }

    /// A segment, which may be deleted. None: there never was one, or it was not loaded.
    pub fn segment(&mut self, key: &SegmentKey) -> Option<Arc<Segment>> {
        self.read(key)
    }

    /// Begins to change a session.
    pub fn begin_session(&self, session: &Session) -> SessionEdit {
        SessionEdit::begin(session, self.now())
    }

    /// Writes a changed session with its changed segments. None: nothing changed.
    pub fn write_session(&mut self, edit: SessionEdit) -> Option<Arc<Session>> {
        let (session, changed) = edit.finish()?;
        self.write(session.key, Some(session.clone()), ());
        for segment in changed {
            self.write(segment.key.clone(), Some(segment), ());
        }
        Some(session)
    }

    /// Deletes the row of a session that has no segments any more.
    pub fn remove_session(&mut self, key: SessionKey) {
        self.write::<Session>(key, None, ());
    }
}
