//! WatchSession: the segments of a session in the order of their changes, then what is committed.
//!
//! **Invariants.** A position is a version, of which all changes have been sent, or a version and the arrival number up to which they have.
//! A segment that changes again moves behind the position, so that none is left out; of two states of a segment only the newer one can be left. The last
//! changes come with the session from memory; what is older is read in pages.

use std::sync::Arc;

use prost::Message as _;

use crate::domain::session::segment::Segment;
use crate::domain::session::{Session, SessionKey, SessionState};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::feed::follow::{FollowedSessions, ResumePoint, StateUpdate, StateWatcher};
use crate::feed::{UpdateQueue, Weighed};
use crate::proto;
use crate::proto::watch_session_response::Update;
use crate::rpc::caller::Caller;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{segment, session, time};
use crate::rpc::page::Budget;
use crate::rpc::streams::{MessageSource, Messages, messages};
use crate::sending::{READ_BYTES, WatchMemory};
use crate::store::Store;
use crate::store::session::ChangedSegments;

/// Size up to which a message is filled with segments. A client that does not read holds up to three of them.
const MESSAGE_BYTES: usize = 64 * 1024;

/// How far a stream has come in the changes of a session.
#[derive(Clone, Copy, Debug)]
struct Position {
    version: i64,
    /// Of the changes of that version, those of segments up to this arrival number were sent; of earlier versions all.
    arrival: i64,
}

impl Position {
    /// All changes up to a version were sent.
    fn after(version: i64) -> Self {
        Self { version, arrival: i64::MAX }
    }

    /// The version up to which all changes were sent.
    fn complete(self) -> i64 {
        if self.arrival == i64::MAX { self.version } else { self.version - 1 }
    }
}

struct SessionWatch {
    store: Store,
    key: SessionKey,
    session_id: String,
    watcher: StateWatcher<FollowedSessions>,
    position: Position,
    /// The version of the last message.
    sent_version: i64,
    /// The create time of the session that the position is of. None: not known.
    created: Option<Timestamp>,
    /// The newest known state. None: there is no session.
    newest: Option<Arc<Session>>,
    /// The session as it was sent last. None: it was not.
    sent: Option<Arc<Session>>,
    queued: UpdateQueue<Update>,
}

pub async fn watch_session(
    caller: Caller,
    request: proto::WatchSessionRequest,
) -> Result<Messages<proto::WatchSessionResponse>> {
    let named = session::named(caller.namespace, &request.session_id)?;
    let root = Path::Root;
    if request.from_version < 0 {
        return Err(root.field("from_version").refuse("must not be negative").into());
    }
    let path = root.field("from_create_time");
    let created = request.from_create_time.as_ref().map(|at| time::parse_timestamp(at, &path)).transpose()?;
    let services = &caller.services;
    let resumed = vec![(named.key, ResumePoint::default())];
    Ok(messages(SessionWatch {
        store: services.watch_store.clone(),
        key: named.key,
        session_id: named.session_id.to_string(),
        watcher: StateWatcher::begin(&services.hub, &services.watch_store, resumed, WatchMemory::default()).await?,
        position: Position::after(request.from_version),
        sent_version: request.from_version,
        created,
        newest: None,
        sent: None,
        queued: UpdateQueue::new(caller.memory),
    }))
}

impl Weighed for Update {
    fn weight_bytes(&self) -> usize {
        match self {
            Self::Changes(changes) => changes.encoded_len(),
            Self::Session(_) | Self::Removal(_) | Self::Reset(_) | Self::Keepalive(_) => 0,
        }
    }
}

impl MessageSource for SessionWatch {
    type Message = proto::WatchSessionResponse;

    async fn next(&mut self) -> Result<Option<Self::Message>> {
        loop {
            if let Some(update) = self.queued.take() {
                return Ok(Some(proto::WatchSessionResponse { update: Some(update) }));
            }
            if self.sent.as_ref().is_some_and(|sent| sent.state == SessionState::Ended) {
                return Ok(None);
            }
            if self.is_behind() {
                self.catch_up().await?;
                continue;
            }
            match self.watcher.next().await? {
                StateUpdate::New(session) | StateUpdate::Changed { state: session, .. } => self.note(session),
                StateUpdate::Absent { .. } => self.note_absence(),
                StateUpdate::Keepalive => {
                    self.queued.push_back(Update::Keepalive(proto::WatchKeepalive { version: self.sent_version }));
                }
            }
        }
    }
}

