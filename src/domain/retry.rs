//! Retries: whether and when a failed stage is attempted again.
//!
//! Each failed attempt counts against one budget: that of its class, where a rule gives the class a `max_attempts` of its own, else that of
//! the policy, which all other classes share. The nth failure of a budget is followed by a wait of `initial_backoff · multiplier^(n − 1)`,
//! at most `max_backoff`, plus a uniform jitter (exponential backoff with an added random part; compare "Exponential Backoff And Jitter",
//! AWS Architecture Blog, 2015, where full jitter draws the whole wait). A rate limit starts at twice the initial wait. `retry_after` of
//! the called service replaces the base. Client errors and cancellations are not retried unless a rule says so. The first expired lease of
//! a run is retried at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::{FailureClass, FailureReport};

/// Longest `retry_after` that is honoured; a longer one is cut to it.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Rule of a policy for one class of failures. `None`: the policy's own value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryRule {
    /// Class that the rule is for.
    pub class: FailureClass,
    /// Whether failures of the class are retried.
    pub retryable: Option<bool>,
    /// Attempts that may fail with this class, counted separately from all others.
    pub max_attempts: Option<u32>,
    /// Wait after the first failure.
    pub initial_backoff: Option<Duration>,
    /// Factor by which the wait grows with each failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    /// Longest wait, without jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<Duration>,
    /// Upper bound of the uniform random time that is added to each wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
}

/// Policy of retries. Defaults: 3 attempts, 1 s, doubling, at most 5 minutes, up to 1 s of jitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts that may fail with classes that have no `max_attempts` of their own: 1 to 100.
    pub max_attempts: u32,
    /// Wait after the first failure.
    pub initial_backoff: Duration,
    /// Factor by which the wait grows with each failure: 1 to 10.
    pub multiplier: f64,
    /// Longest wait, without jitter.
    pub max_backoff: Duration,
    /// Upper bound of the uniform random time that is added to each wait.
    pub jitter: Duration,
    /// Rules that override the policy for a class.
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

/// Failed attempts of one run of a stage, by class. Failures recorded by servers that did not count classes yet are in no class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureCounts(BTreeMap<FailureClass, u32>);

impl FailureCounts {
    /// Whether no failure is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of failures of a class.
    pub fn of(&self, class: FailureClass) -> u32 {
        self.0.get(&class).copied().unwrap_or(0)
    }

    /// Counts one more failure of a class.
    pub fn add(&mut self, class: FailureClass) {
        *self.0.entry(class).or_default() += 1;
    }
}

/// Budget of attempts that a failure counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Class that the budget is for. `None`: it is the policy's, which the other classes share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// Failed attempts of the run that count against the budget, this one included.
    pub used: u32,
    /// Number of failed attempts after which there is no further attempt.
    pub max: u32,
}

/// Decision on a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryDecision {
    /// Attempt the stage again after this wait; zero: at once.
    Retry(Duration),
    /// Make no further attempt.
    GiveUp,
}

impl RetryPolicy {
    /// Computes the budget that a failure of a class counts against. It is the last of `attempts` failed attempts, which `failures` counts.
    pub fn budget(&self, class: FailureClass, attempts: u32, failures: &FailureCounts) -> RetryBudget {
        match self.rule(class).and_then(|rule| rule.max_attempts) {
            Some(max) => RetryBudget { class: Some(class), used: failures.of(class), max },
            None => {
                let used = attempts.saturating_sub(self.counted_apart(failures));
                RetryBudget { class: None, used, max: self.max_attempts }
            }
        }
    }

    /// Attempts in total, if all that follow fail with classes that share the policy's budget.
    pub fn max_attempts(&self, failures: &FailureCounts) -> u32 {
        self.max_attempts + self.counted_apart(failures)
    }

    fn counted_apart(&self, failures: &FailureCounts) -> u32 {
        let apart = self.rules.iter().filter(|rule| rule.max_attempts.is_some());
        apart.map(|rule| failures.of(rule.class)).sum()
    }

    /// Decides on a failure that counts against a budget and is one of `failures`. `jitter` is a random number in `[0, 1)`.
    pub fn verdict(
        &self,
        budget: &RetryBudget,
        failures: &FailureCounts,
        failure: &FailureReport,
        jitter: f64,
    ) -> RetryDecision {
        let rule = self.rule(failure.class);
        let retryable = rule
            .and_then(|rule| rule.retryable)
            .unwrap_or(!matches!(failure.class, FailureClass::ClientError | FailureClass::Cancelled));
        if !retryable || budget.used >= budget.max {
            return RetryDecision::GiveUp;
        }
        if failure.class == FailureClass::LeaseExpired && failures.of(failure.class) <= 1 {
            return RetryDecision::Retry(Duration::ZERO);
        }
        let base = match failure.retry_after {
            Some(asked) => asked.min(MAX_RETRY_AFTER),
            None => self.backoff(budget.used, failure.class, rule),
        };
        let most = rule.and_then(|rule| rule.jitter).unwrap_or(self.jitter);
        RetryDecision::Retry(base + most.mul_f64(jitter.clamp(0.0, 1.0)))
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
        // A product that a Duration cannot hold is longer than the longest wait too.
        Duration::try_from_secs_f64(seconds).map_or(longest, |wait| wait.min(longest))
    }

    fn rule(&self, class: FailureClass) -> Option<&RetryRule> {
        self.rules.iter().find(|rule| rule.class == class)
    }
}
