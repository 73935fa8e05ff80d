//! Carries out the steps of a history and compares what comes with what the model expects.

use std::time::Duration;

use foldhash::HashMap;
use uuid::Uuid;

use super::history::{History, Pick, Step, Word, digest, planned};
use super::model::{Expected, Model};
use crate::domain::failure::FailureReport;
use crate::domain::id::{Name, StageNo};
use crate::domain::job::{Job, JobState, StageCredential};
use crate::domain::refusal::Refusal;
use crate::domain::stage::{NewStage, Stage, StagePhase, StageState};
use crate::operation::Operation;
use crate::operation::control_job::{Control, ControlJob};
use crate::operation::delete_job::DeleteJob;
use crate::operation::end_stage::{End, EndStage};
use crate::operation::grow_job::AddStages;
use crate::operation::heartbeat::RenewLeases;
use crate::operation::lease_stages::LeaseStages;
use crate::operation::reap::Reap;
use crate::operation::start_stage::StartStage;
use crate::operation::submit_jobs::SubmitJobs;
use crate::operation::tests::bench::{Bench, Outcome, target};
use crate::operation::tests::build::{self, JOB_ID, NAMESPACE, key, secs};
use crate::operation::tests::requests::identity;
use crate::operation::update_progress::UpdateProgress;
use crate::operation::wake::Wake;

/// Bound of the rounds until the end without interference: stages times attempts times steps of an attempt, and some more.
const MOST_ROUNDS: usize = 600;

pub struct Sim<'a> {
    history: &'a History,
    pub bench: Bench,
    pub(super) model: Model,
    requests: u128,
    pub(super) names: usize,
    /// What was last said of each stage that came later, as far as it was applied, and what the step at hand says.
    pub(super) said: HashMap<Name, NewStage>,
    pub(super) saying: Option<NewStage>,
}

impl<'a> Sim<'a> {
    pub fn new(history: &'a History) -> Self {
        let mut sim = Self {
            history,
            bench: Bench::empty(),
            model: Model::default(),
            requests: 0,
            names: 0,
            said: HashMap::default(),
            saying: None,
        };
        sim.step(&Step::Submit);
        sim
    }

    /// The operation of a step on what is now; `None` where there is nothing it could be about.
    pub fn operation(&mut self, step: &Step) -> Option<Box<dyn Operation>> {
        self.requests += 1;
        self.saying = None;
        let request = identity(self.requests, 1);
        let control = |control| -> Option<Box<dyn Operation>> {
            Some(Box::new(ControlJob { key: key(), job_id: JOB_ID.into(), control, expected_revision: None, request }))
        };
        match step {
            Step::Poll(pick, lease) => {
                let no = self.pick(*pick)?.no;
                let grant = self.bench.grant(lease.map(secs));
                Some(Box::new(LeaseStages { key: key(), stages: vec![(no, grant)], group: None, slots: Vec::new() }))
            }
            Step::Token(pick, word) => {
                let granted = self.model.granted.get(self.token(*pick)?)?.token;
                self.say(StageCredential::Token(granted), word)
            }
            Step::Name(pick, word) => {
                let name = self.pick(*pick)?.spec.name.clone();
                self.say(StageCredential::Name(name), word)
            }
            Step::Reap(pick) => {
                let stage = self.pick(*pick)?;
                Some(Box::new(Reap { key: key(), stage_no: stage.no, token_secret: stage.token_secret?, jitter: 0.0 }))
            }
            Step::WakeJob => Some(Box::new(Wake { key: key(), stage_no: None, jitter: 0.0 })),
            Step::WakeStage(pick, jitter) => {
                Some(Box::new(Wake { key: key(), stage_no: Some(self.pick(*pick)?.no), jitter: *jitter }))
            }
            Step::Pass(_) => None,
            Step::Cancel(grace) => control(Control::Cancel { grace: secs(*grace), reason: None }),
            Step::Pause => control(Control::Pause),
            Step::Resume => control(Control::Resume),
            Step::Retry(from) => {
                let from_stage = from.and_then(|pick| Some(self.pick(pick)?.spec.name.clone()));
                control(Control::Retry { from_stage })
            }
            Step::Update(priority) => {
                control(Control::Update { labels: None, priority: Some(*priority), context: Vec::new() })
            }
            Step::Delete => {
                Some(Box::new(DeleteJob { key: key(), job_id: JOB_ID.into(), expected_revision: None, request }))
            }
            Step::Submit => Some(Box::new(SubmitJobs { jobs: vec![(self.job(), "stages".into())], request })),
        }
    }

