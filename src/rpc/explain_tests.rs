//! Explanations, over jobs as they are submitted and steered.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::domain::failure::{FailureClass, FailureReport};
use crate::domain::id::NamespaceId;
use crate::domain::job::{JobTx, LeaseRequest, StageCredential};
use crate::rpc::convert::path::Path;
use crate::rpc::convert::submit;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

fn spec(name: &str, depends_on: &[&str]) -> proto::StageSpec {
    let depends_on = depends_on.iter().map(|name| (*name).to_owned()).collect();
    proto::StageSpec { name: name.to_owned(), depends_on, ..Default::default() }
}

fn submitted(request: proto::SubmitJobRequest) -> Arc<Job> {
    let request = proto::SubmitJobRequest { kind: "film".into(), ..request };
    let new = submit::job(NamespaceId(1), request, &Path::Root).expect("valid");
    new.submit(NOW, 0, "stages").expect("valid").0
}

fn chain() -> Arc<Job> {
    submitted(proto::SubmitJobRequest { stages: vec![spec("cut", &[]), spec("mix", &["cut"])], ..Default::default() })
}

fn edited(job: &Arc<Job>, change: impl FnOnce(&mut JobTx)) -> Arc<Job> {
    let mut edit = JobTx::begin(job.clone(), NOW);
    change(&mut edit);
    edit.finish().expect("it changes the job").0
}

fn leased(job: &Arc<Job>) -> Arc<Job> {
    let grant = LeaseRequest { worker_id: "w-1".into(), secret: Uuid::from_u128(9), duration: None, queue: None };
    edited(job, |edit| edit.lease(0, &grant, Vec::new()).expect("ready"))
}

const BUSY: PollsHere = PollsHere { is_abandoned: &|_| false, ..ABANDONED };
const ABANDONED: PollsHere = PollsHere { is_abandoned: &|_| true, uptime: Duration::from_secs(100), other_servers: 0 };

fn reasons(explanation: &proto::ExplainJobResponse) -> Vec<(&str, StageWaitReason, &str)> {
    explanation.stages.iter().map(|stage| (&*stage.stage_name, stage.reason(), &*stage.blocker)).collect()
}

#[test]
fn what_is_ready_waits_for_its_turn_or_for_a_worker_at_all() {
    let explanation = explain(&chain(), &BUSY, &HashMap::default(), NOW);
    let (queued, dependency) = (StageWaitReason::Queued, StageWaitReason::Dependency);
    assert_eq!(reasons(&explanation), [("cut", queued, "default"), ("mix", dependency, "cut")]);
    assert_eq!(explanation.headline, "Stage \"cut\" is ready and waits for a worker of queue \"default\".");
    let explanation = explain(&chain(), &ABANDONED, &HashMap::default(), NOW);
    assert_eq!(reasons(&explanation)[0].1, StageWaitReason::NoWorker);
    let seen = |uptime, other_servers| {
        let polls = PollsHere { uptime: Duration::from_secs(uptime), other_servers, ..ABANDONED };
        explain(&chain(), &polls, &HashMap::default(), NOW).headline
    };
    let headline = "Stage \"cut\" is ready, but no worker has polled queue \"default\" at this server";
    assert_eq!(seen(100, 0), format!("{headline} for 60 s."));
    assert_eq!(seen(7, 0), format!("{headline} since it started 7 s ago."));
    assert_eq!(seen(100, 1), format!("{headline} for 60 s; polls at the other server are not known here."));
    assert_eq!(
        seen(7, 2),
        format!("{headline} since it started 7 s ago; polls at the 2 other servers are not known here.")
    );
    let direct = proto::StageSpec { direct: true, ..spec("main", &[]) };
    let explanation = explain(
        &submitted(proto::SubmitJobRequest { stages: vec![direct], ..Default::default() }),
        &ABANDONED,
        &HashMap::default(),
        NOW,
    );
    assert_eq!(reasons(&explanation), [("main", StageWaitReason::Queued, "")], "no worker polls for a direct stage");
}

