//! WatchRecords: some records as they are, then what becomes of them.
//!
//! A commit of this server is told from what its lanes have just put into the cache, without a read; those of other servers are
//! found, and put there, by one look for all that is followed here. The versions told of a record grow strictly, whichever comes first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::HashSet;
use futures::stream;
use tokio::time::sleep;
use tonic::Status;

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{document, record as convert, time};
use super::limits::RECORDS_PER_WATCH;
use super::services::Services;
use super::watch::Messages;
use crate::domain::record::{Record, RecordKey};
use crate::domain::refusal::Refusal;
use crate::domain::short::Short;
use crate::domain::time::Timestamp;
use crate::engine::followers::Following;
use crate::error::Result;
use crate::feed::{Quiet, detached};
use crate::operation::overlay::Key;
use crate::proto;
use crate::proto::watch_records_response::Update;
use crate::store::load::Look;

/// What was told of a record last.
enum Told {
    /// Nothing; its reader knows it at this version, or not at all (0), and perhaps since when it was there.
    Nothing { from: i64, made: Option<Timestamp> },
    /// That it is not there.
    Absence,
    /// This version of it.
    Version { version: i64, create_time: Timestamp, fields: BTreeMap<Short, i64> },
}

struct Watcher {
    services: Arc<Services>,
    following: Following<RecordKey>,
    keys: Vec<RecordKey>,
    told: HashMap<RecordKey, Told>,
    queued: VecDeque<Update>,
    quiet: Quiet,
}

/// WatchRecords.
pub async fn watch_records(
    caller: Caller,
    request: proto::WatchRecordsRequest,
) -> Result<Messages<proto::WatchRecordsResponse>> {
    let mut watcher = Watcher::begin(&caller, &request)?;
    watcher.look().await?;
    let messages = stream::try_unfold(watcher, |mut watcher| async move {
        let update = watcher.next().await.map_err(Status::from)?;
        Ok(Some((proto::WatchRecordsResponse { update: Some(update) }, watcher)))
    });
    Ok(Box::pin(messages))
}

impl Watcher {
    fn begin(caller: &Caller, request: &proto::WatchRecordsRequest) -> std::result::Result<Self, Refusal> {
        let root = Path::Root;
        let list = root.field("records");
        convert::bounded(request.records.len(), RECORDS_PER_WATCH, "records", &list)?;
        let (mut keys, mut told) = (Vec::with_capacity(request.records.len()), HashMap::new());
        for (i, watched) in request.records.iter().enumerate() {
            let path = list.index(i);
            let key = convert::key(caller.namespace, &watched.collection, &watched.record_id, &path)?;
            let from = watched.from_version;
            if from < 0 {
                return Err(path.field("from_version").refuse("must not be negative"));
            }
            let made_path = path.field("from_create_time");
            let made = watched.from_create_time.as_ref();
            let made = made.map(|made| time::parse_timestamp(made, &made_path)).transpose()?;
            if told.insert(key.clone(), Told::Nothing { from, made }).is_some() {
                return Err(path.field("record_id").refuse("another of the records is the same"));
            }
            keys.push(key);
        }
        let services = caller.services.clone();
        // First, so that nothing is missed between the look and the wait.
        let following = services.engine.shared().followers.follow(keys.clone());
        let quiet = Quiet::new(services.hub.settings.keepalive);
        let queued = VecDeque::new();
        Ok(Self { services, following, keys, told, queued, quiet })
    }

    async fn next(&mut self) -> Result<Update> {
        loop {
            if let Some(update) = self.queued.pop_front() {
                self.quiet.broken();
                return Ok(update);
            }
            tokio::select! {
                biased;
                changed = self.following.changed() => self.note(changed).await?,
                () = self.quiet.lasts() => {
                    self.queued.push_back(Update::Keepalive(proto::WatchKeepalive { revision: 0 }));
                }
            }
        }
    }

