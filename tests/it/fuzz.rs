//! Random calls of every rpc, many at once: each answer is in time, has a reason, and is never INTERNAL or UNKNOWN.
//!
//! Requests are made from the descriptors of what is served, so that no rpc and no field is forgotten. Ids and tokens come from
//! earlier replies, most values are such as users send, some are the worst there are.
//!
//! By default it is a small run that every `cargo test` can afford. `INTERLOCK_FUZZ=100000 INTERLOCK_FUZZ_SEED=7 cargo test
//! --test it fuzz -- --nocapture` makes so many calls with the random numbers of this seed; without a seed each run has its
//! own, which it prints. Calls meet in another order in each run, so a seed brings back the requests, not their meeting.

mod calls;
mod pool;
mod requests;
mod values;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use interlock::proto;
use prost_reflect::DescriptorPool;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tonic::metadata::MetadataMap;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use self::calls::{Answer, Target};
use self::pool::Pool;
use self::requests::Maker;
use crate::harness::*;

/// Calls at a time.
const IN_FLIGHT: u64 = 32;
const CONNECTIONS: usize = 4;
/// Calls of a small run.
const CALLS: usize = 2_000;
/// Different faults after which a run ends.
const FAULTS: usize = 20;
/// Shares of wild values in a request, one of which is chosen for each.
const WILDNESS: &[f64] = &[0.0, 0.0, 0.0, 0.0, 0.01, 0.02, 0.05, 0.3];
/// Methods that others live on, by how many more of their calls are made.
const OFTEN: &[(&str, usize)] = &[
    ("SubmitJob", 3),
    ("LeaseStages", 3),
    ("AcquirePermit", 2),
    ("UpdateRecord", 2),
    ("CompleteStage", 1),
    ("CompleteStages", 1),
    ("Commit", 3),
];

/// What all tasks share.
struct Run {
    targets: Vec<Target>,
    calls: usize,
    begun: AtomicUsize,
    pool: Mutex<Pool>,
    report: Mutex<Report>,
}

#[derive(Default)]
struct Report {
    /// Answers by method and code.
    answers: BTreeMap<(String, String), usize>,
    /// By method and what is wrong, so that each is shown once, with the request.
    faults: BTreeMap<String, String>,
}

impl Run {
    fn report(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().expect("no panic")
    }

    /// Calls until all calls of the run are begun, or there are too many faults.
    async fn work(self: Arc<Self>, api: Api, mut rng: StdRng) {
        while self.begun.fetch_add(1, Ordering::Relaxed) < self.calls && self.report().faults.len() < FAULTS {
            let target = values::one(&self.targets, &mut rng);
            let (message, bytes, metadata) = {
                let pool = self.pool.lock().expect("no panic");
                let wildness = values::one(WILDNESS, &mut rng);
                let mut maker = Maker { pool: &pool, rng: &mut rng, wildness };
                let (message, bytes) = maker.request(&target.input);
                (message, bytes, calls::metadata(&pool, &mut rng))
            };
            let answer = calls::call(&api.channel, &target, bytes.clone(), metadata.clone()).await;
            self.note(&target, &answer, || calls::shown(&message, &bytes, &metadata));
            if let Answer::Replies(replies) = &answer {
                let mut pool = self.pool.lock().expect("no panic");
                replies.iter().for_each(|reply| pool.learn(reply, &mut rng));
            }
        }
    }

    fn note(&self, target: &Target, answer: &Answer, request: impl FnOnce() -> String) {
        let code = match answer {
            Answer::Replies(_) => "Ok".to_owned(),
            Answer::Refused(status) => format!("{:?}", status.code()),
            Answer::ClientDeadline => "deadline of the client".to_owned(),
            Answer::Hung => "no answer".to_owned(),
        };
        let path = target.path.to_string();
        let fault = calls::fault(target, answer);
        let mut report = self.report();
        *report.answers.entry((path.clone(), code)).or_default() += 1;
        if let Some(fault) = fault {
            // An id in it makes no other fault of it.
            let key: String = fault.chars().filter(|letter| !letter.is_ascii_hexdigit()).take(80).collect();
            report.faults.entry(format!("{path} {key}")).or_insert_with(|| {
                let shown = format!("{path}: {fault}\n    request {}", request());
                println!("FAULT {shown}");
                shown
            });
        }
    }
}

