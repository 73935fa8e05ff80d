//! Servers and Postgres killed during batches of records and commits: a batch is there as a whole or not at all, and a stage is
//! completed exactly where the fields and the job that were committed with it are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use interlock::dev::{Durability, TestCluster};
use interlock::proto::commit_operation::Operation;
use interlock::proto::{self, BatchUpdateRecordsRequest, CommitOperation, CommitRequest, StageState};
use serde_json::{Value, json};

use super::answers::Answer;
use super::fleet::{Fleet, once};
use super::scale;
use crate::harness::*;

const SERVERS: usize = 2;
/// Kills, for each unit of scale; every third is one of Postgres.
const KILLS: usize = 3;
/// Kills beyond that, as long as no call was cut off.
const MORE_KILLS: usize = 20;
/// Writes that must be acknowledged between two kills.
const BETWEEN: usize = 40;
const CLIENTS: usize = 6;
/// Sets of records that batches go to.
const SETS: usize = 4;
/// Records of a set, all of which each batch changes; fields that each commit writes.
const WIDTH: usize = 20;

struct Scene {
    fleet: Fleet,
    over: AtomicBool,
    acknowledged: AtomicUsize,
    unknown: AtomicUsize,
    /// Of each set, how many batches were acknowledged.
    batches: Mutex<BTreeMap<usize, usize>>,
    /// Jobs of which a completion was acknowledged.
    completed: Mutex<Vec<String>>,
}

impl Scene {
    fn acknowledge(&self, unknown: usize) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.unknown.fetch_add(unknown, Ordering::Relaxed);
    }
}

async fn batches(scene: Arc<Scene>) {
    while !scene.over.load(Ordering::Relaxed) {
        let set_no = rand::random_range(0..SETS);
        let by = request_id();
        let one = |i: usize| proto::UpdateRecordRequest {
            omit_fields: true,
            ..update(&format!("set{set_no}.{i}"), vec![increment("n", 1.0), set("by", json!(by))])
        };
        let updates = (0..WIDTH).map(one).collect();
        let request = BatchUpdateRecordsRequest { request_id: by.clone(), updates };
        let call = |api: Api, request| async move { api.records().batch_update_records(request).await };
        let (answer, unknown) = scene.fleet.until_answered(request, call).await;
        answer.expect("nothing is wrong with it");
        scene.acknowledge(unknown);
        *scene.batches.lock().expect("no panic").entry(set_no).or_default() += 1;
    }
}

fn commit(lease: &proto::Lease) -> CommitRequest {
    let job_id = &lease.job_id;
    let completion = proto::CompleteStageRequest {
        target: token(lease),
        artifacts: struct_of(json!({ "by": lease.lease_token })),
        ..Default::default()
    };
    let fields = (0..WIDTH).map(|i| increment(&format!("f{i}"), 1.0)).collect();
    let parts = [
        Operation::UpdateRecord(update(job_id, fields)),
        Operation::CompleteStage(completion),
        Operation::SubmitJob(proto::SubmitJobRequest {
            kind: "follow-up".to_owned(),
            ..new_job(&format!("after-{job_id}"), vec![proto::StageSpec { direct: true, ..new_stage("s") }])
        }),
    ];
    let operations = parts.map(|operation| CommitOperation { operation: Some(operation) }).to_vec();
    CommitRequest {
        request_id: request_id(),
        operations,
        lease_fence: Some(lease.lease_token.clone()),
        ..Default::default()
    }
}

/// Submits, leases, and completes by a commit; leases whose answer is lost run out and come again.
async fn workers(scene: Arc<Scene>) {
    while !scene.over.load(Ordering::Relaxed) {
        let submit = new_job("", vec![new_stage_with_attempts("main", 100)]);
        let _lost_in_a_kill = once(scene.fleet.api().jobs().submit_job(submit)).await;
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            max_stages: 2,
            wait: millis(200),
            lease_duration: seconds(2),
            ..Default::default()
        };
        let Answer::Done(answer) = once(scene.fleet.api().workers().lease_stages(request)).await else { continue };
        for lease in answer.leases {
            let call = |api: Api, request| async move { api.transactions().commit(request).await };
            match scene.fleet.until_answered(commit(&lease), call).await {
                (Ok(_), unknown) => {
                    scene.acknowledge(unknown);
                    scene.completed.lock().expect("no panic").push(lease.job_id);
                }
                (Err(refusal), _) => assert_eq!(refusal.reason, "LEASE_LOST", "{refusal:?}"),
            }
        }
    }
}

