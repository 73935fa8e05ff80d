//! What other servers do: hints are told and heard, and whoever is followed here is looked up when one came, and now and then.

use foldhash::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Hub;
use super::hint::{Incoming, News, hello};
use super::step::Span;
use crate::domain::id::JobKey;
use crate::domain::job::Job;
use crate::error::Result;
use crate::store::Store;
use crate::store::listen::Listener;

/// Hints are told at most this often.
const TELL_EVERY: Duration = Duration::from_millis(10);
/// How often a server says that it is there.
const HELLO_EVERY: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(500);
/// Jobs that are looked up at once.
const AT_ONCE: usize = 500;
/// Revisions that are asked for at once.
const REVISIONS: usize = 1_000;
/// Events that a look reads; who is further behind reads history by himself.
const EVENTS: u32 = 5_000;
/// Jobs that one look at what was written finds.
const WRITTEN: u32 = 20_000;
/// Without hints, jobs that are followed are looked at this often.
pub const POLL_EVERY: Duration = Duration::from_millis(200);
/// With hints, it is only for those that were lost.
pub const SAFETY_EVERY: Duration = Duration::from_secs(1);

/// The other servers, as seen from this one.
pub struct Remote {
    hub: Arc<Hub>,
    store: Store,
    server: Uuid,
    incoming: Incoming,
}

impl Remote {
    /// Knows of nobody yet.
    pub fn new(hub: Arc<Hub>, store: Store) -> Self {
        Self { hub, store, server: Uuid::new_v4(), incoming: Incoming::default() }
    }

    /// Tells and hears hints until the end.
    pub async fn talk(&self, end: CancellationToken) {
        while !end.is_cancelled() {
            if let Ok(listener) = Listener::open(&self.store.target).await {
                // What was told while nobody listened is lost.
                self.incoming.note_loss();
                tokio::select! {
                    () = end.cancelled() => return,
                    () = self.talk_over(listener) => {}
                }
            }
            tokio::select! {
                () = end.cancelled() => return,
                () = sleep(RECONNECT) => {}
            }
        }
    }

