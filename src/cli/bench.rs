//! `interlock bench`: measures the server against one transaction per request, on a private and durable Postgres.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::client::{Credentials, endpoint};
use super::failure::Failed;
use super::flags::DatabaseFlag;
use super::text::{announce, say_bytes};
use crate::bench::{Address, BenchSettings, Demands, Workload, run, serve_baseline, serve_broadcast};
use crate::config::{Config, DatabaseUrl, Host, Overrides};
use crate::dev::{Durability, PostgresOptions, Storage};
use crate::telemetry;

/// Flags of `interlock bench`.
#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    workload: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// SubmitJob of one stage.
    Submit(How),
    /// UpdateStageProgress on many jobs and on one.
    Update(How),
    /// Lease and complete until nothing is left, by single calls, CompleteStages and Work streams, against a plain table with SKIP LOCKED.
    Drain(How),
    /// From 1 to 1,024 writers on one job.
    Contention(How),
    /// UpdateStageProgress on many jobs through two servers at random, against one server.
    Servers(How),
    /// Changes sent to 100 and 2,000 watchers, against a plain broadcast; then all resume at once.
    Fanout(How),
    /// UpdateRecord on many records and on one, and batches of a hundred, also against raw SQL.
    Records(How),
    /// AcquirePermit and ReleasePermit of locks, a limit and a rate, against a row lock per call and advisory locks.
    Permits(How),
    /// SubmitJob of 60 stages in an open loop at 1, 3 and 10 times the peak rate, with heartbeats meanwhile.
    Overload(How),
    /// UpdateStageProgress on a server without TLS, with TLS, and with TLS and API keys.
    Door(How),
    /// 100,000 live leases, each renewed every 10 s in calls of 100, then as fast as possible.
    Heartbeats(How),
    /// 100 clients at their rate limit and at twice of it, with heartbeats, together with 10 clients below it; and the cost of the limit per call.
    Limits(How),
    /// AppendSegments of sound, transcript and three translations, QueryTimeline and SearchSegments, against plain SQL; and captions as watchers get them.
    Timeline(How),
    /// The broadcast that watches are compared with; started by `fanout`.
    #[command(hide = true)]
    Broadcast(Box<Baseline>),
    /// The server that the other workloads are compared with; started by them.
    #[command(hide = true)]
    Baseline(Box<Baseline>),
}

#[derive(Debug, Args)]
struct How {
    /// Duration of one run of one variant in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Number of runs of each variant, alternating; the median pair is reported.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Stages to drain per variant, all runs together, rounded to 2,000 per run; for `heartbeats` half of them are leased.
    #[arg(long, default_value_t = 200_000)]
    stages: usize,
    /// Segments that are searched by `timeline`.
    #[arg(long, default_value_t = 200_000)]
    segments: usize,
    /// Stages per drained job: 1, 10 or 100.
    #[arg(long, default_value_t = 100)]
    stages_per_job: usize,
    /// Number of concurrent calls, instead of the steps of the workload.
    #[arg(long, value_name = "COUNT")]
    in_flight: Option<usize>,
    /// Delay each flush of the log of Postgres by a millisecond, as on a slower disk.
    #[arg(long, conflicts_with = "target")]
    slow_fsync: bool,
    /// Start the server with TLS and a temporary certificate; the server it is compared with has none.
    #[arg(long, conflicts_with = "target")]
    tls: bool,
    /// Start the server with required API keys, and create one.
    #[arg(long, conflicts_with = "target")]
    require_key: bool,
    /// Measure a running server, as host:port, http://host:port or https://host:port, instead of starting one. Jobs of kind `bench-…` are left
    /// behind in its default namespace.
    #[arg(long, value_name = "ADDRESS")]
    target: Option<String>,
    /// Database of that server: with it the comparison runs too, and acknowledged writes are looked up.
    #[arg(long, value_name = "URL", requires = "target")]
    database: Option<DatabaseUrl>,
    /// Output format of the figures.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
struct Baseline {
    #[command(flatten)]
    database: DatabaseFlag,
    #[command(flatten)]
    settings: Overrides,
}

impl Bench {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.workload {
            Which::Submit(how) => how.run(Workload::Submit).await,
            Which::Update(how) => how.run(Workload::Update).await,
            Which::Drain(how) => how.run(Workload::Drain).await,
            Which::Contention(how) => how.run(Workload::Contention).await,
            Which::Servers(how) => how.run(Workload::Servers).await,
            Which::Fanout(how) => how.run(Workload::Fanout).await,
            Which::Records(how) => how.run(Workload::Records).await,
            Which::Permits(how) => how.run(Workload::Permits).await,
            Which::Overload(how) => how.run(Workload::Overload).await,
            Which::Door(how) => how.run(Workload::Door).await,
            Which::Heartbeats(how) => how.run(Workload::Heartbeats).await,
            Which::Limits(how) => how.run(Workload::Limits).await,
            Which::Timeline(how) => how.run(Workload::Timeline).await,
            Which::Baseline(baseline) => baseline.run(true).await,
            Which::Broadcast(broadcast) => broadcast.run(false).await,
        }
    }
}

