//! Files that players read, whatever the texts are.

use proptest::prelude::*;

use super::*;

fn segment(start_ms: Option<u64>, end_ms: Option<u64>, speaker: &str, text: &str) -> ExportedSegment {
    ExportedSegment {
        key: "k".to_owned(),
        kind: "SEGMENT_KIND_TRANSCRIPT",
        start: start_ms.map(Duration::from_millis),
        end: end_ms.map(Duration::from_millis),
        speaker: speaker.to_owned(),
        language: "en".to_owned(),
        text: text.to_owned(),
    }
}

fn export(format: TimelineFormat, segments: &[ExportedSegment]) -> String {
    let mut writer = ExportWriter::new(format);
    let mut file = Vec::new();
    for segment in segments {
        writer.write(segment.clone());
        file.append(&mut writer.take());
    }
    writer.finish();
    file.append(&mut writer.take());
    String::from_utf8(file).expect("UTF-8")
}

#[test]
fn webvtt_has_voices_and_no_markup_of_callers() {
    let segments = [
        segment(Some(0), Some(1_500), "Ann & <Bob>", "a --> b < c & d"),
        segment(Some(1_000), Some(1_000), "", "first\r\n\r\n  \nsecond\n"),
        segment(Some(2_000), Some(3_000), "Ann", " \n "),
        segment(Some(3_000), Some(4_000), "--", "who?"),
        segment(Some(360_000_000), Some(363_599_999), "דנה", "שלום, עולם!"),
        segment(None, None, "Ann", "when?"),
    ];
    let expected = "WEBVTT\n\n\
        00:00:00.000 --> 00:00:01.500\n<v Ann &amp; &lt;Bob&gt;>a --&gt; b &lt; c &amp; d\n\n\
        00:00:01.000 --> 00:00:01.001\nfirst\nsecond\n\n\
        00:00:03.000 --> 00:00:04.000\n<v -- >who?\n\n\
        100:00:00.000 --> 100:59:59.999\n<v דנה>שלום, עולם!\n\n";
    assert_eq!(export(TimelineFormat::WebVtt, &segments), expected);
    assert_eq!(export(TimelineFormat::WebVtt, &[]), "WEBVTT\n\n");
}

#[test]
fn srt_is_numbered_and_has_no_second_arrow() {
    let segments = [
        segment(Some(0), Some(1_500), "Ann", "a --> b\n\nc"),
        segment(None, Some(5), "", "untimed"),
        segment(Some(1_501), Some(2_000), "", "<i>d</i>"),
    ];
    let expected = "1\n00:00:00,000 --> 00:00:01,500\nAnn: a → b\nc\n\n2\n00:00:01,501 --> 00:00:02,000\n<i>d</i>\n\n";
    assert_eq!(export(TimelineFormat::Srt, &segments), expected);
}

#[test]
fn text_has_a_line_for_each_segment_also_without_times() {
    let segments =
        [segment(Some(0), None, "Ann\n", "one\ntwo"), segment(None, None, "", "three"), segment(None, None, "Bob", "")];
    assert_eq!(export(TimelineFormat::Text, &segments), "Ann: one two\nthree\n");
}

#[test]
fn json_lines_leave_out_what_is_not_known() {
    let segments = [segment(Some(1_500), None, "", "a\n\"b\""), segment(None, Some(60_000), "Ann", "")];
    let expected = "{\"key\":\"k\",\"kind\":\"SEGMENT_KIND_TRANSCRIPT\",\"start\":\"1.500s\",\"language\":\"en\",\"text\":\"a\\n\\\"b\\\"\"}\n\
        {\"key\":\"k\",\"kind\":\"SEGMENT_KIND_TRANSCRIPT\",\"end\":\"60s\",\"speaker\":\"Ann\",\"language\":\"en\"}\n";
    assert_eq!(export(TimelineFormat::JsonLines, &segments), expected);
    assert_eq!(
        [1u64, 1_000, 1_000_001].map(|nanos| seconds(Duration::from_nanos(nanos))),
        ["0.000000001s", "0.000001s", "0.001000001s"]
    );
}

