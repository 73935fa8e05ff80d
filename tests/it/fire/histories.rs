//! Histories of compare-and-set operations by many clients on servers that are killed, checked for linearizability.
//!
//! Each client records when it sends and when it is answered. The replies must be explained by some order in which
//! each operation takes effect at one instant between the two. An operation whose outcome is unknown may take effect at any
//! instant after it was sent, or never. The checker is a library's; that it would notice is shown on the same histories with
//! one lie in each.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use interlock::proto;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use super::answers::Answer;
use super::fleet::{Fleet, once};
use super::scale;
use crate::harness::*;

const CLIENTS: usize = 16;
/// Jobs at a time; the histories of each are checked for themselves, so they stay short.
const JOBS: usize = 8;
/// Operations of each client in a round.
const OPERATIONS: usize = 60;
/// Kills in a round.
const KILLS: usize = 3;

/// What a job holds, as far as these operations go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    job_version: i64,
    label: String,
    /// The version of its stage.
    version: i64,
    /// The message of its stage.
    message: String,
}

/// What a call came to.
#[derive(Clone, Debug)]
enum Reply {
    /// It was done, at this job_version.
    Done(i64),
    /// Another version was there.
    Mismatch(i64),
    Unknown,
}

/// An operation with its outcome.
#[derive(Clone, Debug)]
enum Operation {
    Read(State),
    /// Set the label if the job has this version.
    SetLabel {
        expected: i64,
        label: String,
        received: Reply,
    },
    /// Set the message of the stage if that has a version.
    SetMessage {
        expected: i64,
        message: String,
        received: Reply,
    },
}

struct OneJob;

impl Specification for OneJob {
    type State = State;
    type Operation = Operation;

    fn init() -> State {
        State { job_version: 1, label: String::new(), version: 1, message: String::new() }
    }

    fn apply(operation: &Operation, state: &State) -> (bool, State) {
        let job_version = state.job_version + 1;
        let (received, current, expected, next) = match operation {
            Operation::Read(read) => return (read == state, state.clone()),
            Operation::SetLabel { expected, label, received } => {
                (received, state.job_version, *expected, State { job_version, label: label.clone(), ..state.clone() })
            }
            Operation::SetMessage { expected, message, received } => {
                let version = state.version + 1;
                let next = State { job_version, version, message: message.clone(), ..state.clone() };
                (received, state.version, *expected, next)
            }
        };
        match received {
            Reply::Done(applied) => (current == expected && *applied == next.job_version, next),
            Reply::Mismatch(actual) => (current != expected && *actual == current, state.clone()),
            Reply::Unknown if current == expected => (true, next),
            Reply::Unknown => (true, state.clone()),
        }
    }
}

/// What one client did, in order.
enum Noted {
    Sent,
    Answered(Operation),
}

/// What was seen of one job: sent and answered, with the number of the operation.
#[derive(Default)]
struct Record {
    events: Vec<(usize, Noted)>,
    operations: usize,
    /// The newest version and version of the stage that any client received, for the next to expect.
    known: (i64, i64),
}

impl Record {
    /// As the checker wants it. The number of an operation serves as its process, so that one of unknown outcome does not
    /// end a process; its answer comes after everything else.
    fn history(&self, lie: Option<Operation>) -> Vec<(usize, Action<Operation>)> {
        let mut actions = Vec::new();
        let mut late = Vec::new();
        for (number, noted) in &self.events {
            match noted {
                // The checker looks at the operation in the answer only.
                Noted::Sent => actions.push((*number, Action::Call(Operation::Read(OneJob::init())))),
                Noted::Answered(operation) if operation.is_unknown() => {
                    late.push((*number, Action::Response(operation.clone())));
                }
                Noted::Answered(operation) => actions.push((*number, Action::Response(operation.clone()))),
            }
        }
        if let Some(lie) = lie {
            actions.push((self.operations, Action::Call(lie.clone())));
            actions.push((self.operations, Action::Response(lie)));
        }
        actions.extend(late);
        actions
    }

    /// A read after all this that shows what was there before the last change that is known to have been done.
    fn stale_read(&self) -> Operation {
        let done = |(_, noted): &(usize, Noted)| match noted {
            Noted::Answered(Operation::Read(state)) => Some(state.clone()),
            Noted::Answered(_) | Noted::Sent => None,
        };
        let newest = self.newest();
        let older = self.events.iter().filter_map(done).filter(|state| state.job_version < newest);
        Operation::Read(older.max_by_key(|state| state.job_version).unwrap_or_else(OneJob::init))
    }

    /// The newest version that any client received.
    fn newest(&self) -> i64 {
        let received = |(_, noted): &(usize, Noted)| match noted {
            Noted::Answered(Operation::Read(state)) => state.version,
            Noted::Answered(Operation::SetLabel { received: Reply::Done(version), .. }) => *version,
            Noted::Answered(Operation::SetMessage { received: Reply::Done(version), .. }) => *version,
            Noted::Answered(_) | Noted::Sent => 1,
        };
        self.events.iter().map(received).max().unwrap_or(1)
    }
}

