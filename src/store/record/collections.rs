//! ListCollections: collections by name, each with a bounded count of its records.

use tokio_postgres::Row;

use crate::domain::id::{Name, NamespaceId};
use crate::error::Result;
use crate::store::Store;
use crate::store::bounded::{BoundedCount, NameCursor};
use crate::store::pg::connection::{Run, unavailable};

/// A collection that has records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionState {
    /// The name.
    pub name: Name,
    /// Its records.
    pub records: BoundedCount,
}

/// A page of collections in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionPage {
    /// The collections.
    pub collections: Vec<CollectionState>,
    /// Where the next page begins. None: there is no next page.
    pub next: Option<NameCursor>,
}

/// What one page may read.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct CollectionBounds {
    /// Records that are counted in one collection.
    pub(in crate::store) of_collection: i64,
    /// Records after which no further collection is counted.
    pub(in crate::store) of_page: i64,
}

/// The bounds that the comments of ListCollections name.
const BOUNDS: CollectionBounds = CollectionBounds { of_collection: 10_000, of_page: 50_000 };

impl Store {
    /// Collections of a namespace behind a name, at most `limit`.
    pub async fn list_collections(&self, namespace: NamespaceId, after: &str, limit: u32) -> Result<CollectionPage> {
        self.collections_within(BOUNDS, namespace, after, limit).await
    }

    pub(in crate::store) async fn collections_within(
        &self,
        bounds: CollectionBounds,
        namespace: NamespaceId,
        after: &str,
        limit: u32,
    ) -> Result<CollectionPage> {
        let client = self.reads.get().await?;
        let CollectionBounds { of_collection, of_page } = bounds;
        let sql = include_str!("../sql/record/list_collections.sql");
        let rows = client.rows(sql, &[&namespace.0, &after, &(i64::from(limit) + 1), &of_collection, &of_page]).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let counted: i64 = rows.iter().map(|row| row.get::<_, i64>(1)).sum();
        let collection = |row: &Row| CollectionState {
            name: row.get::<_, &str>(0).into(),
            records: BoundedCount::of(row.get(1), of_collection),
        };
        let collections: Vec<CollectionState> = rows.iter().take(limit as usize).map(collection).collect();
        let is_cut = rows.len() > collections.len() || counted >= of_page;
        let next = collections.last().filter(|_| is_cut).map(|last| NameCursor::after(&*last.name));
        Ok(CollectionPage { collections, next })
    }
}
