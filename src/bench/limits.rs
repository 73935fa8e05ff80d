//! Rate limits under load: clients that call at their rate, then at twice their rate, and beside them some that stay
//! below it.
//!
//! With `--target` the server must have `--rate-limit-write 20/s --rate-limit-essential 20/s`. Clients are
//! distinguished by namespace. The report has the throughput of each, refusals and latencies of well-behaved clients;
//! the number of refusals is compared with the server's counters.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Code;
use tower::{Layer, Service, service_fn};

use super::address::{Address, KeyedChannel};
use super::compare::Scene;
use super::load::{Sample, ThreadPriority, apart, channels, micros};
use super::report::{Row, remark};
use super::servers::Server;
use crate::admission::{ClassRate, ClientRates, Methods, Peer, RateLimiter, Response, rate_limit};
use crate::proto;
use crate::proto::admin_service_client::AdminServiceClient;
use crate::proto::record_service_client::RecordServiceClient;
use crate::proto::worker_service_client::WorkerServiceClient;

/// Number of clients that call at their rate, or at twice their rate.
const CLIENTS: usize = 100;
/// Number of clients that stay below their rate; their latencies are measured.
const HONEST: usize = 10;
/// Writes per second permitted to each client, and those of a client that stays below.
const RATE: u32 = 20;
const HONEST_RATE: f64 = 15.0;
/// Interval of a client's heartbeats, which are never refused.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
/// Minimum duration of a phase; in a shorter one the burst would count for too much.
const MIN_RUN: Duration = Duration::from_secs(10);
/// Time from the beginning of a phase until bursts are used up: at twice its rate a client spends two seconds' worth of
/// its rate in two seconds, and all its calls are accepted. Latencies are measured after it, when calls are refused.
const SETTLED: Duration = Duration::from_secs(3);
/// Number of connections of the busy clients; each of the others has one of its own.
const CONNECTIONS: usize = 16;
/// Number of calls that measure the cost of the layer.
const COST_CALLS: u32 = 1_000_000;

/// Results of the calls of one client.
#[derive(Clone, Default)]
struct Outcome {
    accepted: usize,
    /// Latencies of accepted writes once bursts were used up, in microseconds.
    latencies: Vec<u32>,
    /// Latencies of refused writes in the same time, in microseconds.
    refusals: Vec<u32>,
    refused: usize,
    /// Number of writes with other errors.
    failed: usize,
    heartbeats_refused: usize,
    took: Duration,
}

pub async fn limits(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let (none, layer) = (cost(false).await, cost(true).await);
    remark(format!(
        "limits: the layer costs {:.0} ns a call ({layer:.0} ns with it, {none:.0} ns without)",
        layer - none
    ));
    let rate = format!("{RATE}/s");
    let flags = [("--rate-limit-write", &*rate), ("--rate-limit-essential", &*rate)];
    let own = match (&scene.settings.database_url, &scene.settings.target) {
        (Some(url), None) => Some(Server::limited(url, &flags).await.context("the server does not start")?),
        (_, Some(_)) => None,
        (None, None) => anyhow::bail!("no database"),
    };
    let server = own.as_ref().unwrap_or(&scene.pair.ours);
    let channel = channels(&server.address, 1).await?.remove(0);
    let names = |kind: &str, count: usize| -> Vec<String> {
        (0..count).map(|i| format!("{}-{kind}-{i}", scene.name)).collect()
    };
    let (busy, honest) = (names("busy", CLIENTS), names("honest", HONEST));
    create(&scene.pair.ours.address, busy.iter().chain(&honest)).await?;
    let run = scene.settings.run.max(MIN_RUN);
    let (mut rows, mut quiet_p99) = (Vec::new(), None);
    for multiple in [0.95, 2.0] {
        let (before, cpu_before) = (refusals(&channel).await?, server.cpu_us());
        let of_busy = Clients { names: busy.clone(), rate: f64::from(RATE) * multiple, connections: CONNECTIONS };
        let of_honest = Clients { names: honest.clone(), rate: HONEST_RATE, connections: HONEST };
        let (loud, well) = futures::try_join!(
            of_busy.run(&server.address, ThreadPriority::Low, run),
            of_honest.run(&server.address, ThreadPriority::Usual, run)
        )?;
        let row = report(multiple, &loud, &well);
        let outcomes = || loud.iter().chain(&well);
        let refused: usize = outcomes().map(|outcome| outcome.refused).sum();
        let counted = refusals(&channel).await? - before;
        anyhow::ensure!(
            i64::try_from(refused)? == counted,
            "{refused} calls were refused, and the server counted {counted}"
        );
        let ratio = quiet_p99.map(|quiet: u32| f64::from(row.p99_us) / f64::from(quiet.max(1)));
        quiet_p99.get_or_insert(row.p99_us);
        let cpu_us =
            (server.cpu_us() - cpu_before) / outcomes().map(|it| it.accepted + it.refused).sum::<usize>().max(1) as f64;
        rows.push(Row { ratio, memory_bytes: server.memory_bytes(), server_cpu_us: cpu_us, ..row });
        // All buckets are full again.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    if let Some(own) = own {
        own.stop().await;
    }
    Ok(rows)
}