impl Operation {
    fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::SetLabel { received: Reply::Unknown, .. } | Self::SetMessage { received: Reply::Unknown, .. }
        )
    }
}

#[derive(Default)]
struct Counts {
    done: AtomicUsize,
    refused: AtomicUsize,
    reads: AtomicUsize,
    unknown: AtomicUsize,
}

struct Scene {
    fleet: Fleet,
    jobs: Vec<(String, Mutex<Record>)>,
    counts: Counts,
}

impl Scene {
    /// One operation of a client.
    async fn operate(&self, id: String, job: usize) {
        let (job_id, record) = &self.jobs[job];
        let api = self.fleet.api();
        let (number, (job_version, version)) = {
            let mut record = record.lock().expect("no panic");
            record.operations += 1;
            let number = record.operations - 1;
            record.events.push((number, Noted::Sent));
            (number, record.known)
        };
        let operation = match rand::random_range(0..3) {
            0 => read(&api, job_id).await,
            1 => {
                let expected = job_version.max(1);
                let request = proto::UpdateJobRequest {
                    job_id: job_id.clone(),
                    labels: labels(&[("by", &id)]),
                    expected_version: Some(expected),
                    ..Default::default()
                };
                let received = reply_of(once(api.jobs().update_job(request)).await.map(|it| it.applied_version));
                received.map(|received| Operation::SetLabel { expected, label: id, received })
            }
            _ => {
                let expected = version.max(1);
                let request = proto::UpdateStageProgressRequest {
                    target: Target::named(job_id, "main"),
                    message: Some(id.clone()),
                    expected_version: Some(expected),
                    ..Default::default()
                };
                let answer = once(api.workers().update_stage_progress(request)).await;
                let received = reply_of(answer.map(|it| it.applied_job_version));
                received.map(|received| Operation::SetMessage { expected, message: id, received })
            }
        };
        let Some(operation) = operation else {
            // It surely changed nothing and says nothing: as if it had not been sent.
            let mut record = record.lock().expect("no panic");
            record.events.retain(|(sent, _)| *sent != number);
            return;
        };
        let (count, received) = match &operation {
            Operation::Read(state) => (&self.counts.reads, (state.job_version, state.version)),
            Operation::SetLabel { received: Reply::Done(job_version), .. } => (&self.counts.done, (*job_version, 0)),
            Operation::SetLabel { received: Reply::Mismatch(job_version), .. } => {
                (&self.counts.refused, (*job_version, 0))
            }
            Operation::SetMessage { expected, received: Reply::Done(job_version), .. } => {
                (&self.counts.done, (*job_version, expected + 1))
            }
            Operation::SetMessage { received: Reply::Mismatch(version), .. } => (&self.counts.refused, (0, *version)),
            Operation::SetLabel { .. } | Operation::SetMessage { .. } => (&self.counts.unknown, (0, 0)),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let mut record = record.lock().expect("no panic");
        record.known = (record.known.0.max(received.0), record.known.1.max(received.1));
        record.events.push((number, Noted::Answered(operation)));
    }

    fn operations(&self) -> usize {
        let Counts { done, refused, reads, unknown } = &self.counts;
        [done, refused, reads, unknown].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// What a read returned. None: it was cut off.
async fn read(api: &Api, job_id: &str) -> Option<Operation> {
    let request = proto::GetJobRequest { job_id: job_id.to_owned(), ..Default::default() };
    match once(api.jobs().get_job(request)).await {
        Answer::Done(answer) => Some(Operation::Read(state_of_job(&answer.job.expect("a job")))),
        Answer::Refused(refusal) => panic!("{refusal:?}"),
        Answer::NotNow(_) | Answer::Unknown(_) => None,
    }
}

fn state_of_job(job: &proto::Job) -> State {
    let main = stage(job, "main");
    let label = job.labels.get("by").cloned().unwrap_or_default();
    State { job_version: job.version, label, version: main.version, message: main.message.clone() }
}

fn reply_of(answer: Answer<i64>) -> Option<Reply> {
    match answer {
        Answer::Done(job_version) => Some(Reply::Done(job_version)),
        Answer::Refused(refusal) => {
            assert_eq!(refusal.reason, "VERSION_MISMATCH", "{refusal:?}");
            Some(Reply::Mismatch(refusal.number("actual")))
        }
        Answer::NotNow(_) => None,
        Answer::Unknown(_) => Some(Reply::Unknown),
    }
}

/// One round: new jobs, and servers killed while the clients are at it.
async fn round(fleet: Fleet, round: usize) -> Scene {
    let direct = |name: &str| proto::StageSpec { direct: true, ..new_stage(name) };
    let jobs = (0..JOBS).map(|i| format!("job-{round}-{i}"));
    let jobs = jobs.map(|job_id| async {
        let job = fleet.api().submit(new_job(&job_id, vec![direct("main")])).await;
        assert_eq!(state_of_job(&job), OneJob::init());
        (job_id, Mutex::default())
    });
    let jobs = join_all(jobs).await;
    let scene = Scene { fleet, jobs, counts: Counts::default() };
    let client = |client: usize| {
        let scene = &scene;
        async move {
            for i in 0..OPERATIONS {
                let job = rand::random_range(0..JOBS);
                scene.operate(format!("{client}.{i}"), job).await;
            }
        }
    };
    let kills = async {
        for kill in 0..KILLS {
            let after = (kill + 1) * CLIENTS * OPERATIONS / (KILLS + 1);
            eventually("enough operations", async || (scene.operations() >= after).then_some(())).await;
            scene.fleet.kill(kill % 2, async |api| read(api, &scene.jobs[0].0).await.is_some()).await;
        }
    };
    futures::join!(join_all((0..CLIENTS).map(client)), kills);
    scene
}

/// How long one search may take.
const SEARCH_LIMIT: Duration = Duration::from_secs(20);
/// One history in so many may be undecided.
const MOST_UNDECIDED: usize = 12;

/// What the checker says of histories.
#[derive(Debug, Default)]
pub struct Verdicts {
    histories: usize,
    /// Those that cannot be explained.
    violations: usize,
    /// Those that could not be explained once a lie was put into them.
    noticed: usize,
    /// Searches that did not end in time.
    undecided: usize,
}

impl Verdicts {
    /// Checks a history as it was and with a lie in it. Whether it can be explained.
    pub async fn add<S>(&mut self, plain: Vec<Step<S>>, lie: Vec<Step<S>>) -> bool
    where
        S: Specification + 'static,
        S::Operation: Send + 'static,
    {
        self.histories += 1;
        let (plain, lie) = (is_linearizable::<S>(plain).await, is_linearizable::<S>(lie).await);
        self.violations += usize::from(plain == Some(false));
        self.noticed += usize::from(lie == Some(false));
        self.undecided += [plain, lie].into_iter().filter(Option::is_none).count();
        plain != Some(false)
    }

    /// That no history is wrong, and every lie is noticed. A few may be undecided.
    pub fn check(&self) {
        assert_eq!(self.violations, 0, "{self:?}");
        assert!(self.noticed + self.undecided >= self.histories, "{self:?}");
        assert!(self.undecided * MOST_UNDECIDED <= self.histories, "{self:?}");
    }
}

type Step<S> = (usize, Action<<S as Specification>::Operation>);

/// Whether a history can be explained; `None` if the search did not end in time. It is exponential in the calls that overlap, above all in those of
/// unknown outcome, which overlap with all that follows; a kill makes many of them.
async fn is_linearizable<S>(actions: Vec<Step<S>>) -> Option<bool>
where
    S: Specification + 'static,
    S::Operation: Send + 'static,
{
    let (received, hears) = tokio::sync::oneshot::channel();
    // A thread of its own, since one that searches for ever would keep the runtime from ending.
    std::thread::spawn(move || received.send(WGLChecker::<S>::is_linearizable(History::from_actions(actions))));
    let checked = tokio::time::timeout(SEARCH_LIMIT, hears).await.ok()?;
    Some(checked.expect("no panic"))
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_with_kills_are_linearizable() {
    let database = Database::fresh().await;
    let (mut operations, mut done, mut refused, mut unknown, mut longest) = (0, 0, 0, 0, 0);
    let mut verdicts = Verdicts::default();
    for i in 0..scale() {
        let scene = round(Fleet::start(database.clone(), 2).await, i).await;
        for (job_id, record) in &scene.jobs {
            let (plain, lie) = {
                let record = record.lock().expect("no panic");
                longest = longest.max(record.operations);
                (record.history(None), record.history(Some(record.stale_read())))
            };
            if !verdicts.add::<OneJob>(plain, lie).await {
                eprintln!("cannot be explained: {job_id}");
            }
        }
        operations += scene.operations();
        done += scene.counts.done.load(Ordering::Relaxed);
        refused += scene.counts.refused.load(Ordering::Relaxed);
        unknown += scene.counts.unknown.load(Ordering::Relaxed);
    }
    eprintln!(
        "histories of at most {longest} operations, {operations} operations by {CLIENTS} clients on 2 servers ({done} sets done, \
         {refused} refused), {} kills, {unknown} unknown outcomes; lies are planted stale reads: {verdicts:?}",
        KILLS * scale()
    );
    verdicts.check();
    assert!(operations >= CLIENTS * OPERATIONS * scale() * 9 / 10 && done >= operations / 5, "too little traffic");
    assert!(refused >= operations / 50 && unknown >= 1, "too little contention");
}
