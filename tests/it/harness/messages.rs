//! Messages with fewer words.

use std::collections::BTreeMap;

use interlock::proto::stage_outcome::Outcome;
use interlock::proto::{self, FailureClass, StageSpec, StageState};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// A new job of a kind.
pub fn new_job(job_id: &str, stages: Vec<StageSpec>) -> proto::SubmitJobRequest {
    let job_id = (!job_id.is_empty()).then(|| job_id.to_owned());
    proto::SubmitJobRequest { job_id, kind: "film".to_owned(), stages, ..Default::default() }
}

pub fn new_stage(name: &str) -> StageSpec {
    StageSpec { name: name.to_owned(), ..Default::default() }
}

/// A new stage that waits for others.
pub fn new_stage_after(name: &str, depends_on: &[&str]) -> StageSpec {
    StageSpec { depends_on: texts(depends_on), ..new_stage(name) }
}

/// A new stage that is tried again at once, so often in all.
pub fn new_stage_with_attempts(name: &str, max_attempts: i32) -> StageSpec {
    StageSpec { retry_policy: Some(at_once(max_attempts)), ..new_stage(name) }
}

/// A policy without waits.
pub fn at_once(max_attempts: i32) -> proto::RetryPolicy {
    let zero = Some(prost_types::Duration::default());
    proto::RetryPolicy { max_attempts, initial_backoff: zero, jitter: zero, ..Default::default() }
}

/// A failure of a class.
pub fn failure(class: FailureClass) -> proto::Failure {
    proto::Failure { failure_class: class.into(), message: "it broke".to_owned(), ..Default::default() }
}

/// An outcome of CompleteStages.
pub fn outcome(outcome: Outcome) -> proto::StageOutcome {
    proto::StageOutcome { outcome: Some(outcome) }
}

/// The outcome of a stage that is done.
pub fn completed(lease: &proto::Lease) -> proto::StageOutcome {
    let target = Some(Target::of_token(&lease.lease_token));
    outcome(Outcome::CompleteStage(proto::CompleteStageRequest { target, ..Default::default() }))
}

/// The outcome of an attempt that failed.
pub fn failed(lease: &proto::Lease, failure: proto::Failure) -> proto::StageOutcome {
    let target = Some(Target::of_token(&lease.lease_token));
    let failure = Some(failure);
    outcome(Outcome::FailStage(proto::FailStageRequest { target, failure, ..Default::default() }))
}

/// The outcome of a stage that is given back.
pub fn released(lease: &proto::Lease) -> proto::StageOutcome {
    let target = Some(Target::of_token(&lease.lease_token));
    outcome(Outcome::ReleaseStage(proto::ReleaseStageRequest { target, ..Default::default() }))
}

/// A fresh id for a request.
pub fn request_id() -> Option<String> {
    Some(unique())
}

/// A text that no other call returns.
pub fn unique() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub fn seconds(seconds: u64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: i64::try_from(seconds).expect("not so many"), nanos: 0 })
}

pub fn millis(millis: i64) -> Option<prost_types::Duration> {
    let nanos = i32::try_from(millis % 1_000 * 1_000_000).expect("below a second");
    Some(prost_types::Duration { seconds: millis / 1_000, nanos })
}

/// Texts as a message has them.
pub fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Labels as a message has them.
pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The stage of a job by its name.
#[track_caller]
pub fn stage<'a>(job: &'a proto::Job, name: &str) -> &'a proto::Stage {
    job.stages.iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}"))
}

/// The state of a stage of a job.
#[track_caller]
pub fn state_of(job: &proto::Job, name: &str) -> StageState {
    stage(job, name).state()
}

/// A JSON object as protobuf has it; `null` is none.
pub fn struct_of(json: serde_json::Value) -> Option<Struct> {
    match value_of(json).kind {
        Some(Kind::StructValue(document)) => Some(document),
        _ => None,
    }
}

/// A value of any type.
pub fn value_of(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().expect("a number")),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.into_iter().map(value_of).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(key, value)| (key, value_of(value))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// The stage that a request means.
pub struct Target;

impl Target {
    /// By the token of a lease.
    pub fn of_token(token: &str) -> proto::StageTarget {
        proto::StageTarget::leased(token)
    }

    /// By job and stage name, as the field of a request.
    pub fn named(job_id: &str, stage_name: &str) -> Option<proto::StageTarget> {
        Some(proto::StageTarget::named(job_id, stage_name))
    }
}
