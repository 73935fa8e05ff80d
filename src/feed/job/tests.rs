//! Random histories of a job, published in time, late or never, beside watches that come and go.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::step::{JobStep, RevisionRange};
use super::topic::{StepsAfter, Topic};
use crate::domain::event::JobEvent;
use crate::domain::failure::FailureClass;
use crate::domain::job::Job;
use crate::operation::tests::bench::Bench;
use crate::operation::tests::build::{BuildStage, key, stage};

const STAGES: usize = 3;

/// One random event.
#[derive(Clone, Debug)]
enum Move {
    /// Progress of a stage.
    Progress(usize),
    /// A stage fails and is tried again.
    Fail(usize),
    Pause,
    Resume,
    /// The commits since the last time are published: in time, late, or never.
    Publish(Publishing),
    /// A reader reads. The last one ends then, and another begins with a snapshot.
    Read(usize),
}

#[derive(Clone, Copy, Debug)]
enum Publishing {
    InTime,
    /// After the one that follows it.
    Late,
    Never,
    /// As another server's work, read from history.
    Read,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let publishing = prop_oneof![
        8 => Just(Publishing::InTime),
        1 => Just(Publishing::Late),
        1 => Just(Publishing::Never),
        1 => Just(Publishing::Read),
    ];
    let one = prop_oneof![
        6 => (0..STAGES).prop_map(Move::Progress),
        1 => (0..STAGES).prop_map(Move::Fail),
        1 => Just(Move::Pause),
        1 => Just(Move::Resume),
        6 => publishing.prop_map(Move::Publish),
        4 => (0..4_usize).prop_map(Move::Read),
    ];
    prop::collection::vec(one, 1..120)
}

/// A job, what was published of it, and what was not yet.
struct Scene {
    bench: Bench,
    published: Arc<Job>,
    late: VecDeque<RevisionRange>,
    topic: Topic,
}

impl Scene {
    fn new() -> Self {
        let stages = (0..STAGES).map(|i| stage(&format!("s{i}")).direct().attempts(100)).collect();
        let bench = Bench::with(stages);
        let topic = Topic::new(key());
        topic.observe(&bench.job());
        Self { published: bench.job(), bench, late: VecDeque::new(), topic }
    }

    fn events(&self, after: i64) -> Vec<Arc<JobEvent>> {
        self.bench.events.iter().filter(|event| event.revision > after).cloned().map(Arc::new).collect()
    }

    fn apply(&mut self, what: &Move) {
        let name = |i: &usize| format!("s{i}");
        // A move that is refused, such as a second pause, changes nothing.
        match what {
            Move::Progress(i) => {
                let progress = self.bench.stage(&name(i)).progress + 1.0 / 64.0;
                let _refused = self.bench.progress(&*name(i), Some(progress.min(1.0)), None);
            }
            Move::Fail(i) => {
                let _refused = self.bench.fail(&*name(i), FailureClass::ServerError);
                self.bench.pass(std::time::Duration::from_secs(3_600));
                self.bench.wake(Some(&name(i)));
            }
            Move::Pause => {
                let _refused = self.bench.pause();
            }
            Move::Resume => {
                let _refused = self.bench.resume();
            }
            Move::Publish(how) => self.publish(*how),
            Move::Read(_) => {}
        }
    }

    fn publish(&mut self, how: Publishing) {
        let (from, job) = (self.published.revision, self.bench.job());
        if job.revision == from {
            return;
        }
        let (events, head) = (self.events(from), self.topic.head());
        let range = RevisionRange::read(from, job.clone(), events);
        match how {
            Publishing::InTime => {
                self.topic.add(range, self.bench.now);
                self.late.drain(..).for_each(|late| {
                    self.topic.add(late, self.bench.now);
                });
            }
            Publishing::Late => self.late.push_back(range),
            Publishing::Never => {}
            Publishing::Read => {
                let known = self.topic.head();
                let events = self.events(known);
                self.topic.add(RevisionRange::read(known, job.clone(), events), self.bench.now);
            }
        }
        assert!(self.topic.head() >= head, "the newest known revision goes back");
        self.published = job;
    }
}

/// Reads the topic as a watch does.
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
                StepsAfter::Steps(steps) => steps,
                StepsAfter::Older => self.page(scene),
                StepsAfter::Nothing => return,
                StepsAfter::Gone => panic!("the job is never deleted"),
            };
            assert!(!steps.is_empty());
            steps.iter().for_each(|step| self.take(&step.after(self.cursor)));
        }
    }

    fn page(&self, scene: &Scene) -> Vec<Arc<JobStep>> {
        RevisionRange::read(self.cursor, scene.bench.job(), scene.events(self.cursor)).steps(scene.bench.now)
    }

    fn take(&mut self, step: &Arc<JobStep>) {
        assert_eq!(step.previous, self.cursor);
        assert!(step.revision > self.cursor, "{} after {}", step.revision, self.cursor);
        self.cursor = step.revision;
        if let Some(event) = &step.event {
            assert_eq!(event.revision, step.revision, "a change of a state has its revision");
            self.state_changes.push(event.revision);
        }
        let progress = match (&step.event, &step.stages) {
            (Some(event), None) => event.progress.expect("history keeps progress"),
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
    fn readers_miss_no_change_of_a_state_however_commits_are_published(moves in moves(), conflate: bool) {
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
                    readers[3] = new(&scene);
                }
            }
        }
        // The poll finds what was not published.
        scene.publish(Publishing::Never);
        scene.topic.add(RevisionRange::unknown(scene.bench.job()), scene.bench.now);
        for reader in &mut readers {
            reader.read(&scene, conflate);
            reader.check(&scene);
        }
    }
}

#[test]
fn steps_of_progress_are_merged_once_for_readers_that_are_equally_far_behind() {
    let mut scene = Scene::new();
    for i in [0, 1, 0, 2] {
        scene.apply(&Move::Progress(i));
        scene.publish(Publishing::InTime);
    }
    let from = 1;
    let read = |conflate| match scene.topic.after(from, conflate) {
        StepsAfter::Steps(steps) => steps,
        _ => panic!("there are steps"),
    };
    let merged: Vec<Arc<JobStep>> = read(true);
    // A first progress starts a stage that is ready, which is a change of a state.
    assert!(read(false).len() >= merged.len());
    for _ in 0..3 {
        assert!(read(true).iter().zip(&merged).all(|(one, other)| Arc::ptr_eq(one, other)));
    }
}
