//! The topics of the jobs that are followed on this server.

use parking_lot::Mutex;
use std::sync::Arc;

use super::step::RevisionRange;
use super::topic::Topic;
use crate::domain::id::JobKey;
use crate::domain::time::Timestamp;
use foldhash::HashMap;

/// The topics by job.
#[derive(Default)]
pub(in crate::feed) struct Topics {
    by_job: Mutex<HashMap<JobKey, FollowedTopic>>,
    /// Topics whose followers have not been woken since something was published.
    changed: Mutex<Vec<Arc<Topic>>>,
}

struct FollowedTopic {
    topic: Arc<Topic>,
    /// Number of followers. The topic is dropped with the last one.
    followers: usize,
}

impl Topics {
    /// The topic of a job, with one more follower.
    pub fn enter(&self, key: JobKey) -> Arc<Topic> {
        let mut by_job = self.by_job.lock();
        let new = || FollowedTopic { topic: Arc::new(Topic::new(key)), followers: 0 };
        let followed = by_job.entry(key).or_insert_with(new);
        followed.followers += 1;
        followed.topic.clone()
    }

    /// Takes a follower from a topic.
    pub fn leave(&self, topic: &Arc<Topic>) {
        let mut by_job = self.by_job.lock();
        // After a deletion the entry can be of another topic.
        let Some(followed) = by_job.get_mut(&topic.key).filter(|found| Arc::ptr_eq(&found.topic, topic)) else {
            return;
        };
        debug_assert!(followed.followers > 0, "a topic is dropped with its last follower");
        followed.followers -= 1;
        if followed.followers == 0 {
            by_job.remove(&topic.key);
        }
    }

    /// The topics of all followed jobs.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_job.lock().values().map(|followed| followed.topic.clone()).collect()
    }

    /// Number of followed jobs.
    pub fn len(&self) -> usize {
        self.by_job.lock().len()
    }

    /// The topic of a job. None: it is not followed.
    pub fn get(&self, key: &JobKey) -> Option<Arc<Topic>> {
        self.by_job.lock().get(key).map(|followed| followed.topic.clone())
    }

    /// Adds what happened to a job. Returns whether followers have to be woken by [`Self::announce`].
    pub fn publish(&self, topic: Arc<Topic>, range: RevisionRange, now: Timestamp) -> bool {
        if !topic.is_of(&range.job) {
            // Submitted again after a deletion, which may be published later.
            let newest = topic.newest();
            return newest.is_some_and(|newest| newest.meta.create_time < range.job.meta.create_time)
                && self.end(topic.key);
        }
        topic.add(range, now) && self.note_changed(topic)
    }

    /// Ends the topic of a job that was deleted. Returns whether followers have to be woken by [`Self::announce`].
    pub fn end(&self, key: JobKey) -> bool {
        let followed = self.by_job.lock().remove(&key);
        followed.is_some_and(|followed| followed.topic.end() && self.note_changed(followed.topic))
    }

    fn note_changed(&self, topic: Arc<Topic>) -> bool {
        self.changed.lock().push(topic);
        true
    }

    /// Wakes the followers of what was published since the last call. Returns how many were woken.
    pub fn announce(&self) -> usize {
        let changed = std::mem::take(&mut *self.changed.lock());
        changed.iter().map(|topic| topic.announce()).sum()
    }
}
