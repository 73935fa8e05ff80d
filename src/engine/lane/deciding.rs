//! The two ways to decide a group. Both decide alike; they differ in where the state comes from.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::Instrument;
use uuid::Uuid;

use super::Lane;
use crate::engine::loading::Wanted;
use crate::engine::loading::{begin, load};
use crate::engine::outcome::CommitOutcome;
use crate::engine::roots::Roots;
use crate::engine::round::{COMMIT_TIMEOUT, Round};
use crate::engine::traced::GroupSpan;
use crate::engine::work::{Retry, Work};
use crate::error::Error;
use crate::failpoint;
use crate::store::commit::lane::OpenLane;
use crate::store::commit::{CommitError, CommitMode, Committed};
use crate::store::connection::is_lock_timeout;

/// Time that loading the state of a group may take, the wait for locks included.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

impl Lane {
    /// Decides a group on cached state where there is some. The commit proves it, in one statement.
    pub(super) async fn decide_optimistically(
        &mut self,
        mut work: Work,
        group_id: Uuid,
    ) -> Result<(Round, CommitOutcome), Retry> {
        let open = match self.connection.open().await {
            Ok(open) => open,
            Err(error) => return Err(Retry::unavailable(work.group, &error)),
        };
        let span = GroupSpan::begin(&mut work.group, "optimistic", group_id);
        let wanted = Wanted::by(&work.group);
        let load = load(&self.shared, &open.client, &wanted, &work.stale, true).instrument(span.load());
        let basis = match timeout(LOAD_TIMEOUT, load).await {
            Ok(Ok(basis)) => basis,
            Ok(Err(error)) => return Err(Retry::on_load_error(work, &error)),
            Err(_) => return Err(Retry::unavailable(work.group, &Error::StoreUnavailable)),
        };
        let round = Round::decide(work.group, basis, self.shared.contention.commit_mode(), span);
        self.shared.store.look_words_up();
        if round.is_settled() {
            return Ok((round, settled()));
        }
        let began = Instant::now();
        let outcome = round.commit(&open.client, &mut open.prepared, group_id).await;
        self.figures.commits.took(began.elapsed());
        Ok((round, outcome))
    }

    /// Locks the roots of a group, loads and decides it, and commits, in one transaction. `waits`: for locks, up to the lane's lock timeout.
    pub(super) async fn decide_locked(
        &mut self,
        mut work: Work,
        waits: bool,
        group_id: Uuid,
    ) -> Result<(Round, CommitOutcome), Retry> {
        let span = GroupSpan::begin(&mut work.group, "locking", group_id);
        let wanted = Wanted::by(&work.group);
        let roots = Roots::of(wanted.keys.iter().copied());
        let OpenLane { client, prepared } = match self.connection.open().await {
            Ok(open) => open,
            Err(error) => return Err(Retry::unavailable(work.group, &error)),
        };
        let begin = begin(&self.shared, client, &roots, waits, &wanted).instrument(span.load());
        let (transaction, basis) = match timeout(LOAD_TIMEOUT, begin).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) if is_lock_timeout(&error) => return Err(Retry::blocked(work)),
            Ok(Err(error)) => return Err(Retry::on_load_error(work, &error)),
            Err(_) => return Err(Retry::unavailable(work.group, &Error::StoreUnavailable)),
        };
        self.shared.contention.unblock(wanted.keys.iter().copied());
        // Most rows are locked already: all or nothing would save little.
        let round = Round::decide(work.group, basis, CommitMode::PerComponent, span);
        self.shared.store.look_words_up();
        if round.is_settled() {
            return Ok((round, settled()));
        }
        let began = Instant::now();
        let outcome = match round.commit(&transaction, prepared, group_id).await {
            CommitOutcome::Applied(committed) => match timeout(COMMIT_TIMEOUT, transaction.commit()).await {
                Ok(Ok(())) if failpoint::hit("after_locked_commit") => CommitOutcome::Indeterminate,
                Ok(Ok(())) => CommitOutcome::Applied(committed),
                Ok(Err(error)) => CommitError::of(error).into(),
                Err(_) => CommitOutcome::Indeterminate,
            },
            // Without its COMMIT nothing of it can have been written.
            CommitOutcome::Indeterminate => CommitOutcome::Failed(Error::StoreUnavailable),
            outcome => outcome,
        };
        self.figures.commits.took(began.elapsed());
        Ok((round, outcome))
    }
}

/// The outcome of a group that has nothing to write or to prove.
fn settled() -> CommitOutcome {
    CommitOutcome::Applied(Committed { components: Vec::new(), clock: None })
}
