//! The statistics of a server in one line.

use prost_types::Timestamp;

use crate::proto::GetStatisticsResponse;

#[derive(Debug, PartialEq)]
pub struct StatisticsLine {
    /// Time of the sample. None: there is none yet.
    pub time: Option<Timestamp>,
    /// The text; empty if the server sent no statistics.
    pub line: String,
}

impl StatisticsLine {
    /// `before` is the previous answer, from which rates per second are computed; without it they are averages since the start of the server.
    pub fn of(now: &GetStatisticsResponse, before: Option<&GetStatisticsResponse>) -> Self {
        let (Some(pool), Some(writer)) = (&now.pool, &now.writer) else {
            return Self { time: None, line: String::new() };
        };
        let per_second = |count: fn(&GetStatisticsResponse) -> i64| {
            // A restarted server counts from 0.
            let before = before.filter(|before| before.start_time == now.start_time);
            let since = before.map_or(now.start_time, |before| before.sample_time);
            let seconds = seconds(now.sample_time) - seconds(since);
            let counted = count(now) - before.map_or(0, count);
            if seconds > 0.0 { counted as f64 / seconds } else { 0.0 }
        };
        let rates = if before.is_some() { "" } else { "   (rates since its start)" };
        // Only where there are timelines.
        let timelines = now.timelines.filter(|timelines| timelines.completed + timelines.operations > 0);
        let timelines = timelines.map(|timelines| {
            let (running, most, waiting) = (timelines.operations, timelines.max_operations, timelines.waiting);
            format!("   timeline calls {running} of {most}, {waiting} waiting, {} rejected", timelines.rejected)
        });
        let timelines = timelines.unwrap_or_default();
        let line = format!(
            "calls {:.0}/s   in flight {}   writes {:.0}/s   waiting {}   conflicts {:.0}/s   connections {} of {}   idle workers {}{timelines}{rates}",
            per_second(calls),
            now.rpcs.iter().map(|rpc| rpc.in_flight).sum::<i64>(),
            per_second(|statistics| statistics.writer.map_or(0, |writer| writer.operations)),
            writer.queue_depth,
            per_second(|statistics| statistics.writer.map_or(0, |writer| writer.conflicts)),
            pool.connections,
            pool.max_connections,
            now.dispatcher.map_or(0, |dispatcher| dispatcher.waiting_polls),
        );
        Self { time: now.sample_time, line }
    }
}

fn calls(statistics: &GetStatisticsResponse) -> i64 {
    statistics.rpcs.iter().flat_map(|rpc| rpc.calls.values()).sum()
}

fn seconds(time: Option<Timestamp>) -> f64 {
    time.map_or(0.0, |time| time.seconds as f64 + f64::from(time.nanos) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{PoolStatistics, RpcStatistics, TimelineStatistics, WriterStatistics};

    fn statistics(at: i64, calls: i64) -> GetStatisticsResponse {
        let calls = [("OK".to_owned(), calls)].into();
        GetStatisticsResponse {
            start_time: Some(Timestamp { seconds: 100, nanos: 0 }),
            sample_time: Some(Timestamp { seconds: at, nanos: 0 }),
            rpcs: vec![RpcStatistics { calls, in_flight: 3, ..Default::default() }],
            pool: Some(PoolStatistics::default()),
            writer: Some(WriterStatistics::default()),
            ..Default::default()
        }
    }

    #[test]
    fn rates_are_computed_since_the_previous_sample() {
        fn line(now: &GetStatisticsResponse, before: Option<&GetStatisticsResponse>) -> String {
            StatisticsLine::of(now, before).line
        }
        assert!(line(&statistics(110, 500), None).starts_with("calls 50/s   in flight 3 "));
        assert!(line(&statistics(112, 900), Some(&statistics(110, 500))).starts_with("calls 200/s "));
        let other = GetStatisticsResponse { start_time: None, ..statistics(110, 500) };
        assert!(line(&statistics(112, 24), Some(&other)).starts_with("calls 2/s "), "a server that was started again");
        assert_eq!(line(&GetStatisticsResponse::default(), None), "");
        let timelines =
            TimelineStatistics { max_operations: 50, operations: 3, waiting: 2, rejected: 1, ..Default::default() };
        let timelines = GetStatisticsResponse { timelines: Some(timelines), ..statistics(110, 500) };
        assert!(line(&timelines, None).contains("   timeline calls 3 of 50, 2 waiting, 1 rejected   (rates"));
        assert!(!line(&statistics(110, 500), None).contains("timeline"));
    }
}
