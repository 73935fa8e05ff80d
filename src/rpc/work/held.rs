//! The leases that the worker of a stream holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use crate::domain::id::{JobKey, LeaseToken, NamespaceId};
use crate::domain::job::Job;
use crate::engine::Engine;
use crate::engine::dispatcher::{Leased, Leases};
use crate::feed::job::holders::HolderInbox;
use crate::operation::overlay::Key;
use crate::proto::LeaseDirective;

/// Leases that were sent on a stream and have not ended. Those that the worker has not confirmed are released when this is dropped.
pub struct Held {
    engine: Engine,
    namespace: NamespaceId,
    inbox: Arc<HolderInbox>,
    leases: HashMap<LeaseToken, OneLease>,
    /// Tokens of the unconfirmed leases, by number of the lease on the stream, from 1.
    unconfirmed: BTreeMap<i64, LeaseToken>,
    /// Leases sent on the stream so far.
    sent: i64,
    /// Number of held leases that were leased alone.
    alone: usize,
}

struct OneLease {
    number: i64,
    /// Lease to release when the stream ends. None: the worker has confirmed it.
    undelivered: Option<Leased>,
    directive: LeaseDirective,
    is_alone: bool,
}

impl Held {
    pub fn new(engine: Engine, namespace: NamespaceId) -> Self {
        let (leases, unconfirmed) = (HashMap::default(), BTreeMap::new());
        Self { engine, namespace, inbox: Arc::default(), leases, unconfirmed, sent: 0, alone: 0 }
    }

    /// Number of held leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether a held lease was leased alone. No more leases are polled for then.
    pub fn is_alone(&self) -> bool {
        self.alone > 0
    }

    /// Inbox for changes of the jobs of held leases.
    pub fn inbox(&self) -> &Arc<HolderInbox> {
        &self.inbox
    }

    /// Leases sent on the stream so far.
    pub fn sent(&self) -> i64 {
        self.sent
    }

    /// Adds a lease that is about to be sent. Returns whether the state of its job has changed since the grant, so that the job has to be read.
    pub fn send(&mut self, leased: Leased, is_alone: bool) -> bool {
        let stage = &leased.job.stages[leased.stage_no];
        let Some(token) = stage.token(leased.job.key.uid) else { return false };
        let (key, state) = (leased.job.key, std::mem::discriminant(&leased.job.state));
        self.sent += 1;
        self.alone += usize::from(is_alone);
        let one =
            OneLease { number: self.sent, undelivered: Some(leased), directive: LeaseDirective::Continue, is_alone };
        self.unconfirmed.insert(self.sent, token);
        self.leases.insert(token, one);
        self.engine.shared().hub.holders.add(key, &self.inbox);
        // The inbox gets no notice of commits before it was added.
        let job = self.engine.shared().cache.get::<Job>(&Key::Job(key));
        job.is_some_and(|job| std::mem::discriminant(&job.state) != state)
    }

    /// Confirms the first `received` leases of the stream.
    pub fn confirm_first(&mut self, received: i64) {
        let rest = self.unconfirmed.split_off(&(received + 1));
        for token in std::mem::replace(&mut self.unconfirmed, rest).into_values() {
            if let Some(one) = self.leases.get_mut(&token) {
                one.undelivered = None;
            }
        }
    }

    /// Confirms the receipt of a lease.
    pub fn confirm(&mut self, token: &LeaseToken) {
        if let Some(one) = self.leases.get_mut(token)
            && one.undelivered.take().is_some()
        {
            self.unconfirmed.remove(&one.number);
        }
    }

    /// Removes a lease that has ended.
    pub fn end(&mut self, token: &LeaseToken) {
        self.confirm(token);
        if let Some(one) = self.leases.remove(token) {
            self.alone -= usize::from(one.is_alone);
            self.engine.shared().hub.holders.remove(self.key(token), &self.inbox);
        }
    }

    /// Notes the directive that the worker gets for a lease. Returns whether it differs from the last one.
    pub fn note(&mut self, token: &LeaseToken, directive: LeaseDirective) -> bool {
        let Some(one) = self.leases.get_mut(token) else { return false };
        let is_new = std::mem::replace(&mut one.directive, directive) != directive;
        if directive == LeaseDirective::Lost {
            self.end(token);
        }
        is_new
    }

    /// Tokens of the held leases of these jobs.
    pub fn of_jobs(&self, jobs: &HashSet<JobKey>) -> Vec<LeaseToken> {
        self.leases.keys().filter(|token| jobs.contains(&self.key(token))).copied().collect()
    }

    fn key(&self, token: &LeaseToken) -> JobKey {
        JobKey { namespace: self.namespace, uid: token.job_uid }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut undelivered = Vec::new();
        for (token, one) in self.leases.drain() {
            let key = JobKey { namespace: self.namespace, uid: token.job_uid };
            self.engine.shared().hub.holders.remove(key, &self.inbox);
            undelivered.extend(one.undelivered);
        }
        drop(Leases::on_the_way(&self.engine, undelivered));
    }
}
