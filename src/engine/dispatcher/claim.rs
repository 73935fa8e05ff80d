//! The claimer: a loop that assigns ready stages to waiting polls. Each look covers the queues that changed and reads from the database what
//! their heads in memory lack.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::heads::HeadTable;
use super::leasing::InHand;
use super::share::Share;
use super::waiting::{Line, Served, WaitingPoll};
use super::window::MAX_ROWS;
use super::{Dispatcher, Leased, Leases, PollEnd};
use crate::domain::ready::{QueueKey, ReadyPosition};
use crate::error::{Error, Result};
use crate::store::ready::HeadRange;

/// Interval of the regular looks, which find stages that other servers made ready without a hint.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Interval of the reads from the front of a queue while this server is alone: no other server was known in that time, so commits of this server
/// alone made stages ready, and the heads have them.
const FRONT_EVERY_ALONE: Duration = Duration::from_secs(5);
/// Stages read per window, at most, in each round of one look. The first round is small when it looks at many queues, because usually few of them
/// hold the next stages.
const ROUNDS: [usize; 4] = [8, 64, 512, MAX_ROWS];
/// Queues up to which the first round has no limit of its own.
const FEW_QUEUES: usize = 4;
/// Ranges read by one statement, at most.
const MAX_RANGES: usize = 2_000;
/// Age at which the head of a queue is read again while servers share its stages.
const FRESH_FOR: Duration = Duration::from_millis(20);
/// Time before the last picked stage from which a queue is read for stages that other servers made ready, when a read from its front costs too
/// much. Server clocks, and the order in which commits become visible, differ by less.
const SLACK: Duration = Duration::from_secs(1);

