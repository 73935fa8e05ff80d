//! A stored lease, which a heartbeat reads instead of the whole job.

use std::time::Duration;

use uuid::Uuid;

use super::id::{JobKey, LeaseToken, NamespaceId, StageNo};
use super::job::JobState;
use super::stage::ends_too_far_ahead;
use super::time::Timestamp;

/// Key of a lease: a stage has at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    /// Key of the job.
    pub job: JobKey,
    /// Number of the stage in the job.
    pub stage_no: StageNo,
}

impl LeaseKey {
    /// Key of the lease that a token was granted for.
    pub fn of(namespace: NamespaceId, token: &LeaseToken) -> Self {
        Self { job: JobKey { namespace, uid: token.job_uid }, stage_no: token.stage_no }
    }
}

/// A lease, with the state of its job that heartbeat responses contain.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredLease {
    /// Secret of the lease token.
    pub secret: Uuid,
    /// Fencing token. `None`: a server of an earlier version granted the lease.
    pub fencing_token: Option<i64>,
    /// Duration from a heartbeat to the expiry.
    pub duration: Duration,
    /// Expiry, unless the lease is renewed or the job's grace period ends earlier.
    pub expires_at: Timestamp,
    /// State of the job.
    pub job_state: JobState,
    /// Revision of the job.
    pub job_revision: i64,
}

impl StoredLease {
    /// Whether the lease was granted with this token.
    pub fn is_of(&self, token: &LeaseToken) -> bool {
        self.secret == token.secret
            && self.fencing_token.is_none_or(|fencing_token| fencing_token == token.fencing_token)
    }

    /// Effective expiry: the end of the job's grace period, if the job was cancelled or has failed and that is earlier.
    pub fn end(&self) -> Timestamp {
        self.job_state.lease_end(self.expires_at)
    }

    /// Whether the lease has not expired at `now`.
    pub fn lasts(&self, now: Timestamp) -> bool {
        self.expires_at > now
    }

    /// New `expires_at` of a heartbeat at `now`. `None`: the lease is not written, because more than two thirds of its duration remain, or
    /// because the grace period has to end. So a lease is written at most three times per duration.
    pub fn renewal(&self, now: Timestamp) -> Option<Timestamp> {
        let renewed = self.job_state.lease_end(now.after(self.duration));
        let is_due = now.until(self.expires_at) < self.duration * 2 / 3;
        (is_due && renewed > self.expires_at).then_some(renewed)
    }

    /// Lowers an expiry that lies further ahead than the duration allows, because the clock stepped back. The stored row
    /// follows later, see `task/step_back.rs`.
    pub fn step_back(&mut self, now: Timestamp) {
        if ends_too_far_ahead(self.expires_at, self.duration, now) {
            self.expires_at = now.after(self.duration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn lease(seconds_left: u64, job_state: JobState) -> StoredLease {
        StoredLease {
            secret: Uuid::nil(),
            fencing_token: Some(2),
            duration: Duration::from_secs(90),
            expires_at: NOW.after(Duration::from_secs(seconds_left)),
            job_state,
            job_revision: 1,
        }
    }

    #[test]
    fn a_lease_is_renewed_when_less_than_two_thirds_of_it_remain() {
        let renewal = |left| lease(left, JobState::Running).renewal(NOW);
        assert_eq!((renewal(90), renewal(60)), (None, None));
        assert_eq!(
            (renewal(59), renewal(0)),
            (Some(NOW.after(Duration::from_secs(90))), Some(NOW.after(Duration::from_secs(90))))
        );
    }

    #[test]
    fn a_lease_is_renewed_at_most_to_the_end_of_the_grace() {
        let deadline = NOW.after(Duration::from_secs(20));
        let renewal = |left| lease(left, JobState::Cancelling { deadline }).renewal(NOW);
        assert_eq!((renewal(10), renewal(20), renewal(30)), (Some(deadline), None, None));
        assert_eq!(lease(50, JobState::Failing { deadline }).end(), deadline);
    }

    #[test]
    fn a_lease_that_expires_too_far_ahead_is_lowered_and_not_renewed() {
        let mut ahead = lease(3_600, JobState::Running);
        assert_eq!(ahead.renewal(NOW), None);
        ahead.step_back(NOW);
        assert_eq!(ahead.expires_at, NOW.after(Duration::from_secs(90)));
        let mut usual = lease(94, JobState::Running);
        usual.step_back(NOW);
        assert_eq!(usual, lease(94, JobState::Running));
    }

    #[test]
    fn a_lease_compares_fencing_token_and_secret() {
        let token = |fencing_token, secret| LeaseToken { job_uid: Uuid::nil(), stage_no: 0, fencing_token, secret };
        let lease = lease(1, JobState::Running);
        assert!(lease.is_of(&token(2, Uuid::nil())));
        assert!(!lease.is_of(&token(3, Uuid::nil())) && !lease.is_of(&token(2, Uuid::max())));
        let earlier = StoredLease { fencing_token: None, ..lease };
        assert!(earlier.is_of(&token(3, Uuid::nil())) && !earlier.is_of(&token(3, Uuid::max())));
    }
}
