//! A simulated fleet: random jobs, workers that do their work, fail, fall silent or speak when they have no say any more,
//! people who interfere, and a clock. Every step is checked by [`super::checks`] and against the [`model`].
//!
//! A failure prints the smallest history that shows it and the seed; with `PROPTEST_RNG_SEED` the same histories come again,
//! with `PROPTEST_CASES` more or fewer of them.

mod history;
mod model;
mod naming;
mod sim;

use proptest::prelude::Strategy;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

use history::{History, Step};
use sim::Sim;

/// Runs a property over many histories.
fn check_property(cases: u32, histories: impl Strategy<Value = History>, property: impl Fn(History)) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random(),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let outcome = TestRunner::new(config).run(&histories, |history| {
        property(history);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("PROPTEST_RNG_SEED={seed}: {why}\n{history:#?}"),
        Err(TestError::Abort(why)) => panic!("PROPTEST_RNG_SEED={seed}: {why}"),
    }
}

#[test]
fn random_histories_keep_the_invariants_and_end() {
    check_property(3_000, history::histories(40), |history| {
        let mut sim = Sim::new(&history);
        for step in &history.steps {
            sim.step(step);
        }
        sim.drive_to_the_end(history.dead_fleet);
    });
}

#[test]
fn grouped_operations_equal_the_same_operations_one_by_one() {
    check_property(1_500, history::histories(30), |history| {
        let mut grouped = Sim::new(&history);
        for chunk in history.steps.chunks(5) {
            // Who submits what the group deletes comes after the group, which is another order.
            let chunk: Vec<&Step> = chunk.iter().filter(|step| !step.ends_or_begins_a_job()).collect();
            let operations: Vec<_> = chunk.iter().filter_map(|step| grouped.operation(step)).collect();
            let mut single = grouped.bench.fork();
            let one_by_one: Vec<_> = operations.iter().map(|operation| single.run(&**operation)).collect();
            let together = grouped.bench.group(&operations.iter().map(|operation| &**operation).collect::<Vec<_>>());
            for (a, b) in one_by_one.iter().zip(&together) {
                assert_eq!(a.as_ref().map(|reply| reply.applied), b.as_ref().map(|reply| reply.applied));
            }
            assert_eq!(format!("{:?}", single.find()), format!("{:?}", grouped.bench.find()));
            assert_eq!(format!("{:?}", single.events), format!("{:?}", grouped.bench.events));
            chunk.iter().for_each(|step| grouped.pass(step));
        }
    });
}
