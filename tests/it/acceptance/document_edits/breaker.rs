//! A vendor that fails in bursts: its breaker opens for all workers, one of them tries it out, and the work goes on.

use std::time::Duration;

use interlock::proto::{self, BreakerState, JobState};

use super::editors::{DOCS_API, Editors, document, edits};
use super::vendor::{Call, Rules, Vendor};
use crate::harness::*;

const OPEN_FOR: Duration = Duration::from_secs(1);
/// A silence that no busy machine makes, only a breaker; less than the open time, in which the last of those calls end that were
/// under way.
const SILENCE: Duration = Duration::from_millis(600);
/// Calls that the vendor takes at the same time.
const CAPACITY: usize = 4;

fn policy() -> proto::ResourcePolicy {
    let breaker = proto::CircuitBreaker {
        failure_threshold: Some(3),
        open_duration: seconds(1),
        open_multiplier: Some(2.0),
        ..Default::default()
    };
    proto::ResourcePolicy { breaker: Some(breaker), ..capacity(4) }
}

fn end(call: &Call) -> Duration {
    call.until.expect("it was answered")
}

/// The first call after each silence, by its number.
fn after_silences(calls: &[Call]) -> Vec<usize> {
    let last_end = |upto: usize| calls[..upto].iter().map(end).max().unwrap_or_default();
    (1..calls.len()).filter(|i| calls[*i].from.saturating_sub(last_end(*i)) >= SILENCE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_probes_once_after_three_failures_and_closes() {
    const DOCUMENTS: usize = 8;
    const SLIDES: usize = 6;
    let server = Server::start().await;
    let vendor = Vendor::start(Rules { latency: Duration::from_millis(40), ..Rules::default() }).await;
    let api = &server.api;
    api.set_policy(DOCS_API, policy()).await;
    let documents: Vec<String> = (0..DOCUMENTS).map(document).collect();
    for document in &documents {
        api.submit(edits(document, SLIDES)).await;
    }
    let mut editors = Editors::begin(&server, &vendor, 8).await;
    // It fails in the midst of the work, and goes on to until it was left alone twice.
    let fails = async {
        eventually("some edits", async || (vendor.count(200) >= 8).then_some(())).await;
        vendor.fail_until_left_alone(SILENCE, 2);
        std::future::pending::<()>().await;
    };
    let jobs = tokio::select! {
        jobs = editors.finish(api, &documents) => jobs,
        () = fails => unreachable!("it never ends"),
    };
    for job in &jobs {
        assert_eq!(job.state(), JobState::Succeeded);
        assert_eq!(job.stage_counts.expect("counts").succeeded, 6, "{}", job.job_id);
    }
    let calls = vendor.calls();
    let probes = after_silences(&calls);
    for i in &probes {
        let (before, probe) = (calls[..*i].iter().map(end).max().expect("calls"), &calls[*i]);
        println!("after {:?} of silence: {}", probe.from - before, probe.status);
    }
    assert_eq!(probes.len(), 2, "two probes, the first of which fails");
    assert_eq!((calls[probes[0]].status, calls[probes[1]].status), (500, 200));

    // It opened with the third failure; who had a permit already was on the way.
    let failures: Vec<&Call> = calls[..probes[0]].iter().filter(|call| call.status == 500).collect();
    let mut ends: Vec<Duration> = failures.iter().map(|call| end(call)).collect();
    ends.sort_unstable();
    println!("{} failures before the breaker held all back", failures.len());
    assert!((3..3 + CAPACITY).contains(&failures.len()), "{failures:?}");
    // There was no call while it was open, the second time for twice as long.
    let silences =
        [(calls[probes[0]].from - ends[2], OPEN_FOR), (calls[probes[1]].from - end(&calls[probes[0]]), 2 * OPEN_FOR)];
    for (silence, least) in silences {
        assert!(silence >= least, "called after {silence:?} already");
        assert!(silence < least + Duration::from_secs(5), "the probe came only after {silence:?}");
    }
    // The probe was alone: until it had ended there was no other call.
    for i in probes {
        assert_eq!(calls[i].open, 0);
        assert!(calls[i + 1].from >= end(&calls[i]), "a call beside the probe: {:?}", calls[i + 1]);
    }
    assert_eq!(vendor.count(409), 0);
    assert!(vendor.most_open() <= CAPACITY);
    let resource = api.resource(DOCS_API).await;
    assert_eq!((resource.breaker_state(), resource.in_use), (BreakerState::Closed, 0));
}