    fn say(&mut self, credential: StageCredential, word: &Word) -> Option<Box<dyn Operation>> {
        let request = identity(self.requests, 1);
        let digest = Uuid::from_u128(digest(word));
        let end = |end| -> Option<Box<dyn Operation>> {
            Some(Box::new(EndStage {
                target: target(credential.clone()),
                end,
                digest,
                expected_version: None,
                request: None,
            }))
        };
        match word {
            Word::Heartbeat => match credential {
                StageCredential::Token(token) => {
                    Some(Box::new(RenewLeases { namespace: NAMESPACE, tokens: vec![token] }))
                }
                StageCredential::Name(_) => None,
            },
            Word::Progress(progress, message) => Some(Box::new(UpdateProgress {
                target: target(credential),
                progress: progress.map(|progress| f64::from(progress) / 16.0),
                message: message.then(|| Name::from(format!("at {}", self.requests))),
                expected_version: None,
                request,
            })),
            Word::Complete(_, growth) => {
                let add_stages = growth.iter().map(|growth| self.grown(growth)).collect();
                end(End::Complete { artifacts: None, job_result: None, message: None, add_stages })
            }
            Word::Fail(class, retry_after, jitter) => {
                let retry_after = retry_after.map(secs);
                let report = FailureReport { retry_after, ..build::report(*class) };
                end(End::Fail { report, jitter: *jitter })
            }
            Word::Release => end(End::Release),
            Word::Add(growth) => {
                let stages = vec![self.grown(growth)];
                Some(Box::new(AddStages { target: target(credential), stages, request }))
            }
            Word::Start(lease) => {
                let StageCredential::Name(stage_name) = credential else { return None };
                let grant = lease.then(|| self.bench.grant(None));
                let job_id = JOB_ID.into();
                Some(Box::new(StartStage {
                    key: key(),
                    job_id,
                    stage_name,
                    grant,
                    permit_id: uuid::Uuid::nil(),
                    expected_version: None,
                    request,
                }))
            }
        }
    }

    /// Lets the clock go on, if that is the step.
    pub fn pass(&mut self, step: &Step) {
        if let Step::Pass(wait) = step {
            self.bench.pass(*wait);
        }
    }

    /// One step, with what the model says to it.
    pub fn step(&mut self, step: &Step) {
        self.pass(step);
        let Some(operation) = self.operation(step) else { return };
        let before = self.bench.find();
        let expected = self.expected(step, before.as_deref());
        let outcome = self.bench.run(&*operation);
        compare(step, expected, &outcome);
        if let (Step::Poll(pick, _), Some(job)) = (step, &before) {
            let stage = &job.stages[StageNo::from(*pick) % StageNo::try_from(job.stages.len()).expect("few stages")];
            let free = stage.phase() == StagePhase::Ready && !stage.spec.direct;
            let hands_out = matches!(job.state, JobState::Pending | JobState::Running);
            assert_eq!(outcome.as_ref().is_ok_and(|reply| reply.applied), free && hands_out, "{step:?}");
        }
        self.compare_naming(step, before.as_deref(), &outcome);
        self.learn(step, before.as_deref(), &outcome);
        if operation.request().is_some() {
            let state = format!("{:?}", self.bench.find());
            let again = self.bench.run(&*operation);
            assert_eq!(again.is_ok(), outcome.is_ok(), "{step:?} again");
            assert!(again.is_err() || again.is_ok_and(|reply| reply.replayed.is_some()), "{step:?} is replayed");
            assert_eq!(format!("{:?}", self.bench.find()), state, "{step:?} changes nothing when it is repeated");
        }
        self.compare_tokens();
    }

