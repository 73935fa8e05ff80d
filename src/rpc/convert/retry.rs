//! Retry policies of requests.

use std::time::Duration;

use super::path::Path;
use super::time::{self, BACKOFF, JITTER};
use crate::domain::failure::FailureClass;
use crate::domain::refusal::Refusal;
use crate::domain::retry::{RetryPolicy, RetryRule};
use crate::proto;
use crate::rpc::limits::ATTEMPTS;

/// The policy of a request; what is unset is the default.
pub fn policy(given: &proto::RetryPolicy, path: &Path) -> Result<RetryPolicy, Refusal> {
    let default = RetryPolicy::default();
    let initial_backoff = backoff(given.initial_backoff.as_ref(), "initial_backoff", path)?;
    let max_attempts = Some(given.max_attempts).filter(|attempts| *attempts != 0);
    let mut policy = RetryPolicy {
        max_attempts: attempts(max_attempts, path)?.unwrap_or(default.max_attempts),
        initial_backoff: initial_backoff.unwrap_or(default.initial_backoff),
        multiplier: multiplier(given.multiplier, path)?.unwrap_or(default.multiplier),
        max_backoff: backoff(given.max_backoff.as_ref(), "max_backoff", path)?.unwrap_or(default.max_backoff),
        jitter: jitter(given.jitter.as_ref(), path)?.unwrap_or(default.jitter),
        rules: rules(&given.rules, path)?,
    };
    if let Some(initial_backoff) = initial_backoff {
        spare_rate_limits(&mut policy, initial_backoff);
    }
    Ok(policy)
}

/// The domain doubles the first wait after a rate limit. That is a default, and a policy that names its wait means it.
fn spare_rate_limits(policy: &mut RetryPolicy, initial_backoff: Duration) {
    let class = FailureClass::RateLimited;
    match policy.rules.iter_mut().find(|rule| rule.class == class) {
        Some(rule) => rule.initial_backoff = rule.initial_backoff.or(Some(initial_backoff)),
        None => policy.rules.push(RetryRule { initial_backoff: Some(initial_backoff), ..empty_rule(class) }),
    }
}

fn empty_rule(class: FailureClass) -> RetryRule {
    RetryRule {
        class,
        retryable: None,
        max_attempts: None,
        initial_backoff: None,
        multiplier: None,
        max_backoff: None,
        jitter: None,
    }
}

