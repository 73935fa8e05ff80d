//! Reads of records for the rpcs.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::record::{Record, RecordKey};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::load::StateRead;
use crate::store::pg::connection::unavailable;
use crate::store::{Store, load};

impl Store {
    /// Records with all their fields; missing ones are absent.
    pub async fn records(&self, keys: &[RecordKey]) -> Result<HashMap<RecordKey, Arc<Record>>> {
        let client = self.reads.get().await?;
        load::records(&client, keys, &HashMap::default()).await.map_err(|error| unavailable(&error))
    }

    /// Compares records with known versions and creation times, in the order of the keys.
    pub async fn look_at_records(&self, keys: &[RecordKey], at: &[(i64, Timestamp)]) -> Result<Vec<StateRead<Record>>> {
        let client = self.reads.get().await?;
        load::look_at_records(&client, keys, at).await.map_err(|error| unavailable(&error))
    }
}
