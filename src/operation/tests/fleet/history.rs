//! What a history is made of. Steps name stages and tokens by numbers that are taken modulo what there is, so that any list
//! of steps is a history and every part of one too, which is what lets a failure shrink.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::domain::failure::FailureClass;
use crate::domain::stage::NewStage;
use crate::operation::tests::build::{self, BuildStage, secs};

/// Which stage or token.
pub type Pick = u8;

/// A stage of a random job; it may wait for stages before it.
#[derive(Clone, Debug)]
pub struct StagePlan {
    pub depends_on: u8,
    pub when_finished: bool,
    pub or_continue: bool,
    pub direct: bool,
    /// Weight in quarters of 1.
    pub weight: u8,
    pub max_attempts: u32,
    pub timeout: Option<u64>,
    pub lease: Option<u64>,
}

/// Stages that come later.
#[derive(Clone, Debug)]
pub struct Growth {
    pub depends_on: u16,
    pub required_by: Option<Pick>,
    pub stage: StagePlan,
    /// Whether it takes a name that exists.
    pub clashes: bool,
    /// Whether it takes the name of one that came later too, and if so, which and whether it is the very same.
    pub again: Option<(Pick, bool)>,
}

/// What the bearer of a token, or an orchestrator by name, says.
#[derive(Clone, Debug)]
pub enum Word {
    Heartbeat,
    /// Progress in sixteenths, and whether with a message.
    Progress(Option<u8>, bool),
    Complete(u8, Option<Growth>),
    Fail(FailureClass, Option<u64>, f64),
    Release,
    Add(Growth),
    /// Only by name; with or without a lease.
    Start(bool),
}

/// A step of a history: an operation, or time that passes.
#[derive(Clone, Debug)]
pub enum Step {
    Poll(Pick, Option<u64>),
    Token(Pick, Word),
    Name(Pick, Word),
    Reap(Pick),
    WakeJob,
    WakeStage(Pick, f64),
    Pass(Duration),
    Cancel(u64),
    Pause,
    Resume,
    Retry(Option<Pick>),
    Update(i32),
    Delete,
    Submit,
}

impl Step {
    pub fn ends_or_begins_a_job(&self) -> bool {
        matches!(self, Self::Delete | Self::Submit | Self::WakeJob)
    }
}

/// A job and what happens to it.
#[derive(Clone, Debug)]
pub struct History {
    pub stages: Vec<StagePlan>,
    pub delay: Option<u64>,
    pub timeout: Option<u64>,
    pub steps: Vec<Step>,
    /// Whether all workers fall silent in the end, or do their work.
    pub dead_fleet: bool,
}

fn stage_plan() -> impl Strategy<Value = StagePlan> {
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.4), prop::bool::weighted(0.15));
    let lengths = (option::weighted(0.2, 5u64..60), option::weighted(0.3, 1u64..120));
    (any::<u8>(), any::<u8>(), flags, 0u8..8, 1u32..4, lengths).prop_map(
        |(a, b, (when_finished, or_continue, direct), weight, max_attempts, (timeout, lease))| StagePlan {
            // Both bits at once, so that graphs are neither empty nor chains.
            depends_on: a & b,
            when_finished,
            or_continue,
            direct,
            weight,
            max_attempts,
            timeout,
            lease,
        },
    )
}

fn growth() -> impl Strategy<Value = Growth> {
    let bits = (any::<u16>(), any::<u16>(), any::<u16>()).prop_map(|(a, b, c)| a & b & c);
    let again = option::weighted(0.6, (any::<Pick>(), prop::bool::weighted(0.3)));
    (bits, option::of(any::<Pick>()), stage_plan(), prop::bool::weighted(0.05), again).prop_map(
        |(depends_on, required_by, stage, clashes, again)| Growth { depends_on, required_by, stage, clashes, again },
    )
}

fn class() -> impl Strategy<Value = FailureClass> {
    // The server alone says that a lease has expired.
    prop::sample::select(&FailureClass::ALL[..7])
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        4 => Just(Word::Heartbeat),
        4 => (option::weighted(0.9, 0u8..=16), prop::bool::weighted(0.2)).prop_map(|(p, m)| Word::Progress(p, m)),
        8 => (0u8..2, option::weighted(0.2, growth())).prop_map(|(digest, growth)| Word::Complete(digest, growth)),
        6 => (class(), option::weighted(0.2, 0u64..100_000), 0.0..1.0)
            .prop_map(|(class, after, jitter)| Word::Fail(class, after, jitter)),
        2 => Just(Word::Release),
        5 => growth().prop_map(Word::Add),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pause = prop_oneof![Just(0u64), 1u64..3_000, 3_000u64..100_000, Just(86_400_000u64)];
    prop_oneof![
        16 => (any::<Pick>(), option::weighted(0.3, 1u64..200)).prop_map(|(pick, lease)| Step::Poll(pick, lease)),
        30 => (any::<Pick>(), word()).prop_map(|(pick, word)| Step::Token(pick, word)),
        6 => (any::<Pick>(), word()).prop_map(|(pick, word)| Step::Name(pick, word)),
        3 => (any::<Pick>(), any::<bool>()).prop_map(|(pick, lease)| Step::Name(pick, Word::Start(lease))),
        8 => any::<Pick>().prop_map(Step::Reap),
        4 => Just(Step::WakeJob),
        10 => (any::<Pick>(), 0.0..1.0).prop_map(|(pick, jitter)| Step::WakeStage(pick, jitter)),
        14 => pause.prop_map(|millis| Step::Pass(Duration::from_millis(millis))),
        1 => (0u64..60).prop_map(Step::Cancel),
        2 => Just(Step::Pause),
        3 => Just(Step::Resume),
        4 => option::of(any::<Pick>()).prop_map(Step::Retry),
        1 => (-2i32..3).prop_map(Step::Update),
        1 => Just(Step::Delete),
        2 => Just(Step::Submit),
    ]
}

/// Histories of up to so many steps.
pub fn histories(steps: usize) -> impl Strategy<Value = History> {
    let times = (option::weighted(0.15, 1u64..100), option::weighted(0.15, 1u64..300));
    (vec(stage_plan(), 1..7), times, vec(step(), 0..steps), any::<bool>())
        .prop_map(|(stages, (delay, timeout), steps, dead_fleet)| History { stages, delay, timeout, steps, dead_fleet })
}

/// The stage of a plan.
pub fn planned(name: &str, plan: &StagePlan, depends_on: Vec<String>) -> NewStage {
    let depends_on: Vec<&str> = depends_on.iter().map(String::as_str).collect();
    let mut stage =
        build::stage(name).after(&depends_on).attempts(plan.max_attempts).weighs(f64::from(plan.weight) / 4.0);
    if plan.when_finished {
        stage = stage.when_finished();
    }
    if plan.or_continue {
        stage = stage.or_continue();
    }
    stage.spec(|spec| {
        spec.direct = plan.direct;
        spec.timeout = plan.timeout.map(secs);
        spec.lease_duration = plan.lease.map(secs);
    })
}

/// Words with the same digest say the same.
pub fn digest(word: &Word) -> u128 {
    match word {
        Word::Complete(digest, growth) => u128::from(*digest) + if growth.is_some() { 1_000 } else { 0 },
        Word::Fail(class, ..) => 100 + *class as u128,
        _ => 999,
    }
}
