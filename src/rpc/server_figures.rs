//! What GetServerInfo and GetStatistics say. Neither needs the database.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tonic::Code;

use super::convert::time;
use super::limits;
use super::services::Services;
use crate::admission::{CODES, ClassFigures, ClientFigures, MESSAGE_LIMIT_BYTES, MethodSnapshot};
use crate::domain::graph::MAX_STAGES;
use crate::domain::job::DEFAULT_RETENTION;
use crate::domain::permit::{MAX_CLAIMS, MAX_HOLDERS, MAX_NAME};
use crate::domain::record::{MAX_CONTEXT_BYTES, MAX_FIELD_BYTES, MAX_FIELDS, MAX_RECORD_BYTES};
use crate::domain::session::MAX_SEGMENTS;
use crate::domain::session::segment::{MAX_INLINE_BYTES, MAX_TEXT_BYTES};
use crate::domain::stage::DEFAULT_LEASE;
use crate::figures::Counter;
use crate::proto::*;
use crate::task::BackgroundJobFigures;

/// What this server can do.
const CAPABILITIES: [&str; 7] = ["admin", "jobs", "permits", "records", "timelines", "transactions", "workers"];

pub fn info() -> GetServerInfoResponse {
    let limits = ServerLimits {
        receive_bytes: i64::from(MESSAGE_LIMIT_BYTES),
        send_bytes: i64::from(MESSAGE_LIMIT_BYTES),
        payload_bytes: figure(limits::PAYLOAD_BYTES),
        input_bytes: figure(limits::INPUT_BYTES),
        artifacts_bytes: figure(limits::ARTIFACTS_BYTES),
        result_bytes: figure(limits::RESULT_BYTES),
        message_bytes: figure(limits::MESSAGE_BYTES),
        stages_per_job: small(MAX_STAGES),
        jobs_per_batch: small(limits::JOBS_PER_BATCH),
        stages_per_lease_call: small(limits::STAGES_PER_LEASE_CALL as usize),
        renewals_per_heartbeat: small(limits::RENEWALS_PER_HEARTBEAT),
        page_size: small(limits::PAGE_SIZE as usize),
        filter_characters: small(limits::FILTER_CHARACTERS),
        max_wait: Some(time::duration(time::WAIT.max)),
        min_lease_duration: Some(time::duration(time::LEASE_DURATION.min)),
        max_lease_duration: Some(time::duration(time::LEASE_DURATION.max)),
        default_lease_duration: Some(time::duration(DEFAULT_LEASE)),
        default_retention: Some(time::duration(DEFAULT_RETENTION)),
        fields_per_record: small(MAX_FIELDS),
        field_bytes: figure(MAX_FIELD_BYTES),
        record_bytes: figure(MAX_RECORD_BYTES),
        context_bytes: figure(MAX_CONTEXT_BYTES),
        operations_per_update: small(limits::OPERATIONS_PER_UPDATE),
        operations_per_call: small(limits::OPERATIONS_PER_CALL),
        records_per_batch: small(limits::RECORDS_PER_BATCH),
        records_per_watch: small(limits::RECORDS_PER_WATCH),
        claims_per_permit: small(MAX_CLAIMS),
        permits_per_renewal: small(limits::PERMITS_PER_RENEWAL),
        permits_per_resource: small(MAX_HOLDERS),
        resource_name_bytes: small(MAX_NAME),
        operations_per_commit: small(limits::OPERATIONS_PER_COMMIT),
        outcomes_per_call: small(limits::OUTCOMES_PER_CALL),
        work_capacity: small(limits::WORK_CAPACITY),
        segments_per_call: small(limits::SEGMENTS_PER_CALL),
        segment_text_bytes: figure(MAX_TEXT_BYTES),
        words_per_segment: small(limits::WORDS_PER_SEGMENT),
        inline_data_bytes: figure(MAX_INLINE_BYTES),
        segments_per_session: MAX_SEGMENTS,
    };
    GetServerInfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        limits: Some(limits),
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
    }
}

pub fn statistics(services: &Services) -> GetStatisticsResponse {
    GetStatisticsResponse {
        start_time: Some(services.started.into()),
        sample_time: Some(SystemTime::now().into()),
        rpcs: services.statistics.snapshot().methods.iter().map(rpc).collect(),
        pool: Some(pool(services)),
        writer: Some(writer(services)),
        cache: Some(cache(services)),
        segment_cache: Some(segment_cache(services)),
        timelines: Some(timelines(services)),
        dispatcher: Some(DispatcherStatistics { waiting_polls: figure(services.dispatcher.waiting_polls()) }),
        feed: Some(feed(services)),
        permits: Some(permits(services)),
        rate_limits: Some(rate_limits(services)),
        loops: services.loops.snapshot().iter().map(background).collect(),
    }
}

fn rpc(method: &MethodSnapshot) -> RpcStatistics {
    let ended = (0..CODES).filter(|code| method.finished[*code] > 0);
    let calls: BTreeMap<String, i64> =
        ended.map(|code| (code_name(code).to_owned(), count(method.finished[code]))).collect();
    let quantile = |share| method.quantile(share).map(time::duration);
    let latency = LatencyStatistics {
        count: count(method.latency.iter().sum()),
        sum: Some(time::duration(Duration::from_micros(method.latency_sum_us))),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        max: quantile(1.0),
    };
    RpcStatistics {
        method: method.path.trim_start_matches('/').to_owned(),
        calls,
        in_flight: count(method.in_flight),
        latency: Some(latency),
    }
}

