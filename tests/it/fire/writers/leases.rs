//! Workers amid the writers: no stage is leased twice at once, and no worker loses a stage it holds.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use interlock::proto::{self, LeaseDirective};

use super::Scene;
use crate::fire::answers::{Answer, Refusal};
use crate::harness::*;

/// Who holds which stage, as far as the holders know: from the answer that gave a stage to somebody until just before
/// the request that gives it up.
#[derive(Clone, Default)]
pub struct Floor(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    held: HashMap<(String, String), i64>,
    newest: HashMap<(String, String), i64>,
    granted: usize,
}

fn stage_of(lease: &proto::Lease) -> (String, String) {
    (lease.job_id.clone(), lease.stage_name.clone())
}

impl Floor {
    /// The number of leases that all workers were granted.
    pub fn granted(&self) -> usize {
        self.0.lock().expect("no panic").granted
    }

    fn take(&self, lease: &proto::Lease) {
        let mut inner = self.0.lock().expect("no panic");
        inner.granted += 1;
        let held = inner.held.insert(stage_of(lease), lease.fencing_token);
        assert_eq!(held, None, "leased twice: {:?}", stage_of(lease));
        let newest = inner.newest.insert(stage_of(lease), lease.fencing_token);
        assert!(newest < Some(lease.fencing_token), "fencing token {newest:?} and then {}", lease.fencing_token);
    }

    fn leave(&self, lease: &proto::Lease) {
        self.0.lock().expect("no panic").held.remove(&stage_of(lease)).expect("it was held");
    }
}

/// Leases and works until the writers are done.
pub async fn work(scene: Arc<Scene>, queue: String, floor: Floor) {
    let number: HashMap<&str, usize> = scene.jobs.iter().enumerate().map(|(i, job_id)| (&**job_id, i)).collect();
    while !scene.over.load(Ordering::Relaxed) {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            queues: vec![queue.clone()],
            max_stages: rand::random_range(1..4),
            // A grant that comes after it is given back.
            wait: seconds(5),
            lease_duration: seconds(600),
            ..Default::default()
        };
        let sent = Instant::now();
        let leases = match Answer::of(scene.api().workers().lease_stages(request).await) {
            Answer::Done(answer) => answer.leases,
            other => {
                scene.note(other.nothing());
                continue;
            }
        };
        // Stages of one job come in one commit.
        let made: BTreeSet<(usize, i64)> =
            leases.iter().map(|lease| (number[&*lease.job_id], lease.job_version)).collect();
        made.into_iter().for_each(|(job, version)| scene.ledger.applied(job, version, sent));
        leases.iter().for_each(|lease| floor.take(lease));
        for lease in leases {
            work_on(&scene, &lease, number[&*lease.job_id], &floor).await;
        }
    }
}

/// A renewal, progress, and an end; each is sent until it is applied.
async fn work_on(scene: &Scene, lease: &proto::Lease, job: usize, floor: &Floor) {
    let api = scene.api();
    let renewal = proto::LeaseRenewal { lease_token: lease.lease_token.clone(), ..Default::default() };
    if let Answer::Done(answer) =
        answer_of(scene, api.workers().heartbeat(proto::HeartbeatRequest { renewals: vec![renewal] }).await)
    {
        scene.heartbeats.fetch_add(1, Ordering::Relaxed);
        if answer.statuses[0].directive() != LeaseDirective::Continue {
            scene.note(Answer::Refused(Refusal::from(&answer.statuses[0])));
        }
    }
    let sent = Instant::now();
    let request = proto::UpdateStageProgressRequest { target: token(lease), progress: Some(0.5), ..Default::default() };
    if let Answer::Done(answer) = answer_of(scene, scene.api().workers().update_stage_progress(request).await) {
        assert!(answer.applied);
        scene.ledger.applied(job, answer.applied_job_version, sent);
    }
    floor.leave(lease);
    let completes = rand::random_range(0..6) == 0;
    loop {
        let sent = Instant::now();
        let mut workers = scene.api().workers();
        let answer = if completes {
            let request = proto::CompleteStageRequest { target: token(lease), ..Default::default() };
            answer_of(scene, workers.complete_stage(request).await).map(|answer| answer.applied_job_version)
        } else {
            let request = proto::ReleaseStageRequest { target: token(lease), ..Default::default() };
            answer_of(scene, workers.release_stage(request).await).map(|answer| answer.applied_job_version)
        };
        match answer {
            Answer::Done(version) => return scene.ledger.applied(job, version, sent),
            Answer::NotNow(_) => {}
            Answer::Refused(_) | Answer::Unknown(_) => return,
        }
    }
}

/// The answer, counted if it is no success.
fn answer_of<T>(scene: &Scene, answer: Result<tonic::Response<T>, tonic::Status>) -> Answer<T> {
    let answer = Answer::of(answer);
    match &answer {
        Answer::Done(_) => {}
        Answer::NotNow(reason) => scene.note(Answer::NotNow(reason.clone())),
        Answer::Refused(refusal) => scene.note(Answer::Refused(refusal.clone())),
        Answer::Unknown(what) => scene.note(Answer::Unknown(what.clone())),
    }
    answer
}