impl Dispatcher {
    /// Serves waiting polls until `shutdown`, then answers the remaining ones without leases.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let hub = self.engine.shared().hub.clone();
        let heads = &self.engine.shared().heads;
        let mut regular_look = Instant::now();
        loop {
            let next_look = heads.lock().next_look().map_or(regular_look, |next| next.min(regular_look));
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.arrived.notified() => {}
                () = heads.stirred() => {}
                queues = hub.ready() => heads.hint(queues),
                () = tokio::time::sleep_until(next_look) => {}
            }
            let is_regular = regular_look <= Instant::now();
            if is_regular {
                regular_look = Instant::now() + LOOK_EVERY;
            }
            while self.look(is_regular).await {}
        }
        let remaining = {
            let mut waiting = self.waiting.lock();
            self.is_closed.store(true, Ordering::Release);
            waiting.take_all()
        };
        for waiter in remaining {
            self.answer(waiter, Ok(Vec::new()));
        }
    }

    /// Looks once. Returns whether to look again immediately: polls were served, and others wait in queues whose next stages are not known.
    async fn look(self: &Arc<Self>, is_regular: bool) -> bool {
        let (mut queues, last) = self.queues_to_look_at(is_regular);
        if queues.is_empty() {
            return false;
        }
        let share = self.share();
        let (mut any, mut later) = (false, Vec::new());
        for (round, most) in ROUNDS.into_iter().enumerate() {
            match self.read(&queues, (round, most), is_regular, share.as_ref()).await {
                // Further rounds look at some of the queues again.
                Ok(ranges) if round == 0 => later = ranges,
                Ok(_) => {}
                Err(error) => {
                    self.answer_impatient(last, &Err(error));
                    return false;
                }
            }
            let (served, unknown) = {
                let mut waiting = self.waiting.lock();
                let heads = &mut self.engine.shared().heads.lock();
                waiting.assign(heads, &queues, share.as_ref(), round + 1 == ROUNDS.len())
            };
            any |= !served.is_empty();
            self.serve_all(served).await;
            queues = unknown;
            if queues.is_empty() {
                break;
            }
        }
        self.answer_impatient(last, &Ok(Vec::new()));
        if let Err(error) = self.read_ranges(&later).await {
            tracing::debug!(%error, "the fronts of queues were not read");
        }
        self.engine.shared().heads.lock().mark_dirty(queues.iter().cloned());
        any && !queues.is_empty()
    }

    /// Answers the polls that end after one look and that a look up to the entry `last` covered.
    fn answer_impatient(&self, last: u64, answer: &Result<Vec<Leased>>) {
        let impatient = self.waiting.lock().take_impatient(last);
        for waiter in impatient {
            self.answer(waiter, answer.clone());
        }
    }

    /// Changed queues that have waiting polls (on a regular look, all queues that have some), and the number of the newest entry.
    fn queues_to_look_at(&self, is_regular: bool) -> (Vec<QueueKey>, u64) {
        let waiting = self.waiting.lock();
        let mut heads = self.engine.shared().heads.lock();
        // Regular looks come here also without polls, so that no server is missed that was known in between.
        if self.engine.shared().permits.has_others() {
            heads.others.note_known();
        }
        let mut dirty = heads.take_dirty();
        dirty.retain(|queue| waiting.line(queue).is_some());
        if is_regular {
            dirty.extend(waiting.queues().cloned());
        }
        (dirty.into_iter().collect(), waiting.last_entry())
    }

    /// Share of the stages that this server prefers. None: it takes stages in order, because it is the only server or lost no race recently.
    fn share(&self) -> Option<Share> {
        let shared = self.engine.shared();
        let is_contended = shared.heads.lock().others.lost_race_recently();
        is_contended.then(|| Share::of(shared.permits.server, &shared.permits.servers())).flatten()
    }

    /// Reads the parts of `queues` that polls need and the heads lack. Returns the ranges that may be read once the polls are served.
    async fn read(
        &self,
        queues: &[QueueKey],
        (round, most): (usize, usize),
        is_regular: bool,
        share: Option<&Share>,
    ) -> Result<Vec<HeadRange>> {
        let shared = self.engine.shared();
        let has_others = shared.permits.has_others();
        let is_broad = round == 0 && queues.len() > FEW_QUEUES;
        let (mut ranges, mut later) = (Vec::new(), Vec::new());
        {
            let waiting = self.waiting.lock();
            let mut heads = shared.heads.lock();
            let is_alone = !heads.others.known_within(FRONT_EVERY_ALONE);
            let reads = Reads { is_broad, is_regular, has_others, is_alone, share };
            for queue in queues {
                let Some(line) = waiting.line(queue) else { continue };
                ranges.extend(reads.of(queue, &mut heads, line, &mut later));
            }
        }
        if round > 0 || is_broad {
            ranges.iter_mut().chain(&mut later).for_each(|range| range.limit = range.limit.min(most));
        }
        self.read_ranges(&ranges).await?;
        Ok(later)
    }

    /// Reads these ranges into the heads.
    async fn read_ranges(&self, ranges: &[HeadRange]) -> Result<()> {
        let shared = self.engine.shared();
        for ranges in ranges.chunks(MAX_RANGES) {
            shared.heads.lock().begin_read();
            let began = Instant::now();
            let found = shared.store.ready_heads(ranges).await;
            shared.heads.lock().end_read(ranges, found.as_deref().ok(), began);
            let figures = &shared.heads.figures;
            figures.reads.inc();
            figures
                .fronts
                .inc_by(ranges.iter().filter(|range| range.from == ReadyPosition::FRONT && !range.alone).count() as u64);
            figures.stages.inc_by(found?.iter().map(Vec::len).sum::<usize>() as u64);
        }
        Ok(())
    }

    async fn serve_all(self: &Arc<Self>, mut served: Vec<Served>) {
        // Before the next look, which would assign the rest of a group to another worker.
        let groups = served.iter_mut().filter(|(_, waiter, _)| waiter.poll.same_group && !waiter.answer.is_closed());
        join_all(groups.map(|(_, waiter, stages)| self.add_group(waiter, stages))).await;
        for (id, waiter, stages) in served {
            let span = waiter.span.clone().unwrap_or_else(Span::none);
            let stages = InHand::new(self.engine.shared().clone(), stages);
            tokio::spawn(self.clone().serve(id, waiter, stages).instrument(span));
        }
    }

    pub(super) fn answer(&self, waiter: WaitingPoll, leased: Result<Vec<Leased>>) {
        let end = leased.map(|items| PollEnd::Leased(self.leases(&waiter, items)));
        // If the caller has gone, the leases are dropped, which releases them.
        let _gone = waiter.answer.send(end);
    }

    pub(super) fn leases(&self, waiter: &WaitingPoll, items: Vec<Leased>) -> Leases {
        match waiter.poll.request {
            Some(_) => Leases::repeatable(&self.engine, items),
            None => Leases::on_the_way(&self.engine, items),
        }
    }

    pub(super) fn wait_on(&self, id: u64, mut waiter: WaitingPoll) {
        waiter.since = Instant::now();
        let queues = super::queues(&waiter.poll);
        {
            let mut waiting = self.waiting.lock();
            if !self.is_closed.load(Ordering::Acquire) {
                self.engine.shared().heads.lock().mark_dirty(queues);
                let superseded = waiting.put_back(id, waiter);
                drop(waiting);
                if let Some(waiter) = superseded {
                    let _gone = waiter.answer.send(Ok(PollEnd::Superseded));
                }
                self.arrived.notify_one();
                return;
            }
        }
        self.answer(waiter, Err(Error::Draining));
    }
}

