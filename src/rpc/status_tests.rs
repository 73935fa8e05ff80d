//! Every error with its code, reason, outcome and retry.

use super::*;
use uuid::Uuid;

fn refused(refusal: Refusal) -> Error {
    Error::Refused(refusal)
}

fn name() -> String {
    "n".to_owned()
}

/// The table of the contract: error, code, reason, outcome, pushback in ms.
fn table() -> Vec<(Error, Code, &'static str, &'static str, Option<&'static str>)> {
    use Code::*;
    let (not, unknown) = ("NOT_APPLIED", "UNKNOWN");
    let after = Duration::from_millis(2_500);
    vec![
        (refused(Refusal::field("a", "b")), InvalidArgument, "INVALID_FIELD", not, None),
        (refused(Refusal::RequestIdReused), InvalidArgument, "REQUEST_ID_REUSED", not, None),
        (Error::InvalidCursor { path: "page_token", why: "x" }, InvalidArgument, "INVALID_FIELD", not, None),
        (refused(Refusal::JobNotFound { job_id: name() }), NotFound, "JOB_NOT_FOUND", not, None),
        (
            refused(Refusal::StageNotFound { job_id: name(), stage_name: name() }),
            NotFound,
            "STAGE_NOT_FOUND",
            not,
            None,
        ),
        (refused(Refusal::NamespaceNotFound { name: name() }), NotFound, "NAMESPACE_NOT_FOUND", not, None),
        (refused(Refusal::JobAlreadyExists { job_id: name() }), AlreadyExists, "JOB_ALREADY_EXISTS", not, None),
        (refused(Refusal::StageAlreadyExists { stage_name: name() }), AlreadyExists, "STAGE_ALREADY_EXISTS", not, None),
        (
            refused(Refusal::NamespaceAlreadyExists { name: name() }),
            AlreadyExists,
            "NAMESPACE_ALREADY_EXISTS",
            not,
            None,
        ),
        (
            refused(Refusal::NamespaceInUse { name: name(), why: "it has jobs" }),
            FailedPrecondition,
            "NAMESPACE_NOT_EMPTY",
            not,
            None,
        ),
        (refused(Refusal::KeyNotFound { key_id: name() }), NotFound, "KEY_NOT_FOUND", not, None),
        (refused(Refusal::KeyAlreadyExists { what: name() }), AlreadyExists, "KEY_ALREADY_EXISTS", not, None),
        (refused(Refusal::TooManyKeys { limit: 1 }), FailedPrecondition, "LIMIT_EXCEEDED", not, None),
        (refused(Refusal::VersionMismatch { expected: 3, actual: 4 }), Aborted, "VERSION_MISMATCH", not, None),
        (refused(Refusal::RevisionInFuture { from: 9, actual: 4 }), OutOfRange, "VERSION_IN_FUTURE", not, None),
        (refused(Refusal::TooManyWatched { limit: 1 }), ResourceExhausted, "STREAM_LIMIT", not, None),
        (refused(Refusal::LeaseLost), FailedPrecondition, "LEASE_LOST", not, None),
        (
            refused(Refusal::InvalidTransition { what: name(), state: "FAILED", why: "x" }),
            FailedPrecondition,
            "INVALID_TRANSITION",
            not,
            None,
        ),
        (
            refused(Refusal::RecordNotFound { collection: name(), record_id: name() }),
            NotFound,
            "RECORD_NOT_FOUND",
            not,
            None,
        ),
        (
            refused(Refusal::FieldVersionMismatch { path: name(), field: name(), expected: 1, actual: 2 }),
            Aborted,
            "VERSION_MISMATCH",
            not,
            None,
        ),
        (
            refused(Refusal::WrongType { path: name(), field: name(), needs: "a number", is: "null" }),
            FailedPrecondition,
            "WRONG_TYPE",
            not,
            None,
        ),
        (
            refused(Refusal::LimitExceeded { path: name(), why: name() }.at(2, "updates[2]")),
            FailedPrecondition,
            "LIMIT_EXCEEDED",
            not,
            None,
        ),
        (Error::Conflict, Aborted, "CONFLICT", not, Some("100")),
        (Error::Overloaded { why: "full", retry_after: after }, ResourceExhausted, "OVERLOADED", not, Some("2500")),
        (Error::DeadlineExceeded(WriteOutcome::NotApplied), DeadlineExceeded, "DEADLINE_EXCEEDED", not, None),
        (Error::DeadlineExceeded(WriteOutcome::Unknown), DeadlineExceeded, "DEADLINE_EXCEEDED", unknown, None),
        (Error::StoreUnavailable, Unavailable, "STORE_UNAVAILABLE", not, Some("1000")),
        (Error::StoreReadOnly, Unavailable, "STORE_UNAVAILABLE", not, Some("1000")),
        (Error::Draining, Unavailable, "DRAINING", not, Some("1000")),
        (Error::OutcomeUnknown, Unavailable, "OUTCOME_UNKNOWN", unknown, Some("-1")),
        (Error::Bug { id: Uuid::nil() }, Internal, "INTERNAL", unknown, None),
    ]
}

#[test]
fn every_error_has_its_code_reason_outcome_and_retry() {
    for (error, code, reason, outcome, pushback) in table() {
        let status = status(&error);
        let details = status.get_error_details();
        let info = details.error_info().expect("each status has ErrorInfo");
        assert_eq!((status.code(), &*info.reason, &*info.domain), (code, reason, DOMAIN), "{error:?}");
        assert_eq!(info.metadata["outcome"], outcome, "{error:?}");
        let trailer = status.metadata().get(PUSHBACK).map(|value| value.to_str().expect("ASCII"));
        assert_eq!(trailer, pushback, "{error:?}");
        let sent = details.retry_info().and_then(|info| info.retry_delay).map(|wait| wait.as_millis().to_string());
        assert_eq!(sent.as_deref(), pushback.filter(|text| *text != "-1"), "{error:?}");
    }
}

#[test]
fn details_carry_what_a_program_needs() {
    let info = |error: Error| status(&error).get_error_details().error_info().cloned().expect("ErrorInfo").metadata;
    let mismatch = info(refused(Refusal::VersionMismatch { expected: 3, actual: 4 }));
    assert_eq!((&*mismatch["expected"], &*mismatch["actual"]), ("3", "4"));
    let state = info(refused(Refusal::InvalidTransition { what: name(), state: "PAUSED", why: "x" }));
    assert_eq!(state["state"], "PAUSED");
    let id = Uuid::from_u128(7);
    assert_eq!(info(Error::Bug { id })["error_id"], id.to_string());
}

#[test]
fn a_bad_field_is_named_with_its_path() {
    let status = status(&refused(Refusal::field("stages[3].name", "is empty")));
    let details = status.get_error_details();
    let violation = &details.bad_request().expect("BadRequest").field_violations[0];
    assert_eq!((&*violation.field, &*violation.description), ("stages[3].name", "is empty"));
    assert_eq!(status.message(), "stages[3].name: is empty");
}

#[test]
fn hostile_text_does_not_swell_the_trailers() {
    let long = "ü".repeat(1_000_000);
    for error in [
        refused(Refusal::field(long.clone(), long.clone())),
        refused(Refusal::StageNotFound { job_id: long.clone(), stage_name: long.clone() }),
    ] {
        let status = status(&error);
        assert!(status.message().len() <= MESSAGE_BYTES);
        assert!(status.details().len() < 4 * 1024, "{}", status.details().len());
    }
}
