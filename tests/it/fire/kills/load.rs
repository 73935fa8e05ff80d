//! Clients that submit, update, lease and complete, and note each reply.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use interlock::proto::{self, StageState};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::fire::answers::Answer;
use crate::fire::fleet::{Fleet, once};
use crate::harness::*;

/// Clients of each kind.
const CLIENTS: usize = 8;
/// Jobs that all updates go to.
const COUNTERS: usize = 4;
/// The job of updates without a `request_id`.
const PLAIN: &str = "plain";
/// Short, so that leases run out during outages and between them.
const LEASE_SECONDS: u64 = 2;
/// Stages of a submitted job.
const STAGES: usize = 3;

/// The replies that clients received.
#[derive(Default)]
struct Replies {
    /// Jobs whose submission was acknowledged.
    submitted: BTreeSet<String>,
    /// Of each counter, the versions that acknowledged updates made.
    updates: BTreeMap<String, Vec<i64>>,
    /// Versions that acknowledged updates without a `request_id` made, and how many may have made one.
    plain: Vec<i64>,
    plain_unknown: usize,
    /// Of each stage, the tokens that were granted.
    tokens: BTreeMap<(String, String), Vec<i64>>,
    /// Of each stage, whose completion was acknowledged.
    completed: BTreeMap<(String, String), Vec<String>>,
    /// Acknowledged as a repeat: the first try had been applied, and its reply was lost.
    replayed: usize,
}

struct Scene {
    fleet: Fleet,
    received: Mutex<Replies>,
    acknowledged: AtomicUsize,
    unknown: AtomicUsize,
    over: AtomicBool,
}

/// The clients at work.
pub struct Load {
    scene: Arc<Scene>,
    clients: Vec<JoinHandle<()>>,
}

/// What was found at the end.
#[derive(Debug, Default)]
pub struct Report {
    acknowledged: usize,
    replayed: usize,
    unknown: usize,
    grants: usize,
    /// Acknowledged and not there.
    lost: usize,
    /// There more often than it was acknowledged, or although it was refused.
    twice: usize,
    repeated_tokens: usize,
}

impl Load {
    /// Puts everybody to work.
    pub async fn start(fleet: Fleet) -> Load {
        let direct = proto::StageSpec { direct: true, ..new_stage("main") };
        for job_id in (0..COUNTERS).map(counter).chain([PLAIN.to_owned()]) {
            fleet.api().submit(new_job(&job_id, vec![direct.clone()])).await;
        }
        let scene = Arc::new(Scene {
            fleet,
            received: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            unknown: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(tokio::spawn(submitter(scene.clone())));
            clients.push(tokio::spawn(updater(scene.clone())));
            clients.push(tokio::spawn(plain_updater(scene.clone())));
            clients.push(tokio::spawn(worker(scene.clone())));
        }
        Load { scene, clients }
    }

    pub fn fleet(&self) -> &Fleet {
        &self.scene.fleet
    }

    /// Writes that were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.scene.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets all clients finish what is under way, and compares their replies with what is stored.
    pub async fn finish(self) -> Report {
        self.scene.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("no panic");
        }
        let received = std::mem::take(&mut *self.scene.received.lock().expect("no panic"));
        let mut report = Report {
            acknowledged: self.scene.acknowledged.load(Ordering::Relaxed),
            unknown: self.scene.unknown.load(Ordering::Relaxed),
            replayed: received.replayed,
            grants: received.tokens.values().map(Vec::len).sum(),
            ..Report::default()
        };
        let api = self.scene.fleet.api();
        report.compare_submissions(&received, &all_jobs(&api).await);
        report.compare_updates(&received, &api).await;
        report.compare_stages(&received, &api).await;
        report
    }
}

impl Scene {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn tell<T>(&self, tell: impl FnOnce(&mut Replies) -> T) -> T {
        tell(&mut self.received.lock().expect("no panic"))
    }

    fn acknowledge(&self, unknown: usize) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.unknown.fetch_add(unknown, Ordering::Relaxed);
    }
}

fn counter(i: usize) -> String {
    format!("counter-{i}")
}