/// Duration of a call in nanoseconds, through nothing but the rate limit or without it.
async fn cost(is_limited: bool) -> f64 {
    let served = service_fn(|_: Request<()>| {
        std::future::ready(Ok::<Response, Infallible>(http::Response::new(tonic::body::Body::empty())))
    });
    let class = Some(ClassRate::per_second(1_000_000_000));
    let rates = ClientRates { read: class, write: class, watch: class, essential: class };
    let mut limited = rate_limit(Arc::new(RateLimiter::new(rates))).layer(served);
    let mut bare = served;
    let Ok(methods) = Methods::from_descriptors(&[proto::FILE_DESCRIPTOR_SET]) else { return f64::NAN };
    let method = methods.find("/interlock.v1.RecordService/UpdateRecord");
    let peer = Peer { address: Some(Ipv4Addr::LOCALHOST.into()), certificate: None };
    let began = Instant::now();
    for _ in 0..COST_CALLS {
        let mut request = Request::new(());
        request.headers_mut().insert("interlock-namespace", http::HeaderValue::from_static("bench"));
        request.extensions_mut().insert(method);
        request.extensions_mut().insert(peer.clone());
        let answer = if is_limited { limited.call(request).await } else { bare.call(request).await };
        std::hint::black_box(answer.is_ok());
    }
    began.elapsed().as_nanos() as f64 / f64::from(COST_CALLS)
}

