//! Callers that go on whatever happens, and note their replies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use interlock::proto;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::harness::*;

/// No caller gives up before the server has to.
const CALL: Duration = Duration::from_secs(60);
/// Promised are five seconds; the rest is for a machine with other things to do. The figure is printed.
const RECOVERY: Duration = Duration::from_secs(10);

/// The replies that one caller received.
#[derive(Default)]
pub struct CallerReplies {
    pub applied: Vec<String>,
    pub not_applied: Vec<String>,
    pub unknown: Vec<String>,
    /// How often each error was received.
    pub errors: BTreeMap<String, usize>,
    pub slowest: Duration,
}

/// Callers at work: some submit jobs, some read one.
pub struct Load {
    api: Api,
    stop: CancellationToken,
    callers: Vec<JoinHandle<CallerReplies>>,
    written: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
}

/// Code and reason of an error, and whether it can have been applied.
pub fn reason(status: &Status) -> (String, bool) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    (format!("{:?} {}", status.code(), info.reason), info.metadata["outcome"] != "NOT_APPLIED")
}

pub async fn health(api: &Api) -> ServingStatus {
    let request = HealthCheckRequest { service: String::new() };
    ok(api.health().check(request).await).status()
}

impl Load {
    /// Starts callers of a server.
    pub async fn start(api: &Api, callers: usize) -> Load {
        let name = unique();
        api.submit(new_job(&name, vec![new_stage("s")])).await;
        let (stop, written, read) = (CancellationToken::new(), Arc::default(), Arc::default());
        let mut load = Load { api: api.clone(), stop, callers: Vec::new(), written, read };
        for caller in 0..callers {
            let (api, stop) = (load.api.clone(), load.stop.clone());
            let count = if is_reader(caller) { load.read.clone() } else { load.written.clone() };
            load.callers.push(tokio::spawn(call(api, stop, count, name.clone(), caller)));
        }
        load.goes_on().await;
        load
    }

    /// Waits until writes and reads succeed that were sent from now on.
    pub async fn goes_on(&self) {
        for count in [&self.written, &self.read] {
            let before = count.load(Ordering::Acquire);
            // Those under way may be answers to calls of before.
            let enough = before + self.callers.len() + 5;
            eventually("calls that succeed", async || (count.load(Ordering::Acquire) >= enough).then_some(())).await;
        }
    }

    /// Waits until health says so.
    pub async fn health_is(&self, status: ServingStatus) {
        eventually("health", async || (health(&self.api).await == status).then_some(())).await;
    }

    /// How long it takes from now on until all is well.
    pub async fn recovery(&self, after: &str) {
        let healed = Instant::now();
        self.goes_on().await;
        let calls = healed.elapsed();
        self.health_is(ServingStatus::Serving).await;
        println!("{after}: calls succeed after {calls:?}, health tells it after {:?}", healed.elapsed());
        assert!(healed.elapsed() < RECOVERY, "{:?}", healed.elapsed());
    }

    /// Ends the callers and compares their replies with what is stored. Returns the replies.
    pub async fn end(self, after: &str) -> CallerReplies {
        self.stop.cancel();
        let mut all = CallerReplies::default();
        for caller in self.callers {
            let received = caller.await.expect("no panic");
            all.applied.extend(received.applied);
            all.not_applied.extend(received.not_applied);
            all.unknown.extend(received.unknown);
            received.errors.into_iter().for_each(|(error, times)| *all.errors.entry(error).or_default() += times);
            all.slowest = all.slowest.max(received.slowest);
        }
        let exists = async |job_id: &String| {
            let request = proto::GetJobRequest { job_id: job_id.clone(), ..Default::default() };
            match self.api.jobs().get_job(request).await {
                Ok(_) => true,
                Err(status) => {
                    assert_eq!(status.code(), Code::NotFound, "{status:?}");
                    false
                }
            }
        };
        for job_id in &all.applied {
            assert!(exists(job_id).await, "{job_id} was acknowledged and is lost");
        }
        for job_id in &all.not_applied {
            assert!(!exists(job_id).await, "{job_id} was reported as not applied and is stored");
        }
        println!(
            "{after}: {} applied, {} not, {} unknown; slowest {:?}; {:?}",
            all.applied.len(),
            all.not_applied.len(),
            all.unknown.len(),
            all.slowest,
            all.errors
        );
        let fine = ["Unavailable STORE_UNAVAILABLE", "Unavailable OUTCOME_UNKNOWN", "Aborted CONFLICT"];
        assert!(all.errors.keys().all(|error| fine.contains(&&**error)), "{:?}", all.errors);
        all
    }
}

fn is_reader(caller: usize) -> bool {
    caller % 4 == 3
}

async fn call(
    api: Api,
    stop: CancellationToken,
    count: Arc<AtomicUsize>,
    name: String,
    caller: usize,
) -> CallerReplies {
    let (mut received, reader) = (CallerReplies::default(), is_reader(caller));
    for round in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let job_id = format!("{name}.{caller}.{round}");
        let began = Instant::now();
        let answer = if reader {
            let mut request = tonic::Request::new(proto::GetJobRequest { job_id: name.clone(), ..Default::default() });
            request.set_timeout(CALL);
            api.jobs().get_job(request).await.map(drop)
        } else {
            let mut request = tonic::Request::new(new_job(&job_id, vec![new_stage("s")]));
            request.set_timeout(CALL);
            api.jobs().submit_job(request).await.map(drop)
        };
        received.slowest = received.slowest.max(began.elapsed());
        match answer.map_err(|status| reason(&status)) {
            Ok(()) => {
                count.fetch_add(1, Ordering::AcqRel);
                if !reader {
                    received.applied.push(job_id);
                }
            }
            Err((error, may_be_applied)) => {
                *received.errors.entry(error).or_default() += 1;
                match (reader, may_be_applied) {
                    (true, _) => {}
                    (false, true) => received.unknown.push(job_id),
                    (false, false) => received.not_applied.push(job_id),
                }
                // A client waits a moment before it tries again.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    received
}
