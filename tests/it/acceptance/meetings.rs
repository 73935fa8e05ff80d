//! Meetings: a hundred bots stream what they hear, through two servers of which one is killed, and nothing is lost, doubled or torn apart.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use interlock::proto::watch_session_response::Update;
use interlock::proto::{self, SegmentKind, SegmentStatus};
use parking_lot::Mutex;

use crate::fire::fleet::Fleet;
use crate::harness::*;

const BOTS: usize = 100;
const MEETINGS: usize = 10;
/// Sentences of each bot.
const SENTENCES: usize = 3;
/// Early versions of each sentence: captions change several times a second.
const INTERIMS: i64 = 20;
/// Languages into which each sentence is translated.
const LANGUAGES: [&str; 3] = ["de", "fr", "ja"];
/// Segments of one sentence: sound, transcript and translations.
const SET: usize = 2 + LANGUAGES.len();
/// The sentence of the first bot of each meeting after which a server is killed.
const KILL_AT: usize = 1;

/// What a bot says.
#[derive(Clone)]
struct Sentence {
    bot: usize,
    number: usize,
}

impl Sentence {
    fn key(&self, part: &str) -> String {
        format!("{}-{}-{part}", self.bot, self.number)
    }

    /// Milliseconds from the start of the meeting. Bots talk over each other, and of some the times are not known.
    fn times(&self) -> (Option<i64>, Option<i64>) {
        let start = (self.number * 4_000 + self.bot * 37 % 3_000) as i64;
        match self.bot % 9 {
            7 => (None, None),
            8 => (Some(start), None),
            _ => (Some(start), Some(start + 2_500)),
        }
    }

    fn segment(&self, part: &str, kind: SegmentKind) -> proto::Segment {
        let (start, end) = self.times();
        let time = |ms: Option<i64>| ms.and_then(millis);
        proto::Segment {
            key: self.key(part),
            kind: kind.into(),
            status: SegmentStatus::Final.into(),
            sequence: INTERIMS + 2,
            speaker: format!("speaker-{}", self.bot),
            start: time(start),
            end: time(end),
            ..Default::default()
        }
    }

    /// The transcript, of which an early version has the first words.
    fn transcript(&self, words: usize) -> proto::Segment {
        let text: Vec<String> = (0..words).map(|word| format!("word{word}")).collect();
        proto::Segment {
            text: text.join(" "),
            language: "en".to_owned(),
            parent_key: None,
            ..self.segment("said", SegmentKind::Transcript)
        }
    }

    fn interim(&self, sequence: i64) -> proto::Segment {
        let words = usize::try_from(sequence).expect("small");
        proto::Segment { status: SegmentStatus::Interim.into(), sequence, ..self.transcript(words) }
    }

    /// The number of words in the end.
    fn words(&self) -> usize {
        5 + self.bot % 4
    }

    fn set(&self) -> Vec<proto::Segment> {
        let sound = proto::Segment {
            content: Some(proto::SegmentContent {
                source: Some(proto::segment_content::Source::Uri(format!("file:{}", self.key("sound")))),
                ..Default::default()
            }),
            ..self.segment("sound", SegmentKind::Audio)
        };
        let said = proto::Segment { parent_key: Some(self.key("sound")), ..self.transcript(self.words()) };
        let translation = |language: &&str| proto::Segment {
            text: format!("{language} {}", self.key("said")),
            language: (*language).to_owned(),
            parent_key: Some(self.key("said")),
            ..self.segment(language, SegmentKind::Translation)
        };
        [sound, said].into_iter().chain(LANGUAGES.iter().map(translation)).collect()
    }
}

fn meeting(bot: usize) -> String {
    format!("meeting-{}", bot % MEETINGS)
}

/// What the bots do, and how long their calls took.
struct Meetings {
    fleet: Fleet,
    took: Mutex<Vec<Duration>>,
    refused: AtomicUsize,
    sentences: AtomicUsize,
}

