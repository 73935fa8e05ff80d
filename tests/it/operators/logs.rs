//! Lines that tell an operator what happened, each bounded.

use interlock::proto::{self, FailureClass, JobState};
use tonic::Code;

use super::exposition::ask;
use crate::harness::*;

/// Waits for a line with all of these words.
async fn says(log: &Log, words: &[&str]) -> String {
    let look = async || {
        let text = log.text();
        let line = text.lines().find(|line| words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned)
    };
    eventually(&words.join(" "), look).await
}

#[tokio::test(flavor = "multi_thread")]
async fn start_health_and_jobs_are_logged() {
    let database = Database::fresh().await;
    let proxy = Proxy::to(&database).await;
    let url = proxy.url.replace('@', ":sesame@");
    let (program, log) = Program::logged_over(&url, "info", &[], &[]).await;
    let api = &program.api;
    let name = proxy.url.rsplit('/').next().expect("a name");
    says(&log, &["starting", env!("CARGO_PKG_VERSION"), &format!("127.0.0.1:{}/{name}", proxy.address.port())]).await;
    let listening = says(&log, &["listening", &format!("address={}", program.address)]).await;
    for limit in ["pool_max=5", "max_in_flight=", "queue_operations=", "metrics="] {
        assert!(listening.contains(limit), "{listening}");
    }
    says(&log, &["serving: the database takes writes"]).await;
    assert!(listening.contains(&format!("metrics={}", program.metrics)), "{listening}");
    assert_eq!(ask(program.metrics, "GET", "/readyz").await.status, 200);

    // A worker that falls silent, and jobs that fail: a few lines for many.
    api.submit(new_job("silent", vec![new_stage_with_attempts("voice", 2)])).await;
    api.lease_for("default", 1).await;
    says(&log, &["leases expired", "stages=1"]).await;
    for i in 0..30 {
        let job_id = format!("flop-{i}");
        let stage = proto::StageSpec { queue: "flops".to_owned(), ..new_stage_with_attempts("voice", 1) };
        api.submit(new_job(&job_id, vec![stage])).await;
        let failure = proto::Failure { code: "E42".to_owned(), ..failure(FailureClass::ServerError) };
        api.fail(&api.lease("flops").await, failure).await;
        api.job_in(&job_id, JobState::Failed).await;
    }
    let line = says(&log, &["a job FAILED", "job_id=flop-0"]).await;
    for word in ["stage=voice", "class=\"server_error\"", "code=E42", "attempt=1", "kind=film"] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!line.contains("it broke"), "a worker's message is not for the log: {line}");
    says(&log, &["more jobs FAILED"]).await;
    let lines = log.text().matches("a job FAILED").count();
    assert!((5..30).contains(&lines), "{lines} lines");

    // The database goes and comes back.
    proxy.cut_to(Mode::Refuse);
    says(&log, &["not serving", "served_seconds="]).await;
    proxy.set(Mode::Pass);
    says(&log, &["serving again", "after_seconds=", "trouble="]).await;
    assert!(!log.text().contains("sesame"), "no password in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn breakers_and_overload_are_logged() {
    let database = Database::fresh().await;
    let (program, log) = Program::logged(&database).await;
    let api = &program.api;
    let breaker =
        proto::CircuitBreaker { failure_threshold: Some(1), open_duration: seconds(600), ..Default::default() };
    api.set_policy("vendor", proto::ResourcePolicy { breaker: Some(breaker), ..capacity(10) }).await;
    api.release_failed(&api.acquire("vendor").await, FailureClass::ServerError).await;
    says(&log, &["a circuit breaker opened", "resource=vendor"]).await;

    let foreign = sql(database.url()).await;
    foreign.batch_execute("BEGIN; LOCK TABLE write_groups").await.expect("a lock");
    let submit = |i: usize| {
        let api = api.clone();
        let stages = (0..60).map(|stage| new_stage(&format!("stage-{stage}"))).collect();
        tokio::spawn(async move { api.jobs().submit_job(new_job(&format!("job-{i}"), stages)).await })
    };
    let submits: Vec<_> = (0..600).map(submit).collect();
    says(&log, &["overload begins", "refused="]).await;
    foreign.batch_execute("ROLLBACK").await.expect("no lock");
    let refused = futures::future::join_all(submits).await.into_iter().filter(|answer| {
        answer
            .as_ref()
            .is_ok_and(|answer| answer.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted))
    });
    let refused = refused.count();
    let over = says(&log, &["overload is over", "lasted_seconds="]).await;
    assert!(refused > 0 && over.contains("refused="), "{refused}: {over}");
    assert_eq!(log.text().matches("overload begins").count(), log.text().matches("overload is over").count());
}