#[test]
fn a_running_stage_names_its_worker_and_ended_ones_are_left_out() {
    let running = leased(&chain());
    let explanation = explain(&running, &BUSY, &HashMap::default(), NOW);
    assert_eq!(reasons(&explanation)[0], ("cut", StageWaitReason::Running, "w-1"));
    assert_eq!(explanation.stages[0].until_time.map(|at| at.seconds), Some(1_700_000_090));
    assert_eq!((&*explanation.headline, explanation.job_version), ("Stage \"cut\" is running on worker \"w-1\".", 2));
    let token = running.stages[0].token(running.key.uid).expect("leased");
    let done = edited(&running, |edit| {
        edit.complete(&StageCredential::Token(token), None, None, None, Uuid::nil()).expect("held");
    });
    assert_eq!(
        reasons(&explain(&done, &BUSY, &HashMap::default(), NOW)),
        [("mix", StageWaitReason::Queued, "default")]
    );
}

#[test]
fn pauses_backoffs_and_start_times_say_what_is_waited_for() {
    let paused = edited(&chain(), |edit| edit.pause().expect("pending"));
    let explanation = explain(&paused, &ABANDONED, &HashMap::default(), NOW);
    assert_eq!(reasons(&explanation)[0].1, StageWaitReason::Paused);
    assert_eq!(explanation.headline, "The job is paused until it is resumed.");

    let running = leased(&chain());
    let hold = StageCredential::Token(running.stages[0].token(running.key.uid).expect("leased"));
    let class = FailureClass::RateLimited;
    let retry_after = Some(Duration::from_secs(200));
    let report = FailureReport { class, code: String::new(), message: String::new(), retry_after, details: None };
    let failed = edited(&running, |edit| {
        edit.fail(&hold, report, 0.0, Uuid::nil()).expect("held");
    });
    let explanation = explain(&failed, &BUSY, &HashMap::default(), NOW);
    assert_eq!(reasons(&explanation)[0].1, StageWaitReason::Backoff);
    assert_eq!(explanation.headline, "Stage \"cut\" has failed and is tried again in 4 min.");

    let start_time = Some(prost_types::Timestamp { seconds: 1_700_000_030, nanos: 0 });
    let explanation = explain(
        &submitted(proto::SubmitJobRequest { start_time, ..Default::default() }),
        &BUSY,
        &HashMap::default(),
        NOW,
    );
    assert_eq!(reasons(&explanation), [("main", StageWaitReason::StartTime, "")]);
    assert_eq!(explanation.stages[0].until_time, start_time);
    assert_eq!(explanation.headline, "The job starts in 30 s.");
}

#[test]
fn the_end_of_a_job_is_its_headline() {
    let cancelled = edited(&chain(), |edit| edit.cancel(Duration::from_secs(30), None).expect("pending"));
    let explanation = explain(&cancelled, &BUSY, &HashMap::default(), NOW);
    assert_eq!((&*explanation.headline, explanation.stages.len()), ("The job was cancelled.", 0));
    let cancelling = edited(&leased(&chain()), |edit| edit.cancel(Duration::from_secs(30), None).expect("running"));
    let explanation = explain(&cancelling, &BUSY, &HashMap::default(), NOW);
    assert_eq!(explanation.headline, "The job is being cancelled; 1 stage may still run, 30 s at most.");
    assert_eq!(reasons(&explanation), [("cut", StageWaitReason::Running, "w-1")]);
}

#[test]
fn a_big_job_is_explained_in_part() {
    let stages = (0..300).map(|i| spec(&format!("s{i}"), &[])).collect();
    let explanation =
        explain(&submitted(proto::SubmitJobRequest { stages, ..Default::default() }), &BUSY, &HashMap::default(), NOW);
    assert_eq!(explanation.stages.len(), 100);
}

#[test]
fn a_paused_job_says_what_is_left_of_its_timeout() {
    let timeout = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    let job = submitted(proto::SubmitJobRequest { timeout, ..Default::default() });
    let paused = edited(&job, |edit| edit.pause().expect("paused"));
    let much_later = NOW.after(Duration::from_secs(86_400));
    let explanation = explain(&paused, &BUSY, &HashMap::default(), much_later);
    assert_eq!(
        explanation.headline,
        "The job is paused until it is resumed. Its timeout stands still, with 10 min left."
    );
    let running = edited(&leased(&job), |edit| edit.pause().expect("paused"));
    let explanation = explain(&running, &BUSY, &HashMap::default(), much_later);
    assert_eq!(
        explanation.headline,
        "The job is paused; 1 stage may still finish. Its timeout stands still, with 10 min left."
    );
}