impl Meetings {
    async fn append(&self, bot: usize, segments: Vec<proto::Segment>) -> proto::AppendSegmentsResponse {
        let session_id = meeting(bot);
        let request = proto::AppendSegmentsRequest { session_id, segments, allow_missing: true, ..Default::default() };
        let began = Instant::now();
        // The keys make a repeat harmless, so it needs no request_id.
        let append = |api: Api, request| async move { api.timelines().append_segments(request).await };
        // A bot stays with its server while that is there.
        let (answer, _) = self.fleet.until_answered_by(|| self.fleet.api_at(bot % 2), request, append).await;
        self.took.lock().push(began.elapsed());
        answer.unwrap_or_else(|refusal| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            panic!("{refusal:?}")
        })
    }

    /// Streams what one bot hears: early versions twice and out of order, the set, and messages that are late or come again.
    async fn stream(&self, bot: usize) {
        for number in 0..SENTENCES {
            let sentence = Sentence { bot, number };
            for sequence in 1..=INTERIMS {
                // Each fourth comes too late.
                let sequence = if sequence % 4 == 0 { sequence - 2 } else { sequence };
                self.append(bot, vec![sentence.interim(sequence)]).await;
            }
            let answer = self.append(bot, sentence.set()).await;
            assert_eq!(answer.results.len(), SET);
            for late in [vec![sentence.interim(INTERIMS + 1)], sentence.set()] {
                let answer = self.append(bot, late).await;
                assert!(answer.results.iter().all(|result| !result.applied), "{answer:?}");
            }
            self.sentences.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Watches a meeting until all of it was final, on another server whenever one is gone. Returns the final segments it was told of.
    async fn watch(&self, number: usize) -> BTreeMap<String, proto::Segment> {
        let (mut finals, mut shown) = (BTreeMap::new(), BTreeMap::new());
        let (mut from_version, mut from_create_time) = (0, None);
        while finals.len() < BOTS / MEETINGS * SENTENCES * SET {
            let request = proto::WatchSessionRequest { session_id: meeting(number), from_version, from_create_time };
            let Ok(stream) = self.fleet.api().timelines().watch_session(request).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let mut stream = stream.into_inner();
            while finals.len() < BOTS / MEETINGS * SENTENCES * SET
                && let Ok(Some(message)) = stream.message().await
            {
                match message.update {
                    Some(Update::Session(session)) => from_create_time = session.create_time,
                    Some(Update::Changes(changes)) => {
                        from_version = changes.version;
                        for segment in changes.segments {
                            note(&mut shown, &mut finals, segment);
                        }
                    }
                    Some(Update::Keepalive(_) | Update::Removal(_) | Update::Reset(_)) | None => {}
                }
            }
        }
        finals
    }
}

/// Notes a segment that a watch was told of: its sequence never falls, and what is final stays.
fn note(shown: &mut BTreeMap<String, i64>, finals: &mut BTreeMap<String, proto::Segment>, segment: proto::Segment) {
    let before = shown.insert(segment.key.clone(), segment.sequence);
    assert!(before.is_none_or(|before| before <= segment.sequence), "{} runs backwards", segment.key);
    if segment.status() == SegmentStatus::Final {
        let same = finals.insert(segment.key.clone(), segment.clone());
        assert!(same.is_none_or(|same| same == segment), "{} was final", segment.key);
    } else {
        assert!(!finals.contains_key(&segment.key), "{} is interim again", segment.key);
    }
}

/// A whole timeline, page by page.
async fn timeline(api: &Api, session_id: &str) -> Vec<proto::Segment> {
    let mut request =
        proto::QueryTimelineRequest { session_id: session_id.to_owned(), page_size: 37, ..Default::default() };
    let mut all = Vec::new();
    loop {
        let page = ok(api.timelines().query_timeline(request.clone()).await);
        all.extend(page.segments);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

fn nanos(at: Option<&prost_types::Duration>) -> Option<i64> {
    at.map(|at| at.seconds * 1_000_000_000 + i64::from(at.nanos))
}

/// The length of a union of ranges.
fn union(mut ranges: Vec<Range<i64>>) -> i64 {
    ranges.sort_unstable_by_key(|range| range.start);
    let (mut length, mut end) = (0, i64::MIN);
    for range in ranges {
        length += (range.end - range.start.max(end)).max(0);
        end = end.max(range.end);
    }
    length
}

async fn check(api: &Api, number: usize, watched: &BTreeMap<String, proto::Segment>) {
    let session_id = meeting(number);
    let stored = timeline(api, &session_id).await;
    let bots = (0..BOTS).filter(|bot| bot % MEETINGS == number);
    let sentences: Vec<Sentence> =
        bots.flat_map(|bot| (0..SENTENCES).map(move |number| Sentence { bot, number })).collect();
    let sent: BTreeMap<String, proto::Segment> =
        sentences.iter().flat_map(Sentence::set).map(|segment| (segment.key.clone(), segment)).collect();
    let keys: BTreeSet<&String> = stored.iter().map(|segment| &segment.key).collect();
    assert_eq!((keys.len(), stored.len()), (sent.len(), sent.len()), "each segment is there once");
    for segment in &stored {
        let sent = &sent[&segment.key];
        assert_eq!((&segment.text, segment.status()), (&sent.text, SegmentStatus::Final), "{}", segment.key);
        assert_eq!((segment.parent_key.as_ref(), segment.sequence), (sent.parent_key.as_ref(), INTERIMS + 2));
        assert_eq!(Some(segment), watched.get(&segment.key), "what was watched is what is stored");
    }
    let place = |segment: &proto::Segment| nanos(segment.start.as_ref()).unwrap_or(i64::MAX);
    assert!(stored.is_sorted_by_key(place), "in order");
    // Each set was stored at once, and so has one version, unless an early transcript was there: then that of the set too.
    for sentence in &sentences {
        let versions: BTreeSet<i64> = sentence
            .set()
            .iter()
            .map(|part| stored.iter().find(|segment| segment.key == part.key).expect("stored").version)
            .collect();
        assert_eq!(versions.len(), 1, "{} was torn apart", sentence.key("said"));
    }
    check_statistics(api, &session_id, &sentences).await;
}

/// Statistics are equal to a count of what was said.
async fn check_statistics(api: &Api, session_id: &str, sentences: &[Sentence]) {
    let request = proto::GetSessionStatisticsRequest { session_id: session_id.to_owned(), ..Default::default() };
    let statistics = ok(api.timelines().get_session_statistics(request).await);
    for speaker in &statistics.speakers {
        let said = |sentence: &&Sentence| format!("speaker-{}", sentence.bot) == speaker.speaker;
        let said: Vec<&Sentence> = sentences.iter().filter(said).collect();
        let words: usize = said.iter().map(|sentence| sentence.words()).sum();
        let range = |sentence: &&Sentence| match sentence.times() {
            (Some(start), Some(end)) => Some(start * 1_000_000..end * 1_000_000),
            _ => None,
        };
        let ranges: Vec<Range<i64>> = said.iter().filter_map(range).collect();
        let untimed = said.len() - ranges.len();
        let counted = (speaker.segment_count, speaker.word_count, speaker.untimed_count);
        assert_eq!(counted, (said.len() as i64, words as i64, untimed as i64), "{}", speaker.speaker);
        assert_eq!(nanos(speaker.spoken.as_ref()), Some(union(ranges)), "{}", speaker.speaker);
    }
    assert_eq!(statistics.speakers.len(), BOTS / MEETINGS);
    let of_language = |tag: &str| statistics.languages.iter().find(|found| found.language == tag).expect("a language");
    for tag in LANGUAGES.iter().chain(&["en"]) {
        assert_eq!(of_language(tag).segment_count, sentences.len() as i64, "{tag}");
    }
}

/// Kills a server once some sentences of all meetings were said.
async fn kill(meetings: &Meetings) {
    eventually("sentences", async || (meetings.sentences.load(Ordering::Relaxed) >= BOTS * KILL_AT).then_some(()))
        .await;
    let probe = async |api: &Api| {
        let request = proto::GetSessionRequest { session_id: meeting(0), ..Default::default() };
        api.timelines().get_session(request).await.is_ok()
    };
    meetings.fleet.kill(0, probe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_bots_lose_and_double_nothing_while_a_server_is_killed() {
    let began = Instant::now();
    let meetings = Meetings {
        fleet: Fleet::start(Database::fresh().await, 2).await,
        took: Mutex::default(),
        refused: AtomicUsize::default(),
        sentences: AtomicUsize::default(),
    };
    let bots = join_all((0..BOTS).map(|bot| meetings.stream(bot)));
    let watches = join_all((0..MEETINGS).map(|number| meetings.watch(number)));
    let ((_, ()), watched) = join(join(bots, kill(&meetings)), watches).await;
    let apis = meetings.fleet.apis();
    for (number, watched) in watched.iter().enumerate() {
        check(&apis[number % 2], number, watched).await;
    }
    // The server that was not killed has counted all the time.
    let figures = apis[1].statistics().await;
    let (cache, gate) = (figures.segment_cache.expect("figures"), figures.timelines.expect("figures"));
    let pool = figures.pool.expect("figures");
    let mut took = std::mem::take(&mut *meetings.took.lock());
    took.sort_unstable();
    eprintln!(
        "{} appends in {:.1} s, p50 {:?}, p99 {:?}; cache hits {:.3}, rejected {:.3}, {} of {} connections waited for",
        took.len(),
        began.elapsed().as_secs_f64(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        cache.hit_rate,
        gate.rejection_rate,
        pool.waiting,
        pool.max_connections,
    );
    assert!(cache.hit_rate > 0.8, "{cache:?}");
    assert!(gate.rejection_rate < 0.1 && pool.waiting == 0, "{gate:?}");
    assert_eq!(meetings.refused.load(Ordering::Relaxed), 0);
}

/// Rounds of meetings, of which the first ones fill caches and pools.
const ROUNDS: usize = 8;
const WARM_UP: usize = 3;
/// Growth of the memory over all later rounds, at most.
const GROWTH_BYTES: u64 = 24 << 20;

/// Holds some meetings from their first caption to their export, each watched.
async fn hold(api: &Api, round: usize) {
    let meetings = (0..10).map(|number| async move {
        let session_id = format!("meeting-{round}-{number}");
        let watch = proto::WatchSessionRequest { session_id: session_id.clone(), ..Default::default() };
        let mut watch = ok(api.timelines().watch_session(watch).await);
        for number in 0..30 {
            let sentence = Sentence { bot: round, number };
            for segments in [vec![sentence.interim(1)], vec![sentence.interim(2)], sentence.set()] {
                let session_id = session_id.clone();
                let request =
                    proto::AppendSegmentsRequest { session_id, segments, allow_missing: true, ..Default::default() };
                ok(api.timelines().append_segments(request).await);
            }
        }
        let end = proto::EndSessionRequest { session_id: session_id.clone(), ..Default::default() };
        ok(api.timelines().end_session(end).await);
        while watch.message().await.expect("a watch to the end").is_some() {}
        assert_eq!(timeline(api, &session_id).await.len(), 30 * SET);
        let format = proto::ExportFormat::Webvtt.into();
        let export = proto::ExportTimelineRequest { session_id, format, ..Default::default() };
        let mut export = ok(api.timelines().export_timeline(export).await);
        while export.message().await.expect("a whole file").is_some() {}
    });
    join_all(meetings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_however_many_meetings_are_held() {
    let database = Database::fresh().await;
    let server = Program::start(&database).await;
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        hold(&server.api, round).await;
        resident.push(server.resident_bytes());
    }
    let mib: Vec<u64> = resident.iter().map(|bytes| bytes >> 20).collect();
    println!("MiB after each round: {mib:?}");
    let growth = resident[ROUNDS - 1].saturating_sub(resident[WARM_UP - 1]);
    assert!(growth < GROWTH_BYTES, "{mib:?}");
}