/// The times of the subtitles of a WebVTT file.
fn times(segments: &[ExportedSegment]) -> Vec<String> {
    let file = export(TimelineFormat::WebVtt, segments);
    file.lines().filter(|line| line.contains(" --> ")).map(str::to_owned).collect()
}

#[test]
fn a_missing_end_is_the_next_start_of_the_speaker_within_five_seconds() {
    let segments = [
        segment(Some(0), None, "Ann", "ends at 2"),
        segment(Some(1_000), None, "Bob", "ends at 6"),
        segment(Some(2_000), None, "Ann", "starts together"),
        segment(Some(2_000), Some(2_500), "Ann", "with this"),
        segment(Some(9_000), None, "Bob", "ends at 14"),
    ];
    assert_eq!(
        times(&segments),
        [
            "00:00:00.000 --> 00:00:02.000",
            "00:00:01.000 --> 00:00:06.000",
            "00:00:02.000 --> 00:00:07.000",
            "00:00:02.000 --> 00:00:02.500",
            "00:00:09.000 --> 00:00:14.000",
        ]
    );
}

#[test]
fn what_waits_is_bounded() {
    let mut writer = ExportWriter::new(TimelineFormat::WebVtt);
    for _ in 0..3_000 {
        writer.write(segment(Some(0), None, "Ann", "x"));
    }
    let file = String::from_utf8(writer.take()).expect("UTF-8");
    assert_eq!(file.matches("00:00:00.000 --> 00:00:05.000").count(), 2_000);
}

proptest! {
    #[test]
    fn ends_agree_with_a_model(rows in proptest::collection::vec((0u64..12_000, proptest::option::of(0u64..3_000), 0usize..3), 0..20)) {
        let mut rows = rows;
        rows.sort_unstable();
        let speakers = ["Ann", "Bob", ""];
        let segments: Vec<ExportedSegment> = rows
            .iter()
            .map(|(start, length, speaker)| segment(Some(*start), length.map(|length| start + length), speakers[*speaker], "x"))
            .collect();
        let expected: Vec<String> = rows
            .iter()
            .map(|(start, length, speaker)| {
                let next = rows.iter().filter(|(other, _, same)| other > start && same == speaker).map(|(other, _, _)| *other).min();
                let end = length.map_or(next.unwrap_or(u64::MAX).min(start + 5_000), |length| start + length).max(start + 1);
                format!("{} --> {}", clock(u128::from(*start), '.'), clock(u128::from(end), '.'))
            })
            .collect();
        prop_assert_eq!(times(&segments), expected);
    }

    #[test]
    fn no_text_breaks_a_file(texts in proptest::collection::vec(("[-> \n\r\u{85}<v&;a]{0,20}", "[-> \n<&a]{0,8}"), 1..6)) {
        let segments: Vec<ExportedSegment> =
            texts.iter().map(|(text, speaker)| segment(Some(0), Some(1), speaker, text)).collect();
        let shown = texts.iter().filter(|(text, _)| !text.trim().is_empty()).count();
        let vtt = export(TimelineFormat::WebVtt, &segments);
        let blocks: Vec<&str> = vtt.trim_end_matches('\n').split("\n\n").skip(1).collect();
        prop_assert_eq!(blocks.len(), shown);
        for block in blocks {
            prop_assert_eq!(block.matches("-->").count(), 1);
            let body = block.split_once('\n').map_or("", |(_, body)| body);
            let body = body.strip_prefix("<v ").map_or(body, |rest| rest.split_once('>').map_or("", |(_, text)| text));
            prop_assert!(!body.contains(['<', '>']) && !body.is_empty());
        }
        let srt = export(TimelineFormat::Srt, &segments);
        prop_assert_eq!(srt.matches("-->").count(), shown);
        prop_assert!(!srt.contains("\n\n\n"));
    }
}
