//! What a server says of itself, in one line.

use prost_types::Timestamp;

use crate::proto::GetStatisticsResponse;

/// The figures that are shown.
#[derive(Debug, PartialEq)]
pub struct Figures {
    /// When they were taken.
    pub time: Option<Timestamp>,
    /// As words; nothing if the server did not tell them.
    pub line: String,
}

impl Figures {
    /// Out of what the server told now and, for what happens in a second, before.
    pub fn of(now: &GetStatisticsResponse, before: Option<&GetStatisticsResponse>) -> Self {
        let (Some(pool), Some(writer)) = (&now.pool, &now.writer) else {
            return Self { time: None, line: String::new() };
        };
        let per_second = |count: fn(&GetStatisticsResponse) -> i64| {
            // A server that was started again counts anew.
            let before = before.filter(|before| before.start_time == now.start_time);
            let since = before.map_or(now.start_time, |before| before.sample_time);
            let seconds = seconds(now.sample_time) - seconds(since);
            let counted = count(now) - before.map_or(0, count);
            if seconds > 0.0 { counted as f64 / seconds } else { 0.0 }
        };
        let rates = if before.is_some() { "" } else { "   (rates since its start)" };
        let line = format!(
            "calls {:.0}/s   under way {}   writes {:.0}/s   waiting {}   conflicts {:.0}/s   connections {} of {}   idle workers {}{rates}",
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
    use crate::proto::{PoolStatistics, RpcStatistics, WriterStatistics};

    fn told(at: i64, calls: i64) -> GetStatisticsResponse {
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
    fn rates_are_those_since_the_look_before() {
        fn line(now: &GetStatisticsResponse, before: Option<&GetStatisticsResponse>) -> String {
            Figures::of(now, before).line
        }
        assert!(line(&told(110, 500), None).starts_with("calls 50/s   under way 3 "));
        assert!(line(&told(112, 900), Some(&told(110, 500))).starts_with("calls 200/s "));
        let other = GetStatisticsResponse { start_time: None, ..told(110, 500) };
        assert!(line(&told(112, 24), Some(&other)).starts_with("calls 2/s "), "a server that was started again");
        assert_eq!(line(&GetStatisticsResponse::default(), None), "");
    }
}
