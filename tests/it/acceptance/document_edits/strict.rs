//! A vendor that is healthy but strict: a limit of calls at once and a rate that changes.

use std::time::Duration;

use interlock::proto::{self, JobState, StageState};

use super::editors::{BreakerWatch, DOCS_API, Editors, document, edits};
use super::vendor::{Rules, Vendor};
use crate::harness::*;

/// A limit that learns, and a breaker.
fn policy(max: i64, learn_rate: bool) -> proto::ResourcePolicy {
    let adaptive = proto::AdaptiveLimit { min: 1, max, learn_rate, ..Default::default() };
    let breaker = proto::CircuitBreaker { open_duration: millis(500), ..Default::default() };
    proto::ResourcePolicy { adaptive: Some(adaptive), breaker: Some(breaker), ..Default::default() }
}

fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

/// Documents whose slides are all to be edited.
async fn submit(api: &Api, numbers: std::ops::Range<usize>, slides: usize) -> Vec<String> {
    let documents: Vec<String> = numbers.map(document).collect();
    for document in &documents {
        api.submit(edits(document, slides)).await;
    }
    documents
}

/// Every slide has ended and every job went on in spite of what failed. Returns how many slides succeeded.
fn ended_well(vendor: &Vendor, jobs: &[proto::Job], slides: usize) -> usize {
    let mut succeeded = 0;
    for job in jobs {
        let counts = job.stage_counts.expect("counts");
        assert_eq!((job.state(), counts.total), (JobState::Succeeded, i32::try_from(slides).expect("few")));
        assert_eq!(counts.succeeded + counts.failed, counts.total, "{} is not at its end: {counts:?}", job.job_id);
        for stage in &job.stages {
            // What failed was not applied, and what was applied was not lost.
            let applied = vendor.applied(&job.job_id, &stage.name);
            assert_eq!(applied, usize::from(stage.state() == StageState::Succeeded), "{} {}", job.job_id, stage.name);
            succeeded += applied;
        }
    }
    succeeded
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_vendor_is_called_within_its_limits_and_no_edits_collide() {
    const DOCUMENTS: usize = 20;
    const SLIDES: usize = 15;
    let refused = ["doc-3/slide7", "doc-11/slide0"];
    let rules = Rules {
        max_open: 6,
        hangs_up: true,
        rate: Some(22.0),
        burst: 8.0,
        hiccup_every: 60,
        refused: refused.map(str::to_owned).into(),
        ..Rules::default()
    };
    let (server, vendor) = (Server::start().await, Vendor::start(rules).await);
    let api = &server.api;
    api.set_policy(DOCS_API, policy(8, true)).await;
    let breaker = BreakerWatch::begin(api).await;
    let documents = submit(api, 0..DOCUMENTS, SLIDES).await;
    let begin = vendor.now();
    let mut editors = Editors::begin(&server, &vendor, 8).await;
    let slower = async {
        eventually("two thirds of the edits", async || (vendor.count(200) >= 200).then_some(())).await;
        vendor.set_rate(14.0);
        std::future::pending::<()>().await;
    };
    let jobs = tokio::select! {
        jobs = editors.finish(api, &documents) => jobs,
        () = slower => unreachable!("it never ends"),
    };

    let calls = vendor.calls();
    let counts = [200, 409, 429, 500, 0].map(|status| (status, vendor.count(status)));
    println!("{} calls in {:?}: {counts:?}{}", calls.len(), vendor.now() - begin, vendor.each_second());
    let succeeded = ended_well(&vendor, &jobs, SLIDES);
    assert_eq!(succeeded, DOCUMENTS * SLIDES - refused.len(), "all but those that the vendor never takes");
    assert!(share(succeeded, DOCUMENTS * SLIDES) > 0.95);
    assert_eq!(vendor.count(409), 0, "edits of one document at once");

    // Once the rate was found, it was used, the time in which it was found again included.
    let (warm, end) = (begin + Duration::from_secs(3), calls.last().expect("calls").from);
    let (used, allowed) = (vendor.used(warm, end), vendor.allowed(warm, end));
    println!("{used} of {allowed:.0} allowed calls used after the first three seconds");
    assert!(used as f64 >= 0.8 * allowed, "{used} of {allowed}");
    let limited = share(vendor.count(429), calls.len());
    assert!(limited < 0.1, "{limited} of the calls were answered with 429");

    // Such a vendor is not taken for a broken one.
    let (seen, lasted) = (breaker.seen(), (end - begin).as_secs_f64());
    let (open, broken) = (seen.open_for.as_secs_f64() / lasted, share(vendor.count(0), calls.len()));
    println!(
        "the breaker opened {} times, for {open:.3} of the time; {broken:.3} of calls were hung up",
        seen.openings
    );
    assert!(open < 0.05, "{seen:?} in {lasted} s");
}

/// What editors of the same slides need for each, at a vendor that has no rate: one at a time, and as many as the limit finds.
async fn speeds(hangs_up: bool) {
    const SLIDES: usize = 10;
    let rules = Rules { latency: Duration::from_millis(120), max_open: 6, hangs_up, ..Rules::default() };
    let (server, vendor) = (Server::start().await, Vendor::start(rules).await);
    let api = &server.api;
    api.set_policy(DOCS_API, capacity(1)).await;
    let mut editors = Editors::begin(&server, &vendor, 1).await;
    let begin = vendor.now();
    let documents = submit(api, 0..2, SLIDES).await;
    let jobs = editors.finish(api, &documents).await;
    assert_eq!((ended_well(&vendor, &jobs, SLIDES), vendor.most_open()), (20, 1));
    let alone = (vendor.now() - begin) / 20;

    api.set_policy(DOCS_API, policy(8, false)).await;
    let breaker = BreakerWatch::begin(api).await;
    editors.join(&server, &vendor, 7).await;
    let (begin, before) = (vendor.now(), vendor.calls().len());
    let documents = submit(api, 2..17, SLIDES).await;
    let jobs = editors.finish(api, &documents).await;
    let (succeeded, lasted) = (ended_well(&vendor, &jobs, SLIDES), vendor.now() - begin);
    let together = lasted / 150;
    let calls = vendor.calls().len() - before;
    let (gone, open) = (vendor.count(if hangs_up { 0 } else { 503 }), breaker.seen().open_for.as_secs_f64());
    println!(
        "each slide takes {alone:?} one at a time and {together:?} together, at most {} at once",
        vendor.most_open()
    );
    println!(
        "{gone} of {calls} calls were too many; the breaker was open for {open:.2} of {lasted:?}, {:?}",
        breaker.seen()
    );
    assert!(open < 0.05 * lasted.as_secs_f64(), "a strict vendor was taken for a broken one");
    assert!(share(succeeded, 150) > 0.95, "{succeeded} of 150");
    assert_eq!(vendor.count(409), 0, "edits of one document at once");
    assert!(together * 2 <= alone, "{together:?} and {alone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_documents_at_once_are_twice_as_fast_as_one_at_a_time() {
    speeds(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vendor_that_refuses_excess_calls_does_not_open_the_breaker() {
    speeds(true).await;
}
