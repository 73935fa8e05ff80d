//! The committed state between groups, in memory.

use std::sync::Arc;

use foldhash::HashMap;

use super::build::{key, leases};
use crate::domain::credential::KeyRing;
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::Job;
use crate::domain::namespace::Namespace;
use crate::domain::permit::ResourceKey;
use crate::domain::permit::resource::Resource;
use crate::domain::request::{RequestKey, RequestRecord};
use crate::domain::time::Timestamp;
use crate::operation::overlay::{AggregateTables, ClusterView, Loaded, Overlay};

/// Committed state.
#[derive(Clone, Default)]
pub struct Committed {
    pub jobs: HashMap<JobKey, Option<Arc<Job>>>,
    pub resources: HashMap<ResourceKey, Option<Arc<Resource>>>,
    pub key_ring: Option<Arc<KeyRing>>,
    pub requests: HashMap<RequestKey, Option<Arc<RequestRecord>>>,
    pub namespaces: HashMap<NamespaceId, Option<Arc<Namespace>>>,
}

impl Committed {
    /// What a group begins with.
    pub fn overlay(&self, now: Timestamp) -> Overlay {
        let mut tables = AggregateTables::default();
        tables.jobs.load(key(), None);
        self.jobs.iter().for_each(|(key, job)| tables.jobs.load(*key, job.clone()));
        self.resources.iter().for_each(|(key, resource)| tables.resources.load(*key, resource.clone()));
        if let Some(ring) = &self.key_ring {
            tables.key_ring.load((), Some(ring.clone()));
        }
        let loaded = Loaded {
            leases: self.jobs.values().flatten().flat_map(|job| leases(job)).collect(),
            requests: self.requests.clone(),
            namespaces: self.namespaces.clone(),
            ..Loaded::default()
        };
        Overlay::new(tables, loaded, now, ClusterView::default())
    }
}
