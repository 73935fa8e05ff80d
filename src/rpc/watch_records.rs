//! WatchRecords: some records as they are, then their changes. The versions sent of a record grow strictly, whichever server commits them.

use std::collections::{BTreeMap, HashSet};

use super::caller::Caller;
use super::convert::path::Path;
use super::convert::{document, record as convert, time};
use super::limits::RECORDS_PER_WATCH;
use super::streams::{MessageSource, Messages, messages};
use crate::domain::id::NamespaceId;
use crate::domain::record::{Record, RecordKey};
use crate::domain::refusal::Refusal;
use crate::domain::short::Short;
use crate::error::Result;
use crate::feed::follow::{FollowedRecords, ResumePoint, StateUpdate, StateWatcher};
use crate::proto;
use crate::proto::watch_records_response::Update;

pub async fn watch_records(
    caller: Caller,
    request: proto::WatchRecordsRequest,
) -> Result<Messages<proto::WatchRecordsResponse>> {
    let resumed = resume_points(caller.namespace, &request)?;
    let services = &caller.services;
    let memory = caller.memory;
    Ok(messages(StateWatcher::<FollowedRecords>::begin(&services.hub, &services.watch_store, resumed, memory).await?))
}

fn resume_points(
    namespace: NamespaceId,
    request: &proto::WatchRecordsRequest,
) -> std::result::Result<Vec<(RecordKey, ResumePoint)>, Refusal> {
    let root = Path::Root;
    let list = root.field("records");
    convert::bounded(request.records.len(), RECORDS_PER_WATCH, "records", &list)?;
    let (mut resumed, mut seen) = (Vec::with_capacity(request.records.len()), HashSet::new());
    for (i, watched) in request.records.iter().enumerate() {
        let path = list.index(i);
        let key = convert::key(namespace, &watched.collection, &watched.record_id, &path)?;
        let version = watched.from_version;
        if version < 0 {
            return Err(path.field("from_version").refuse("must not be negative"));
        }
        let created_path = path.field("from_create_time");
        let created = watched.from_create_time.as_ref();
        let create_time = created.map(|created| time::parse_timestamp(created, &created_path)).transpose()?;
        if !seen.insert(key.clone()) {
            return Err(path.field("record_id").refuse("another of the records is the same"));
        }
        resumed.push((key, ResumePoint { version, create_time }));
    }
    Ok(resumed)
}

impl MessageSource for StateWatcher<FollowedRecords> {
    type Message = proto::WatchRecordsResponse;

    async fn next(&mut self) -> Result<Option<Self::Message>> {
        let update = match StateWatcher::next(self).await? {
            StateUpdate::New(record) => Update::Record(convert::record(&record)?),
            StateUpdate::Changed { state, previous_version, previous } => {
                Update::Change(change(&state, previous_version, &previous)?)
            }
            StateUpdate::Absent { key, previous_version } => Update::Removal(proto::RecordRemoval {
                collection: key.collection.to_string(),
                record_id: key.record_id.to_string(),
                version: previous_version,
            }),
            StateUpdate::Keepalive => Update::Keepalive(proto::WatchKeepalive { version: 0 }),
        };
        Ok(Some(proto::WatchRecordsResponse { update: Some(update) }))
    }
}

/// The change of a record since a version. `previous`: the versions of its fields then.
fn change(record: &Record, previous_version: i64, previous: &BTreeMap<Short, i64>) -> Result<proto::RecordChange> {
    let mut change = proto::RecordChange {
        collection: record.key.collection.to_string(),
        record_id: record.key.record_id.to_string(),
        version: record.version,
        previous_version,
        change_time: Some(time::timestamp(record.update_time)),
        ..Default::default()
    };
    for (name, field) in record.fields.iter().filter(|(_, field)| field.version > previous_version) {
        change.fields.insert(name.to_string(), document::value_to_proto(&field.value)?);
        change.field_versions.insert(name.to_string(), field.version);
    }
    let removed = previous.keys().filter(|name| !record.fields.contains_key(name));
    change.removed_fields = removed.map(|name| name.to_string()).collect();
    Ok(change)
}