/// The name of a status code.
pub fn code_name(code: usize) -> &'static str {
    match i32::try_from(code).map_or(Code::Unknown, Code::from_i32) {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn pool(services: &Services) -> PoolStatistics {
    let figures = services.store.reads.figures();
    PoolStatistics {
        max_connections: figure(figures.max_connections),
        connections: figure(figures.connections),
        idle: figure(figures.idle),
        waiting: figure(figures.waiting),
    }
}

fn writer(services: &Services) -> WriterStatistics {
    let figures = &services.engine.shared().figures;
    WriterStatistics {
        groups: count(figures.groups()),
        operations: count(figures.operations()),
        queue_depth: figure(services.engine.queue_depths().iter().sum()),
        conflicts: count(figures.conflicts()),
        contended: count(figures.contended.get()),
        rejected: count(figures.rejected.get()),
    }
}

fn cache(services: &Services) -> CacheStatistics {
    let figures = services.engine.shared().cache.figures();
    CacheStatistics {
        entries: figure(figures.entries),
        bytes: figure(figures.bytes),
        hits: count(figures.hits),
        misses: count(figures.misses),
        evictions: count(figures.evictions),
    }
}

fn segment_cache(services: &Services) -> SegmentCacheStatistics {
    let figures = services.engine.shared().cache.segment_figures();
    SegmentCacheStatistics {
        max_entries: figure(figures.max_entries),
        entries: figure(figures.entries),
        bytes: figure(figures.bytes),
        hits: count(figures.hits),
        misses: count(figures.misses),
        evictions: count(figures.evictions),
        hit_rate: figures.hit_rate(),
    }
}

fn timelines(services: &Services) -> TimelineStatistics {
    let figures = services.timeline_gate.figures();
    TimelineStatistics {
        max_operations: figure(figures.max_operations),
        operations: figure(figures.in_use),
        waiting: figure(figures.waiting),
        completed: count(figures.completed),
        rejected: count(figures.rejected),
        rejection_rate: figures.rejection_rate(),
    }
}

fn feed(services: &Services) -> FeedStatistics {
    let counters = &services.hub.figures;
    let read = |counter: &Counter| count(counter.get());
    FeedStatistics {
        watchers: count(counters.watching()),
        topics: figure(services.hub.followed_jobs()),
        changes_sent: read(&counters.steps_sent),
        snapshots_sent: read(&counters.snapshots_sent),
        gaps_sent: read(&counters.gaps_sent),
        snapshots_read: read(&counters.snapshots_read),
        histories_read: read(&counters.histories_read),
        hints_sent: read(&counters.hints_sent),
        hints_received: read(&counters.hints_received),
        jobs_refreshed: read(&counters.refreshed),
    }
}

fn permits(services: &Services) -> PermitStatistics {
    let permits = &services.engine.shared().permits;
    let figures = &permits.figures;
    let read = |counter: &Counter| count(counter.get());
    let denied = figures.denied.iter().map(|(reason, denied)| (reason, read(denied)));
    PermitStatistics {
        granted: read(&figures.granted),
        ended: read(&figures.ended),
        lost: read(&figures.lost),
        denied: denied.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect(),
        waiting: figure(permits.waits.len()),
        stages_woken: read(&figures.stages_called),
        timers_fired: read(&figures.alarms),
    }
}

fn rate_limits(services: &Services) -> RateLimitStatistics {
    let figures = services.rate_limiter.figures();
    let class = |figures: &ClassFigures| RateLimitClassStatistics {
        class: figures.class.name().to_owned(),
        accepted: count(figures.accepted),
        refused: count(figures.refused),
    };
    let client = |figures: &ClientFigures| RateLimitClientStatistics {
        client: figures.name.clone(),
        class: figures.class.name().to_owned(),
        refused: count(figures.refused),
    };
    RateLimitStatistics {
        classes: figures.classes.iter().map(class).collect(),
        clients: figures.clients.iter().map(client).collect(),
    }
}

fn background(figures: &BackgroundJobFigures) -> LoopStatistics {
    LoopStatistics {
        name: figures.name.to_owned(),
        runs: count(figures.runs),
        failures: count(figures.failures),
        items: count(figures.items),
        last_run_time: figures.last_run.map(time::timestamp),
    }
}

fn figure(figure: usize) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}

fn small(figure: usize) -> i32 {
    i32::try_from(figure).unwrap_or(i32::MAX)
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_name() {
        let names: std::collections::BTreeSet<_> = (0..CODES).map(code_name).collect();
        assert_eq!(names.len(), CODES);
        assert_eq!((code_name(0), code_name(16)), ("OK", "UNAUTHENTICATED"));
    }

    #[test]
    fn the_limits_in_the_response_are_those_that_hold() {
        let limits = info().limits.expect("limits");
        assert_eq!((limits.receive_bytes, limits.payload_bytes, limits.stages_per_job), (4 << 20, 256 << 10, 10_000));
        assert_eq!(limits.max_lease_duration.map(|duration| duration.seconds), Some(86_400));
    }
}
