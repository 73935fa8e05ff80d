//! Runs two servers in alternation under the same load, and summarizes the runs.

use std::time::Duration;

use super::address::KeyedChannel;
use super::database::{Counters, Database, StoredCounts};
use super::load::{Sample, channels, closed_loop};
use super::report::Row;
use super::servers::{Pair, Server};
use super::settings::BenchSettings;

/// Environment of a workload.
pub struct Scene<'a> {
    pub settings: &'a BenchSettings,
    pub pair: Pair,
    /// Connection to check what is stored. None: only the address of a server is known.
    pub database: Option<Database>,
    /// Kind of all jobs of this run, and prefix of their ids and queues: other jobs may be in the database.
    pub name: String,
}

/// One run of one variant, with its cost.
pub struct MeasuredRun {
    pub sample: Sample,
    server_cpu_us: f64,
    postgres_cpu_us: f64,
    wal_bytes: f64,
    commits: f64,
}

/// One of two compared servers.
pub struct ComparedSide<'a> {
    pub server: &'a Server,
    pub channels: Vec<KeyedChannel>,
}

/// A run of our server, and the run of the comparison beside it. None: there is no comparison.
pub type Runs = (MeasuredRun, Option<MeasuredRun>);

impl Scene<'_> {
    /// Connects to our server, and to the comparison if there is one.
    pub async fn sides(&self, in_flight: usize) -> anyhow::Result<(ComparedSide<'_>, Option<ComparedSide<'_>>)> {
        let ours = ComparedSide::of(&self.pair.ours, in_flight).await?;
        let theirs = match &self.pair.baseline {
            Some(server) => Some(ComparedSide::of(server, in_flight).await?),
            None => None,
        };
        Ok((ours, theirs))
    }

    /// Runs the variants in alternation. Returns the pairs, and the number of calls in all runs of both variants
    /// that changed something.
    pub async fn compare<C, F>(
        &self,
        (ours, theirs): &(ComparedSide<'_>, Option<ComparedSide<'_>>),
        in_flight: usize,
        call: C,
    ) -> anyhow::Result<(Vec<Runs>, i64)>
    where
        C: Fn(KeyedChannel, u64) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<bool, tonic::Status>> + Send + 'static,
    {
        let (mut pairs, mut applied) = (Vec::new(), 0);
        for i in 0..=self.settings.pairs {
            // The first pair warms up: it counts for what is stored, not for the rates.
            let run = if i == 0 { self.settings.run.min(Duration::from_millis(500)) } else { self.settings.run };
            let once = async |side: &ComparedSide<'_>| {
                self.costed(side.server, closed_loop(&side.channels, in_flight, run, call.clone())).await
            };
            let a = once(ours).await?;
            let b = match theirs {
                Some(theirs) => Some(once(theirs).await?),
                None => None,
            };
            applied += i64::try_from(a.sample.applied + b.as_ref().map_or(0, |b| b.sample.applied))?;
            if i > 0 {
                pairs.push((a, b));
            }
        }
        Ok((pairs, applied))
    }

    /// Measures a run and its cost; costs that cannot be measured from here are 0.
    pub async fn costed(
        &self,
        server: &Server,
        work: impl Future<Output = anyhow::Result<Sample>>,
    ) -> anyhow::Result<MeasuredRun> {
        let (server_before, postgres_before) = (server.cpu_us(), self.pair.postgres_cpu_us());
        let before = self.counters().await?;
        let sample = work.await?;
        let after = self.counters().await?;
        let calls = sample.calls.max(1) as f64;
        Ok(MeasuredRun {
            server_cpu_us: (server.cpu_us() - server_before) / calls,
            postgres_cpu_us: (self.pair.postgres_cpu_us() - postgres_before) / calls,
            wal_bytes: (after.wal_bytes - before.wal_bytes) / calls,
            commits: (after.commits - before.commits) / calls,
            sample,
        })
    }

    /// Counts of what this run has stored. None: the database is not known.
    pub async fn stored(&self) -> anyhow::Result<Option<StoredCounts>> {
        match &self.database {
            Some(database) => database.stored(&self.name).await.map(Some),
            None => Ok(None),
        }
    }

    /// Vacuums our own database between preparations and runs; a foreign one is left alone.
    pub async fn settle(&self) -> anyhow::Result<()> {
        match &self.database {
            Some(database) if self.settings.target.is_none() => database.settle().await,
            Some(_) | None => Ok(()),
        }
    }

    async fn counters(&self) -> anyhow::Result<Counters> {
        match &self.database {
            Some(database) => database.counters().await,
            None => Ok(Counters::default()),
        }
    }

    /// Rows of both variants.
    pub fn summary(&self, name: &str, in_flight: usize, pairs: &[Runs]) -> Vec<Row> {
        let mut ours = row(name, "interlock", in_flight, &pairs.iter().map(|(a, _)| a).collect::<Vec<_>>());
        ours.memory_bytes = self.pair.ours.memory_bytes();
        let both = pairs.iter().filter_map(|(a, b)| Some(a.sample.per_second() / b.as_ref()?.sample.per_second()));
        ours.set_ratios(both);
        if ours.ratio.is_none() {
            return vec![ours];
        }
        let theirs: Vec<&MeasuredRun> = pairs.iter().filter_map(|(_, b)| b.as_ref()).collect();
        let mut theirs = row(name, "per request", in_flight, &theirs);
        (theirs.ratio, theirs.spread) = (Some(1.0), Some((1.0, 1.0)));
        theirs.memory_bytes = self.pair.baseline.as_ref().map_or(0, Server::memory_bytes);
        vec![ours, theirs]
    }
}

impl<'a> ComparedSide<'a> {
    /// Connects to a server for `in_flight` calls in flight.
    pub async fn of(server: &'a Server, in_flight: usize) -> anyhow::Result<ComparedSide<'a>> {
        Ok(ComparedSide { server, channels: channels(&server.address, in_flight).await? })
    }
}

/// Row with the medians of some runs.
pub fn row(name: &str, variant: &str, in_flight: usize, runs: &[&MeasuredRun]) -> Row {
    let median = |value: &dyn Fn(&MeasuredRun) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(|run| value(run)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    Row {
        workload: name.to_owned(),
        variant: variant.to_owned(),
        in_flight,
        per_second: median(&|run| run.sample.per_second()),
        p50_us: median(&|run| f64::from(run.sample.quantile(0.5))) as u32,
        p99_us: median(&|run| f64::from(run.sample.quantile(0.99))) as u32,
        server_cpu_us: median(&|run| run.server_cpu_us),
        postgres_cpu_us: median(&|run| run.postgres_cpu_us),
        wal_bytes: median(&|run| run.wal_bytes),
        commits: median(&|run| run.commits),
        ratio: None,
        spread: None,
        unfairness: None,
        memory_bytes: 0,
    }
}
