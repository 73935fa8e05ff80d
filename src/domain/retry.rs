//! The server decides whether and when a failed stage is tried again.
//!
//! Each failed attempt counts against one budget of attempts: that of its class, where a rule gives the class `max_attempts` of its own,
//! else the policy's, which all other classes share. The nth failure of a budget is followed by a wait of
//! `initial_backoff · multiplier^(n − 1)`, at most `max_backoff`, plus a uniform jitter; a rate limit starts at twice the initial wait; the
//! vendor's own `retry_after` replaces the base; a client error and a cancellation are never tried again; the first expired lease of a run is
//! tried again at once.

use std::collections::BTreeMap;
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
    /// Attempts that may fail with this class, counted apart from all others.
    pub max_attempts: Option<u32>,
    /// The wait after the first failure.
    pub initial_backoff: Option<Duration>,
    /// By what the wait grows with each failure.
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
    /// Attempts that may fail with classes without attempts of their own: 1 to 100.
    pub max_attempts: u32,
    /// The wait after the first failure.
    pub initial_backoff: Duration,
    /// By what the wait grows with each failure: 1 to 10.
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

/// Failed attempts of one run of a stage, by class. Those from before they were counted are in no class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureCounts(BTreeMap<FailureClass, u32>);

impl FailureCounts {
    /// Whether none is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Failures of a class.
    pub fn of(&self, class: FailureClass) -> u32 {
        self.0.get(&class).copied().unwrap_or(0)
    }

    /// Counts one more failure of a class.
    pub fn add(&mut self, class: FailureClass) {
        *self.0.entry(class).or_default() += 1;
    }
}

/// The budget of attempts that a failure counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The class that the budget is for; `None`: it is the policy's, which the other classes share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// Failed attempts of the run that count against it, this one included.
    pub used: u32,
    /// Failed attempts at which there is no further one.
    pub max: u32,
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
    /// The budget that a failure of a class counts against, as the last of `attempts` failed attempts, which are counted in `failures`.
    pub fn budget(&self, class: FailureClass, attempts: u32, failures: &FailureCounts) -> Budget {
        match self.rule(class).and_then(|rule| rule.max_attempts) {
            Some(max) => Budget { class: Some(class), used: failures.of(class), max },
            None => {
                let used = attempts.saturating_sub(self.counted_apart(failures));
                Budget { class: None, used, max: self.max_attempts }
            }
        }
    }

    /// How many attempts there are in all, should all that follow fail with classes that share the policy's budget.
    pub fn max_attempts(&self, failures: &FailureCounts) -> u32 {
        self.max_attempts + self.counted_apart(failures)
    }

    fn counted_apart(&self, failures: &FailureCounts) -> u32 {
        let apart = self.rules.iter().filter(|rule| rule.max_attempts.is_some());
        apart.map(|rule| failures.of(rule.class)).sum()
    }

    /// What follows from a failure that counts against a budget and is one of `failures`. `jitter` is a random number in `[0, 1)`.
    pub fn verdict(&self, budget: &Budget, failures: &FailureCounts, failure: &FailureReport, jitter: f64) -> Verdict {
        let rule = self.rule(failure.class);
        let retryable = rule
            .and_then(|rule| rule.retryable)
            .unwrap_or(!matches!(failure.class, FailureClass::ClientError | FailureClass::Cancelled));
        if !retryable || budget.used >= budget.max {
            return Verdict::GiveUp;
        }
        if failure.class == FailureClass::LeaseExpired && failures.of(failure.class) <= 1 {
            return Verdict::Retry(Duration::ZERO);
        }
        let base = match failure.retry_after {
            Some(asked) => asked.min(MAX_RETRY_AFTER),
            None => self.backoff(budget.used, failure.class, rule),
        };
        let most = rule.and_then(|rule| rule.jitter).unwrap_or(self.jitter);
        Verdict::Retry(base + most.mul_f64(jitter.clamp(0.0, 1.0)))
    }

    fn backoff(&self, failures: u32, class: FailureClass, rule: Option<&RetryRule>) -> Duration {
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
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
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