    fn expected(&self, step: &Step, job: Option<&Job>) -> Option<Expected> {
        match (step, job) {
            (Step::Token(pick, word), job) => Some(self.model.by_token(job, self.token(*pick)?, word, digest(word))),
            (Step::Name(pick, word), Some(job)) => Some(Model::by_name(job, self.pick(*pick)?, word)),
            (Step::Cancel(_), Some(job)) => Some(match job.state {
                JobState::Succeeded | JobState::Failed => Expected::Transition,
                JobState::Cancelled | JobState::Cancelling { .. } | JobState::Failing { .. } => Expected::Repeat,
                JobState::Pending | JobState::Running | JobState::Paused { .. } => Expected::Fine,
            }),
            (Step::Pause | Step::Resume, Some(job)) => {
                Some(if job.state.is_active() { Expected::Fine } else { Expected::Transition })
            }
            (Step::Retry(from), Some(job)) => Some(match job.state {
                JobState::Failed | JobState::Cancelled => Expected::Fine,
                JobState::Succeeded if from.is_some() => Expected::Fine,
                _ => Expected::Transition,
            }),
            (Step::Delete, Some(job)) => {
                Some(if job.state.is_terminal() { Expected::Fine } else { Expected::Transition })
            }
            (_, _) => None,
        }
    }

    /// Notes what a step has changed about who may speak.
    fn learn(&mut self, step: &Step, before: Option<&Job>, outcome: &Outcome) {
        let Some(after) = self.bench.find() else {
            self.model.newest.clear();
            self.model.outcomes.clear();
            self.model.parents.clear();
            return;
        };
        let Some(before) = before.filter(|before| before.meta.create_time == after.meta.create_time) else { return };
        for stage in after
            .stages
            .iter()
            .filter(|stage| !matches!(before.stages.get(stage.no), Some(old) if old.version == stage.version))
        {
            let old = before.stages.get(stage.no);
            let token = stage.token(key().uid).filter(|_| stage.lease().is_some());
            if old.is_some_and(|old| old.fencing_token < stage.fencing_token) {
                self.model.begun(stage, token);
            }
            if before.run != after.run {
                self.model.newest.remove(&stage.no);
                self.model.outcomes.remove(&stage.no);
            }
        }
        let Ok(reply) = outcome else { return };
        let (Some(&no), true) = (reply.stages.first(), reply.applied) else {
            if let Step::WakeStage(pick, _) = step {
                self.learn_timeout(*pick, before, &after);
            }
            return;
        };
        let ended = after.stages[no].phase().is_terminal();
        match step {
            Step::Token(pick, word) => self.learn_word(no, self.token(*pick), word, ended),
            Step::Reap(_) => {
                if let Some(&index) = self.model.newest.get(&no) {
                    self.model.granted[index].reaped = true;
                }
            }
            Step::Name(_, Word::Fail(_, after, jitter)) => self.compare_wait(no, *after, *jitter),
            _ => {}
        }
    }

    fn learn_word(&mut self, no: StageNo, index: Option<usize>, word: &Word, ended: bool) {
        match (word, index) {
            (Word::Complete(..), Some(index)) => {
                self.model.outcomes.insert(no, (index, digest(word)));
            }
            (Word::Fail(_, after, jitter), Some(index)) => {
                self.compare_wait(no, *after, *jitter);
                if ended {
                    self.model.outcomes.insert(no, (index, digest(word)));
                } else {
                    self.model.newest.remove(&no);
                }
            }
            (Word::Release, _) => {
                self.model.newest.remove(&no);
            }
            _ => {}
        }
    }

    fn learn_timeout(&mut self, pick: Pick, before: &Job, after: &Job) {
        let no = StageNo::from(pick) % before.stages.len() as StageNo;
        if before.stages[no].phase() == StagePhase::Running && after.stages[no].phase() != StagePhase::Running {
            self.model.newest.remove(&no);
        }
    }

    /// That the wait after a recorded failure is that of the table.
    fn compare_wait(&self, no: StageNo, retry_after: Option<u64>, jitter: f64) {
        let job = self.bench.job();
        let stage = &job.stages[no];
        let failure = stage.failure.as_ref().expect("it was recorded");
        assert_eq!(failure.attempt, stage.attempt);
        // What happened to the job by this very failure does not take back what was decided before.
        let expected = Model::wait(&job, stage, failure.report.class, retry_after.map(secs), jitter);
        match stage.state {
            StageState::Backoff { until } => assert_eq!(Some(self.bench.now.until(until)), expected),
            StageState::Ready => assert_eq!(Some(Duration::ZERO), expected),
            _ => assert_eq!(None, expected, "{:?}", stage.state),
        }
    }

