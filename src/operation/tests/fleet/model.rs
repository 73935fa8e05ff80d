//! What the semantics say will happen: who may still speak, and when a failed attempt is followed by another one.
//!
//! It knows tokens only by what became of them, and no transition of the domain.

use std::time::Duration;

use foldhash::HashMap;

use super::history::Word;
use crate::domain::failure::FailureClass;
use crate::domain::id::{LeaseToken, Name, StageNo};
use crate::domain::job::{Job, JobState};
use crate::domain::stage::{Stage, StagePhase};

/// What an operation will come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Applied, or no change.
    Fine,
    /// Said before: nothing changes.
    Repeat,
    LeaseLost,
    Transition,
    /// It depends on how new stages are wired; surely no lost lease.
    Wiring,
}

/// A token that was granted once.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub token: LeaseToken,
    /// Taken from its holder by the reaper.
    pub reaped: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub granted: Vec<Granted>,
    /// The token that has a say for each stage, by its place in `granted`.
    pub newest: HashMap<StageNo, usize>,
    /// What ended a stage: index of the token, and digest of the request.
    pub outcomes: HashMap<StageNo, (usize, u128)>,
    /// The highest fencing token of each name, over all jobs of the id.
    pub highest: HashMap<Name, i64>,
    /// Which stage added a stage, and in which attempt last.
    pub parents: HashMap<Name, (StageNo, i64)>,
}

/// What is to become of a name in an attempt of a stage that adds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The name is new.
    New,
    /// Another stage has the name.
    Taken,
    /// It is there and stays as it is.
    Kept,
    /// It is there and becomes what is said of it now.
    Renewed,
}

impl Model {
    /// A stage was begun: its fencing token is higher than any before.
    pub fn begun(&mut self, stage: &Stage, token: Option<LeaseToken>) {
        let highest = self.highest.entry(stage.spec.name.clone()).or_insert(0);
        assert!(stage.fencing_token > *highest, "{}: fencing tokens go on", stage.spec.name);
        *highest = stage.fencing_token;
        self.newest.remove(&stage.no);
        if let Some(token) = token {
            self.newest.insert(stage.no, self.granted.len());
            self.granted.push(Granted { token, reaped: false });
        }
    }

    /// What an attempt of `by` makes of a name, if it can be done; `same` is whether it says of the stage what was said before.
    pub fn naming(&self, job: &Job, by: &Stage, name: &str, same: bool) -> Naming {
        let Some(stage) = job.stages.iter().find(|stage| &*stage.spec.name == name) else { return Naming::New };
        match (self.parents.get(name), stage.phase()) {
            (Some((parent, attempt)), _) if *parent != by.no || *attempt == by.fencing_token => Naming::Taken,
            (None, _) => Naming::Taken,
            (Some(_), StagePhase::Succeeded) => Naming::Kept,
            (Some(_), phase) if same && !phase.is_terminal() => Naming::Kept,
            (Some(_), _) => Naming::Renewed,
        }
    }

    /// A stage was named by an attempt.
    pub fn named(&mut self, by: &Stage, stage: &Stage, naming: Naming) {
        self.parents.insert(stage.spec.name.clone(), (by.no, by.fencing_token));
        if naming == Naming::Renewed {
            self.newest.remove(&stage.no);
            self.outcomes.remove(&stage.no);
        }
    }

    /// What a word by token will come to.
    pub fn by_token(&self, job: Option<&Job>, index: usize, word: &Word, digest: u128) -> Expected {
        let granted = self.granted[index];
        let no = granted.token.stage_no;
        let Some(job) = job.filter(|_| self.newest.get(&no) == Some(&index)) else { return Expected::LeaseLost };
        let active = job.state.is_active();
        match (job.stages[no].phase(), word) {
            (_, Word::Start(_)) => unreachable!("stages are started by name only"),
            (StagePhase::Running, Word::Add(_) | Word::Complete(_, Some(_))) if active => Expected::Wiring,
            (StagePhase::Running, Word::Add(_) | Word::Complete(_, Some(_))) => Expected::Transition,
            (StagePhase::Running, _) => Expected::Fine,
            (StagePhase::Ready | StagePhase::Backoff, Word::Complete(_, growth)) if granted.reaped => {
                if growth.is_some() { Expected::Wiring } else { Expected::Fine }
            }
            (StagePhase::Blocked | StagePhase::Ready | StagePhase::Backoff, _) => Expected::LeaseLost,
            (_, Word::Heartbeat) => Expected::LeaseLost,
            (_, Word::Complete(..) | Word::Fail(..)) if self.outcomes.get(&no) == Some(&(index, digest)) => {
                Expected::Repeat
            }
            (_, _) => Expected::Transition,
        }
    }

    /// What a word by name will come to.
    pub fn by_name(job: &Job, stage: &Stage, word: &Word) -> Expected {
        let hands_out = matches!(job.state, JobState::Pending | JobState::Running);
        let running = stage.phase() == StagePhase::Running && stage.lease().is_none();
        let ready = stage.phase() == StagePhase::Ready && hands_out;
        let allowed = match word {
            Word::Start(_) => ready,
            Word::Progress(..) | Word::Complete(..) | Word::Fail(..) => running || ready,
            Word::Release | Word::Add(_) => running,
            Word::Heartbeat => unreachable!("heartbeats need a token"),
        };
        match word {
            Word::Add(_) | Word::Complete(_, Some(_)) if allowed && job.state.is_active() => Expected::Wiring,
            Word::Add(_) | Word::Complete(_, Some(_)) => Expected::Transition,
            _ if allowed => Expected::Fine,
            _ => Expected::Transition,
        }
    }

    /// The wait after a failed attempt; `None` for no further one.
    pub fn wait(
        job: &Job,
        stage: &Stage,
        class: FailureClass,
        retry_after: Option<Duration>,
        jitter: f64,
    ) -> Option<Duration> {
        let tried = u64::from(stage.attempt);
        let never = matches!(class, FailureClass::ClientError | FailureClass::Cancelled);
        if never || !job.state.is_active() || tried >= u64::from(stage.spec.retry.max_attempts) {
            return None;
        }
        let first = if class == FailureClass::RateLimited { 2 } else { 1 };
        let base = retry_after.unwrap_or(Duration::from_secs(first * tried)).min(Duration::from_secs(86_400));
        let wait = base + Duration::from_secs(1).mul_f64(jitter);
        // Moments are whole microseconds.
        Some(Duration::from_micros(u64::try_from(wait.as_micros()).expect("a day at most")))
    }
}
