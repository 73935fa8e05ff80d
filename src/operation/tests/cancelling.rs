//! CancelJob: what ends at once, what holders may still say, and that CANCELLING always ends CANCELLED.

use super::bench::{Bench, is_transition};
use super::build::{BuildStage, secs, stage};
use crate::domain::failure::FailureClass::{ClientError, Network};
use crate::domain::job::JobState;
use crate::domain::refusal::Refusal;
use crate::domain::stage::StagePhase::{self, *};
use crate::domain::stage::{Lease, StageSpec};

/// `held` runs, `backoff` waits for its next attempt, `ready` is ready and `blocked` waits for `held`.
fn film() -> (Bench, crate::domain::id::LeaseToken) {
    let stages = vec![stage("held"), stage("backoff"), stage("ready"), stage("blocked").after(&["held"])];
    let mut bench = Bench::with(stages);
    let failed = bench.lease("backoff");
    bench.fail(failed, Network).expect("recorded");
    let token = bench.lease("held");
    (bench, token)
}

#[test]
fn a_cancel_ends_unstarted_stages_at_once_and_gives_holders_the_grace() {
    let (mut bench, _) = film();
    assert!(bench.cancel(secs(30)).expect("asked").applied);
    assert_eq!(bench.phases(), [Running, Cancelled, Cancelled, Cancelled]);
    assert_eq!(bench.state(), JobState::Cancelling { deadline: bench.now.after(secs(30)) });
    assert_eq!(bench.job().cancel_reason.as_deref(), Some("enough"));
    assert_eq!(bench.job().wakes_at(), Some(bench.now.after(secs(30))));
}

#[test]
fn a_cancel_without_holders_ends_the_job_at_once() {
    let mut bench = Bench::with(vec![stage("a"), stage("b").after(&["a"])]);
    bench.cancel(secs(30)).expect("asked");
    assert_eq!((bench.state(), bench.phases()), (JobState::Cancelled, vec![Cancelled, Cancelled]));
}

#[test]
fn a_cancelled_job_ends_cancelled_whatever_its_holder_reports() {
    let cases: [(&str, StagePhase); 4] =
        [("complete", Succeeded), ("fail", Cancelled), ("release", Cancelled), ("silence", Cancelled)];
    for (word, phase) in cases {
        let (mut bench, token) = film();
        bench.cancel(secs(30)).expect("asked");
        bench.pass(secs(10));
        match word {
            "complete" => bench.complete(token),
            // Even what would be tried again.
            "fail" => bench.fail(token, Network),
            "release" => bench.release(token),
            _ => {
                bench.pass(secs(80));
                bench.reap("held")
            }
        }
        .expect("recorded");
        assert_eq!((bench.phase("held"), bench.state()), (phase, JobState::Cancelled), "{word}");
        assert_eq!(bench.phase("blocked"), Cancelled, "a completion makes nothing ready any more");
        assert_eq!(bench.job().end_time, Some(bench.now));
    }
}

#[test]
fn leases_of_a_cancelled_job_end_with_the_grace() {
    let (mut bench, token) = film();
    bench.cancel(secs(30)).expect("asked");
    bench.pass(secs(30) - std::time::Duration::from_micros(1));
    assert!(!bench.wake(None), "not a microsecond too early");
    bench.heartbeat(token).expect("the holder is still there");
    bench.pass(std::time::Duration::from_micros(1));
    assert!(bench.wake(None));
    assert_eq!((bench.phase("held"), bench.state()), (Cancelled, JobState::Cancelled));
    assert_eq!(bench.heartbeat(token).expect_err("lost"), Refusal::LeaseLost);
    assert!(is_transition(&bench.complete(token)));
    assert!(!bench.wake(None));
}

#[test]
fn a_cancel_without_grace_ends_leases_at_once() {
    let (mut bench, token) = film();
    bench.cancel(secs(0)).expect("asked");
    assert_eq!((bench.state(), bench.phases()), (JobState::Cancelled, vec![Cancelled; 4]));
    assert!(bench.complete(token).is_err());
}

