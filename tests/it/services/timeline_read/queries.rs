//! QueryTimeline against a model in plain code, its pages, and GetSessionStatistics.

use interlock::proto::{QueryTimelineRequest, SegmentStatus, Untimed};
use tonic::Code;

use super::*;

fn query() -> QueryTimelineRequest {
    QueryTimelineRequest { session_id: SESSION.to_owned(), ..Default::default() }
}

async fn page(api: &Api, request: &QueryTimelineRequest) -> proto::QueryTimelineResponse {
    ok(timelines(api).query_timeline(request.clone()).await)
}

/// All pages of a query, of `page_size` segments each.
async fn all(api: &Api, request: &QueryTimelineRequest, page_size: i32) -> Vec<Segment> {
    let mut request = QueryTimelineRequest { page_size, ..request.clone() };
    let mut segments = Vec::new();
    loop {
        let answer = page(api, &request).await;
        assert!(answer.segments.len() <= page_size as usize && answer.session_version > 0);
        segments.extend(answer.segments);
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            return segments;
        }
    }
}

/// Times in milliseconds of the segments of the model, in the order of arrival. Some last for a minute, and some longer: the server looks for
/// them in other ways than for shorter ones.
fn combinations() -> Vec<(Option<i64>, Option<i64>)> {
    let moments = [None, Some(0), Some(10), Some(20), Some(60_010)];
    let mut times = Vec::new();
    for start in moments {
        for end in moments {
            if !matches!((start, end), (Some(start), Some(end)) if end < start) {
                times.push((start, end));
            }
        }
    }
    times.reverse();
    times
}

/// Keys of the segments that a query has to find, in order.
fn expected(times: &[(Option<i64>, Option<i64>)], range: (Option<i64>, Option<i64>), untimed: Untimed) -> Vec<String> {
    let mut found: Vec<(bool, i64, usize)> = Vec::new();
    for (arrival, (start, end)) in times.iter().enumerate() {
        let matches = match (start, untimed) {
            (None, Untimed::Exclude) | (Some(_), Untimed::Only) => false,
            (None, _) => true,
            (Some(start), _) => {
                let begins_before = range.1.is_none_or(|until| *start < until);
                let ends_after = range.0.is_none_or(|from| end.is_none_or(|end| end > from) || *start >= from);
                begins_before && ends_after
            }
        };
        if matches {
            found.push((start.is_none(), start.unwrap_or_default(), arrival));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, _, arrival)| arrival.to_string()).collect()
}

#[tokio::test]
async fn a_range_finds_what_may_overlap_whatever_times_are_missing() {
    let server = Server::start().await;
    let api = &server.api;
    let times = combinations();
    assert_eq!(times.len(), 19);
    let segments = times.iter().enumerate().map(|(i, (start, end))| transcript(&i.to_string(), *start, *end));
    append_to(api, SESSION, segments.collect()).await;
    let moments = [None, Some(0), Some(5), Some(10), Some(20), Some(25), Some(60_005), Some(60_010), Some(60_015)];
    for from in moments {
        for until in moments {
            if matches!((from, until), (Some(from), Some(until)) if until <= from) {
                continue;
            }
            for untimed in [Untimed::Unspecified, Untimed::Include, Untimed::Exclude, Untimed::Only] {
                let start = from.and_then(millis);
                let end = until.and_then(millis);
                let request = QueryTimelineRequest { start, end, untimed: untimed.into(), ..query() };
                if untimed == Untimed::Only && (from.is_some() || until.is_some()) {
                    field(timelines(api).query_timeline(request).await, "untimed");
                    continue;
                }
                let expected = expected(&times, (from, until), untimed);
                for page_size in [1, 2, 1_000] {
                    let found = all(api, &request, page_size).await;
                    assert_eq!(keys(&found), expected, "{from:?} {until:?} {untimed:?}");
                }
            }
        }
    }
    let found = page(api, &query()).await.segments;
    for segment in &found {
        assert_eq!(segment.duration.is_some(), segment.start.is_some() && segment.end.is_some(), "{segment:?}");
    }
}

