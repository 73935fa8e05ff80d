//! One that follows a job, and its reads: they are shared with all that need the same at the same time.

use std::sync::Arc;

use tokio::sync::watch;

use super::reads::{HistoryPage, JobSnapshot};
use super::topic::Topic;
use crate::domain::id::JobKey;
use crate::error::Result;
use crate::feed::hub::Hub;
use crate::store::Store;

/// Follows one job until it is dropped.
pub struct TopicFollower {
    hub: Arc<Hub>,
    /// The topic of the job.
    pub(in crate::feed) topic: Arc<Topic>,
    announced: watch::Receiver<()>,
}

impl TopicFollower {
    /// Begins to follow a job.
    pub fn begin(hub: &Arc<Hub>, key: JobKey) -> Self {
        let topic = hub.topics.enter(key);
        let announced = topic.subscribe();
        Self { hub: hub.clone(), topic, announced }
    }

    /// Whether the job has ended or was deleted, as far as is known.
    pub fn has_ended(&self) -> bool {
        self.topic.has_ended()
    }

    /// Waits until the topic may have changed.
    pub async fn changed(&mut self) {
        // It does not fail: the follower holds the topic, which holds the sender.
        let _open = self.announced.changed().await;
    }

    /// Reads the job as it is, together with other jobs that are read at the same time. None: there is no such job.
    pub(super) async fn snapshot(&self, store: &Store) -> Result<Option<Arc<JobSnapshot>>> {
        let (hub, store) = (self.hub.clone(), store.clone());
        let read = move |keys: Vec<JobKey>| {
            let (hub, store) = (hub.clone(), store.clone());
            async move {
                hub.figures.snapshots_read.inc();
                let found = store.jobs_with_documents(&keys).await?.into_iter();
                Ok(found.map(|(key, (job, documents))| (key, Arc::new(JobSnapshot::new(job, documents)))).collect())
            }
        };
        let snapshot = self.hub.snapshots.ask(self.topic.key, read).await?;
        if let Some(snapshot) = &snapshot {
            self.topic.observe(&snapshot.job);
        }
        Ok(snapshot)
    }

    /// Reads what happened after a revision. None: there is no such job.
    pub(in crate::feed) async fn page(&self, store: &Store, revision: i64) -> Result<Option<Arc<HistoryPage>>> {
        let (topic, hub, store) = (self.topic.clone(), self.hub.clone(), store.clone());
        topic.request_after(revision);
        let read = move || {
            let (topic, hub, store) = (topic.clone(), hub.clone(), store.clone());
            async move {
                hub.figures.histories_read.inc();
                // The page serves all requests so far, so it begins with the earliest revision.
                HistoryPage::read(&store, topic.key, topic.take_requested_after().min(revision)).await
            }
        };
        let usable = |page: &Option<Arc<HistoryPage>>| page.as_ref().is_none_or(|page| page.serves(revision));
        let page = self.topic.pages.read(usable, read).await?;
        if let Some(page) = &page {
            self.topic.observe(&page.job);
        }
        Ok(page)
    }
}

impl Drop for TopicFollower {
    fn drop(&mut self) {
        self.hub.topics.leave(&self.topic);
    }
}
