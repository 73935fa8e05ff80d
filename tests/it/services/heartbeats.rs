//! Heartbeats: leases are renewed without their jobs, and holders hear what became of those.

use std::time::{Duration, Instant};

use futures::future::join_all;
use interlock::proto::{self, LeaseDirective, LeaseRenewal, LeaseStatus, StageState};
use serde_json::json;
use tonic::Code;

use crate::harness::*;

use LeaseDirective::{Cancel, Continue, Lost, Pause};

/// Makes all leases due for a renewal.
const NEARLY_OVER: &str = "UPDATE leases SET expires_at = now() + interval '10 seconds'";

fn quiet(lease: &proto::Lease) -> LeaseRenewal {
    LeaseRenewal { lease_token: lease.lease_token.clone(), ..Default::default() }
}

async fn heartbeat(api: &Api, renewals: Vec<LeaseRenewal>) -> Vec<LeaseStatus> {
    ok(api.workers().heartbeat(proto::HeartbeatRequest { renewals }).await).statuses
}

/// What the holders of leases hear.
async fn directives(api: &Api, leases: &[proto::Lease]) -> Vec<LeaseDirective> {
    let statuses = heartbeat(api, leases.iter().map(quiet).collect()).await;
    statuses.iter().map(LeaseStatus::directive).collect()
}

/// Leases of 90 s, as many as there are ready stages.
async fn lease_all(api: &Api, count: usize) -> Vec<proto::Lease> {
    let mut leases = Vec::new();
    while leases.len() < count {
        let some = api.lease_now("default", 100).await;
        assert!(!some.is_empty(), "{} of {count} were leased", leases.len());
        leases.extend(some);
    }
    leases
}

fn many(count: usize) -> Vec<proto::StageSpec> {
    (0..count).map(|i| new_stage(&format!("s{i}"))).collect()
}

/// Seconds that the shortest lease still lasts.
async fn shortest(server: &Server) -> f64 {
    let client = sql(server.database.url()).await;
    let left = "SELECT extract(epoch FROM min(expires_at) - now())::float8 FROM leases";
    client.query_one(left, &[]).await.expect("leases").get(0)
}

#[tokio::test]
async fn heartbeat_reports_a_cancel_made_on_another_server() {
    let server = Server::start().await;
    let other = server.beside().await;
    let (api, elsewhere) = (&server.api, &other.api);
    for stages in [1, 300] {
        let job_id = format!("film-{stages}");
        api.submit(new_job(&job_id, many(stages))).await;
        let leases = lease_all(api, stages).await;
        let received = async || directives(api, &leases).await;
        assert_eq!(received().await, vec![Continue; stages]);
        let named = || proto::PauseJobRequest { job_id: job_id.clone(), ..Default::default() };
        ok(elsewhere.jobs().pause_job(named()).await);
        assert_eq!(received().await, vec![Pause; stages]);
        let resume = proto::ResumeJobRequest { job_id: job_id.clone(), ..Default::default() };
        ok(elsewhere.jobs().resume_job(resume).await);
        let cancel =
            proto::CancelJobRequest { job_id: job_id.clone(), grace_period: seconds(20), ..Default::default() };
        let cancelled = ok(elsewhere.jobs().cancel_job(cancel).await).job.expect("a job");
        let statuses = heartbeat(api, leases.iter().map(quiet).collect()).await;
        for status in &statuses {
            assert_eq!((status.directive(), status.job_version), (Cancel, cancelled.version));
            assert_eq!(status.expire_time, cancelled.cancel_deadline_time, "no longer than the grace");
        }
        for lease in &leases {
            let release = proto::ReleaseStageRequest { target: token(lease), ..Default::default() };
            ok(elsewhere.workers().release_stage(release).await);
        }
        assert_eq!(received().await, vec![Lost; stages]);
        // In a new run, and in a new job under the same id, the old tokens are nothing.
        ok(elsewhere.jobs().retry_job(proto::RetryJobRequest { job_id: job_id.clone(), ..Default::default() }).await);
        let again = lease_all(elsewhere, stages).await;
        assert_eq!((received().await, directives(api, &again).await), (vec![Lost; stages], vec![Continue; stages]));
        let cancel = proto::CancelJobRequest { job_id: job_id.clone(), grace_period: seconds(0), ..Default::default() };
        ok(elsewhere.jobs().cancel_job(cancel).await);
        assert_eq!(directives(api, &again).await, vec![Lost; stages]);
        ok(elsewhere.jobs().delete_job(proto::DeleteJobRequest { job_id: job_id.clone(), ..Default::default() }).await);
        assert_eq!(directives(api, &again).await, vec![Lost; stages]);
        elsewhere.submit(new_job(&job_id, many(stages))).await;
        let new = lease_all(elsewhere, stages).await;
        assert_eq!((received().await, directives(api, &new).await), (vec![Lost; stages], vec![Continue; stages]));
    }
}

