//! Reads of timelines: pages of a session, searches, and all segments of a session in steps.

pub(super) mod conditions;
pub(super) mod query;
mod rows;
pub(super) mod search;
pub(super) mod stemmed_query;

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::session::segment::{Segment, SegmentKey};
use crate::error::Result;
use crate::store::pg::connection::unavailable;
use crate::store::{Store, load};

pub use query::TimelinePage;
pub use rows::{ReadSegment, SegmentSteps};
pub use search::{FoundSegment, SearchPage};

impl Store {
    /// Segments by key, deleted ones too. Those that never were are absent.
    pub async fn segments(&self, keys: &[SegmentKey]) -> Result<HashMap<SegmentKey, Arc<Segment>>> {
        let client = self.reads.get().await?;
        load::segments(&client, keys).await.map_err(|error| unavailable(&error))
    }
}
