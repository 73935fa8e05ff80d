//! `interlock session`: sessions, and what is appended to them, corrected, shown and counted.

use serde_json::json;

use super::verb::{run, run_with_input};
use crate::harness::*;

/// Whether a line has exactly these words.
fn has(text: &str, row: &[&str]) -> bool {
    text.lines().any(|line| line.split_whitespace().eq(row.iter().copied()))
}

#[tokio::test]
async fn a_session_is_created_changed_listed_ended_and_deleted() {
    let server = Server::start().await;
    let session = async |arguments: &[&str]| run(server.address, &[&["session"], arguments].concat()).await;
    let created =
        session(&["create", "standup", "--title", "Weekly", "--label", "team=acme", "--retention", "30d"]).await;
    assert_eq!(created.ok(), "standup  OPEN, version 1\n");
    let again = session(&["create", "standup"]).await.failed(3);
    assert!(again.contains("ALREADY_EXISTS / SESSION_ALREADY_EXISTS"), "{again}");
    let unnamed = session(&["create", "--output", "json"]).await.json();
    assert!(unnamed["session"]["sessionId"].is_string());

    let updated = session(&["update", "standup", "--title", "Daily", "--expected-version", "1"]).await.ok();
    assert!(has(&updated, &["title", "Daily"]) && has(&updated, &["labels", "team=acme"]), "{updated}");
    let get = session(&["get", "standup"]).await.ok();
    assert!(has(&get, &["state", "OPEN"]) && has(&get, &["kept", "30", "days", "after", "its", "end"]), "{get}");
    let late = session(&["update", "standup", "--clear-labels", "--expected-version", "1"]).await.failed(3);
    assert!(late.contains("VERSION_MISMATCH"), "{late}");
    assert_eq!(session(&["update", "standup"]).await.code, Some(2));

    let list = session(&["list", "--filter", "labels.team = acme"]).await.ok();
    assert!(list.lines().count() == 2 && list.contains("Daily") && list.contains("team=acme"), "{list}");
    let some = session(&["list", "--limit", "1"]).await;
    assert_eq!((some.code, &*some.stderr), (Some(0), "there are more: --limit is 1\n"));
    let wrong = session(&["list", "--filter", "colour = red"]).await.failed(3);
    assert!(wrong.contains("INVALID_ARGUMENT / INVALID_FIELD: filter"), "{wrong}");

    assert_eq!(session(&["end", "standup"]).await.ok(), "standup  ENDED, version 3\n");
    assert_eq!(session(&["end", "standup"]).await.ok(), "standup  ENDED, version 3, as it was before\n");
    let ended = session(&["append", "standup", "1", "--text", "late"]).await.failed(3);
    assert!(ended.contains("FAILED_PRECONDITION / INVALID_TRANSITION"), "{ended}");
    assert_eq!(session(&["delete", "standup"]).await.ok(), "standup  deleted\n");
    assert!(session(&["get", "standup"]).await.failed(3).contains("NOT_FOUND / SESSION_NOT_FOUND"));
}