    /// Records that a lane of this server has written.
    async fn note(&mut self, changed: HashSet<RecordKey>) -> Result<()> {
        // What else comes within a tick is told together.
        sleep(self.services.hub.settings.tick).await;
        let mut unknown = false;
        for key in &changed {
            match self.services.engine.shared().cache.get::<Record>(&Key::Record(key.clone())) {
                Some(record)
                    if self.is_of_the_told(&record)
                        && self.following.is_current(key, (record.version, record.create_time)) =>
                {
                    self.tell(&record)?;
                }
                // Deleted, made or made anew, or already out of memory. Which of two records under one name is the newer one nothing in
                // them says (clocks of servers differ), so that is looked up.
                Some(_) | None => unknown = true,
            }
        }
        if unknown { self.look().await } else { Ok(()) }
    }

    /// Looks at all of them; what did not change costs little.
    async fn look(&mut self) -> Result<()> {
        let at = |key: &RecordKey| match self.told.get(key) {
            Some(Told::Version { version, create_time, .. }) => (*version, *create_time),
            Some(Told::Nothing { .. } | Told::Absence) | None => (0, Timestamp(0)),
        };
        let known: Vec<(i64, Timestamp)> = self.keys.iter().map(at).collect();
        let (store, keys) = (self.services.watch_store.clone(), self.keys.clone());
        // A stream that its reader lets stand still shall hold no connection.
        let looks = detached(async move { store.look_at_records(&keys, &known).await }).await?;
        for (key, look) in self.keys.clone().into_iter().zip(looks) {
            match look {
                Look::Unchanged => {}
                Look::Changed(record) => self.tell(&record)?,
                Look::Missing => self.tell_absence(key),
            }
        }
        Ok(())
    }

    /// Whether it is the very record that was told of last, if not an older state of it.
    fn is_of_the_told(&self, record: &Record) -> bool {
        matches!(self.told.get(&record.key), Some(Told::Version { create_time, .. }) if *create_time == record.create_time)
    }

    /// Tells a record as it is in the database, or a state of the one that was told of last.
    fn tell(&mut self, record: &Record) -> Result<()> {
        let is_same = self.is_of_the_told(record);
        let Some(told) = self.told.get_mut(&record.key) else { return Ok(()) };
        let update = match &*told {
            Told::Nothing { from, made }
                if *from == record.version && made.is_none_or(|made| made == record.create_time) =>
            {
                None
            }
            Told::Nothing { .. } | Told::Absence => Some(Update::Record(convert::record(record)?)),
            Told::Version { version, .. } if is_same && record.version <= *version => return Ok(()),
            Told::Version { version, fields, .. } if is_same => Some(Update::Change(change(record, *version, fields)?)),
            // Deleted and created again in between.
            Told::Version { .. } => Some(Update::Record(convert::record(record)?)),
        };
        let fields = record.fields.iter().map(|(name, field)| (name.clone(), field.version)).collect();
        *told = Told::Version { version: record.version, create_time: record.create_time, fields };
        self.queued.extend(update);
        Ok(())
    }

    fn tell_absence(&mut self, key: RecordKey) {
        let (collection, record_id) = (key.collection.to_string(), key.record_id.to_string());
        let version = match self.told.insert(key, Told::Absence) {
            Some(Told::Absence) => return,
            Some(Told::Version { version, .. }) => version,
            Some(Told::Nothing { from, .. }) => from,
            None => 0,
        };
        self.queued.push_back(Update::Removal(proto::RecordRemoval { collection, record_id, version }));
    }
}

/// What became of a record since a version, whose fields had these versions.
fn change(record: &Record, previous_version: i64, before: &BTreeMap<Short, i64>) -> Result<proto::RecordChange> {
    let mut change = proto::RecordChange {
        collection: record.key.collection.to_string(),
        record_id: record.key.record_id.to_string(),
        version: record.version,
        previous_version,
        change_time: Some(time::timestamp(record.update_time)),
        ..Default::default()
    };
    for (name, field) in record.fields.iter().filter(|(_, field)| field.version > previous_version) {
        change.fields.insert(name.to_string(), document::told(&field.value)?);
        change.field_versions.insert(name.to_string(), field.version);
    }
    let gone = before.keys().filter(|name| !record.fields.contains_key(name));
    change.removed_fields = gone.map(|name| name.to_string()).collect();
    Ok(change)
}
