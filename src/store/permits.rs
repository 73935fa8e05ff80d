//! What is read of resources beside the engine, and how stages that wait for them are woken.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::connection::{Run, unavailable};
use super::load;
use super::walk::Walk;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::{KEPT_FOR, Resource};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Ready stages that were woken: how many of each resource, and in which queues.
#[derive(Debug, Default)]
pub struct Woken {
    /// Of each resource, how many.
    pub by_resource: HashMap<ResourceKey, i64>,
    /// Where they can be picked now.
    pub queues: HashSet<(NamespaceId, Name)>,
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

    /// Lets the first stages that wait for each resource be picked again, so many of each.
    pub async fn wake_stages(&self, wanted: &[(ResourceKey, i64)]) -> Result<Woken> {
        let namespaces: Vec<i32> = wanted.iter().map(|(key, _)| key.namespace.0).collect();
        let uids: Vec<Uuid> = wanted.iter().map(|(key, _)| key.uid).collect();
        let counts: Vec<i64> = wanted.iter().map(|(_, count)| *count).collect();
        let rows = self.background(include_str!("sql/wake_stages.sql"), &[&namespaces, &uids, &counts]).await?;
        let mut woken = Woken::default();
        for row in &rows {
            let namespace = NamespaceId(row.get(0));
            *woken.by_resource.entry(ResourceKey { namespace, uid: row.get(1) }).or_default() += 1;
            woken.queues.insert((namespace, row.get::<_, &str>(2).into()));
        }
        Ok(woken)
    }

    /// Lets stages be picked again that nobody has woken in time. Returns their queues, at most `limit`.
    pub async fn unblock_stages(&self, limit: i64) -> Result<Vec<(NamespaceId, Name)>> {
        let rows = self.background(include_str!("sql/unblock_stages.sql"), &[&limit]).await?;
        Ok(rows.iter().map(|row| (NamespaceId(row.get(0)), row.get::<_, &str>(1).into())).collect())
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

    /// Resources of which something lies further ahead than it can, since the clock stepped back.
    pub async fn resources_ahead(&self, limit: i64) -> Result<Vec<ResourceKey>> {
        self.resource_keys(include_str!("sql/resources_ahead.sql"), &[&limit]).await
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

    /// Says that a server is there for the next seconds, and hears who is, and when the database answered.
    pub async fn greet_servers(&self, server: Uuid) -> Result<(HashSet<Uuid>, Timestamp)> {
        let rows = self.background(include_str!("sql/greet_servers.sql"), &[&server]).await?;
        // There is at least this server.
        let now = rows.first().map_or(Timestamp(0), |row| row.get(1));
        Ok((rows.iter().map(|row| row.get(0)).collect(), now))
    }

    /// Says that a server is no longer there.
    pub async fn leave_servers(&self, server: Uuid) -> Result<()> {
        self.background(include_str!("sql/leave_servers.sql"), &[&server]).await.map(drop)
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