#[tokio::test]
async fn heartbeat_has_a_status_per_token() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", many(3))).await;
    let leases = lease_all(api, 3).await;
    // The same token with one bit of each of its parts turned: job, stage, fencing token, secret.
    let wrong = |byte: usize| {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let mut bytes = URL_SAFE_NO_PAD.decode(&leases[0].lease_token).expect("a token");
        bytes[byte] ^= 1;
        LeaseRenewal { lease_token: URL_SAFE_NO_PAD.encode(bytes), ..Default::default() }
    };
    let mixed = vec![
        quiet(&leases[0]),
        wrong(0),
        quiet(&leases[1]),
        wrong(19),
        wrong(16),
        wrong(27),
        wrong(43),
        quiet(&leases[0]),
    ];
    for _ in 0..2 {
        let statuses = heartbeat(api, mixed.clone()).await;
        let received: Vec<_> = statuses.iter().map(LeaseStatus::directive).collect();
        assert_eq!(received, [Continue, Lost, Continue, Lost, Lost, Lost, Lost, Continue]);
        assert_eq!(statuses[0], statuses[7], "a lease that is named twice");
        // Once more where all of them are written.
        sql(server.database.url()).await.batch_execute(NEARLY_OVER).await.expect("due");
    }
    assert_eq!(directives(api, &leases).await, [Continue; 3]);
    assert!(shortest(&server).await > 80.0);
    let none = heartbeat(api, vec![wrong(43), wrong(0)]).await;
    assert!(none.iter().all(|status| *status == LeaseStatus { directive: Lost.into(), ..Default::default() }));
}

#[tokio::test]
async fn a_thousand_leases_are_renewed_by_one_call() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("large", many(500))).await;
    for i in 0..500 {
        api.submit(new_job(&format!("small-{i}"), many(1))).await;
    }
    let leases = lease_all(api, 1_000).await;
    let version = api.job("large").await.version;
    sql(server.database.url()).await.batch_execute(NEARLY_OVER).await.expect("due");
    let statuses = heartbeat(api, leases.iter().map(quiet).collect()).await;
    assert_eq!(statuses.len(), 1_000);
    assert!(statuses.iter().all(|status| status.directive() == Continue));
    assert!(statuses.iter().all(|status| status.ttl.as_ref().is_some_and(|ttl| ttl.seconds >= 80)));
    assert!(shortest(&server).await > 80.0, "all of them are stored");
    assert_eq!(api.job("large").await.version, version, "a renewal is no version");
    let shown = api.stage("large", "s7").await.lease.expect("a lease").expire_time;
    let received = leases.iter().zip(&statuses).find(|(lease, _)| lease.job_id == "large" && lease.stage_name == "s7");
    assert_eq!(shown, received.expect("it was renewed").1.expire_time, "reads show the renewed end");
    let request = proto::HeartbeatRequest { renewals: leases.iter().chain(&leases[..1]).map(quiet).collect() };
    field(api.workers().heartbeat(request).await, "renewals");
}

