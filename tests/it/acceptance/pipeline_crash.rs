//! Pipeline state: a crash at any instant leaves no partial state, and takes back nothing that was answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use interlock::proto::{self, StageState};
use serde_json::json;

use crate::harness::*;

const JOBS: usize = 12;

/// What clients received: for each job, the stages whose completion was answered, and the highest version seen.
type Answered = Arc<Mutex<BTreeMap<String, (Vec<String>, i64)>>>;

/// Works until the server goes away. Each completion does three things in one commit: it stores artifacts, adds the next
/// two stages, and sets the job's result.
async fn work_until_the_crash(api: Api, answered: Answered, count: Arc<AtomicUsize>) {
    loop {
        let request = proto::LeaseStagesRequest {
            worker_id: "worker".to_owned(),
            max_stages: 4,
            wait: seconds(5),
            lease_duration: seconds(1),
            ..Default::default()
        };
        let Ok(response) = api.workers().lease_stages(request).await else { return };
        for lease in response.into_inner().leases {
            let name = lease.stage_name.clone();
            let child = |side: &str| new_stage(&format!("{name}{side}"));
            let request = proto::CompleteStageRequest {
                target: token(&lease),
                artifacts: struct_of(json!({ "by": name })),
                add_stages: vec![child("l"), child("r")],
                job_result: struct_of(json!({ "last": name })),
                ..Default::default()
            };
            let Ok(response) = api.workers().complete_stage(request).await else { return };
            let mut answered = answered.lock().expect("no panic");
            let (stages, version) = answered.entry(lease.job_id).or_default();
            stages.push(name);
            *version = (*version).max(response.into_inner().applied_job_version);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// That a job is whole: every completion with all that came with it, and history for every change of state.
async fn check(api: &Api, job: &proto::Job) {
    let names: Vec<&str> = job.stages.iter().map(|stage| &*stage.name).collect();
    let mut done = 0;
    for stage in &job.stages {
        let children = ["l", "r"].map(|side| names.contains(&&*format!("{}{side}", stage.name)));
        let is_done = stage.state() == StageState::Succeeded;
        assert_eq!(stage.artifacts.is_some(), is_done, "{} of {}", stage.name, job.job_id);
        assert_eq!(children, [is_done; 2], "{} of {}", stage.name, job.job_id);
        if let Some(artifacts) = &stage.artifacts {
            assert_eq!(Some(artifacts), struct_of(json!({ "by": stage.name })).as_ref());
        }
        done += i32::from(is_done);
    }
    let counts = job.stage_counts.expect("counts");
    assert_eq!((counts.total as usize, counts.succeeded), (job.stages.len(), done));
    assert_eq!(job.result.is_some(), done > 0);
    let versions: Vec<i64> = api.events(&job.job_id).await.iter().map(|event| event.version).collect();
    assert!(versions.is_sorted());
    assert_eq!(versions.last(), Some(&job.version), "each change here is one of state");
    assert_eq!(versions.len() as i64, job.version, "every version has its event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_no_partial_state() {
    let database = Database::fresh().await;
    let answered = Answered::default();
    // Three lives: each ends in the middle of the work.
    for life in 1..=3 {
        let program = Program::start(&database).await;
        if life == 1 {
            let jobs = (0..JOBS).map(|i| program.api.submit(new_job(&format!("job-{i}"), vec![new_stage("s")])));
            join_all(jobs).await;
        }
        let count = Arc::new(AtomicUsize::new(0));
        let worker = || tokio::spawn(work_until_the_crash(program.api.clone(), answered.clone(), count.clone()));
        let workers: Vec<_> = (0..8).map(|_| worker()).collect();
        eventually("some work", async || (count.load(Ordering::Relaxed) >= 150).then_some(())).await;
        program.kill().await;
        for worker in workers {
            worker.await.expect("no panic");
        }
    }
    let server = Server::over(database, |_| {}).await;
    let answered = std::mem::take(&mut *answered.lock().expect("no panic"));
    assert!(answered.values().map(|(stages, _)| stages.len()).sum::<usize>() >= 450);
    for i in 0..JOBS {
        // The reaper may still take the leases of the last life back, so both reads have to see the same job.
        let job_id = format!("job-{i}");
        let job = eventually("a job at rest", async || {
            let job = server.api.job(&job_id).await;
            let leased = job.stages.iter().any(|stage| stage.state() == StageState::Running);
            (!leased).then_some(job)
        })
        .await;
        check(&server.api, &job).await;
        let (stages, version) = answered.get(&job_id).cloned().unwrap_or_default();
        assert!(job.version >= version, "{job_id}");
        for name in stages {
            assert_eq!(state_of(&job, &name), StageState::Succeeded, "{name} of {job_id} was answered");
        }
    }
}