    /// Exactly the tokens that the model calls the newest have a say, at most one for each stage.
    fn compare_tokens(&self) {
        let Some(job) = self.bench.find() else { return };
        for (index, granted) in self.model.granted.iter().enumerate() {
            let newest = self.model.newest.get(&granted.token.stage_no) == Some(&index);
            assert_eq!(
                job.verified_stage(&StageCredential::Token(granted.token)).is_ok(),
                newest,
                "token {index}: {granted:?}"
            );
        }
    }

    /// Lets everything happen that is due and everybody do their work, until the job has ended and is forgotten. In a dead
    /// fleet workers take what they get and are never heard of again.
    pub fn drive_to_the_end(&mut self, dead_fleet: bool) {
        self.step(&Step::Submit);
        self.step(&Step::Resume);
        for _ in 0..MOST_ROUNDS {
            let job = self.bench.job();
            if job.state.is_terminal() {
                self.forget(&job);
                return;
            }
            for stage in job.stages.iter() {
                let pick = Pick::try_from(stage.no).expect("few stages");
                match stage.phase() {
                    StagePhase::Ready if stage.spec.direct => self.step(&Step::Name(pick, Word::Complete(9, None))),
                    StagePhase::Ready => self.step(&Step::Poll(pick, Some(30))),
                    StagePhase::Running if stage.lease().is_none() => {
                        self.step(&Step::Name(pick, Word::Complete(9, None)));
                    }
                    StagePhase::Running if !dead_fleet && self.model.newest.contains_key(&stage.no) => {
                        let index = Pick::try_from(self.model.newest[&stage.no]).expect("few tokens");
                        self.step(&Step::Token(index, Word::Complete(9, None)));
                    }
                    StagePhase::Running => self.step(&Step::Reap(pick)),
                    StagePhase::Backoff => self.step(&Step::WakeStage(pick, 0.5)),
                    _ => {}
                }
            }
            self.step(&Step::WakeJob);
            self.bench.pass(secs(1_000));
        }
        panic!("no end in sight: {:#?}", self.bench.job());
    }

    fn forget(&mut self, job: &Job) {
        self.bench.pass(self.bench.now.until(job.expire_time.expect("it has ended")));
        self.step(&Step::WakeJob);
        assert!(self.bench.find().is_none(), "a job is deleted after its retention");
    }

    fn pick(&self, pick: Pick) -> Option<&Stage> {
        let job = self.bench.committed.jobs.get(&key())?.as_ref()?;
        job.stages.get(StageNo::from(pick) % StageNo::try_from(job.stages.len()).ok()?).map(|stage| &**stage)
    }

    /// One of the tokens that were ever granted, most of which have long lost their say.
    pub(super) fn token(&self, pick: Pick) -> Option<usize> {
        usize::from(pick).checked_rem(self.model.granted.len())
    }

    fn job(&self) -> crate::domain::job::NewJob {
        let stages = self.history.stages.iter().enumerate().map(|(i, plan)| {
            let before = (0..i).filter(|j| plan.depends_on >> j & 1 == 1).map(|j| format!("s{j}"));
            planned(&format!("s{i}"), plan, before.collect())
        });
        let mut job = build::job(stages.collect());
        job.meta.delayed_until = self.history.delay.map(|delay| self.bench.now.after(secs(delay)));
        job.meta.timeout = self.history.timeout.map(secs);
        job
    }
}

fn compare(step: &Step, expected: Option<Expected>, outcome: &Outcome) {
    let Some(expected) = expected else { return };
    let fits = match expected {
        Expected::Fine => outcome.is_ok(),
        Expected::Repeat => outcome.as_ref().is_ok_and(|reply| !reply.applied),
        Expected::LeaseLost => outcome.as_ref().is_err_and(|refusal| *refusal == Refusal::LeaseLost),
        Expected::Transition => outcome.as_ref().is_err_and(|r| matches!(r, Refusal::InvalidTransition { .. })),
        Expected::Wiring => {
            outcome.as_ref().is_ok_and(|reply| reply.applied)
                || outcome.as_ref().is_err_and(|refusal| *refusal != Refusal::LeaseLost)
        }
    };
    assert!(fits, "{step:?} should be {expected:?} and is {:?}", outcome.as_ref().map(|reply| reply.applied));
}
