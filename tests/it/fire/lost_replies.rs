//! A commit whose reply is lost: its outcome is resolved, so no write is applied twice and no applied write is reported as refused.
//!
//! Only where the read for its answer was cut off as well, an update returns OUTCOME_UNKNOWN although it was applied; that is
//! true, and rare.
//!
//! The updates here have no `request_id` and expect no version: done twice, they would count twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto;

use super::answers::Answer;
use super::scale;
use crate::harness::*;

const ROUNDS: usize = 12;
/// Updates at a time.
const UPDATES: usize = 8;
/// How long a commit may take until the connections are cut; its caller gets no reply.
const COMMIT: Duration = Duration::from_secs(1);

async fn update(api: &Api, job_id: &str) -> Answer<proto::UpdateJobResponse> {
    let request = proto::UpdateJobRequest {
        job_id: job_id.to_owned(),
        labels: labels(&[("by", &unique())]),
        ..Default::default()
    };
    Answer::of(api.jobs().update_job(request).await)
}

#[derive(Default)]
struct Counts {
    received: BTreeSet<i64>,
    unknown: usize,
    not_now: usize,
    /// Rounds in which something was committed and its reply lost.
    lost: usize,
}

impl Counts {
    fn note(&mut self, answer: Answer<proto::UpdateJobResponse>) {
        match answer {
            Answer::Done(answer) => {
                assert!(self.received.insert(answer.applied_version), "a version was returned twice");
            }
            Answer::Unknown(_) => self.unknown += 1,
            Answer::NotNow(_) => self.not_now += 1,
            Answer::Refused(refusal) => panic!("{refusal:?}"),
        }
    }
}

/// One round: replies are lost while updates are under way, until one of them is there; then all connections are cut.
async fn round(proxy: &Proxy, behind: &Api, beside: &Api, job_id: &str, mode: Mode, counts: &mut Counts) {
    // So that the server behind the proxy knows the job and the time, and asks nothing before it commits.
    counts.note(update(behind, job_id).await);
    if mode == Mode::LoseCommits {
        // And here that it loses to a concurrent write and takes the locks first.
        counts.note(update(beside, job_id).await);
        counts.note(update(behind, job_id).await);
    }
    let before = beside.job(job_id).await.version;
    proxy.set(mode);
    let updates = join_all((0..UPDATES).map(|_| update(behind, job_id)));
    let cut = async {
        let started = Instant::now();
        while beside.job(job_id).await.version == before && started.elapsed() < COMMIT {}
        proxy.cut();
        started.elapsed() < COMMIT
    };
    let (answers, lost) = futures::join!(updates, cut);
    answers.into_iter().for_each(|answer| counts.note(answer));
    counts.lost += usize::from(lost);
}

async fn run(mode: Mode) {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let behind = Server::through(database.clone(), &proxy.url, |_| {}).await;
    let beside = Server::over(database, |_| {}).await;
    let direct = proto::StageSpec { direct: true, ..new_stage("main") };
    beside.api.submit(new_job("job", vec![direct])).await;
    let mut counts = Counts::default();
    for _ in 0..ROUNDS * scale() {
        round(&proxy, &behind.api, &beside.api, "job", mode, &mut counts).await;
    }
    let growth = usize::try_from(beside.api.job("job").await.version - 1).expect("not negative");
    eprintln!(
        "replies lost ({mode:?}): in {} of {} rounds after a commit; the job grew by {growth}, {} updates were received so, \
         {} outcomes unknown, {} not done",
        counts.lost,
        ROUNDS * scale(),
        counts.received.len(),
        counts.unknown,
        counts.not_now
    );
    assert!(counts.lost >= ROUNDS * scale() / 2, "too few commits lost their reply");
    assert_eq!(growth, counts.received.len() + counts.unknown, "Postgres was there all the time");
    assert!(counts.unknown * 10 <= growth, "too many outcomes are unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_commit_reply_is_resolved() {
    run(Mode::Lose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_contended_commit_reply_is_resolved() {
    run(Mode::LoseCommits).await;
}
