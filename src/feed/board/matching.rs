//! Lists the jobs that match a filter, once for all watches with that filter which need the list at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::Job;
use crate::domain::query::{JobFilter, JobOrder, JobQuery, OrderField};
use crate::domain::refusal::Refusal;
use crate::error::Result;
use crate::feed::shared_read::SharedRead;
use crate::store::Store;

/// Maximum number of jobs in one watch.
pub const MAX_JOBS: usize = 10_000;
/// Number of jobs in one page of the list.
const JOBS_PER_PAGE: u32 = 1_000;

/// Jobs without their stages, shared by the watches that needed them.
pub type ListedJobs = Arc<BTreeMap<JobKey, Arc<Job>>>;

/// A list while a watch waits for it.
type PendingList = Weak<SharedRead<ListedJobs>>;

/// Lists under way, by namespace and filter.
#[derive(Default)]
pub struct MatchingJobs {
    lists: Mutex<HashMap<(NamespaceId, JobFilter), PendingList>>,
}

impl MatchingJobs {
    /// The jobs that match now, without their stages.
    ///
    /// # Errors
    /// If more than [`MAX_JOBS`] match, or the database does not answer.
    pub async fn jobs(&self, store: &Store, namespace: NamespaceId, filter: &JobFilter) -> Result<ListedJobs> {
        let list = self.list(namespace, filter);
        let (store, filter) = (store.clone(), filter.clone());
        let read = move || {
            let (store, filter) = (store.clone(), filter.clone());
            async move { read(&store, namespace, filter).await.map(Arc::new) }
        };
        list.read(|_| true, read).await
    }

    fn list(&self, namespace: NamespaceId, filter: &JobFilter) -> Arc<SharedRead<ListedJobs>> {
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
    let mut query = JobQuery { filter, order, after: None, limit: JOBS_PER_PAGE };
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
