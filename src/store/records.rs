//! Reads of records for the edge.

use std::collections::HashMap;
use std::sync::Arc;

use super::connection::unavailable;
use super::{Store, load};
use crate::domain::record::{Record, RecordKey};
use crate::error::Result;

impl Store {
    /// Records as they are now; missing ones are absent.
    pub async fn records(&self, keys: &[RecordKey]) -> Result<HashMap<RecordKey, Arc<Record>>> {
        let client = self.reads.get().await?;
        load::records(&client, keys, &HashMap::new()).await.map_err(|error| unavailable(&error))
    }
}
