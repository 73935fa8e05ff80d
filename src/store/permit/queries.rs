//! Reads of resources beside the engine, and the wait queues of stages.

use std::sync::Arc;

use foldhash::HashMap;
use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::id::{JobKey, Name, NamespaceId, StageNo};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::policy::Policy;
use crate::domain::permit::resource::{KEPT_FOR, Resource};
use crate::domain::permit::wait_queue::StageWaiters;
use crate::domain::ready::ReadyStage;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::job::ready::ready_stage;
use crate::store::load::{self, number};
use crate::store::pg::connection::{Run, unavailable};
use crate::store::pg::types::JsonText;
use crate::store::pg::walk::Walk;

/// A wake-up of stages that wait for a resource.
#[derive(Clone, Copy, Debug)]
pub struct WakeUp {
    /// How many are to be ready then. 0: only read whether any waits.
    pub stages: i64,
    /// Stages that need more than this amount are passed over. None: no limit.
    pub largest: Option<i64>,
    /// Whether `stages` counts for each queue, instead of for all together.
    pub every_queue: bool,
    /// The arrival of the stages' entry in the wait queue of the resource; where it has another one, nothing is done. None: it is not compared.
    pub arrival: Option<Timestamp>,
}

/// Ready and waiting stages that need a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct StagesPicked {
    /// How many are ready now, woken ones included; no more are counted than were asked for.
    pub pickable: i64,
    /// Whether any waited before the wake-up.
    pub any_waits: bool,
}

/// The wait queue of stages of a resource.
#[derive(Debug)]
pub struct StageLine {
    /// The resource that the stages wait for.
    pub key: ResourceKey,
    /// The stage at the head of the wait queue.
    pub head: (JobKey, StageNo),
    /// The priority of that stage.
    pub priority: i32,
    /// The version of the resource. None: there is no such resource.
    pub version: Option<i64>,
    /// The entry that the stages share in the wait queue of the resource. None: they have none.
    pub place: Option<StageWaiters>,
    /// The largest amount that the policy of the resource can ever grant. None: there is no such limit.
    pub largest: Option<i64>,
}

/// The stages of each resource, and all stages that were woken.
pub type Woken = (HashMap<ResourceKey, StagesPicked>, Vec<ReadyStage>);

impl Store {
    /// Resources as they are stored; missing ones are absent.
    pub async fn resources(&self, keys: &[ResourceKey]) -> Result<HashMap<ResourceKey, Arc<Resource>>> {
        let client = self.reads.get().await?;
        load::resources(&client, keys).await.map_err(|error| unavailable(&error))
    }