/// Creates namespaces. A server with limits is retried until it accepts each.
async fn create(address: &Address, names: impl Iterator<Item = &String>) -> anyhow::Result<()> {
    let mut admin = AdminServiceClient::new(channels(address, 1).await?.remove(0));
    for name in names {
        let request = proto::CreateNamespaceRequest { name: name.clone(), ..Default::default() };
        while let Err(status) = admin.create_namespace(request.clone()).await {
            anyhow::ensure!(status.code() == Code::ResourceExhausted, "{status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Number of calls that the server has refused for their rate so far, of all classes.
async fn refusals(channel: &KeyedChannel) -> anyhow::Result<i64> {
    let statistics = AdminServiceClient::new(channel.clone()).get_statistics(proto::GetStatisticsRequest {}).await?;
    let limits = statistics.into_inner().rate_limits.context("the server returned no rate limits")?;
    Ok(limits.classes.iter().map(|class| class.refused).sum())
}

/// Clients of one rate.
struct Clients {
    /// The namespace of each client; limits distinguish clients by it.
    names: Vec<String>,
    /// Writes per second of each.
    rate: f64,
    /// Number of connections of all.
    connections: usize,
}

impl Clients {
    /// Runs the clients for `run`, in a thread of their own. Returns their results, in order.
    async fn run(self, address: &Address, priority: ThreadPriority, run: Duration) -> anyhow::Result<Vec<Outcome>> {
        let address = address.clone();
        let clients = async move || self.run_here(&address, run).await;
        apart("clients", priority, clients)?.await.context("the clients panicked")?
    }

    async fn run_here(self, address: &Address, run: Duration) -> anyhow::Result<Vec<Outcome>> {
        let channels = channels(address, self.connections * 64).await?;
        let mut tasks = JoinSet::new();
        for (i, name) in self.names.into_iter().enumerate() {
            let (channel, rate) = (channels[i % channels.len()].clone(), self.rate);
            tasks.spawn(async move { (i, client(channel, name, rate, i, run).await) });
        }
        let mut outcomes = Vec::new();
        while let Some(outcome) = tasks.join_next().await {
            outcomes.push(outcome.context("a client panicked")?);
        }
        outcomes.sort_by_key(|(i, _)| *i);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }
}

/// Runs one client in an open loop: it sends on schedule whether or not earlier calls were answered. Heartbeats run
/// beside it.
async fn client(channel: KeyedChannel, namespace: String, rate: f64, i: usize, run: Duration) -> Outcome {
    let every = Duration::from_secs_f64(1.0 / rate);
    // Start times are spread over the interval, as with independent clients.
    tokio::time::sleep(every.mul_f64(i as f64 / (CLIENTS + HONEST) as f64)).await;
    let (began, mut calls) = (Instant::now(), JoinSet::new());
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let heartbeats = tokio::spawn(heartbeats(channel.clone(), namespace.clone(), run));
    while began.elapsed() < run {
        tick.tick().await;
        let (channel, namespace) = (channel.clone(), namespace.clone());
        calls.spawn(async move {
            let sent = Instant::now();
            let code = write(channel, &namespace).await;
            let micros = micros(sent.elapsed());
            (code, (sent.duration_since(began) >= SETTLED).then_some(micros))
        });
    }
    let mut outcome = Outcome { took: began.elapsed(), ..Outcome::default() };
    while let Some(call) = calls.join_next().await {
        match call {
            Ok((Code::Ok, micros)) => {
                outcome.accepted += 1;
                outcome.latencies.extend(micros);
            }
            Ok((Code::ResourceExhausted, micros)) => {
                outcome.refused += 1;
                outcome.refusals.extend(micros);
            }
            Ok(_) | Err(_) => outcome.failed += 1,
        }
    }
    outcome.heartbeats_refused = heartbeats.await.unwrap_or(usize::MAX);
    outcome
}

async fn write(channel: KeyedChannel, namespace: &str) -> Code {
    let operation = proto::field_operation::Operation::Increment(1.0);
    let operation = proto::FieldOperation { field: "n".to_owned(), operation: Some(operation), ..Default::default() };
    let request = proto::UpdateRecordRequest {
        collection: "bench".to_owned(),
        record_id: "counter".to_owned(),
        operations: vec![operation],
        allow_missing: true,
        ..Default::default()
    };
    let answer = RecordServiceClient::new(channel).update_record(within(namespace, request)).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Sends heartbeats of a lost lease, which the server answers like others. Returns the number refused.
async fn heartbeats(channel: KeyedChannel, namespace: String, run: Duration) -> usize {
    let (began, mut refused) = (Instant::now(), 0);
    while began.elapsed() < run {
        let renewal = proto::LeaseRenewal { lease_token: "none".to_owned(), ..Default::default() };
        let request = within(&namespace, proto::HeartbeatRequest { renewals: vec![renewal] });
        let answer = WorkerServiceClient::new(channel.clone()).heartbeat(request).await;
        refused += usize::from(answer.is_err_and(|status| status.code() == Code::ResourceExhausted));
        tokio::time::sleep(HEARTBEAT_EVERY).await;
    }
    refused
}

fn within<T>(namespace: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Ok(namespace) = namespace.parse() {
        request.metadata_mut().insert("interlock-namespace", namespace);
    }
    request
}

fn report(multiple: f64, loud: &[Outcome], well: &[Outcome]) -> Row {
    let sum = |outcomes: &[Outcome], count: &dyn Fn(&Outcome) -> usize| outcomes.iter().map(count).sum::<usize>();
    let accepted = sum(loud, &|outcome| outcome.accepted);
    // Maximum number of calls that a client may have sent: its burst, and its rate for the time of its calls.
    let due = |outcome: &Outcome| f64::from(RATE) * (2.0 + outcome.took.as_secs_f64());
    let shares: Vec<f64> = loud.iter().map(|outcome| outcome.accepted as f64 / due(outcome)).collect();
    let (least, most) =
        shares.iter().fold((f64::MAX, 0.0_f64), |(least, most), share| (least.min(*share), most.max(*share)));
    let sorted = |outcomes: &[Outcome], of: &dyn Fn(&Outcome) -> &[u32]| {
        let mut latencies: Vec<u32> = outcomes.iter().flat_map(|outcome| of(outcome).iter().copied()).collect();
        latencies.sort_unstable();
        Sample { calls: latencies.len() as u64, latencies, ..Sample::default() }
    };
    let honest = sorted(well, &|outcome| &outcome.latencies);
    let (loud_accepted, loud_refused) =
        (sorted(loud, &|outcome| &outcome.latencies), sorted(loud, &|outcome| &outcome.refusals));
    let ms = |micros: u32| f64::from(micros) / 1_000.0;
    remark(format!(
        "limits {multiple}×: {} clients, each got {:.1} to {:.1} % of what it may have; {accepted} accepted, {} refused, {} failed, {} heartbeats \
         refused; {} honest clients: {} accepted, {} refused, {} failed, p50 {:.1} ms, p99 {:.1} ms; of the others p99 {:.1} ms, of refusals {:.1} ms",
        loud.len(),
        least * 100.0,
        most * 100.0,
        sum(loud, &|outcome| outcome.refused),
        sum(loud, &|outcome| outcome.failed),
        sum(loud, &|outcome| outcome.heartbeats_refused),
        well.len(),
        sum(well, &|outcome| outcome.accepted),
        sum(well, &|outcome| outcome.refused),
        sum(well, &|outcome| outcome.failed),
        ms(honest.quantile(0.5)),
        ms(honest.quantile(0.99)),
        ms(loud_accepted.quantile(0.99)),
        ms(loud_refused.quantile(0.99)),
    ));
    let took = loud.first().map_or(1.0, |outcome| outcome.took.as_secs_f64());
    Row {
        per_second: accepted as f64 / took,
        p50_us: honest.quantile(0.5),
        p99_us: honest.quantile(0.99),
        ..Row::blank(&format!("limits {multiple}×"), "interlock", loud.len() + well.len())
    }
}
