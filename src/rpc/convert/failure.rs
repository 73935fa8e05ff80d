//! Failures: reports of workers, and recorded failures as messages.

use std::time::Duration;

use super::path::Path;
use super::time::{self, RETRY_AFTER};
use super::{document, text};
use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::Name;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};
use crate::proto;
use crate::rpc::limits;

/// The report of a worker; what only the server says is ignored.
pub fn report(given: &proto::Failure, path: &Path) -> std::result::Result<FailureReport, Refusal> {
    let details = document::optional(given.details.as_ref(), limits::DETAILS_BYTES, &path.field("details"))?;
    let code_path = path.field("code");
    text::line::<Name>(&given.code, limits::FAILURE_CODE_BYTES, &code_path)?;
    Ok(FailureReport {
        class: class(given.failure_class, &path.field("failure_class"))?,
        code: given.code.clone(),
        message: text::prose(&given.message, limits::FAILURE_MESSAGE_BYTES, &path.field("message"))?,
        retry_after: retry_after(given, path)?,
        details: details.map(|details| details.as_str().to_owned()),
    })
}

fn retry_after(given: &proto::Failure, path: &Path) -> std::result::Result<Option<Duration>, Refusal> {
    time::parse_optional_duration(given.retry_after.as_ref(), RETRY_AFTER, &path.field("retry_after"))
}

/// The class that a caller names; SERVER_ERROR where it names none.
pub fn class(number: i32, path: &Path) -> std::result::Result<FailureClass, Refusal> {
    if number == 0 {
        return Ok(FailureClass::ServerError);
    }
    match FailureClass::from_number(number) {
        Some(FailureClass::LeaseExpired) => {
            Err(path.refuse("must not be FAILURE_CLASS_LEASE_EXPIRED, which the server alone sets"))
        }
        Some(class) => Ok(class),
        None => Err(path.unknown(number)),
    }
}

/// A recorded failure for the wire.
pub fn failure(failure: &Failure) -> Result<proto::Failure> {
    let report = &failure.report;
    let budget = failure.budget;
    let details = report.details.as_deref().map(document::parse).transpose();
    Ok(proto::Failure {
        failure_class: report.class as i32,
        code: report.code.clone(),
        message: report.message.clone(),
        retry_after: report.retry_after.map(time::duration),
        details: details.map_err(|error| Error::bug(format_args!("the details of a failure: {error}")))?,
        attempt: count(failure.attempt),
        // A failure that is older than budgets has the maximum of its class.
        max_attempts: count(failure.max_attempts.max(failure.attempt)),
        retry_wait: failure.retry_wait.map(time::duration),
        failure_time: Some(time::timestamp(failure.failure_time)),
        stage_name: failure.stage_name.clone(),
        budget_class: budget.and_then(|budget| budget.class).map_or(0, |class| class as i32),
        budget_used: count(budget.map_or(0, |budget| budget.used)),
        budget_max: count(budget.map_or(0, |budget| budget.max)),
    })
}

/// As [`failure`], where there may be none.
pub fn optional(given: Option<&Failure>) -> Result<Option<proto::Failure>> {
    given.map(failure).transpose()
}

/// A count for the wire; counts here are of attempts and stages, thousands at most.
pub(super) fn count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::retry::RetryBudget;
    use crate::domain::time::Timestamp;

    fn refused(given: &proto::Failure) -> String {
        let root = Path::Root;
        match report(given, &root.field("failure")) {
            Err(Refusal::InvalidField { path, .. }) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_silent_report_is_a_server_error() {
        let report = report(&proto::Failure::default(), &Path::Root).expect("valid");
        assert_eq!(report.class, FailureClass::ServerError);
        assert_eq!((report.details, report.retry_after), (None, None));
    }

    #[test]
    fn what_only_the_server_says_is_refused_and_limits_hold() {
        let base = proto::Failure::default;
        assert_eq!(refused(&proto::Failure { failure_class: 8, ..base() }), "failure.failure_class");
        assert_eq!(refused(&proto::Failure { failure_class: 99, ..base() }), "failure.failure_class");
        assert_eq!(refused(&proto::Failure { code: "x".repeat(129), ..base() }), "failure.code");
        assert_eq!(refused(&proto::Failure { code: "a\nb".into(), ..base() }), "failure.code");
        assert_eq!(refused(&proto::Failure { message: "x".repeat(4_097), ..base() }), "failure.message");
        assert_eq!(refused(&proto::Failure { message: "\0".into(), ..base() }), "failure.message");
        let day = Some(prost_types::Duration { seconds: 86_401, nanos: 0 });
        assert_eq!(refused(&proto::Failure { retry_after: day, ..base() }), "failure.retry_after");
    }

    #[test]
    fn a_recorded_failure_is_converted_in_full() {
        let report = FailureReport {
            class: FailureClass::RateLimited,
            code: "429".to_owned(),
            message: "slow down".to_owned(),
            retry_after: Some(Duration::from_secs(7)),
            details: Some("{\"quota\":1}".to_owned()),
        };
        let recorded = Failure {
            report,
            stage_name: "tts".to_owned(),
            attempt: 2,
            max_attempts: 3,
            budget: Some(RetryBudget { class: Some(FailureClass::RateLimited), used: 1, max: 50 }),
            retry_wait: Some(Duration::from_millis(7_250)),
            failure_time: Timestamp(1_000_000),
        };
        let message = failure(&recorded).expect("valid");
        assert_eq!(message.failure_class, proto::FailureClass::RateLimited as i32);
        assert_eq!((message.attempt, message.max_attempts, &*message.stage_name), (2, 3, "tts"));
        let budget = (message.budget_class(), message.budget_used, message.budget_max);
        assert_eq!(budget, (proto::FailureClass::RateLimited, 1, 50));
        assert_eq!(message.retry_wait, Some(prost_types::Duration { seconds: 7, nanos: 250_000_000 }));
        assert!(message.details.is_some_and(|details| details.fields.contains_key("quota")));
    }

    #[test]
    fn a_failure_from_before_budgets_is_no_attempt_beyond_the_last() {
        let stored =
            "{\"class\":\"SERVER_ERROR\",\"stage_name\":\"tts\",\"attempt\":5,\"max_attempts\":3,\"failure_time\":1}";
        let message = failure(&serde_json::from_str(stored).expect("as it was stored")).expect("valid");
        assert_eq!((message.attempt, message.max_attempts, message.budget_max), (5, 5, 0));
    }
}
