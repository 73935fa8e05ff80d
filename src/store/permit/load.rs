//! Loads of resources with their permits and waiters.

use std::sync::{Arc, LazyLock};

use foldhash::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::id::NamespaceId;
use crate::domain::permit::resource::Resource;
use crate::domain::permit::wait_queue::Waiter;
use crate::domain::permit::{Permit, ResourceKey};
use crate::domain::time::Timestamp;
use crate::store::load::parsed;
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::types::JsonText;
use crate::store::table::RESOURCES;

/// Loads resources with the expiries of their permits. Missing ones are absent.
pub async fn resources(client: &impl Run, keys: &[ResourceKey]) -> DbResult<HashMap<ResourceKey, Arc<Resource>>> {
    let (namespaces, uids) = columns(keys);
    let rows = client.rows(include_str!("../sql/permit/load_resources.sql"), &[&namespaces, &uids]).await?;
    Ok(rows.iter().map(resource).map(|resource| (resource.key, Arc::new(resource))).collect())
}

fn resource(row: &Row) -> Resource {
    let key = ResourceKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) };
    let mut resource = Resource::new(key, row.get::<_, &str>(2).into(), row.get(6), row.get(7));
    resource.version = row.get(3);
    resource.policy = row.get::<_, Option<JsonText>>(4).map(|text| Arc::new(parsed(&text)));
    resource.state = parsed(&row.get(5));
    resource.update_time = row.get(8);
    let permits: Vec<(Uuid, Option<Timestamp>, Permit)> =
        row.get::<_, Option<JsonText>>(9).map(|text| parsed(&text)).unwrap_or_default();
    for (id, expires_at, permit) in permits {
        resource.permits.insert(id, Arc::new(Permit { id, expires_at, ..permit }));
    }
    let line: Vec<(Uuid, Waiter)> = row.get::<_, Option<JsonText>>(10).map(|text| parsed(&text)).unwrap_or_default();
    for (id, waiter) in line {
        let waiter = Waiter { id, ..waiter };
        resource.wait_queue.insert(waiter.position(), Arc::new(waiter));
    }
    resource.derive();
    resource
}

/// The statements that lock resources: the one that fails where a resource is locked, and the one that waits.
static LOCK: LazyLock<[String; 2]> = LazyLock::new(|| [false, true].map(|wait| RESOURCES.lock_statement(wait)));

/// Locks resources in key order. Where another transaction has locked one, it waits or fails.
pub async fn lock_resources(client: &impl Run, keys: &[ResourceKey], wait: bool) -> DbResult<()> {
    let (namespaces, uids) = columns(keys);
    client.rows(&LOCK[usize::from(wait)], &[&namespaces, &uids]).await?;
    Ok(())
}

fn columns(keys: &[ResourceKey]) -> (Vec<i32>, Vec<Uuid>) {
    keys.iter().map(|key| (key.namespace.0, key.uid)).unzip()
}