async fn works(api: &Api) -> bool {
    let request = update("probe", vec![increment("n", 1.0)]);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(1), api.records().update_record(request)).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

/// All jobs of a kind.
async fn jobs(api: &Api, kind: &str) -> Vec<proto::Job> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = format!("kind = \"{kind}\"");
        let request = proto::ListJobsRequest { filter, page_token, page_size: 1_000, ..Default::default() };
        let page = ok(api.jobs().list_jobs(request).await);
        found.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

/// Compares the replies with what is stored; returns how many commits are stored.
async fn check(scene: &Scene) -> usize {
    let api = scene.fleet.api();
    let received = scene.batches.lock().expect("no panic").clone();
    for (set_no, batches) in received {
        let mut seen: Vec<Value> = Vec::new();
        for i in 0..WIDTH {
            seen.push(fields_of(&api.record(&format!("set{set_no}.{i}")).await));
        }
        assert!(seen.iter().all(|fields| *fields == seen[0]), "a partial batch: {seen:?}");
        assert_eq!(seen[0]["n"], json!(batches), "set {set_no}");
    }
    let followed: Vec<String> = jobs(&api, "follow-up").await.into_iter().map(|job| job.job_id).collect();
    let mut completed = 0;
    for job in jobs(&api, "film").await {
        let job = api.job(&job.job_id).await;
        let is_completed = job.stages[0].state() == StageState::Succeeded;
        let get = proto::GetRecordRequest {
            collection: COLLECTION.to_owned(),
            record_id: job.job_id.clone(),
            ..Default::default()
        };
        let record = api.records().get_record(get).await.ok().and_then(|answer| answer.into_inner().record);
        assert_eq!(record.is_some(), is_completed, "{}", job.job_id);
        assert_eq!(followed.contains(&format!("after-{}", job.job_id)), is_completed, "{}", job.job_id);
        let once: Value = (0..WIDTH).map(|i| (format!("f{i}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
        assert!(record.is_none_or(|record| fields_of(&record) == once), "{}", job.job_id);
        completed += usize::from(is_completed);
    }
    assert_eq!(followed.len(), completed);
    let received = scene.completed.lock().expect("no panic").clone();
    // No client completes a stage that another holds.
    assert_eq!(received.iter().collect::<std::collections::BTreeSet<_>>().len(), received.len());
    assert_eq!(received.len(), completed, "acknowledged and there");
    completed
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_commits_are_never_partial() {
    let cluster = TestCluster::own(Durability::Full).await.expect("a Postgres");
    let fleet = Fleet::start(Database::fresh_in(&cluster).await, SERVERS).await;
    let scene = Arc::new(Scene {
        fleet,
        over: AtomicBool::new(false),
        acknowledged: AtomicUsize::new(0),
        unknown: AtomicUsize::new(0),
        batches: Mutex::default(),
        completed: Mutex::default(),
    });
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(tokio::spawn(batches(scene.clone())));
        clients.push(tokio::spawn(workers(scene.clone())));
    }
    let is_enough = |kill| kill >= KILLS * scale() && scene.unknown.load(Ordering::Relaxed) > 0;
    // A kill between two calls cuts off none of them; then there is another.
    for kill in 0..=KILLS * scale() + MORE_KILLS {
        let before = scene.acknowledged.load(Ordering::Relaxed);
        let enough = || scene.acknowledged.load(Ordering::Relaxed) >= before + BETWEEN;
        eventually("some writes", async || enough().then_some(())).await;
        if is_enough(kill) {
            break;
        }
        if kill % 3 == 2 {
            cluster.postgres().kill().await;
            cluster.postgres().start_again().await.expect("it recovers");
        } else {
            scene.fleet.kill(kill % SERVERS, works).await;
        }
    }
    let committed = || scene.completed.lock().expect("no panic").len() >= BETWEEN;
    eventually("some commits", async || committed().then_some(())).await;
    scene.over.store(true, Ordering::Relaxed);
    for ended in join_all(clients).await {
        ended.expect("no panic");
    }
    let commits = check(&scene).await;
    let (acknowledged, unknown) = (scene.acknowledged.load(Ordering::Relaxed), scene.unknown.load(Ordering::Relaxed));
    println!("{acknowledged} acknowledged ({unknown} outcomes unknown at first), {commits} commits, none partial");
    assert!(acknowledged >= KILLS * scale() * BETWEEN && commits >= BETWEEN, "too little traffic");
    assert!(unknown > 0, "no call was cut off");
}
