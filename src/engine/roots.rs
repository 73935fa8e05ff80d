//! The rows whose locks the contended lane takes before it looks at them, in the one order in which everybody takes them: the key
//! ring before resources before jobs before records, each by key.

use crate::domain::id::JobKey;
use crate::domain::permit::ResourceKey;
use crate::domain::record::RecordKey;
use crate::operation::overlay::Key;
use crate::store::connection::{DbResult, Run};
use crate::store::credentials::lock_key_ring;
use crate::store::load::{lock_jobs, lock_records, lock_resources};

/// Rows to be locked.
pub struct Roots {
    resources: Vec<ResourceKey>,
    jobs: Vec<JobKey>,
    records: Vec<RecordKey>,
    key_ring: bool,
}

impl Roots {
    /// Those among some keys.
    pub fn of<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut this = Self { resources: Vec::new(), jobs: Vec::new(), records: Vec::new(), key_ring: false };
        for key in keys {
            match key {
                Key::Resource(key) => this.resources.push(*key),
                Key::Job(key) => this.jobs.push(*key),
                Key::Record(key) => this.records.push(key.clone()),
                Key::KeyRing => this.key_ring = true,
                Key::Lease(_) | Key::Request(_) | Key::Namespace(_) | Key::NamespaceName(_) | Key::AuditLog => {}
            }
        }
        this.resources.sort_unstable();
        this.jobs.sort_unstable();
        this.records.sort_unstable();
        this
    }

    /// Takes the locks; waits for them, or fails where somebody has one.
    pub async fn lock(&self, client: &impl Run, wait: bool) -> DbResult<()> {
        if self.key_ring {
            lock_key_ring(client, wait).await?;
        }
        if !self.resources.is_empty() {
            lock_resources(client, &self.resources, wait).await?;
        }
        if !self.jobs.is_empty() {
            lock_jobs(client, &self.jobs, wait).await?;
        }
        if !self.records.is_empty() {
            lock_records(client, &self.records, wait).await?;
        }
        Ok(())
    }
}