/// Conditions of one look that decide which ranges of a queue are read.
struct Reads<'a> {
    /// Whether this is the first round of a look at many queues, which reads of each what its polls are likely to take there. The polls that take
    /// more of a queue are served in the next round, which reads the rest of that queue alone.
    is_broad: bool,
    is_regular: bool,
    has_others: bool,
    /// Whether no other server was known in the last 5 s ([`FRONT_EVERY_ALONE`]).
    is_alone: bool,
    share: Option<&'a Share>,
}

impl Reads<'_> {
    /// Ranges of one queue to read. Empty: the head suffices. Those that may be read once the polls are served are added to `later`.
    fn of(&self, queue: &QueueKey, heads: &mut HeadTable, line: &Line, later: &mut Vec<HeadRange>) -> Vec<HeadRange> {
        let servers = self.share.map_or(1, Share::servers);
        let expected = if self.is_broad { line.likely.min(ROUNDS[0] / 2) } else { line.stages.min(MAX_ROWS / 2) };
        let wanted = (expected * servers).min(MAX_ROWS / 2);
        let polls = line.polls().min(MAX_ROWS / 2);
        let range = |alone: bool, from: ReadyPosition| HeadRange {
            namespace: queue.0,
            queue: queue.1.clone(),
            alone,
            from,
            // Twice the wanted stages, so that the next look need not read, and one more, because a read that continues a window
            // returns its last stage again.
            limit: (2 * if alone { polls } else { wanted } + 1).min(MAX_ROWS),
        };
        let head = heads.head(queue);
        let is_empty = head.plain.first().is_none() && head.alone.first().is_none();
        let since = line.newest.filter(|_| is_empty && (line.once > 0 || self.has_others));
        let fronts = [true, false].map(|alone| range(alone, ReadyPosition::FRONT));
        let every = if self.is_alone { FRONT_EVERY_ALONE } else { LOOK_EVERY };
        let front_due_in = match head.front_due_in(every, since) {
            Some(front_due_in) => front_due_in,
            None if self.is_alone && !is_empty && head.has_all_that_is_known() => {
                later.extend(fronts);
                Duration::ZERO
            }
            None => return fronts.into(),
        };
        let is_stale = head.is_hinted
            || self.share.is_some() && head.is_older_than(FRESH_FOR)
            || self.is_regular && self.has_others;
        let mut ranges = Vec::new();
        for (alone, wanted) in [(true, polls), (false, expected)] {
            let window = head.window(alone);
            if is_stale {
                ranges.push(range(alone, window.cursor(SLACK)));
            }
            // A window with too few stages is also read from its end, because the read above need not extend it.
            if window.available(self.share) < wanted {
                ranges.extend(window.rest().map(|from| range(alone, from)));
            }
        }
        if head.is_hinted {
            heads.look_later(queue.clone(), front_due_in);
        }
        ranges
    }
}