#[test]
fn a_cancelling_job_refuses_add_pause_and_resume() {
    let (mut bench, token) = film();
    bench.cancel(secs(30)).expect("asked");
    assert!(is_transition(&bench.add(token, vec![stage("new")])));
    assert!(is_transition(&bench.complete_adding(token, vec![stage("new")])));
    assert!(is_transition(&bench.pause()));
    assert!(is_transition(&bench.resume()));
    assert!(is_transition(&bench.retry(None)));
    assert!(is_transition(&bench.delete()));
    bench.progress(token, Some(0.5), None).expect("progress is still noted");
    bench.complete(token).expect("recorded");
}

#[test]
fn a_repeated_cancel_changes_nothing_and_the_first_grace_stands() {
    let (mut bench, _) = film();
    bench.cancel(secs(30)).expect("asked");
    let deadline = bench.state();
    bench.pass(secs(1));
    assert!(!bench.cancel(secs(300)).expect("a repeat").applied);
    assert_eq!(bench.state(), deadline);
    bench.pass(secs(30));
    bench.wake(None);
    assert!(!bench.cancel(secs(30)).expect("a repeat").applied, "of a cancelled job too");
}

#[test]
fn an_ended_job_cannot_be_cancelled() {
    let mut done = Bench::with(vec![stage("a")]);
    done.finish("a");
    assert!(is_transition(&done.cancel(secs(30))));
    let mut failed = Bench::with(vec![stage("a")]);
    failed.spoil("a");
    assert!(is_transition(&failed.cancel(secs(30))));
}

#[test]
fn attempt_timeouts_hold_during_the_grace() {
    let mut bench = Bench::with(vec![stage("a").spec(|spec| spec.timeout = Some(secs(5)))]);
    bench.lease("a");
    bench.cancel(secs(30)).expect("asked");
    bench.pass(secs(5));
    assert!(bench.wake(Some("a")));
    assert_eq!((bench.phase("a"), bench.state()), (Cancelled, JobState::Cancelled));
}

#[test]
fn a_paused_or_delayed_job_can_be_cancelled() {
    let mut bench = Bench::with(vec![stage("a")]);
    bench.pause().expect("paused");
    bench.cancel(secs(30)).expect("asked");
    assert_eq!(bench.state(), JobState::Cancelled);
}

/// A holder's last heartbeat was just before the cancellation, and the next is an interval and a little way later.
#[test]
fn a_holder_with_timely_heartbeats_has_half_of_the_grace_after_it_learns_of_the_cancel() {
    for (lease, interval) in [(90, secs(10)), (3, secs(1)), (86_400, secs(10))] {
        for grace in [1, 2, 10, 13, 20, 30, 100].map(secs) {
            for is_failure in [false, true] {
                let lasts = |spec: &mut StageSpec| spec.lease_duration = Some(secs(lease));
                let mut bench = Bench::with(vec![stage("held").spec(lasts), stage("bad").spec(lasts), stage("next")]);
                let held = bench.lease("held");
                assert_eq!(bench.stage("held").lease().map(Lease::heartbeat_interval), Some(interval));
                let (grace, outcome) = if is_failure {
                    let bad = bench.lease("bad");
                    (secs(30), bench.fail(bad, ClientError))
                } else {
                    (grace, bench.cancel(grace))
                };
                outcome.expect("recorded");
                bench.pass(interval + interval / 5);
                bench.heartbeat(held).expect("not over yet");
                let end = bench.job().wakes_at().expect("an end of the grace");
                let left = bench.now.until(end);
                assert!(left >= grace / 2, "{lease} {grace:?}: {left:?}");
                // And the end stays near.
                assert!(left <= grace + secs(3), "{lease} {grace:?}: {left:?}");
                while bench.now.after(interval) < end {
                    bench.pass(interval);
                    bench.heartbeat(held).expect("renewed as asked, it is held to the end of the grace");
                }
                bench.pass(bench.now.until(end));
                assert!(bench.wake(None));
                assert_eq!(bench.phase("held"), Cancelled);
            }
        }
    }
}

#[test]
fn a_stage_without_a_lease_does_not_extend_the_grace() {
    let mut bench = Bench::with(vec![stage("mine").direct()]);
    bench.start("mine", None).expect("started");
    bench.cancel(secs(2)).expect("asked");
    assert_eq!(bench.state(), JobState::Cancelling { deadline: bench.now.after(secs(2)) });
}