#[tokio::test]
async fn conditions_choose_kinds_languages_speakers_and_statuses() {
    let server = Server::start().await;
    let api = &server.api;
    let translation =
        |key: &str, language: &str| Segment { kind: SegmentKind::Translation.into(), ..said(key, language, "x") };
    let segments = vec![
        Segment { speaker: "Ann".into(), ..said("en", "en", "x") },
        Segment { speaker: "Bob".into(), status: SegmentStatus::Interim.into(), ..said("gb", "en-GB", "x") },
        Segment { speaker: "Ann".into(), ..translation("de", "DE-at") },
        translation("enm", "enm"),
        said("none", "", "x"),
    ];
    append_to(api, SESSION, segments).await;
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let (transcripts, interim) = (vec![SegmentKind::Transcript.into()], vec![SegmentStatus::Interim.into()]);
    for (request, expected) in [
        (QueryTimelineRequest { kinds: transcripts, ..query() }, "en gb none"),
        (QueryTimelineRequest { languages: texts(&["EN"]), ..query() }, "en gb"),
        (QueryTimelineRequest { languages: texts(&["de-AT", ""]), ..query() }, "de none"),
        (QueryTimelineRequest { speakers: texts(&["Ann"]), ..query() }, "en de"),
        (QueryTimelineRequest { speakers: texts(&["", "Bob"]), ..query() }, "gb enm none"),
        (QueryTimelineRequest { statuses: interim, ..query() }, "gb"),
        (QueryTimelineRequest { speakers: texts(&["Ann"]), languages: texts(&["de"]), ..query() }, "de"),
    ] {
        assert_eq!(keys(&all(api, &request, 2).await).join(" "), expected, "{request:?}");
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended_whatever_arrives_meanwhile() {
    let server = Server::start().await;
    let api = &server.api;
    let segments = |prefix: &str, count: i64| {
        (0..count).map(|i| transcript(&format!("{prefix}{i}"), Some(i * 10), None)).collect::<Vec<_>>()
    };
    append_to(api, SESSION, segments("a", 40)).await;
    let mut request = QueryTimelineRequest { page_size: 15, ..query() };
    let first = page(api, &request).await;
    append_to(api, SESSION, segments("late", 40)).await;
    request.page_token = first.next_page_token;
    let rest = all(api, &request, 15).await;
    let before: Vec<&str> =
        keys(&first.segments).into_iter().chain(keys(&rest)).filter(|key| key.starts_with('a')).collect();
    assert_eq!(before, keys(&segments("a", 40)), "each segment of the beginning once and in order");
    // The token is bound to its query, and to its session.
    let other = QueryTimelineRequest { speakers: vec!["Ann".into()], ..request.clone() };
    field(timelines(api).query_timeline(other).await, "page_token");
    let other = QueryTimelineRequest { session_id: "other".into(), ..request };
    field(timelines(api).query_timeline(other).await, "page_token");
}

#[tokio::test]
async fn a_page_reads_a_bounded_number_of_segments() {
    let server = Server::start().await;
    let api = &server.api;
    append_to(api, SESSION, vec![transcript("first", None, None)]).await;
    let many = "INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, start_ns, create_time, update_time)
        SELECT namespace_id, session_uid, 'n' || i, 1 + i, 1, 2, 2, 0, i, now(), now() FROM sessions, generate_series(1, 25000) i";
    sql(server.database.url()).await.batch_execute(many).await.expect("many segments");
    let mut request = QueryTimelineRequest { speakers: vec!["nobody".into()], ..query() };
    for _ in 0..2 {
        let answer = page(api, &request).await;
        assert!(answer.segments.is_empty() && !answer.next_page_token.is_empty(), "{answer:?}");
        request.page_token = answer.next_page_token;
    }
    assert!(page(api, &request).await.next_page_token.is_empty());
    let one = QueryTimelineRequest { start: millis(0), untimed: Untimed::Only.into(), ..query() };
    field(timelines(api).query_timeline(one).await, "untimed");
}

#[tokio::test]
async fn bad_queries_name_their_field() {
    let server = Server::start().await;
    let api = &server.api;
    append_to(api, SESSION, vec![transcript("a", None, None)]).await;
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    for (request, path) in [
        (QueryTimelineRequest { session_id: String::new(), ..query() }, "session_id"),
        (QueryTimelineRequest { start: negative, ..query() }, "start"),
        (QueryTimelineRequest { end: seconds(7 * 24 * 3_600 + 1), ..query() }, "end"),
        (QueryTimelineRequest { start: seconds(5), end: seconds(5), ..query() }, "end"),
        (QueryTimelineRequest { untimed: 9, ..query() }, "untimed"),
        (QueryTimelineRequest { kinds: vec![1, 0], ..query() }, "kinds[1]"),
        (QueryTimelineRequest { statuses: vec![7], ..query() }, "statuses[0]"),
        (QueryTimelineRequest { languages: vec!["e n".into()], ..query() }, "languages[0]"),
        (QueryTimelineRequest { speakers: vec!["x".into(); 51], ..query() }, "speakers"),
        (QueryTimelineRequest { page_size: -1, ..query() }, "page_size"),
        (QueryTimelineRequest { max_staleness: seconds(61), ..query() }, "max_staleness"),
        (QueryTimelineRequest { page_token: "AAAA".into(), ..query() }, "page_token"),
    ] {
        field(timelines(api).query_timeline(request).await, path);
    }
    let missing = QueryTimelineRequest { session_id: "missing".into(), ..query() };
    refused(timelines(api).query_timeline(missing).await, Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn statistics_count_each_spoken_moment_once() {
    let server = Server::start().await;
    let api = &server.api;
    let ann = |key: &str, start, end| Segment {
        speaker: "Ann".into(),
        language: "en".into(),
        text: "one two three".into(),
        ..transcript(key, start, end)
    };
    let segments = vec![
        ann("a", Some(5_000), Some(9_000)),
        ann("b", Some(0), Some(6_000)),
        ann("c", None, Some(9_000)),
        Segment { status: SegmentStatus::Interim.into(), ..ann("d", Some(20_000), None) },
        Segment {
            kind: SegmentKind::Translation.into(),
            language: "ja".into(),
            text: "東京 2".into(),
            ..ann("e", None, None)
        },
        Segment { kind: SegmentKind::Audio.into(), ..transcript("f", Some(0), Some(60_000)) },
    ];
    append_to(api, SESSION, segments).await;
    let request = proto::GetSessionStatisticsRequest { session_id: SESSION.to_owned(), ..Default::default() };
    let answer = ok(timelines(api).get_session_statistics(request).await);
    let [speaker] = answer.speakers.as_slice() else { panic!("{answer:?}") };
    assert_eq!((speaker.speaker.as_str(), speaker.segment_count, speaker.word_count), ("Ann", 4, 12));
    assert_eq!((speaker.spoken, speaker.untimed_count), (seconds(9), 2));
    let languages: Vec<_> =
        answer.languages.iter().map(|one| (one.language.as_str(), one.segment_count, one.word_count)).collect();
    assert_eq!(languages, [("en", 4, 12), ("ja", 1, 3)]);
    let kinds: Vec<_> = answer.kinds.iter().map(|one| (one.kind, one.segment_count, one.interim_count)).collect();
    assert_eq!(kinds, [(1, 1, 0), (2, 4, 1), (3, 1, 0)]);
    assert_eq!(answer.session_version, 1);
    let missing = proto::GetSessionStatisticsRequest { session_id: "missing".into(), ..Default::default() };
    refused(timelines(api).get_session_statistics(missing).await, Code::NotFound, "SESSION_NOT_FOUND");
}
