//! Heartbeats of live leases: each lease renewed every 10 s in an open loop, then as fast as the server can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::address::KeyedChannel;
use tokio::time::{Instant, MissedTickBehavior};

use super::compare::{Scene, row};
use super::load::{Sample, channels, closed_loop, micros};
use super::report::{Row, remark};
use crate::proto;
use crate::proto::job_service_client::JobServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Leases per Heartbeat, and per LeaseStages.
const PER_CALL: usize = 100;
const PER_BATCH: usize = 500;
/// Duration of a lease without a heartbeat, in seconds.
const LEASE: i64 = 90;
/// Interval of the heartbeats of a lease.
const EVERY: Duration = Duration::from_secs(10);
/// Calls in flight at full speed, and while leases are granted.
const IN_FLIGHT: usize = 16;
/// Duration of the open loop, as a multiple of a usual run, so that each lease is renewed twice by default.
const OPEN_LOOP_RUNS: u32 = 10;

/// Heartbeat requests, one for each [`PER_CALL`] leases.
type Calls = Arc<Vec<proto::HeartbeatRequest>>;

#[derive(Default)]
struct Failures {
    refused: AtomicU64,
    lost: AtomicU64,
}

/// Renews `--stages` / 2 live leases every 10 s, then at full speed; returns one row for each load.
pub async fn heartbeats(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let server = &scene.pair.ours;
    let channels = channels(&server.address, IN_FLIGHT * 64).await?;
    let leases = scene.settings.stages / 2;
    let calls = Arc::new(lease(scene, &channels, leases).await?);
    let failures = Arc::new(Failures::default());
    // All leases are fresh when the run begins, however long it took to grant them.
    for request in calls.iter() {
        let _refused = heartbeat(channels[0].clone(), request.clone(), &failures).await;
    }
    let mut rows = Vec::new();
    let run = scene.settings.run * OPEN_LOOP_RUNS;
    let measured = scene.costed(server, open_loop(&channels, &calls, run, &failures)).await?;
    rows.push(report("heartbeats each 10 s", calls.len(), &[&measured], &failures));
    for in_flight in scene.settings.in_flight(&[IN_FLIGHT]) {
        let call = {
            let (calls, failures) = (calls.clone(), failures.clone());
            move |channel: KeyedChannel, n: u64| {
                let (request, failures) =
                    (calls[usize::try_from(n).unwrap_or(0) % calls.len()].clone(), failures.clone());
                async move { Ok(heartbeat(channel, request, &failures).await.is_ok()) }
            }
        };
        let work = async {
            let sample = closed_loop(&channels, in_flight, scene.settings.run, call).await?;
            Ok(Sample { calls: sample.applied * PER_CALL as u64, ..sample })
        };
        let measured = scene.costed(server, work).await?;
        rows.push(report("heartbeats, full speed", in_flight, &[&measured], &failures));
    }
    rows.iter_mut().for_each(|row| row.memory_bytes = server.memory_bytes());
    let lost = failures.lost.load(Ordering::Relaxed);
    anyhow::ensure!(lost == 0, "{lost} leases were reported LOST although they were renewed in time");
    if let Some(database) = &scene.database {
        let live = database.live_leases(&scene.name).await?;
        anyhow::ensure!(live == leases as i64, "{live} of {leases} leases are stored as live");
    }
    Ok(rows)
}