    /// Tells and hears over one connection until it is lost.
    async fn talk_over(&self, mut listener: Listener) {
        let mut told = Instant::now();
        let mut presence = tokio::time::interval(HELLO_EVERY);
        presence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = presence.tick() => {
                    self.hub.outgoing.listen(self.incoming.has_others());
                    if self.tell(&listener, &[hello(self.server)]).await.is_err() {
                        return;
                    }
                }
                heard = listener.hear() => match heard {
                    Some(payload) => {
                        self.hub.figures.hints_received.inc();
                        if self.incoming.note(self.server, &payload) {
                            // So that it hears of us at once too.
                            presence.reset_immediately();
                        }
                    }
                    None => return,
                },
                news = self.to_tell(told) => {
                    told = Instant::now();
                    if self.tell(&listener, &news.payloads(self.server)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn tell(&self, listener: &Listener, payloads: &[String]) -> Result<()> {
        self.hub.figures.hints_sent.inc_by(payloads.len() as u64);
        listener.tell(payloads).await.inspect_err(|error| tracing::debug!(%error, "hints were not told"))
    }

    async fn to_tell(&self, told: Instant) -> News {
        tokio::time::sleep_until(told + TELL_EVERY).await;
        self.hub.outgoing.take().await
    }

    /// Looks up what hints say, and now and then all that is followed, until the end.
    pub async fn look(&self, end: CancellationToken) {
        let every = if self.hub.settings.listen { SAFETY_EVERY } else { POLL_EVERY };
        let mut poll = tokio::time::interval(every);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut horizon = None;
        loop {
            let looked = tokio::select! {
                () = end.cancelled() => return,
                news = self.incoming.take() => self.look_at(news).await,
                _ = poll.tick() => self.look_at_all(&mut horizon).await,
            };
            if let Err(error) = looked {
                // The next look finds it all the same.
                tracing::debug!(%error, "what other servers did was not read");
            }
        }
    }

    async fn look_at(&self, news: News) -> Result<()> {
        self.hub.publish_ready(news.queues.into_iter().collect());
        if news.has_grants {
            self.hub.note_grants();
        }
        if news.overflowed {
            return self.look_at_followed().await;
        }
        news.jobs.iter().for_each(|(key, _)| self.hub.holders.note_written(*key));
        let is_news = |(key, revision): &(JobKey, i64)| match self.hub.topic(key) {
            Some(topic) => topic.head() < *revision,
            None => self.hub.boards.has(key.namespace),
        };
        let keys: Vec<JobKey> = news.jobs.into_iter().filter(is_news).map(|(key, _)| key).collect();
        self.refresh(&keys).await
    }

    /// Finds what no hint told of.
    async fn look_at_all(&self, horizon: &mut Option<i64>) -> Result<()> {
        self.look_at_followed().await?;
        // Without boards only the place is kept from which to go on when there is one.
        let known = horizon.filter(|_| !self.hub.boards.is_empty());
        let written = self.store.jobs_since(known.unwrap_or_default(), known.map_or(0, |_| WRITTEN)).await?;
        if known.is_none() || written.is_cut {
            // Whoever looks at all jobs may have looked before what is skipped.
            self.hub.let_boards_look();
        } else {
            let is_news = |(key, revision, is_new): &(JobKey, i64, bool)| {
                self.hub.boards.has(key.namespace) && (*is_new || self.hub.boards.seen(key) < *revision)
            };
            let news: Vec<JobKey> = written.jobs.into_iter().filter(is_news).map(|(key, ..)| key).collect();
            self.refresh(&news).await?;
        }
        // Not before, so that what could not be read is found again.
        *horizon = Some(written.next);
        Ok(())
    }

    /// Asks for the revisions of all jobs that somebody follows, many at once.
    async fn look_at_followed(&self) -> Result<()> {
        for topics in self.hub.followed().chunks(REVISIONS) {
            let keys: Vec<JobKey> = topics.iter().map(|topic| topic.key).collect();
            // Before the query, so that what is told meanwhile is not taken for a step back.
            let known: Vec<_> = topics.iter().map(|topic| topic.newest()).collect();
            let revisions = self.store.revisions(&keys).await?;
            let mut newer = Vec::new();
            for (topic, known) in topics.iter().zip(known) {
                let Some((revision, made)) = revisions.get(&topic.key) else {
                    self.hub.publish_absence_of(topic);
                    continue;
                };
                let is_other = known.as_ref().is_some_and(|known| known.meta.create_time != *made);
                if is_other || known.is_none_or(|known| known.revision < *revision) {
                    newer.push(topic.key);
                }
            }
            self.refresh(&newer).await?;
        }
        Ok(())
    }

    /// Reads jobs and tells of what became of them.
    async fn refresh(&self, keys: &[JobKey]) -> Result<()> {
        for keys in keys.chunks(AT_ONCE) {
            let newest = |key: &JobKey| Some((*key, self.hub.topic(key)?.newest()?));
            let known: HashMap<JobKey, Arc<Job>> = keys.iter().filter_map(newest).collect();
            let mut found = self.store.changes_since(keys, &known, EVENTS).await?;
            self.hub.figures.refreshed.inc_by(keys.len() as u64);
            for key in keys {
                let Some(changes) = found.jobs.remove(key) else {
                    self.hub.publish_absence(*key);
                    continue;
                };
                let (job, now) = (changes.job, found.now);
                if known.get(key).is_some_and(|known| known.meta.create_time < job.meta.create_time) {
                    // Made anew under the id of one that was deleted.
                    self.hub.publish_absence(*key);
                }
                let span = match known.get(key) {
                    Some(known) if !changes.has_more && is_same(known, &job) => {
                        Span::read(known.revision, job, changes.events)
                    }
                    Some(_) | None => Span::unknown(job),
                };
                self.hub.publish_remote(span, now);
            }
        }
        Ok(())
    }
}

/// Whether it is the same job, and not one made again under its id.
fn is_same(known: &Job, job: &Job) -> bool {
    known.meta.create_time == job.meta.create_time && known.revision <= job.revision
}
