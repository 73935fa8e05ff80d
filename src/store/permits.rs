//! What is read of resources beside the engine, and how stages that wait for them are woken.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::connection::{Run, unavailable};
use super::load::{self, number};
use super::walk::Walk;
use crate::domain::id::{JobKey, Name, NamespaceId, StageNo};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::{KEPT_FOR, Resource};
use crate::domain::permit::wait_queue::StageWaiters;
use crate::domain::ready::ReadyStage;
use crate::domain::time::Timestamp;
use crate::error::Result;

/// A wake-up of stages that wait in the line of a resource.
#[derive(Clone, Copy, Debug)]
pub struct WakeUp {
    /// How many are to be picked then. 0: only look whether any is left.
    pub stages: i64,
    /// Stages that need more than this stay. None: there is no such limit.
    pub largest: Option<i64>,
    /// As many of each queue rather than the first in line.
    pub every_queue: bool,
    /// The arrival of their place in the line; once it has another, nothing is done. None: they have no place, or it does not matter.
    pub arrival: Option<Timestamp>,
}

/// Whether stages that need a resource can be picked, or wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct StagesPicked {
    /// How many can be picked now, those that were woken included; no more are counted than were asked for.
    pub pickable: i64,
    /// Whether any waited before.
    pub any_waits: bool,
}

/// A line of stages that wait for a resource.
#[derive(Debug)]
pub struct StageLine {
    /// The resource.
    pub key: ResourceKey,
    /// The stage at its head.
    pub head: (JobKey, StageNo),
    /// The priority of that stage.
    pub priority: i32,
    /// The version of the resource. None: there is no such resource.
    pub version: Option<i64>,
    /// The place that the stages share there. None: they have none.
    pub place: Option<StageWaiters>,
}

/// What was found of each resource, and the stages that were woken in all.
pub type Woken = (HashMap<ResourceKey, StagesPicked>, Vec<ReadyStage>);

/// The servers that are there.
#[derive(Debug)]
pub struct Presence {
    /// All, this one included.
    pub servers: HashSet<Uuid>,
    /// Whether one of them is older than jobs in one row.
    pub has_older: bool,
    /// When the database answered, by its clock.
    pub now: Timestamp,
}

impl Store {
    /// Resources as they are stored; missing ones are absent.
    pub async fn resources(&self, keys: &[ResourceKey]) -> Result<HashMap<ResourceKey, Arc<Resource>>> {
        let client = self.reads.get().await?;
        load::resources(&client, keys).await.map_err(|error| unavailable(&error))
    }

    /// The same for a background loop, which does not wait for users' reads.
    pub async fn followed_resources(&self, keys: &[ResourceKey]) -> Result<HashMap<ResourceKey, Arc<Resource>>> {
        let client = self.reserved.get().await?;
        load::resources(&client, keys).await.map_err(|error| unavailable(&error))
    }