/// All that is served except reflection.
fn targets() -> Vec<Target> {
    let mut pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("our own descriptors");
    pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET).expect("the descriptors of health");
    let mut targets = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        // Of a stream of requests one message is made.
        let is_made = !method.is_client_streaming() || ["Work", "ImportSegments"].contains(&method.name());
        assert!(is_made, "{}: no requests for it", method.full_name());
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let target = Target {
            path: path.parse().expect("a path"),
            input: method.input(),
            output: method.output(),
            is_stream: method.is_server_streaming(),
        };
        let more = OFTEN.iter().find(|(name, _)| *name == method.name()).map_or(0, |(_, more)| *more);
        targets.extend(vec![target; 1 + more]);
    }
    assert!(targets.len() > 50, "{}", targets.len());
    targets
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_calls_of_every_rpc_are_answered_in_time_with_a_reason() {
    let seed: u64 = setting("INTERLOCK_FUZZ_SEED").unwrap_or_else(rand::random);
    let calls = setting("INTERLOCK_FUZZ").unwrap_or(CALLS);
    println!("INTERLOCK_FUZZ={calls} INTERLOCK_FUZZ_SEED={seed}");
    if calls > CALLS {
        // What the server logs about a fault.
        let _is_set = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).try_init();
    }
    let server = Server::start().await;
    let run = Arc::new(Run {
        targets: targets(),
        calls,
        begun: AtomicUsize::new(0),
        pool: Mutex::default(),
        report: Mutex::default(),
    });
    let mut apis = Vec::new();
    for _ in 0..CONNECTIONS {
        apis.push(Api::connect(server.address).await);
    }
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .zip(apis.iter().cycle())
        .map(|(task, api)| {
            tokio::spawn(Arc::clone(&run).work(api.clone(), StdRng::seed_from_u64(seed.wrapping_add(task))))
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    show(&run.report(), calls);
    let faults: Vec<_> = run.report().faults.values().cloned().collect();
    assert!(faults.is_empty(), "INTERLOCK_FUZZ_SEED={seed}: {} faults:\n{}", faults.len(), faults.join("\n"));
    still_serves(server, &run).await;
}

/// Prints how often each code was answered; in a large run also by which method.
fn show(report: &Report, calls: usize) {
    let mut codes = BTreeMap::<&str, usize>::new();
    for ((path, code), count) in &report.answers {
        *codes.entry(code).or_default() += count;
        if calls > CALLS {
            println!("{count:>7}  {code:<24} {path}");
        }
    }
    println!("answers: {codes:?}");
    // Too many mistakes in the requests would show nothing.
    let total: usize = codes.values().sum();
    assert!(codes.get("Ok").is_some_and(|ok| *ok * 4 > total), "{codes:?}");
}

/// After all that, over a new connection: it is healthy, its figures are numbers, and a job goes all its way.
async fn still_serves(server: Server, run: &Run) {
    let api = Api::connect(server.address).await;
    let health = api.health().check(HealthCheckRequest::default()).await.expect("health").into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    let statistics = run.targets.iter().find(|target| target.path.as_str().ends_with("/GetStatistics"));
    let statistics = statistics.expect("it is served");
    let answer = calls::call(&api.channel, statistics, Vec::new(), MetadataMap::new()).await;
    assert!(matches!(answer, Answer::Replies(_)));
    assert_eq!(calls::fault(statistics, &answer), None);

    let (queue, job_id) = ("after-all", "after-all");
    let spec = proto::StageSpec { queue: queue.to_owned(), ..new_stage("s") };
    api.submit(new_job(job_id, vec![spec])).await;
    api.complete(&api.lease(queue).await, serde_json::json!({})).await;
    api.job_in(job_id, proto::JobState::Succeeded).await;
    drop(api);
    server.stop().await;
}
