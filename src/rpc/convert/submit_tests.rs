//! New jobs: defaults, limits, and where a fault is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;

const NAMESPACE: NamespaceId = NamespaceId(1);

fn request() -> proto::SubmitJobRequest {
    proto::SubmitJobRequest { kind: "film".to_owned(), ..Default::default() }
}

fn spec(name: &str) -> proto::StageSpec {
    proto::StageSpec { name: name.to_owned(), ..Default::default() }
}

fn with(stage: proto::StageSpec) -> proto::SubmitJobRequest {
    proto::SubmitJobRequest { stages: vec![spec("first"), stage], ..request() }
}

fn path_of<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    match result {
        Err(Refusal::InvalidField { path, .. }) => path,
        other => panic!("{other:?}"),
    }
}

fn refused(request: proto::SubmitJobRequest) -> String {
    path_of(job(NAMESPACE, request, &Path::Root))
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[test]
fn a_bare_job_gets_an_id_a_main_stage_and_the_defaults() {
    let job = job(NAMESPACE, request(), &Path::Root).expect("valid");
    assert!(job.is_generated);
    assert_eq!(job.key, JobKey::of(NAMESPACE, &job.meta.job_id));
    assert_eq!((job.meta.retention, job.meta.timeout, job.meta.delayed_until), (DEFAULT_RETENTION, None, None));
    let [main] = &*job.stages else { panic!("{:?}", job.stages) };
    assert_eq!((&*main.spec.name, &*main.spec.queue, main.spec.weight), ("main", "default", 1.0));
    assert_eq!(*main.spec.retry, RetryPolicy::default());
    assert!(job.submit(Timestamp(1), 0, "stages").is_ok());
}

#[test]
fn the_policy_of_the_job_is_that_of_its_stages_unless_they_have_one() {
    let own = proto::RetryPolicy { max_attempts: 7, ..Default::default() };
    let given = proto::SubmitJobRequest {
        retry_policy: Some(proto::RetryPolicy { max_attempts: 5, ..Default::default() }),
        ..with(proto::StageSpec { retry_policy: Some(own), ..spec("second") })
    };
    let job = job(NAMESPACE, given, &Path::Root).expect("valid");
    let attempts: Vec<u32> = job.stages.iter().map(|stage| stage.spec.retry.max_attempts).collect();
    assert_eq!(attempts, [5, 7]);
}

#[test]
fn each_fault_is_found_at_its_place() {
    let labels = BTreeMap::from([("a b".to_owned(), String::new())]);
    let nan = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::NAN)) };
    let payload = prost_types::Struct { fields: BTreeMap::from([("x".to_owned(), nan)]) };
    let policy = |max_attempts| Some(proto::RetryPolicy { max_attempts, ..Default::default() });
    let start = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    for (given, path) in [
        (proto::SubmitJobRequest::default(), "kind"),
        (proto::SubmitJobRequest { job_id: Some("a b".into()), ..request() }, "job_id"),
        (proto::SubmitJobRequest { priority: 1_001, ..request() }, "priority"),
        (proto::SubmitJobRequest { priority: i32::MIN, ..request() }, "priority"),
        (proto::SubmitJobRequest { labels, ..request() }, "labels[\"a b\"]"),
        (proto::SubmitJobRequest { payload: Some(payload.clone()), ..request() }, "payload.x"),
        (proto::SubmitJobRequest { start_time: start, ..request() }, "start_time"),
        (proto::SubmitJobRequest { timeout: seconds(0), ..request() }, "timeout"),
        (proto::SubmitJobRequest { retention: seconds(-1), ..request() }, "retention"),
        (proto::SubmitJobRequest { retry_policy: policy(-1), ..request() }, "retry_policy.max_attempts"),
        (with(spec("")), "stages[1].name"),
        (with(proto::StageSpec { queue: "a b".into(), ..spec("s") }), "stages[1].queue"),
        (with(proto::StageSpec { weight: Some(-0.1), ..spec("s") }), "stages[1].weight"),
        (with(proto::StageSpec { weight: Some(f64::NAN), ..spec("s") }), "stages[1].weight"),
        (
            with(proto::StageSpec { depends_on: vec!["first".into(), String::new()], ..spec("s") }),
            "stages[1].depends_on[1]",
        ),
        (with(proto::StageSpec { required_by: vec!["\0".into()], ..spec("s") }), "stages[1].required_by[0]"),
        (with(proto::StageSpec { depends_when: 9, ..spec("s") }), "stages[1].depends_when"),
        (with(proto::StageSpec { on_failure: -1, ..spec("s") }), "stages[1].on_failure"),
        (with(proto::StageSpec { lease_duration: seconds(0), ..spec("s") }), "stages[1].lease_duration"),
        (with(proto::StageSpec { timeout: seconds(604_801), ..spec("s") }), "stages[1].timeout"),
        (with(proto::StageSpec { group_key: "a\tb".into(), ..spec("s") }), "stages[1].group_key"),
        (with(proto::StageSpec { input: Some(payload), ..spec("s") }), "stages[1].input.x"),
        (with(proto::StageSpec { retry_policy: policy(101), ..spec("s") }), "stages[1].retry_policy.max_attempts"),
        (proto::SubmitJobRequest { stages: vec![spec("s"); 10_001], ..request() }, "stages"),
    ] {
        assert_eq!(refused(given), path);
    }
}

#[test]
fn a_batch_names_the_job_that_is_wrong() {
    let id = |id: &str| proto::SubmitJobRequest { job_id: Some(id.to_owned()), ..request() };
    assert_eq!(path_of(jobs(NAMESPACE, vec![])), "jobs");
    assert_eq!(path_of(jobs(NAMESPACE, vec![request(); 1_001])), "jobs");
    assert_eq!(path_of(jobs(NAMESPACE, vec![id("a"), id("b"), id("a")])), "jobs[2].job_id");
    let named = proto::SubmitJobRequest { request_id: Some("x".into()), ..request() };
    assert_eq!(path_of(jobs(NAMESPACE, vec![request(), named])), "jobs[1].request_id");
    let only = proto::SubmitJobRequest { validate_only: true, ..request() };
    assert_eq!(path_of(jobs(NAMESPACE, vec![only])), "jobs[0].validate_only");
    assert_eq!(path_of(jobs(NAMESPACE, vec![request(), with(spec(""))])), "jobs[1].stages[1].name");
    assert_eq!(jobs(NAMESPACE, vec![request(), request()]).map(|jobs| jobs.len()), Ok(2));
}

#[test]
fn ten_thousand_stages_take_little_time() {
    let stage = |i: usize| proto::StageSpec {
        depends_on: (i.saturating_sub(10)..i).map(|i| format!("stage-{i}")).collect(),
        ..spec(&format!("stage-{i}"))
    };
    let given = proto::SubmitJobRequest { stages: (0..10_000).map(stage).collect(), ..request() };
    let begin = Instant::now();
    let job = job(NAMESPACE, given, &Path::Root).expect("valid");
    assert_eq!(job.stages.len(), 10_000);
    // About 20 ms unoptimised; anything quadratic takes many seconds.
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert!(job.stages.windows(2).all(|pair| Arc::ptr_eq(&pair[0].spec.queue, &pair[1].spec.queue)));
}