    /// The keys and names of a namespace's resources behind a name, with a prefix, in the order of their names.
    pub async fn list_resources(
        &self,
        namespace: NamespaceId,
        prefix: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(ResourceKey, Name)>> {
        let end = end_of_prefix(prefix);
        let client = self.reads.get().await?;
        let sql = include_str!("sql/list_resources.sql");
        let rows = client.rows(sql, &[&namespace.0, &after, &prefix, &end, &limit]).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let item =
            |row: &tokio_postgres::Row| (ResourceKey { namespace, uid: row.get(0) }, Name::from(row.get::<_, &str>(1)));
        Ok(rows.iter().map(item).collect())
    }

    /// Lets the first stages that wait for resources be picked again. What is not found has changed meanwhile.
    pub async fn wake_stages(&self, wake_ups: &HashMap<ResourceKey, WakeUp>) -> Result<Woken> {
        let namespaces: Vec<i32> = wake_ups.keys().map(|key| key.namespace.0).collect();
        let uids: Vec<Uuid> = wake_ups.keys().map(|key| key.uid).collect();
        let counts: Vec<i64> = wake_ups.values().map(|wake_up| wake_up.stages).collect();
        let largest: Vec<i64> = wake_ups.values().map(|wake_up| wake_up.largest.unwrap_or(i64::MAX)).collect();
        let every_queue: Vec<bool> = wake_ups.values().map(|wake_up| wake_up.every_queue).collect();
        let arrivals: Vec<Option<i64>> = wake_ups.values().map(|wake_up| wake_up.arrival.map(|at| at.0)).collect();
        let params: [&(dyn ToSql + Sync); 6] = [&namespaces, &uids, &counts, &largest, &every_queue, &arrivals];
        let rows = self.background(include_str!("sql/wake_stages.sql"), &params).await?;
        let found = |row: &Row| (resource_key(row), StagesPicked { pickable: row.get(2), any_waits: row.get(3) });
        let woken = rows.iter().filter(|row| row.get::<_, Option<Uuid>>(4).is_some()).map(|row| ready(row, 4));
        Ok((rows.iter().map(found).collect(), woken.collect()))
    }

    /// Lets stages that can be picked wait in the lines of resources that are in use, at most so many of each; returns those that do.
    pub async fn join_lines(&self, keys: &[ResourceKey], limit: usize) -> Result<Vec<ReadyStage>> {
        let namespaces: Vec<i32> = keys.iter().map(|key| key.namespace.0).collect();
        let uids: Vec<Uuid> = keys.iter().map(|key| key.uid).collect();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.background(include_str!("sql/join_lines.sql"), &[&namespaces, &uids, &limit]).await?;
        Ok(rows.iter().map(|row| ready(row, 1)).collect())
    }

    /// The lines of stages behind that of a resource, in the order of uids, at most `limit`. None: from the first.
    pub async fn next_lines(&self, after: Option<ResourceKey>, limit: usize) -> Result<Vec<StageLine>> {
        let (uid, namespace) = after.map_or((Uuid::nil(), 0), |key| (key.uid, key.namespace.0));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.background(include_str!("sql/next_lines.sql"), &[&uid, &namespace, &limit]).await?;
        let line = |row: &Row| {
            let key = resource_key(row);
            let head = (JobKey { namespace: key.namespace, uid: row.get(2) }, number(row.get(3)));
            // What cannot be read is taken for missing, and the stages are woken.
            let place = row.get::<_, Option<&str>>(5).and_then(|place| serde_json::from_str(place).ok());
            StageLine { key, head, priority: row.get(6), version: row.get(4), place }
        };
        Ok(rows.iter().map(line).collect())
    }

    /// Resources with permits that their holders have not renewed for ten minutes, in the next pages of a walk over `permits`.
    pub async fn due_permits(&self, walk: &mut Walk) -> Result<Vec<ResourceKey>> {
        let kept_us = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
        let rows = self.walk_on(walk, include_str!("sql/due_permits.sql"), &[&kept_us]).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Resources at which something happens by itself.
    pub async fn due_resources(&self, limit: i64) -> Result<Vec<ResourceKey>> {
        self.resource_keys(include_str!("sql/due_resources.sql"), &[&limit]).await
    }

    /// Locks that were not used for a day, in the next pages of a walk over `resources`.
    pub async fn idle_resources(&self, walk: &mut Walk) -> Result<Vec<ResourceKey>> {
        let rows = self.walk_on(walk, include_str!("sql/idle_resources.sql"), &[]).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Resources that were last changed by a clock that has stepped back since, in the next pages of a walk over `resources`; at most `limit`.
    pub async fn resources_ahead(&self, walk: &mut Walk, limit: i64) -> Result<Vec<ResourceKey>> {
        let rows = self.walk_all(walk, include_str!("sql/resources_ahead.sql"), limit).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Resources of which a permit ends further ahead than it can last, in the next pages of a walk over `permits`; at most `limit`.
    pub async fn permits_ahead(&self, walk: &mut Walk, limit: i64) -> Result<Vec<ResourceKey>> {
        let rows = self.walk_all(walk, include_str!("sql/permits_ahead.sql"), limit).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    async fn resource_keys(&self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<ResourceKey>> {
        let rows = self.background(sql, params).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Which of some permits, each with one of its resources, are held.
    pub async fn granted_permits(&self, permits: &[(ResourceKey, Uuid)]) -> Result<Vec<Uuid>> {
        let namespaces: Vec<i32> = permits.iter().map(|(key, _)| key.namespace.0).collect();
        let uids: Vec<Uuid> = permits.iter().map(|(key, _)| key.uid).collect();
        let ids: Vec<Uuid> = permits.iter().map(|(_, id)| *id).collect();
        let rows = self.background(include_str!("sql/granted_permits.sql"), &[&namespaces, &uids, &ids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Says that a server is there for the next seconds, and hears who is.
    pub async fn greet_servers(&self, server: Uuid) -> Result<Presence> {
        let rows = self.background(include_str!("sql/greet_servers.sql"), &[&server]).await?;
        // There is at least this server.
        let now = rows.first().map_or(Timestamp(0), |row| row.get(1));
        let has_older = rows.iter().any(|row| !row.get::<_, bool>(2));
        Ok(Presence { servers: rows.iter().map(|row| row.get(0)).collect(), has_older, now })
    }

    /// Says that a server is no longer there.
    pub async fn leave_servers(&self, server: Uuid) -> Result<()> {
        self.background(include_str!("sql/leave_servers.sql"), &[&server]).await.map(drop)
    }
}

/// A stage of the namespace in the first column, the rest of it from a column on.
fn ready(row: &Row, from: usize) -> ReadyStage {
    ReadyStage {
        key: JobKey { namespace: NamespaceId(row.get(0)), uid: row.get(from) },
        stage_no: number(row.get(from + 1)),
        queue: row.get::<_, &str>(from + 2).into(),
        priority: row.get(from + 3),
        ready_at: row.get(from + 4),
        group_key: row.get::<_, Option<&str>>(from + 5).map(Into::into),
        alone: row.get(from + 6),
    }
}

fn resource_key(row: &Row) -> ResourceKey {
    ResourceKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) }
}

/// The first text behind all that begin with a prefix; `None` if there is no such text.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::end_of_prefix;

    #[test]
    fn a_prefix_ends_before_the_next_text_of_its_length() {
        assert_eq!(end_of_prefix("doc-"), Some("doc.".to_owned()));
        assert_eq!(end_of_prefix("a\u{10ffff}"), Some("b".to_owned()));
        assert_eq!(end_of_prefix(""), None);
    }
}