    /// Keys and names of the resources of a namespace behind a name, with a prefix, in the order of their names.
    pub async fn list_resources(
        &self,
        namespace: NamespaceId,
        prefix: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(ResourceKey, Name)>> {
        let end = end_of_prefix(prefix);
        let client = self.reads.get().await?;
        let sql = include_str!("../sql/permit/list_resources.sql");
        let rows = client.rows(sql, &[&namespace.0, &after, &prefix, &end, &limit]).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let item =
            |row: &tokio_postgres::Row| (ResourceKey { namespace, uid: row.get(0) }, Name::from(row.get::<_, &str>(1)));
        Ok(rows.iter().map(item).collect())
    }

    /// Makes the first stages that wait for resources ready again. Resources of which the entry of the stages has another arrival are absent.
    pub async fn wake_stages(&self, wake_ups: &HashMap<ResourceKey, WakeUp>) -> Result<Woken> {
        let namespaces: Vec<i32> = wake_ups.keys().map(|key| key.namespace.0).collect();
        let uids: Vec<Uuid> = wake_ups.keys().map(|key| key.uid).collect();
        let counts: Vec<i64> = wake_ups.values().map(|wake_up| wake_up.stages).collect();
        let largest: Vec<i64> = wake_ups.values().map(|wake_up| wake_up.largest.unwrap_or(i64::MAX)).collect();
        let every_queue: Vec<bool> = wake_ups.values().map(|wake_up| wake_up.every_queue).collect();
        let arrivals: Vec<Option<i64>> = wake_ups.values().map(|wake_up| wake_up.arrival.map(|at| at.0)).collect();
        let params: [&(dyn ToSql + Sync); 6] = [&namespaces, &uids, &counts, &largest, &every_queue, &arrivals];
        let rows = self.background(include_str!("../sql/ready/wake_stages.sql"), &params).await?;
        let found = |row: &Row| (resource_key(row), StagesPicked { pickable: row.get(2), any_waits: row.get(3) });
        // A row without a stage is of a resource where none was woken.
        let has_stage = |row: &&Row| row.get::<_, Option<i32>>(4).is_some();
        let woken = rows.iter().filter(has_stage).map(|row| ready_stage(row, 4, row.get::<_, &str>(11).into()));
        Ok((rows.iter().map(found).collect(), woken.collect()))
    }

    /// Puts ready stages into the wait queues of resources, at most `limit` of each; returns those that wait now.
    pub async fn join_lines(&self, keys: &[ResourceKey], limit: usize) -> Result<Vec<ReadyStage>> {
        let namespaces: Vec<i32> = keys.iter().map(|key| key.namespace.0).collect();
        let uids: Vec<Uuid> = keys.iter().map(|key| key.uid).collect();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.background(include_str!("../sql/ready/join_lines.sql"), &[&namespaces, &uids, &limit]).await?;
        Ok(rows.iter().map(|row| ready_stage(row, 0, row.get::<_, &str>(7).into())).collect())
    }

    /// The wait queues of stages behind that of a resource, in the order of uids, at most `limit`. None: from the first.
    pub async fn next_lines(&self, after: Option<ResourceKey>, limit: usize) -> Result<Vec<StageLine>> {
        let (uid, namespace) = after.map_or((Uuid::nil(), 0), |key| (key.uid, key.namespace.0));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.background(include_str!("../sql/ready/next_lines.sql"), &[&uid, &namespace, &limit]).await?;
        let line = |row: &Row| {
            let key = resource_key(row);
            let head = (JobKey { namespace: key.namespace, uid: row.get(2) }, number(row.get(3)));
            // An entry that cannot be parsed counts as missing, and the stages are woken.
            let place = row.get::<_, Option<&str>>(5).and_then(|place| serde_json::from_str(place).ok());
            let policy: Option<Policy> = row.get::<_, Option<JsonText>>(7).map(|text| load::parsed(&text));
            let largest = policy.as_ref().and_then(Policy::largest);
            StageLine { key, head, priority: row.get(6), version: row.get(4), place, largest }
        };
        Ok(rows.iter().map(line).collect())
    }

    /// Resources with permits that expired ten minutes ago, in the next pages of a walk over `permits`.
    pub async fn due_permits(&self, walk: &mut Walk) -> Result<Vec<ResourceKey>> {
        let kept_us = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
        let rows = self.walk_on(walk, include_str!("../sql/permit/due_permits.sql"), &[&kept_us]).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Resources of which a timer is due.
    pub async fn due_resources(&self, limit: i64) -> Result<Vec<ResourceKey>> {
        self.resource_keys(include_str!("../sql/permit/due_resources.sql"), &[&limit]).await
    }

    /// Locks that were not used for a day, in the next pages of a walk over `resources`.
    pub async fn idle_resources(&self, walk: &mut Walk) -> Result<Vec<ResourceKey>> {
        let rows = self.walk_on(walk, include_str!("../sql/permit/idle_resources.sql"), &[]).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Resources that were changed later than now, because the clock stepped back, in the next pages of a walk over `resources`; at most `limit`.
    pub async fn resources_ahead(&self, walk: &mut Walk, limit: i64) -> Result<Vec<ResourceKey>> {
        let rows = self.walk_all(walk, include_str!("../sql/permit/resources_ahead.sql"), limit).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Resources of which a permit ends later than it possibly can, in the next pages of a walk over `permits`; at most `limit`.
    pub async fn permits_ahead(&self, walk: &mut Walk, limit: i64) -> Result<Vec<ResourceKey>> {
        let rows = self.walk_all(walk, include_str!("../sql/permit/permits_ahead.sql"), limit).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    async fn resource_keys(&self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<ResourceKey>> {
        let rows = self.background(sql, params).await?;
        Ok(rows.iter().map(resource_key).collect())
    }

    /// Returns the ids of those of some permits that are held. Each comes with one of its resources.
    pub async fn granted_permits(&self, permits: &[(ResourceKey, Uuid)]) -> Result<Vec<Uuid>> {
        let namespaces: Vec<i32> = permits.iter().map(|(key, _)| key.namespace.0).collect();
        let uids: Vec<Uuid> = permits.iter().map(|(key, _)| key.uid).collect();
        let ids: Vec<Uuid> = permits.iter().map(|(_, id)| *id).collect();
        let rows =
            self.background(include_str!("../sql/permit/granted_permits.sql"), &[&namespaces, &uids, &ids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn resource_key(row: &Row) -> ResourceKey {
    ResourceKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) }
}

/// The first text behind all texts that begin with a prefix. None: there is no such text.
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