/// Submits `leases` jobs of one stage and leases them all.
async fn lease(
    scene: &Scene<'_>,
    channels: &[KeyedChannel],
    leases: usize,
) -> anyhow::Result<Vec<proto::HeartbeatRequest>> {
    let stage = proto::StageSpec { name: "main".to_owned(), queue: scene.name.clone(), ..Default::default() };
    let job = proto::SubmitJobRequest { kind: scene.name.clone(), stages: vec![stage], ..Default::default() };
    for _ in 0..leases.div_ceil(PER_BATCH) {
        let request = proto::BatchSubmitJobsRequest { jobs: vec![job.clone(); PER_BATCH], ..Default::default() };
        JobServiceClient::new(channels[0].clone()).batch_submit_jobs(request).await?;
    }
    scene.settle().await?;
    let poll = proto::LeaseStagesRequest {
        worker_id: scene.name.clone(),
        queues: vec![scene.name.clone()],
        max_stages: i32::try_from(PER_CALL)?,
        lease_duration: Some(prost_types::Duration { seconds: LEASE, nanos: 0 }),
        wait: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..Default::default()
    };
    let mut renewals: Vec<proto::LeaseRenewal> = Vec::with_capacity(leases);
    while renewals.len() < leases {
        let missing = (leases - renewals.len()).div_ceil(PER_CALL).min(IN_FLIGHT);
        let polls = channels.iter().cycle().take(missing).map(|channel| {
            let (mut client, poll) = (WorkerServiceClient::new(channel.clone()), poll.clone());
            async move { client.lease_stages(poll).await }
        });
        let before = renewals.len();
        for reply in futures::future::join_all(polls).await {
            let granted = reply?.into_inner().leases.into_iter();
            renewals.extend(
                granted.map(|lease| proto::LeaseRenewal { lease_token: lease.lease_token, ..Default::default() }),
            );
        }
        anyhow::ensure!(renewals.len() > before, "only {before} of {leases} stages were leased");
    }
    renewals.truncate(leases);
    Ok(renewals.chunks(PER_CALL).map(|chunk| proto::HeartbeatRequest { renewals: chunk.to_vec() }).collect())
}

/// Sends one Heartbeat, and counts its refusal and its lost leases.
async fn heartbeat(
    channel: KeyedChannel,
    request: proto::HeartbeatRequest,
    failures: &Failures,
) -> Result<(), tonic::Status> {
    let reply = WorkerServiceClient::new(channel).heartbeat(request).await.inspect_err(|_| {
        failures.refused.fetch_add(1, Ordering::Relaxed);
    })?;
    let lost = proto::LeaseDirective::Lost as i32;
    let lost = reply.into_inner().statuses.iter().filter(|status| status.directive == lost).count();
    failures.lost.fetch_add(lost as u64, Ordering::Relaxed);
    Ok(())
}

/// Renews each lease when it is due, whether or not earlier calls were answered. Latencies count from the due time.
async fn open_loop(
    channels: &[KeyedChannel],
    calls: &Calls,
    run: Duration,
    failures: &Arc<Failures>,
) -> anyhow::Result<Sample> {
    let (began, every) = (Instant::now(), EVERY.div_f64(calls.len() as f64));
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut sent, mut tasks) = (0_u32, Vec::new());
    while began.elapsed() < run {
        tick.tick().await;
        while began.elapsed() >= every * sent {
            let due = began + every * sent;
            let (channel, request) =
                (channels[sent as usize % channels.len()].clone(), calls[sent as usize % calls.len()].clone());
            let failures = failures.clone();
            tasks.push(tokio::spawn(async move {
                heartbeat(channel, request, &failures).await.ok().map(|()| due.elapsed())
            }));
            sent += 1;
        }
    }
    let mut sample = Sample::default();
    for task in tasks {
        let answered = task.await?;
        sample.latencies.extend(answered.map(micros));
    }
    sample.latencies.sort_unstable();
    sample.calls = (sample.latencies.len() * PER_CALL) as u64;
    sample.applied = sample.calls;
    sample.took = began.elapsed();
    Ok(sample)
}

fn report(workload: &str, in_flight: usize, runs: &[&super::compare::MeasuredRun], failures: &Failures) -> Row {
    let row = row(workload, "interlock", in_flight, runs);
    let cores = |us: f64| us * row.per_second / 1e4;
    remark(format!(
        "{workload}: {:.0} renewals/s in calls of {PER_CALL}, p50 {:.1} ms, p99 {:.1} ms; {} calls refused so far; server {:.0} % and Postgres {:.0} % of \
         a core, {:.0} transactions/s",
        row.per_second,
        f64::from(row.p50_us) / 1_000.0,
        f64::from(row.p99_us) / 1_000.0,
        failures.refused.load(Ordering::Relaxed),
        cores(row.server_cpu_us),
        cores(row.postgres_cpu_us),
        row.commits * row.per_second,
    ));
    row
}