#[tokio::test]
async fn progress_is_written_once_per_job_and_only_where_it_is_new() {
    let server = Server::start().await;
    let other = server.beside().await;
    let api = &server.api;
    api.submit(new_job("a", many(5))).await;
    api.submit(new_job("b", many(1))).await;
    let leases = lease_all(api, 6).await;
    let said = |progress, message: Option<&str>| -> Vec<LeaseRenewal> {
        let message = message.map(str::to_owned);
        let renewal = |lease| LeaseRenewal { progress: Some(progress), message: message.clone(), ..quiet(lease) };
        leases.iter().map(renewal).collect()
    };
    let versions = async || (api.job("a").await.version, api.job("b").await.version);
    let before = versions().await;
    let statuses = heartbeat(api, said(0.5, Some("half"))).await;
    assert_eq!(versions().await, (before.0 + 1, before.1 + 1), "one version for five stages");
    assert!(statuses.iter().all(|status| status.directive() == Continue));
    let received: Vec<i64> = statuses.iter().map(|status| status.job_version).collect();
    assert!(received.contains(&(before.0 + 1)) && received.contains(&(before.1 + 1)), "{received:?}");
    for again in [said(0.5, Some("half")), said(0.25, None), said(0.5, None)] {
        heartbeat(api, again).await;
        assert_eq!(versions().await, (before.0 + 1, before.1 + 1));
    }
    // Through another server, which knows nothing of the jobs, and then through the one whose knowledge is old.
    heartbeat(&other.api, said(0.5, Some("half"))).await;
    assert_eq!(versions().await, (before.0 + 1, before.1 + 1));
    heartbeat(&other.api, said(0.75, Some("more"))).await;
    assert_eq!(versions().await, (before.0 + 2, before.1 + 2));
    heartbeat(api, said(0.5, Some("half"))).await;
    for (job_id, stages) in [("a", 5), ("b", 1)] {
        let job = api.job(job_id).await;
        for i in 0..stages {
            let stage = stage(&job, &format!("s{i}"));
            assert_eq!((stage.progress, &*stage.message), (0.75, "half"), "the last word stands");
        }
    }
    // One that is lost beside one that has news.
    ok(api
        .workers()
        .complete_stage(proto::CompleteStageRequest { target: token(&leases[0]), ..Default::default() })
        .await);
    let received: Vec<_> = heartbeat(api, said(0.9, None)).await.iter().map(LeaseStatus::directive).collect();
    assert_eq!(received, [Lost, Continue, Continue, Continue, Continue, Continue]);
}

#[tokio::test]
async fn lease_that_ends_during_its_renewal_is_lost_or_was_held() {
    let server = Server::start().await;
    let other = server.beside().await;
    for round in 0..5 {
        server.api.submit(new_job(&format!("film-{round}"), many(100))).await;
        let leases = lease_all(&server.api, 100).await;
        sql(server.database.url()).await.batch_execute(NEARLY_OVER).await.expect("due");
        let ends = leases.iter().step_by(2).map(|lease| server.api.complete(lease, json!({})));
        let renewals = [&server.api, &other.api, &server.api, &other.api].map(|api| directives(api, &leases));
        let (_ended, received) = futures::join!(join_all(ends), join_all(renewals));
        for received in received {
            assert!(received.iter().skip(1).step_by(2).all(|directive| *directive == Continue), "{received:?}");
        }
        let expected: Vec<_> = (0..100).map(|i| if i % 2 == 0 { Lost } else { Continue }).collect();
        assert_eq!(directives(&other.api, &leases).await, expected);
        join_all(leases.iter().skip(1).step_by(2).map(|lease| server.api.complete(lease, json!({})))).await;
    }
}