impl SessionWatch {
    fn is_behind(&self) -> bool {
        let differs = |newest: &Session| match &self.sent {
            None => true,
            Some(sent) => newest.differs_beside_segments(sent),
        };
        self.newest.as_ref().is_some_and(|newest| self.position.complete() < newest.version || differs(newest))
    }

    /// Notes a state that was published or read.
    fn note(&mut self, session: Arc<Session>) {
        let is_other = self.created.is_some_and(|created| created != session.create_time);
        // What the reader has can only be of another session, unless it was read here: then this state is an older one.
        let is_ahead = self.newest.is_none() && self.position.version > session.version;
        if is_other || is_ahead {
            if self.position.version > 0 {
                self.queued.push_back(Update::Reset(proto::SessionReset { version: session.version }));
            }
            (self.position, self.sent_version, self.sent) = (Position::after(0), 0, None);
        }
        self.created = Some(session.create_time);
        if session.state == SessionState::Open && self.sent.is_none() {
            self.send_session(&session);
        }
        self.newest = Some(session);
    }

    fn note_absence(&mut self) {
        self.queued.push_back(Update::Removal(proto::SessionRemoval { session_id: self.session_id.clone() }));
        // The reader has nothing any more.
        (self.position, self.sent_version, self.created) = (Position::after(0), 0, None);
        (self.newest, self.sent) = (None, None);
    }

    fn send_session(&mut self, session: &Arc<Session>) {
        self.queued.push_back(Update::Session(session::session(session)));
        self.sent = Some(session.clone());
    }

    /// Sends what the newest state has and the reader has not, or a page of it.
    async fn catch_up(&mut self) -> Result<()> {
        let Some(newest) = self.newest.clone() else { return Ok(()) };
        if self.position.complete() < newest.version {
            let remembered = newest.recent.after(self.position.complete());
            match remembered.filter(|_| self.position.arrival == i64::MAX) {
                Some(changed) => {
                    self.queued.reserve(changed.iter().map(|segment| segment.weight_bytes()).sum()).await;
                    self.position = Position::after(newest.version);
                    self.send_changes(changed.iter().map(|segment| &**segment))?;
                }
                None => self.read().await?,
            }
        }
        let Some(newest) = self.newest.clone() else { return Ok(()) };
        let is_new = self.sent.as_ref().is_none_or(|sent| newest.differs_beside_segments(sent));
        if is_new && self.position.complete() >= newest.version {
            self.send_session(&newest);
        }
        Ok(())
    }

    /// Reads the next page of changes.
    async fn read(&mut self) -> Result<()> {
        let Position { version, arrival } = self.position;
        self.queued.reserve(READ_BYTES).await;
        let Some(read) = self.store.segments_after(self.key, version, arrival).await? else {
            // It was deleted, which the watcher finds too.
            self.newest = None;
            return Ok(());
        };
        let ChangedSegments { session, segments, is_complete } = read;
        if self.created != Some(session.create_time) {
            self.note(Arc::new(session));
            return Ok(());
        }
        let last = segments.last().map(|last| (last.version, last.arrival));
        self.position = match last {
            Some((version, arrival)) if !is_complete => Position { version, arrival },
            _ => Position::after(last.map_or(0, |(version, _)| version).max(session.version).max(version)),
        };
        if self.newest.as_ref().is_none_or(|newest| newest.version < session.version) {
            self.newest = Some(Arc::new(session));
        }
        self.send_changes(segments.iter())
    }

    /// Queues messages with changed segments. The last one has the version of the position.
    fn send_changes<'s>(&mut self, segments: impl Iterator<Item = &'s Segment>) -> Result<()> {
        let mut budget = Budget::new(MESSAGE_BYTES);
        let mut changes = proto::SegmentChanges::default();
        for changed in segments {
            if changed.is_deleted() {
                changes.deleted_keys.push(changed.key.key.to_string());
                continue;
            }
            let message = segment::segment_to_proto(changed)?;
            if !budget.takes(&message) {
                // Everything before this version has been sent.
                self.queue(std::mem::take(&mut changes), changed.version - 1);
                budget = Budget::new(MESSAGE_BYTES);
                let _first = budget.takes(&message);
            }
            changes.segments.push(message);
        }
        self.queue(changes, self.position.complete());
        Ok(())
    }

    fn queue(&mut self, changes: proto::SegmentChanges, version: i64) {
        if changes.segments.is_empty() && changes.deleted_keys.is_empty() {
            return;
        }
        let previous_version = self.sent_version;
        self.sent_version = self.sent_version.max(version);
        let changes = proto::SegmentChanges { version: self.sent_version, previous_version, ..changes };
        self.queued.push_back(Update::Changes(changes));
    }
}
