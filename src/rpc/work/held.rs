//! Which leases the worker of a stream holds.

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

/// The leases that were sent on a stream and have no outcome yet. Those that the worker has not confirmed are released when this is dropped.
pub struct Held {
    engine: Engine,
    namespace: NamespaceId,
    inbox: Arc<HolderInbox>,
    leases: HashMap<LeaseToken, OneLease>,
    /// Those that are not confirmed, by their number on the stream.
    unconfirmed: BTreeMap<i64, LeaseToken>,
    /// Leases that were sent on the stream.
    sent: i64,
    /// How many of those held were leased alone.
    alone: usize,
}

struct OneLease {
    number: i64,
    /// Released unless the worker confirms it. None: it has.
    undelivered: Option<Leased>,
    directive: LeaseDirective,
    is_alone: bool,
}

impl Held {
    /// None yet.
    pub fn new(engine: Engine, namespace: NamespaceId) -> Self {
        let (leases, unconfirmed) = (HashMap::default(), BTreeMap::new());
        Self { engine, namespace, inbox: Arc::default(), leases, unconfirmed, sent: 0, alone: 0 }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether one is held that was leased alone.
    pub fn is_alone(&self) -> bool {
        self.alone > 0
    }

    /// Hears of the jobs of the leases.
    pub fn inbox(&self) -> &Arc<HolderInbox> {
        &self.inbox
    }

    /// Leases that were sent on the stream.
    pub fn sent(&self) -> i64 {
        self.sent
    }

    /// A lease is sent. Whether its job has changed since it was granted, so that it is to be looked at.
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
        // What was committed before this is heard of is not told.
        let job = self.engine.shared().cache.get::<Job>(&Key::Job(key));
        job.is_some_and(|job| std::mem::discriminant(&job.state) != state)
    }

    /// The worker has received so many leases.
    pub fn confirm_first(&mut self, received: i64) {
        let rest = self.unconfirmed.split_off(&(received + 1));
        for token in std::mem::replace(&mut self.unconfirmed, rest).into_values() {
            if let Some(one) = self.leases.get_mut(&token) {
                one.undelivered = None;
            }
        }
    }

    /// The worker has received this lease.
    pub fn confirm(&mut self, token: &LeaseToken) {
        if let Some(one) = self.leases.get_mut(token)
            && one.undelivered.take().is_some()
        {
            self.unconfirmed.remove(&one.number);
        }
    }

    /// The lease has ended.
    pub fn end(&mut self, token: &LeaseToken) {
        self.confirm(token);
        if let Some(one) = self.leases.remove(token) {
            self.alone -= usize::from(one.is_alone);
            self.engine.shared().hub.holders.remove(self.key(token), &self.inbox);
        }
    }

    /// Notes what the worker is told to do about a lease. Whether that is another directive than before.
    pub fn note(&mut self, token: &LeaseToken, directive: LeaseDirective) -> bool {
        let Some(one) = self.leases.get_mut(token) else { return false };
        let is_new = std::mem::replace(&mut one.directive, directive) != directive;
        if directive == LeaseDirective::Lost {
            self.end(token);
        }
        is_new
    }

    /// The leases of some jobs.
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
