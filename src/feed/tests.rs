//! Random histories of a job, told with everything that can go wrong in between, to readers who come and go.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::step::{Span, Step};
use super::topic::{After, Topic};
use crate::domain::event::JobEvent;
use crate::domain::failure::FailureClass;
use crate::domain::job::Job;
use crate::operation::tests::bench::Bench;
use crate::operation::tests::build::{BuildStage, key, stage};

const STAGES: usize = 3;

/// What happens next.
#[derive(Clone, Debug)]
enum Move {
    /// Progress of a stage.
    Progress(usize),
    /// A stage fails and is tried again.
    Fail(usize),
    Pause,
    Resume,
    /// What was committed since is told: in time, late, or never.
    Tell(Telling),
    /// A reader reads, or begins anew from where he is.
    Read(usize),
}

#[derive(Clone, Copy, Debug)]
enum Telling {
    InTime,
    /// After the one that follows it.
    Late,
    Never,
    /// As another server's work, read from history.
    Read,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let telling = prop_oneof![
        8 => Just(Telling::InTime),
        1 => Just(Telling::Late),
        1 => Just(Telling::Never),
        1 => Just(Telling::Read),
    ];
    let one = prop_oneof![
        6 => (0..STAGES).prop_map(Move::Progress),
        1 => (0..STAGES).prop_map(Move::Fail),
        1 => Just(Move::Pause),
        1 => Just(Move::Resume),
        6 => telling.prop_map(Move::Tell),
        4 => (0..4_usize).prop_map(Move::Read),
    ];
    prop::collection::vec(one, 1..120)
}

/// A job, what was told of it, and what was not yet.
struct Scene {
    bench: Bench,
    told_to: Arc<Job>,
    late: VecDeque<Span>,
    topic: Topic,
}

impl Scene {
    fn new() -> Self {
        let stages = (0..STAGES).map(|i| stage(&format!("s{i}")).direct().attempts(100)).collect();
        let bench = Bench::with(stages);
        let topic = Topic::new(key());
        topic.observe(&bench.job());
        Self { told_to: bench.job(), bench, late: VecDeque::new(), topic }
    }

    fn events(&self, after: i64) -> Vec<Arc<JobEvent>> {
        self.bench.events.iter().filter(|event| event.revision > after).cloned().map(Arc::new).collect()
    }

    fn apply(&mut self, what: &Move) {
        let name = |i: &usize| format!("s{i}");
        // What is refused, such as a second pause, is no change.
        match what {
            Move::Progress(i) => {
                let progress = self.bench.stage(&name(i)).progress + 1.0 / 64.0;
                let _ = self.bench.progress(&*name(i), Some(progress.min(1.0)), None);
            }
            Move::Fail(i) => {
                let _ = self.bench.fail(&*name(i), FailureClass::ServerError);
                self.bench.pass(std::time::Duration::from_secs(3_600));
                self.bench.wake(Some(&name(i)));
            }
            Move::Pause => {
                let _ = self.bench.pause();
            }
            Move::Resume => {
                let _ = self.bench.resume();
            }
            Move::Tell(how) => self.tell(*how),
            Move::Read(_) => {}
        }
    }

    fn tell(&mut self, how: Telling) {
        let (from, job) = (self.told_to.revision, self.bench.job());
        if job.revision == from {
            return;
        }
        let (events, head) = (self.events(from), self.topic.head());
        let span = Span::read(from, job.clone(), events);
        match how {
            Telling::InTime => {
                self.topic.add(span, self.bench.now);
                self.late.drain(..).for_each(|late| {
                    self.topic.add(late, self.bench.now);
                });
            }
            Telling::Late => self.late.push_back(span),
            Telling::Never => {}
            Telling::Read => {
                let known = self.topic.head();
                let events = self.events(known);
                self.topic.add(Span::read(known, job.clone(), events), self.bench.now);
            }
        }
        assert!(self.topic.head() >= head, "what is known goes back");
        self.told_to = job;
    }
}

/// One who reads as a watcher does.
struct Reader {
    began: i64,
    cursor: i64,
    progress: f64,
    state_changes: Vec<i64>,
}

impl Reader {
    fn read(&mut self, scene: &Scene, conflate: bool) {
        loop {
            let steps = match scene.topic.after(self.cursor, conflate) {
                After::Steps(steps) => steps,
                After::Older => self.page(scene),
                After::Nothing => return,
                After::Gone => panic!("nobody deleted it"),
            };
            assert!(!steps.is_empty());
            steps.iter().for_each(|step| self.take(&step.after(self.cursor)));
        }
    }

    fn page(&self, scene: &Scene) -> Vec<Arc<Step>> {
        Span::read(self.cursor, scene.bench.job(), scene.events(self.cursor)).steps(scene.bench.now)
    }

    fn take(&mut self, step: &Arc<Step>) {
        assert_eq!(step.previous, self.cursor);
        assert!(step.revision > self.cursor, "{} after {}", step.revision, self.cursor);
        self.cursor = step.revision;
        if let Some(event) = &step.event {
            assert_eq!(event.revision, step.revision, "a change of a state is told at its revision");
            self.state_changes.push(event.revision);
        }
        let progress = match (&step.event, &step.stages) {
            (Some(event), None) => event.progress.expect("it is kept"),
            (_, _) => step.job.progress,
        };
        assert!(progress >= self.progress, "{progress} after {}", self.progress);
        self.progress = progress;
    }

    fn check(&self, scene: &Scene) {
        let due: Vec<i64> = scene.events(self.began).iter().map(|event| event.revision).collect();
        assert_eq!(self.state_changes, due, "began at {}, is at {}", self.began, self.cursor);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_is_lost_late_or_told_twice_readers_miss_no_change_of_a_state(moves in moves(), conflate: bool) {
        let mut scene = Scene::new();
        let new = |scene: &Scene| {
            let job = scene.bench.job();
            Reader { began: job.revision, cursor: job.revision, progress: job.progress, state_changes: Vec::new() }
        };
        let mut readers: Vec<Reader> = (0..4).map(|_| new(&scene)).collect();
        for what in &moves {
            scene.apply(what);
            if let Move::Read(i) = what {
                readers[*i].read(&scene, conflate);
                if *i == 3 {
                    // This one goes and comes with a snapshot.
                    readers[3] = new(&scene);
                }
            }
        }
        // The poll that looks after everybody finds what nobody told.
        scene.tell(Telling::Never);
        scene.topic.add(Span::unknown(scene.bench.job()), scene.bench.now);
        for reader in &mut readers {
            reader.read(&scene, conflate);
            reader.check(&scene);
        }
    }
}

#[test]
fn steps_of_progress_are_merged_and_shared_by_those_equally_far_behind() {
    let mut scene = Scene::new();
    for i in [0, 1, 0, 2] {
        scene.apply(&Move::Progress(i));
        scene.tell(Telling::InTime);
    }
    let from = 1;
    let read = |conflate| match scene.topic.after(from, conflate) {
        After::Steps(steps) => steps,
        _ => panic!("there are steps"),
    };
    let merged: Vec<Arc<Step>> = read(true);
    // A first progress starts a stage that is ready, which is a change of a state.
    assert!(read(false).len() >= merged.len());
    for _ in 0..3 {
        assert!(read(true).iter().zip(&merged).all(|(one, other)| Arc::ptr_eq(one, other)));
    }
}