#[tokio::test]
async fn locked_row_of_a_lease_blocks_no_other_renewal() {
    let server = Server::start().await;
    let api = &server.api;
    api.submit(new_job("film", many(20))).await;
    let leases = lease_all(api, 20).await;
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute(NEARLY_OVER).await.expect("due");
    let held = leases.iter().find(|lease| lease.stage_name == "s7").expect("it is leased");
    foreign.batch_execute("BEGIN; SELECT FROM leases WHERE stage_no = 7 FOR UPDATE").await.expect("held");
    let beside = async {
        let mut slowest = Duration::ZERO;
        for lease in leases.iter().filter(|lease| lease.stage_name != "s7") {
            let began = Instant::now();
            assert_eq!(directives(api, std::slice::from_ref(lease)).await, [Continue]);
            slowest = slowest.max(began.elapsed());
        }
        foreign.batch_execute("COMMIT").await.expect("free");
        slowest
    };
    let (received, slowest) = futures::join!(directives(api, std::slice::from_ref(held)), beside);
    println!("beside a held row the slowest renewal took {slowest:?}");
    assert_eq!(received, [Continue], "it is renewed when the row is free");
    assert!(slowest < Duration::from_millis(1_500), "{slowest:?}");
    assert!(shortest(&server).await > 80.0);
    // For too long: a precise refusal, and the others are renewed all the same.
    foreign.batch_execute(NEARLY_OVER).await.expect("due");
    foreign.batch_execute("BEGIN; SELECT FROM leases WHERE stage_no = 7 FOR UPDATE").await.expect("held");
    let request = proto::HeartbeatRequest { renewals: leases.iter().map(quiet).collect() };
    refused(api.workers().heartbeat(request).await, Code::Aborted, "CONFLICT");
    foreign.batch_execute("COMMIT").await.expect("free");
    let stale =
        server.column("SELECT stage_no::text FROM leases WHERE expires_at < now() + interval '60 seconds'").await;
    assert_eq!(stale, ["7"]);
}

/// Renews leases through one server after the other until `stop`.
async fn keep(servers: &[&Api], leases: &[proto::Lease], until: impl AsyncFn() -> bool) {
    let mut in_rotation = servers.iter().cycle();
    while !until().await {
        let api = in_rotation.next().expect("it never ends");
        assert_eq!(directives(api, leases).await, vec![Continue; leases.len()]);
    }
}

#[tokio::test]
async fn reaper_expires_silent_leases_and_no_renewed_ones() {
    let server = Server::start().await;
    let other = server.beside().await;
    let api = &server.api;
    api.submit(new_job("film", many(40))).await;
    let poll = proto::LeaseStagesRequest {
        worker_id: "worker".to_owned(),
        max_stages: 40,
        lease_duration: seconds(1),
        ..Default::default()
    };
    let leases = ok(api.workers().lease_stages(poll).await).leases;
    let (kept, silent): (Vec<_>, Vec<_>) = leases.into_iter().enumerate().partition(|(i, _)| i % 4 != 0);
    let lease = |(_, lease): (usize, proto::Lease)| lease;
    let (kept, silent): (Vec<_>, Vec<_>) =
        (kept.into_iter().map(lease).collect(), silent.into_iter().map(lease).collect());
    // Several times as long as a lease lasts, and until the silent ones are gone.
    let began = Instant::now();
    keep(&[api, &other.api], &kept, async || {
        let failed = server.column("SELECT count(*)::text FROM stages WHERE failure IS NOT NULL").await;
        began.elapsed() > Duration::from_secs(4) && failed == [silent.len().to_string()]
    })
    .await;
    assert_eq!(directives(api, &silent).await, vec![Lost; silent.len()]);
    let job = api.job("film").await;
    for lease in &kept {
        let stage = stage(&job, &lease.stage_name);
        assert_eq!((stage.state(), stage.attempt), (StageState::Running, 1));
    }
    // Renewed leases were checked and postponed.
    let late =
        "SELECT count(*)::text FROM leases WHERE check_at > expires_at OR check_at < now() - interval '3 seconds'";
    assert_eq!(server.column(late).await, ["0"]);
    // As servers of the version before write them.
    let before = "UPDATE leases SET check_at = '-infinity', fencing_token = NULL WHERE stage_no % 2 = 0";
    sql(server.database.url()).await.batch_execute(before).await.expect("rows");
    assert_eq!(directives(api, &kept).await, vec![Continue; kept.len()]);
    eventually("all are silent now", async || {
        let left = server.column("SELECT count(*)::text FROM leases").await;
        (left == ["0"]).then_some(())
    })
    .await;
}