async fn submitter(scene: Arc<Scene>) {
    while !scene.is_over() {
        let stages = (0..STAGES).map(|i| new_stage_with_attempts(&format!("s{i}"), 100)).collect();
        // The server chooses the id, so only the request_id keeps a repeat from making a second job.
        let request = proto::SubmitJobRequest {
            request_id: request_id(),
            labels: labels(&[("of", "submitter")]),
            ..new_job("", stages)
        };
        let call = |api: Api, request| async move { api.jobs().submit_job(request).await };
        let (answer, unknown) = scene.fleet.until_answered(request, call).await;
        let answer = answer.expect("nothing is wrong with it");
        scene.acknowledge(unknown);
        scene.tell(|received| {
            received.replayed += usize::from(answer.replayed);
            let is_new = received.submitted.insert(answer.job.expect("it is not deleted").job_id);
            assert!(is_new, "two submissions returned the same job");
        });
    }
}

async fn updater(scene: Arc<Scene>) {
    while !scene.is_over() {
        let job_id = counter(rand::random_range(0..COUNTERS));
        // Every other one expects the version received last. Sent again after it was applied, it must not be refused because the version is
        // another now.
        let newest =
            scene.tell(|received| received.updates.get(&job_id).and_then(|versions| versions.iter().max().copied()));
        let request = proto::UpdateJobRequest {
            job_id: job_id.clone(),
            labels: labels(&[("by", &unique())]),
            expected_version: newest.filter(|_| rand::random_range(0..2) == 0),
            request_id: request_id(),
            ..Default::default()
        };
        let call = |api: Api, request| async move { api.jobs().update_job(request).await };
        let (answer, unknown) = scene.fleet.until_answered(request, call).await;
        match answer {
            Ok(answer) => {
                assert!(answer.applied);
                scene.acknowledge(unknown);
                scene.tell(|received| {
                    received.replayed += usize::from(answer.replayed);
                    received.updates.entry(job_id).or_default().push(answer.applied_version);
                });
            }
            Err(refusal) => assert_eq!(refusal.reason, "VERSION_MISMATCH", "{refusal:?}"),
        }
    }
}

/// Updates without a request id, so a repeat cannot be recognised and each is sent once.
async fn plain_updater(scene: Arc<Scene>) {
    while !scene.is_over() {
        let request = proto::UpdateJobRequest {
            job_id: PLAIN.to_owned(),
            labels: labels(&[("by", &unique())]),
            ..Default::default()
        };
        match once(scene.fleet.api().jobs().update_job(request)).await {
            Answer::Done(answer) => {
                scene.acknowledge(0);
                scene.tell(|received| received.plain.push(answer.applied_version));
            }
            Answer::Unknown(_) => scene.tell(|received| received.plain_unknown += 1),
            Answer::NotNow(_) => tokio::task::yield_now().await,
            Answer::Refused(refusal) => panic!("{refusal:?}"),
        }
    }
}

async fn worker(scene: Arc<Scene>) {
    while !scene.is_over() {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            max_stages: 2,
            wait: millis(500),
            lease_duration: seconds(LEASE_SECONDS),
            ..Default::default()
        };
        // Leases whose answer is lost run out; that is what they are for.
        let leases = match once(scene.fleet.api().workers().lease_stages(request)).await {
            Answer::Done(answer) => answer.leases,
            Answer::Refused(refusal) => panic!("{refusal:?}"),
            Answer::NotNow(_) | Answer::Unknown(_) => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        for lease in leases {
            let stage = (lease.job_id.clone(), lease.stage_name.clone());
            scene.tell(|received| received.tokens.entry(stage).or_default().push(lease.fencing_token));
            // Now and then one is forgotten, and one given back.
            match rand::random_range(0..10) {
                0 => {}
                1 => release(&scene, &lease).await,
                _ => complete(&scene, &lease).await,
            }
        }
    }
}

