//! The server decides whether and when a failed stage is tried again.
//!
//! The table, for attempts counted from 1 to `max_attempts`: a wait of `initial_backoff · multiplier^(attempt − 1)`, at
//! most `max_backoff`, plus a uniform jitter; a rate limit starts at twice the initial wait; the vendor's own
//! `retry_after` replaces the base; a client error and a cancellation are never tried again; an expired lease is tried at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::{FailureClass, FailureReport};

/// The longest `retry_after` that is honoured.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a policy says about one class of failures; what is `None` is as in the policy itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryRule {
    /// For which failures.
    pub class: FailureClass,
    /// Whether they are tried again at all.
    pub retryable: Option<bool>,
    /// Attempts in all, the first included.
    pub max_attempts: Option<u32>,
    /// The wait after the first attempt.
    pub initial_backoff: Option<Duration>,
    /// By what the wait grows with each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    /// The longest wait before jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<Duration>,
    /// A uniformly random part of this is added to each wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
}

/// When a failed stage is tried again. Defaults: 3 attempts, 1 s, doubling, at most 5 minutes, up to 1 s of jitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included: 1 to 100.
    pub max_attempts: u32,
    /// The wait after the first attempt.
    pub initial_backoff: Duration,
    /// By what the wait grows with each attempt: 1 to 10.
    pub multiplier: f64,
    /// The longest wait before jitter.
    pub max_backoff: Duration,
    /// A uniformly random part of this is added to each wait.
    pub jitter: Duration,
    /// Exceptions by class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RetryRule>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_backoff: Duration::from_secs(1),
            multiplier: 2.0,
            max_backoff: Duration::from_secs(300),
            jitter: Duration::from_secs(1),
            rules: Vec::new(),
        }
    }
}

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Try again after the wait; zero means at once.
    Retry(Duration),
    /// No further attempt.
    GiveUp,
}

impl RetryPolicy {
    /// The attempts that failures of a class may use up.
    pub fn max_attempts(&self, class: FailureClass) -> u32 {
        self.rule(class).and_then(|rule| rule.max_attempts).unwrap_or(self.max_attempts)
    }

    /// What follows when attempt number `attempt` (from 1) failed. `jitter` is a random number in `[0, 1)`.
    pub fn verdict(&self, attempt: u32, failure: &FailureReport, jitter: f64) -> Verdict {
        let rule = self.rule(failure.class);
        let retryable = rule
            .and_then(|rule| rule.retryable)
            .unwrap_or(!matches!(failure.class, FailureClass::ClientError | FailureClass::Cancelled));
        if !retryable || attempt >= self.max_attempts(failure.class) {
            return Verdict::GiveUp;
        }
        if failure.class == FailureClass::LeaseExpired {
            return Verdict::Retry(Duration::ZERO);
        }
        let base = match failure.retry_after {
            Some(asked) => asked.min(MAX_RETRY_AFTER),
            None => self.backoff(attempt, failure.class, rule),
        };
        let most = rule.and_then(|rule| rule.jitter).unwrap_or(self.jitter);
        Verdict::Retry(base + most.mul_f64(jitter.clamp(0.0, 1.0)))
    }

    fn backoff(&self, attempt: u32, class: FailureClass, rule: Option<&RetryRule>) -> Duration {
        let usual = match class {
            FailureClass::RateLimited => self.initial_backoff.saturating_mul(2),
            FailureClass::ServerError
            | FailureClass::Network
            | FailureClass::ClientError
            | FailureClass::Timeout
            | FailureClass::Cancelled
            | FailureClass::Internal
            | FailureClass::LeaseExpired => self.initial_backoff,
        };
        let initial = rule.and_then(|rule| rule.initial_backoff).unwrap_or(usual);
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let multiplier = rule.and_then(|rule| rule.multiplier).unwrap_or(self.multiplier);
        let longest = rule.and_then(|rule| rule.max_backoff).unwrap_or(self.max_backoff);
        let seconds = initial.as_secs_f64() * multiplier.powi(exponent);
        // A product beyond what a Duration holds is beyond the longest wait too.
        Duration::try_from_secs_f64(seconds).map_or(longest, |wait| wait.min(longest))
    }

    fn rule(&self, class: FailureClass) -> Option<&RetryRule> {
        self.rules.iter().find(|rule| rule.class == class)
    }
}
