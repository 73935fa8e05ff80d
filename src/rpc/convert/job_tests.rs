//! Jobs, stages and leases, as messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use uuid::Uuid;

use super::*;
use crate::domain::documents::LeaseDocuments;
use crate::domain::failure::{FailureClass, FailureReport};
use crate::domain::id::{NamespaceId, StageNo};
use crate::domain::job::{JobTx, LeaseRequest, StageCredential};
use crate::domain::json::Document;
use crate::domain::time::Timestamp;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{lease, submit};

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

fn submitted(stages: Vec<proto::StageSpec>) -> Arc<Job> {
    let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let job_id = Some("film-1".into());
    let request = proto::SubmitJobRequest { job_id, kind: "film".into(), labels, stages, ..Default::default() };
    let new = submit::job(NamespaceId(1), request, &Path::Root).expect("valid");
    new.submit(NOW, 0, "stages").expect("valid").0
}

fn chain() -> Vec<proto::StageSpec> {
    let spec = |name: &str, depends_on: &[&str]| proto::StageSpec {
        name: name.to_owned(),
        depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(),
        group_key: "g".to_owned(),
        ..Default::default()
    };
    vec![spec("cut", &[]), spec("mix", &["cut"])]
}

fn edited(job: &Arc<Job>, change: impl FnOnce(&mut JobTx)) -> Arc<Job> {
    let mut edit = JobTx::begin(job.clone(), NOW);
    change(&mut edit);
    edit.finish().expect("it changes the job").0
}

fn leased(job: &Arc<Job>, no: StageNo) -> Arc<Job> {
    let grant = LeaseRequest {
        worker_id: "w".into(),
        secret: Uuid::from_u128(9),
        duration: Some(Duration::from_secs(60)),
        queue: None,
    };
    edited(job, |edit| edit.lease(no, &grant, Vec::new()).expect("ready"))
}

#[test]
fn a_job_is_converted_with_its_stages() {
    let running = leased(&submitted(chain()), 0);
    let documents = JobDocuments { payload: Some(Document::from_checked("{\"a\":1}")), ..Default::default() };
    let message = job(&running, &documents).expect("valid");
    assert_eq!((&*message.job_id, &*message.kind, message.version, message.run), ("film-1", "film", 2, 1));
    assert_eq!(message.state, proto::JobState::Running as i32);
    assert_eq!(message.stage_counts.map(|counts| (counts.total, counts.running, counts.blocked)), Some((2, 1, 1)));
    assert!(message.payload.is_some() && !message.stages_truncated);
    assert_eq!(message.labels["team"], "a");
    let [cut, mix] = &*message.stages else { panic!("{:?}", message.stages) };
    let held = cut.lease.as_ref().expect("leased");
    assert_eq!((&*held.worker_id, held.fencing_token, cut.attempt, cut.max_attempts), ("w", 1, 1, 3));
    assert_eq!(mix.depends_on, ["cut"]);
    assert_eq!((mix.state, mix.on_failure, mix.depends_when), (1, 1, 1));
    assert!(summary(&running, &documents).is_ok_and(|message| message.stages.is_empty() && message.stages_truncated));
}

#[test]
fn a_big_job_is_cut_at_what_a_reply_holds() {
    let names = (0..60).map(|i| proto::StageSpec { name: format!("s{i}"), ..Default::default() }).collect();
    let big = Document::from_checked(format!("{{\"a\":\"{}\"}}", "x".repeat(60_000)));
    let artifacts = (0..60).map(|no| (no, big.clone())).collect();
    let message = job(&submitted(names), &JobDocuments { artifacts, ..Default::default() }).expect("valid");
    assert!(message.stages_truncated && message.stages.len() > 45 && message.encoded_len() <= REPLY_BYTES);
}

#[test]
fn a_lease_holds_all_that_the_work_needs() {
    let started = leased(&submitted(chain()), 0);
    let token = started.stages[0].token(started.key.uid).expect("leased");
    let done = edited(&started, |edit| {
        edit.complete(&StageCredential::Token(token), None, None, None, Uuid::nil()).expect("held");
    });
    let ready = leased(&done, 1);
    let artifacts = BTreeMap::from([(0, Document::from_checked("{\"file\":\"x\"}"))]);
    let documents = LeaseDocuments { artifacts, ..Default::default() };
    let message = lease::lease(&ready, &ready.stages[1], &documents, NOW).expect("leased");
    assert_eq!(message.lease_token.len(), 59);
    assert_eq!(message.ttl.map(|ttl| ttl.seconds), Some(60));
    assert_eq!(message.heartbeat_interval.map(|interval| interval.seconds), Some(10));
    let [dependency] = &*message.dependencies else { panic!("{message:?}") };
    assert_eq!((&*dependency.name, dependency.state), ("cut", proto::StageState::Succeeded as i32));
    assert!(dependency.artifacts.is_some() && !message.dependencies_truncated);
    assert!(lease::lease(&ready, &ready.stages[0], &documents, NOW).is_err(), "no lease, no token");
}

#[test]
fn holders_hear_what_their_job_wants() {
    let running = leased(&submitted(chain()), 0);
    let token = running.stages[0].token(running.key.uid).expect("leased");
    let directive = |job: &Job| lease::status_in(job, &token, NOW).directive;
    assert_eq!(directive(&running), proto::LeaseDirective::Continue as i32);
    let paused = edited(&running, |edit| edit.pause().expect("running"));
    assert_eq!(directive(&paused), proto::LeaseDirective::Pause as i32);
    let cancelling =
        edited(&running, |edit| edit.cancel(Duration::from_secs(30), Some("enough".into())).expect("running"));
    assert_eq!(directive(&cancelling), proto::LeaseDirective::Cancel as i32);
    assert!(
        summary(&cancelling, &JobDocuments::default())
            .is_ok_and(|message| message.cancel_reason == "enough" && message.cancel_deadline_time.is_some())
    );
    let report = FailureReport {
        class: FailureClass::Network,
        code: String::new(),
        message: String::new(),
        retry_after: None,
        details: None,
    };
    let failed = edited(&running, |edit| {
        edit.fail(&StageCredential::Token(token), report, 0.0, Uuid::nil()).expect("held");
    });
    assert_eq!(directive(&failed), proto::LeaseDirective::Lost as i32);
    let message = job(&failed, &JobDocuments::default()).expect("valid");
    assert!(message.stages[0].next_attempt_time.is_some());
    assert_eq!(message.stages[0].failure.as_ref().map(|failure| failure.attempt), Some(1));
}
