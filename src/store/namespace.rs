//! Namespaces: loads for decisions, and reads for the rpcs.

use std::sync::Arc;

use tokio_postgres::Row;

use super::Store;
use super::pg::connection::{DbResult, Run, unavailable};
use crate::domain::access::NamespacePattern;
use crate::domain::id::{Name, NamespaceId};
use crate::domain::namespace::Namespace;
use crate::error::Result;

impl Store {
    /// Namespaces behind a name, in the order of their names; only those that one of the patterns covers. None: all.
    pub async fn namespaces_page(
        &self,
        after: &str,
        covered: Option<&[NamespacePattern]>,
        limit: u32,
    ) -> Result<Vec<Namespace>> {
        let (lows, highs): (Vec<&str>, Vec<String>) = match covered {
            None => (vec![""], vec![AFTER_NAMES.to_owned()]),
            Some(patterns) => patterns.iter().map(range_of_names).unzip(),
        };
        let client = self.reads.get().await?;
        let sql = include_str!("sql/namespace/list_namespaces.sql");
        let rows = client.rows(sql, &[&after, &i64::from(limit), &lows, &highs]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.iter().map(namespace).collect())
    }

    /// The namespace of a name.
    pub async fn namespace(&self, name: &str) -> Result<Option<Namespace>> {
        let client = self.reads.get().await?;
        let none: [i32; 0] = [];
        let rows = client.rows(include_str!("sql/namespace/find_namespaces.sql"), &[&&none[..], &&[name][..]]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.first().map(namespace))
    }
}

/// Namespaces by number or name; missing ones are absent. `holds_anything` is read if any is asked for by name, and true otherwise.
pub async fn namespaces(client: &impl Run, ids: &[NamespaceId], names: &[Name]) -> DbResult<Vec<Arc<Namespace>>> {
    let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let sql = match &*names {
        [] => include_str!("sql/namespace/find_namespaces.sql"),
        _ => include_str!("sql/namespace/load_namespaces.sql"),
    };
    let rows = client.rows(sql, &[&ids, &names]).await?;
    Ok(rows.iter().map(|row| Arc::new(namespace(row))).collect())
}

fn namespace(row: &Row) -> Namespace {
    Namespace {
        id: NamespaceId(row.get(0)),
        name: row.get::<_, &str>(1).into(),
        version: row.get(2),
        fencing_floor: row.get(3),
        create_time: row.get(4),
        holds_anything: row.get(5),
    }
}

/// A character behind every one that the name of a namespace can have.
const AFTER_NAMES: &str = "~";

/// The first and the last name that a pattern covers.
fn range_of_names(pattern: &NamespacePattern) -> (&str, String) {
    match pattern {
        NamespacePattern::Exact(name) => (name, name.to_string()),
        NamespacePattern::Prefix(prefix) => (prefix, format!("{prefix}{AFTER_NAMES}")),
    }
}