fn rules(given: &[proto::RetryRule], path: &Path) -> Result<Vec<RetryRule>, Refusal> {
    let path = path.field("rules");
    // Each class at most once, so this bounds the work before anything else is looked at.
    if given.len() > FailureClass::ALL.len() {
        return Err(path.refuse("has more rules than there are classes"));
    }
    let mut rules: Vec<RetryRule> = Vec::with_capacity(given.len());
    for (i, rule) in given.iter().enumerate() {
        let path = path.index(i);
        let rule = self::rule(rule, &path)?;
        if rules.iter().any(|other| other.class == rule.class) {
            return Err(path.field("failure_class").refuse("has a rule already"));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn rule(given: &proto::RetryRule, path: &Path) -> Result<RetryRule, Refusal> {
    let class_path = path.field("failure_class");
    if given.failure_class == 0 {
        return Err(class_path.missing());
    }
    let class =
        FailureClass::from_number(given.failure_class).ok_or_else(|| class_path.unknown(given.failure_class))?;
    Ok(RetryRule {
        class,
        retryable: given.retryable,
        max_attempts: attempts(given.max_attempts, path)?,
        initial_backoff: backoff(given.initial_backoff.as_ref(), "initial_backoff", path)?,
        multiplier: multiplier(given.multiplier, path)?,
        max_backoff: backoff(given.max_backoff.as_ref(), "max_backoff", path)?,
        jitter: jitter(given.jitter.as_ref(), path)?,
    })
}

fn attempts(given: Option<i32>, path: &Path) -> Result<Option<u32>, Refusal> {
    let Some(given) = given else { return Ok(None) };
    let attempts = u32::try_from(given).ok().filter(|attempts| (1..=ATTEMPTS).contains(attempts));
    match attempts {
        Some(attempts) => Ok(Some(attempts)),
        None => Err(path.field("max_attempts").outside(format_args!("1 to {ATTEMPTS}"), given)),
    }
}

fn multiplier(given: Option<f64>, path: &Path) -> Result<Option<f64>, Refusal> {
    match given {
        // NaN is in no range.
        Some(given) if !(1.0..=10.0).contains(&given) => Err(path.field("multiplier").outside("1 to 10", given)),
        given => Ok(given),
    }
}

fn backoff(
    given: Option<&prost_types::Duration>,
    field: &'static str,
    path: &Path,
) -> Result<Option<Duration>, Refusal> {
    time::parse_optional_duration(given, BACKOFF, &path.field(field))
}

fn jitter(given: Option<&prost_types::Duration>, path: &Path) -> Result<Option<Duration>, Refusal> {
    time::parse_optional_duration(given, JITTER, &path.field("jitter"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::FailureReport;
    use crate::domain::retry::{FailureCounts, RetryDecision};

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn refused(given: &proto::RetryPolicy) -> String {
        let root = Path::Root;
        match policy(given, &root.field("retry_policy")) {
            Err(Refusal::InvalidField { path, .. }) => path,
            other => panic!("{other:?}"),
        }
    }

    fn wait(policy: &RetryPolicy, class: FailureClass) -> RetryDecision {
        let report =
            FailureReport { class, code: String::new(), message: String::new(), retry_after: None, details: None };
        let mut failures = FailureCounts::default();
        failures.add(class);
        policy.verdict(&policy.budget(class, 1, &failures), &failures, &report, 0.0)
    }

    #[test]
    fn an_empty_policy_is_the_default() {
        let empty = policy(&proto::RetryPolicy::default(), &Path::Root).expect("valid");
        assert_eq!(empty, RetryPolicy::default());
        assert_eq!(wait(&empty, FailureClass::RateLimited), RetryDecision::Retry(Duration::from_secs(2)));
    }

    #[test]
    fn a_named_wait_counts_for_rate_limits_too_unless_their_rule_says_otherwise() {
        let mut given = proto::RetryPolicy { initial_backoff: seconds(5), ..Default::default() };
        let five = policy(&given, &Path::Root).expect("valid");
        assert_eq!(wait(&five, FailureClass::RateLimited), RetryDecision::Retry(Duration::from_secs(5)));
        assert_eq!(wait(&five, FailureClass::Network), RetryDecision::Retry(Duration::from_secs(5)));
        given.rules.push(proto::RetryRule { failure_class: 2, initial_backoff: seconds(9), ..Default::default() });
        let nine = policy(&given, &Path::Root).expect("valid");
        assert_eq!(wait(&nine, FailureClass::RateLimited), RetryDecision::Retry(Duration::from_secs(9)));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let base = proto::RetryPolicy::default;
        let rule = |rule| proto::RetryPolicy { rules: vec![rule], ..base() };
        assert_eq!(refused(&proto::RetryPolicy { max_attempts: -1, ..base() }), "retry_policy.max_attempts");
        assert_eq!(refused(&proto::RetryPolicy { max_attempts: 101, ..base() }), "retry_policy.max_attempts");
        for bad in [f64::NAN, f64::INFINITY, 0.5, 10.1] {
            assert_eq!(refused(&proto::RetryPolicy { multiplier: Some(bad), ..base() }), "retry_policy.multiplier");
        }
        assert_eq!(refused(&proto::RetryPolicy { jitter: seconds(3_601), ..base() }), "retry_policy.jitter");
        assert_eq!(refused(&proto::RetryPolicy { max_backoff: seconds(-1), ..base() }), "retry_policy.max_backoff");
        assert_eq!(refused(&rule(proto::RetryRule::default())), "retry_policy.rules[0].failure_class");
        let zero = proto::RetryRule { failure_class: 1, max_attempts: Some(0), ..Default::default() };
        assert_eq!(refused(&rule(zero)), "retry_policy.rules[0].max_attempts");
        let twice = vec![proto::RetryRule { failure_class: 1, ..Default::default() }; 2];
        assert_eq!(refused(&proto::RetryPolicy { rules: twice, ..base() }), "retry_policy.rules[1].failure_class");
        let many = vec![proto::RetryRule::default(); 100_000];
        assert_eq!(refused(&proto::RetryPolicy { rules: many, ..base() }), "retry_policy.rules");
    }
}