impl How {
    async fn run(self, workload: Workload) -> anyhow::Result<()> {
        anyhow::ensure!((0.1..=600.0).contains(&self.seconds), "--seconds is 0.1 to 600");
        anyhow::ensure!((1..=100).contains(&self.pairs), "--pairs is 1 to 100");
        anyhow::ensure!((2_000..=2_000_000).contains(&self.stages), "--stages is 2,000 to 2,000,000");
        anyhow::ensure!((1_000..=2_000_000).contains(&self.segments), "--segments is 1,000 to 2,000,000");
        anyhow::ensure!(self.in_flight.is_none_or(|n| (1..=10_000).contains(&n)), "--in-flight is 1 to 10,000");
        anyhow::ensure!([1, 10, 100].contains(&self.stages_per_job), "--stages-per-job is 1, 10 or 100");
        let host = Host::from_environment();
        let postgres = PostgresOptions {
            storage: Storage::Ephemeral { cache: host.cache_dir(), parent: host.temporary_dir },
            postgres_bin: host.postgres_bin,
            search_path: host.search_path,
            durability: Durability::Full,
            settings: Vec::new(),
        };
        let settings = BenchSettings {
            workload,
            run: Duration::from_secs_f64(self.seconds),
            pairs: self.pairs,
            stages: self.stages,
            segments: self.segments,
            stages_per_job: self.stages_per_job,
            slow_fsync: self.slow_fsync,
            json: self.output == Output::Json,
            postgres,
            in_flight: self.in_flight,
            target: self.target.map(|target| address(&target, &self.credentials)).transpose()?,
            demands: Demands { tls: self.tls, key: self.require_key },
            database_url: self.database.map(|url| url.expose().to_owned()),
        };
        run(settings, |report| Ok(say_bytes(report)?)).await
    }
}

/// Reads the address of a running server, with the credentials for it.
fn address(target: &str, credentials: &Credentials) -> Result<Address, Failed> {
    let (_, endpoint, authorization) = endpoint("--target", target, credentials)?;
    let address = Address::new(endpoint);
    Ok(match authorization {
        Some(key) => address.with_authorization(key.as_encoded_bytes().try_into().map_err(|_| Failed::usage("--key"))?),
        None => address,
    })
}

impl Baseline {
    async fn run(self, with_database: bool) -> anyhow::Result<()> {
        let config = Config::load(&self.settings, self.database.database_url.as_ref())?;
        telemetry::start(&config.log, config.log_format)?;
        let announce = |address| announce(format!("listening on {address}"));
        if !with_database {
            return serve_broadcast(&config, announce).await;
        }
        let database_url = config.require_database_url()?.clone();
        serve_baseline(&config, database_url.expose(), announce).await
    }
}