#[tokio::test]
async fn segments_are_appended_shown_by_range_and_corrected() {
    let server = Server::start().await;
    let session = async |arguments: &[&str]| run(server.address, &[&["session"], arguments].concat()).await;
    assert!(session(&["append", "standup", "1", "--existing"]).await.failed(3).contains("SESSION_NOT_FOUND"));
    let first = ["append", "standup", "1", "--interim", "--sequence", "1", "--text", "Good mor", "--speaker", "Ada"];
    assert_eq!(session(&first).await.ok(), "1  stored, version 1\n");
    assert_eq!(session(&first).await.ok(), "1  not stored: an equal or higher sequence is stored\n");
    let last = ["append", "standup", "1", "--sequence", "2", "--text", "Good morning", "--speaker", "Ada"];
    session(&[&last[..], &["--language", "en", "--start", "1m30s", "--end", "92.5"]].concat()).await.ok();
    assert_eq!(
        session(&["append", "standup", "1", "--sequence", "3"]).await.ok(),
        "1  not stored: it is FINAL, `session correct` changes it\n"
    );
    let more = json!([
        { "key": "1/de", "kind": "SEGMENT_KIND_TRANSLATION", "parentKey": "1", "language": "de", "start": "90s", "text": "Guten Morgen" },
        { "key": "2", "kind": "SEGMENT_KIND_TRANSCRIPT", "speaker": "Bob", "text": "when?" },
    ]);
    let stored =
        run_with_input(server.address, &["session", "append", "standup", "--segments", "@-"], &more.to_string()).await;
    assert_eq!(stored.ok(), "1/de  stored, version 3\n2  stored, version 3\n");

    let timeline = session(&["timeline", "standup"]).await.ok();
    let expected = [
        &["START", "END", "SPEAKER", "LANGUAGE", "KIND", "STATUS", "KEY", "TEXT"][..],
        &["1m30s", "1m32.5s", "Ada", "en", "TRANSCRIPT", "FINAL", "1", "Good", "morning"],
        &["1m30s", "de", "TRANSLATION", "FINAL", "1/de", "Guten", "Morgen"],
        &["Bob", "TRANSCRIPT", "FINAL", "2", "when?"],
    ];
    let rows: Vec<Vec<_>> = timeline.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, expected, "{timeline}");
    for (flags, keys) in [
        (&["--end", "90", "--untimed", "exclude"][..], &[][..]),
        (&["--start", "92s", "--untimed", "exclude"], &["1", "1/de"]),
        (&["--untimed", "only"], &["2"]),
        (&["--kind", "translation", "--kind", "note"], &["1/de"]),
        (&["--speaker", "Ada", "--language", "EN", "--status", "final"], &["1"]),
    ] {
        let found = session(&[&["timeline", "standup", "--output", "json"], flags].concat()).await.json();
        let found = found["segments"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            found.iter().map(|segment| segment["key"].as_str()).collect::<Vec<_>>(),
            keys.iter().map(|key| Some(*key)).collect::<Vec<_>>(),
            "{flags:?}"
        );
    }
    let two = session(&["timeline", "standup", "--limit", "2", "--output", "json"]).await.json();
    assert_eq!((two["segments"].as_array().map(Vec::len), &two["sessionVersion"]), (Some(2), &json!("3")));

    let correct = ["correct", "standup", "1", "--text", "Good evening", "--clear", "end"];
    let corrected =
        session(&[&correct[..], &["--fields", r#"{"metadata":{"by":"me"},"parentKey":null}"#]].concat()).await.ok();
    assert!(has(&corrected, &["text", "Good", "evening"]) && !corrected.contains("end "), "{corrected}");
    assert!(has(&corrected, &["metadata", r#"{"by":"me"}"#]) && has(&corrected, &["speaker", "Ada"]), "{corrected}");
    assert!(
        session(&[&correct[..], &["--expected-version", "2"]].concat()).await.failed(3).contains("VERSION_MISMATCH")
    );
    let get = session(&["get", "standup", "1", "--output", "json"]).await.json();
    assert_eq!((&get["segment"]["text"], &get["segment"]["start"]), (&json!("Good evening"), &json!("90s")));
    assert_eq!(session(&["delete-segment", "standup", "2"]).await.ok(), "standup 2  deleted\n");
    assert!(session(&["get", "standup", "2"]).await.failed(3).contains("SEGMENT_NOT_FOUND"));
}

#[tokio::test]
async fn mistakes_in_a_segment_are_one_line() {
    let server = Server::start().await;
    let append = async |arguments: &[&str], code| {
        run(server.address, &[&["session", "append", "standup"], arguments].concat()).await.failed(code)
    };
    let wrong = append(&["1", "--start", "2s", "--end", "1s"], 3).await;
    assert!(wrong.contains("INVALID_ARGUMENT / INVALID_FIELD: segments[0].end: "), "{wrong}");
    assert!(append(&["--segments", "{}"], 2).await.contains("--segments: must be a JSON array"));
    let wrong = append(&["--segments", r#"[{"key":"1","end":"soon"}]"#], 2).await;
    assert!(wrong.starts_with("error: --segments: segments[0].end: "), "{wrong}");
    for usage in [
        &["append", "standup"][..],
        &["append", "standup", "1", "--segments", "[]"],
        &["append", "standup", "--segments", "[]", "--text", "x"],
        &["append", "standup", "--segments", "[]", "--kind", "note"],
        &["append", "standup", "1", "--start", "soon"],
        &["correct", "standup", "1"],
        &["timeline", "standup", "--kind", "film"],
    ] {
        assert_eq!(run(server.address, &[&["session"], usage].concat()).await.code, Some(2), "{usage:?}");
    }
    let both = ["session", "correct", "standup", "1", "--text", "x", "--clear", "text", "--expected-version", "1"];
    assert_eq!(run(server.address, &both).await.failed(2), "error: --clear text: is set by another flag");
}

#[tokio::test]
async fn statistics_show_speakers_languages_and_kinds() {
    let server = Server::start().await;
    let append = async |key: &str, flags: &[&str]| {
        run(server.address, &[&["session", "append", "standup", key], flags].concat()).await.ok();
    };
    append("1", &["--text", "Good morning", "--speaker", "Ada", "--language", "en", "--start", "0", "--end", "1m"])
        .await;
    append("2", &["--text", "all of you", "--speaker", "Ada", "--language", "en", "--start", "30s", "--end", "90s"])
        .await;
    append("3", &["--text", "when?", "--interim"]).await;
    let text = run(server.address, &["session", "statistics", "standup"]).await.ok();
    assert!(has(&text, &["Ada", "2", "5", "1m30s"]) && has(&text, &["(not", "known)", "1", "1", "0s", "1"]), "{text}");
    assert!(has(&text, &["en", "2", "5"]) && has(&text, &["TRANSCRIPT", "3", "1"]), "{text}");
    let flags = ["--output", "json", "--max-staleness", "10s"];
    let json = run(server.address, &[&["session", "statistics", "standup"], &flags[..]].concat()).await.json();
    assert_eq!(json["speakers"][1]["spoken"], "90s");
    run(server.address, &["session", "create", "empty"]).await.ok();
    assert_eq!(run(server.address, &["session", "statistics", "empty"]).await.ok(), "no segments\n");
    // The figures of the server count these calls.
    let top = run(server.address, &["top", "--once"]).await.ok();
    assert!(top.contains("   timeline calls 0 of 50, 0 waiting, 0 rejected"), "{top}");
}

#[tokio::test]
async fn completion_knows_all_commands_of_sessions() {
    let server = Server::start().await;
    let script = run(server.address, &["completion", "bash"]).await.ok();
    for verb in [
        "list",
        "get",
        "create",
        "update",
        "end",
        "delete",
        "timeline",
        "append",
        "correct",
        "delete-segment",
        "import",
        "search",
        "export",
        "watch",
        "statistics",
    ] {
        let name = verb.replace('-', "__subcmd__");
        assert!(script.contains(&format!("interlock__subcmd__session__subcmd__{name}")), "{verb}");
    }
}

#[tokio::test]
async fn the_cache_of_a_session_is_cleared() {
    let server = Server::start().await;
    let session = async |arguments: &[&str]| run(server.address, &[&["session"], arguments].concat()).await;
    session(&["append", "standup", "1", "--text", "Good morning"]).await.ok();
    session(&["get", "standup", "1"]).await.ok();
    assert_eq!(session(&["clear-cache", "standup"]).await.ok(), "standup  1 segment removed from the cache\n");
    assert_eq!(session(&["clear-cache", "standup"]).await.ok(), "standup  0 segments removed from the cache\n");
    assert!(session(&["get", "standup", "1"]).await.ok().contains("Good morning"));
    assert_eq!(session(&["clear-cache", "nope"]).await.ok(), "nope  0 segments removed from the cache\n");
}
