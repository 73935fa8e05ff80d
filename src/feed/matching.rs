//! The jobs that match a filter, listed once for all dashboards that ask for them at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use foldhash::HashMap;
use parking_lot::Mutex;

use super::board_watcher::MAX_JOBS;
use super::coalesce::Coalesce;
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::Job;
use crate::domain::query::{JobFilter, JobOrder, JobQuery, OrderField};
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::store::Store;

/// Jobs that are asked for at once.
const PAGE: u32 = 1_000;

/// Jobs without their stages, shared by all who asked.
pub type Jobs = Arc<BTreeMap<JobKey, Arc<Job>>>;

/// One list while somebody waits for it.
type List = Weak<Coalesce<Jobs>>;

/// Lists under way, by what they are of.
#[derive(Default)]
pub struct Matching {
    lists: Mutex<HashMap<(NamespaceId, JobFilter), List>>,
}

impl Matching {
    /// The jobs that match now, without their stages.
    ///
    /// # Errors
    /// If more than [`MAX_JOBS`] match, or the database is away.
    pub async fn jobs(&self, store: &Store, namespace: NamespaceId, filter: &JobFilter) -> Result<Jobs> {
        let list = self.list(namespace, filter);
        let (store, filter) = (store.clone(), filter.clone());
        let read = move || {
            let (store, filter) = (store.clone(), filter.clone());
            async move { read(&store, namespace, filter).await.map(Arc::new) }
        };
        list.read(|_| true, read).await
    }

    fn list(&self, namespace: NamespaceId, filter: &JobFilter) -> Arc<Coalesce<Jobs>> {
        let mut lists = self.lists.lock();
        lists.retain(|_, list| list.strong_count() > 0);
        if let Some(list) = lists.get(&(namespace, filter.clone())).and_then(Weak::upgrade) {
            return list;
        }
        let list = Arc::default();
        lists.insert((namespace, filter.clone()), Arc::downgrade(&list));
        list
    }
}

async fn read(store: &Store, namespace: NamespaceId, filter: JobFilter) -> Result<BTreeMap<JobKey, Arc<Job>>> {
    let order = JobOrder { field: OrderField::CreateTime, descending: false };
    let mut query = JobQuery { filter, order, after: None, limit: PAGE };
    let mut matching = BTreeMap::new();
    loop {
        let page = store.list_jobs(namespace, &query).await?;
        matching.extend(page.jobs.into_iter().map(|job| (job.key, job)));
        if matching.len() > MAX_JOBS {
            return Err(Refusal::TooManyWatched { limit: MAX_JOBS }.into());
        }
        if page.next.is_none() {
            return Ok(matching);
        }
        query.after = page.next;
    }
}