async fn release(scene: &Scene, lease: &proto::Lease) {
    let request = proto::ReleaseStageRequest { target: token(lease), request_id: request_id(), ..Default::default() };
    let call = |api: Api, request| async move { api.workers().release_stage(request).await };
    let (answer, unknown) = scene.fleet.until_answered(request, call).await;
    match answer {
        Ok(answer) => {
            scene.acknowledge(unknown);
            scene.tell(|received| received.replayed += usize::from(answer.replayed));
        }
        Err(refusal) => assert_eq!(refusal.reason, "LEASE_LOST", "{refusal:?}"),
    }
}

async fn complete(scene: &Scene, lease: &proto::Lease) {
    let by = unique();
    let request = proto::CompleteStageRequest {
        target: token(lease),
        artifacts: struct_of(json!({ "by": by })),
        request_id: Some(by.clone()),
        ..Default::default()
    };
    let call = |api: Api, request| async move { api.workers().complete_stage(request).await };
    let (answer, unknown) = scene.fleet.until_answered(request, call).await;
    match answer {
        Ok(answer) => {
            assert!(answer.applied);
            scene.acknowledge(unknown);
            scene.tell(|received| {
                received.replayed += usize::from(answer.replayed);
                let stage = (lease.job_id.clone(), lease.stage_name.clone());
                received.completed.entry(stage).or_default().push(by);
            });
        }
        Err(refusal) => assert_eq!(refusal.reason, "LEASE_LOST", "{refusal:?}"),
    }
}

/// The ids of all that submitters made.
async fn all_jobs(api: &Api) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let filter = "labels.of = \"submitter\"".to_owned();
        let request = proto::ListJobsRequest { filter, page_token, page_size: 1_000, ..Default::default() };
        let page = ok(api.jobs().list_jobs(request).await);
        found.extend(page.jobs.into_iter().map(|job| job.job_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

impl Report {
    fn compare_submissions(&mut self, received: &Replies, there: &BTreeSet<String>) {
        self.lost += received.submitted.difference(there).count();
        self.twice += there.difference(&received.submitted).count();
    }

    async fn compare_updates(&mut self, received: &Replies, api: &Api) {
        for (job_id, versions) in &received.updates {
            let there: BTreeSet<i64> = (2..=api.job(job_id).await.version).collect();
            let acknowledged: BTreeSet<i64> = versions.iter().copied().collect();
            // Two updates with the same version mean that one was lost.
            self.lost += acknowledged.difference(&there).count() + versions.len() - acknowledged.len();
            self.twice += there.difference(&acknowledged).count();
        }
        let growth = usize::try_from(api.job(PLAIN).await.version - 1).expect("not negative");
        let acknowledged = received.plain.iter().collect::<BTreeSet<_>>().len();
        self.lost += received.plain.len() - acknowledged + acknowledged.saturating_sub(growth);
        self.twice += growth.saturating_sub(acknowledged + received.plain_unknown);
    }

    async fn compare_stages(&mut self, received: &Replies, api: &Api) {
        for tokens in received.tokens.values() {
            self.repeated_tokens += tokens.len() - tokens.iter().collect::<BTreeSet<_>>().len();
        }
        for job_id in &received.submitted {
            for stage in api.job(job_id).await.stages {
                let completed = received.completed.get(&(job_id.clone(), stage.name.clone()));
                let acknowledged = completed.map(Vec::as_slice).unwrap_or_default();
                let done: Vec<&String> =
                    acknowledged.iter().filter(|by| stage.artifacts == struct_of(json!({ "by": by }))).collect();
                self.lost += acknowledged.len() - done.len();
                let is_there = stage.state() == StageState::Succeeded;
                self.twice += usize::from(is_there && done.is_empty());
            }
        }
    }

    /// That nothing is wrong, and that enough was done to know.
    pub fn check(&self, acknowledged: usize) {
        assert_eq!((self.lost, self.twice, self.repeated_tokens), (0, 0, 0), "{self}");
        assert!(self.acknowledged >= acknowledged && self.grants >= acknowledged / 10, "too little traffic");
        assert!(self.unknown > 0, "no call was cut off");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} writes acknowledged ({} of them as repeats), {} outcomes unknown at first, lost {}, applied twice {}, \
             {} fencing tokens, repeated {}",
            self.acknowledged, self.replayed, self.unknown, self.lost, self.twice, self.grants, self.repeated_tokens
        )
    }
}
