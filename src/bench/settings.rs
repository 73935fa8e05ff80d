//! Settings of a bench.

use std::time::Duration;

use super::address::Address;
use super::servers::Demands;
use crate::dev::PostgresOptions;

/// A workload of `interlock bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// SubmitJob, one stage each.
    Submit,
    /// UpdateStageProgress on many jobs and on one.
    Update,
    /// Stages leased and completed until none is left.
    Drain,
    /// From 1 to 1,024 writers on one job.
    Contention,
    /// UpdateStageProgress on many jobs through two servers at random, beside one server.
    Servers,
    /// Changes sent to 100 and 2,000 watchers.
    Fanout,
    /// UpdateRecord on many records and on one, and batches of a hundred.
    Records,
    /// Pairs of AcquirePermit and ReleasePermit.
    Permits,
    /// SubmitJob in an open loop at multiples of the peak rate, with heartbeats beside it.
    Overload,
    /// UpdateStageProgress on a server without TLS, on one with it, and on one that requires API keys too.
    Door,
    /// Live leases, each renewed every ten seconds, then as fast as possible.
    Heartbeats,
    /// Clients at their rate and at twice their rate, beside some that stay below it.
    Limits,
    /// Sets of segments, pages of timelines and searches.
    Timeline,
}

/// Settings of a bench.
#[derive(Clone, Debug)]
pub struct BenchSettings {
    pub workload: Workload,
    /// Duration of one run of one variant.
    pub run: Duration,
    /// Number of runs of each variant.
    pub pairs: usize,
    /// Number of stages to drain, for each variant and in all runs together; the heartbeat workload leases half of
    /// them.
    pub stages: usize,
    /// Number of segments that are searched.
    pub segments: usize,
    /// Number of stages of each drained job.
    pub stages_per_job: usize,
    /// True: Postgres waits 1 ms longer before each flush of its log.
    pub slow_fsync: bool,
    /// Print JSON instead of a table.
    pub json: bool,
    /// Calls in flight. None: those of the workload.
    pub in_flight: Option<usize>,
    /// Address of a server that already runs. None: the bench starts one.
    pub target: Option<Address>,
    /// Requirements of a started server towards its clients.
    pub demands: Demands,
    /// Database of the server. None: it is unknown, or not started yet.
    pub database_url: Option<String>,
    /// Data directory and binaries of the private Postgres.
    pub postgres: PostgresOptions,
}

impl BenchSettings {
    /// Calls in flight: the usual ones of a workload, or the number that was requested.
    pub(super) fn in_flight(&self, usual: &[usize]) -> Vec<usize> {
        self.in_flight.map_or_else(|| usual.to_vec(), |in_flight| vec![in_flight])
    }
}
