//! `interlock session import|export|search`: files in and out, and what is found in them.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::verb::{run, run_on_terminal, run_with_input};
use crate::harness::*;

/// A file of a test; removed with it.
struct TestFile(PathBuf);

impl TestFile {
    fn new(extension: &str) -> TestFile {
        TestFile(std::env::temp_dir().join(format!("interlock-session-{}.{extension}", unique())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _missing = std::fs::remove_file(&self.0);
    }
}

fn line(key: &str, start: &str, text: &str) -> String {
    let kind = "SEGMENT_KIND_TRANSCRIPT";
    json!({ "key": key, "kind": kind, "start": start, "speaker": "Ada", "language": "en", "text": text }).to_string()
}

#[tokio::test]
async fn an_import_reports_faults_by_line_and_can_be_repeated() {
    let server = Server::start().await;
    let long: Vec<_> = (0..1_200).map(|i| line(&i.to_string(), &format!("{i}s"), "words")).collect();
    let file = TestFile::new("jsonl");
    // Line 3 is empty, line 601 is no JSON, line 1003 has an impossible time.
    let mut lines = long.clone();
    lines.insert(2, String::new());
    lines.insert(600, "nothing".to_owned());
    lines.insert(1_002, r#"{"key":"early","kind":"SEGMENT_KIND_NOTE","start":"2s","end":"1s"}"#.to_owned());
    std::fs::write(&file.0, lines.join("\n")).expect("a file");
    let import = run(server.address, &["session", "import", "standup", file.path()]).await;
    assert_eq!((import.code, &*import.stdout), (Some(3), "standup  1200 stored, 0 unchanged, 1 refused\n"));
    let errors: Vec<_> = import.stderr.lines().collect();
    assert!(errors[0].starts_with("line 601: is not JSON: "), "{errors:?}");
    let fault = "line 1003: segment \"early\": INVALID_ARGUMENT / INVALID_FIELD: end: ";
    assert!(errors[1].starts_with(fault), "{errors:?}");
    assert_eq!(errors[2..], ["error: 1 segment refused, 1 line invalid"]);

    let again = run_with_input(server.address, &["session", "import", "standup", "-"], &long.join("\n")).await.ok();
    assert_eq!(again, "standup  0 stored, 1200 unchanged\n");
    let invalid = run_with_input(server.address, &["session", "import", "standup", "-"], "{\"kee\":1}\n").await;
    assert_eq!((invalid.code, invalid.stderr.lines().count()), (Some(2), 2), "{invalid:?}");
    assert!(invalid.stderr.starts_with("line 1: unrecognized field name 'kee'"), "{invalid:?}");
    let json = ["session", "import", "standup", "-", "--output", "json"];
    let json = run_with_input(server.address, &json, &line("0", "0s", "words")).await.json();
    assert_eq!(json, json!({ "unchangedCount": "1" }));
    // The details of a fault are JSON too.
    let early = r#"{"key":"early","kind":"SEGMENT_KIND_NOTE","start":"2s","end":"1s"}"#;
    let json = ["session", "import", "standup", "-", "--output", "json"];
    let refused = run_with_input(server.address, &json, early).await;
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let answer: serde_json::Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!(answer["faults"][0]["status"]["details"][0]["reason"], "INVALID_FIELD", "{answer}");

    let missing = run(server.address, &["session", "import", "standup", "/no/such/file"]).await.failed(2);
    assert!(missing.starts_with("error: cannot read \"/no/such/file\": "), "{missing}");
    let import = ["session", "import", "nope", "-", "--existing"];
    let refused = run_with_input(server.address, &import, &long[0]).await.failed(3);
    assert!(refused.starts_with("error: NOT_FOUND / SESSION_NOT_FOUND"), "{refused}");
}

#[tokio::test]
async fn an_export_is_a_file_that_can_be_imported() {
    let server = Server::start().await;
    let text = [line("1", "1s", "Good morning"), line("2", "62.5s", "all")].join("\n");
    run_with_input(server.address, &["session", "import", "standup", "-"], &text).await.ok();
    let export =
        async |flags: &[&str]| run(server.address, &[&["session", "export", "standup"], flags].concat()).await.ok();
    let vtt = export(&[]).await;
    assert!(vtt.starts_with("WEBVTT\n\n00:00:01.000 --> 00:00:06.000\n<v Ada>Good morning\n"), "{vtt}");
    assert_eq!(export(&["--format", "text"]).await, "Ada: Good morning\nAda: all\n");
    let file = TestFile::new("srt");
    assert_eq!(export(&["--output-file", file.path()]).await, "");
    let srt = std::fs::read_to_string(&file.0).expect("a file");
    assert!(srt.starts_with("1\n00:00:01,000 --> 00:00:06,000\nAda: Good morning\n"), "{srt}");
    assert_eq!(export(&["--language", "de", "--format", "text"]).await, "");

    let lines = export(&["--output", "json"]).await;
    let keys: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(keys.iter().map(|line| &line["key"]).collect::<Vec<_>>(), ["1", "2"]);
    let copy = run_with_input(server.address, &["session", "import", "copy", "-"], &lines).await.ok();
    assert_eq!(copy, "copy  2 stored, 0 unchanged\n");

    let nowhere = ["session", "export", "standup", "--output-file", "/no/such/file.vtt"];
    assert!(
        run(server.address, &nowhere).await.failed(2).contains("--output-file: cannot write \"/no/such/file.vtt\"")
    );
    // No file is left behind for a session that does not exist.
    let file = TestFile::new("vtt");
    let missing = run(server.address, &["session", "export", "nope", "--output-file", file.path()]).await.failed(3);
    assert!(missing.contains("SESSION_NOT_FOUND") && !file.0.exists(), "{missing}");
}

#[tokio::test]
async fn a_file_can_begin_with_a_byte_order_mark() {
    let server = Server::start().await;
    let text = format!("\u{feff}{}\n", line("1", "1s", "Good morning"));
    let stored = run_with_input(server.address, &["session", "import", "standup", "-"], &text).await.ok();
    assert_eq!(stored, "standup  1 stored, 0 unchanged\n");
}

#[tokio::test]
async fn an_export_cannot_control_a_terminal() {
    let server = Server::start().await;
    let text = line("1", "1s", "red \u{1b}[31m \u{9b}2J");
    run_with_input(server.address, &["session", "import", "standup", "-"], &text).await.ok();
    let export = ["session", "export", "standup", "--format", "text"];
    assert_eq!(run_on_terminal(server.address, &export).await, "Ada: red \\u{1b}[31m \\u{9b}2J\r\n");
    assert_eq!(run(server.address, &export).await.ok(), "Ada: red \u{1b}[31m \u{9b}2J\n");
}

#[tokio::test]
async fn a_search_shows_the_best_matches_with_their_session() {
    let server = Server::start().await;
    for (session, text) in
        [("monday", "We launched the rocket"), ("tuesday", "The rocket launches again"), ("tuesday", "Nothing")]
    {
        let key = unique();
        let append = [
            "session",
            "append",
            session,
            &key,
            "--text",
            text,
            "--speaker",
            "Ada",
            "--language",
            "en",
            "--start",
            "1m",
        ];
        run(server.address, &append).await.ok();
    }
    let search = async |arguments: &[&str]| run(server.address, &[&["session", "search"], arguments].concat()).await;
    let found = search(&["launch", "rocket"]).await.ok();
    let lines: Vec<_> = found.lines().collect();
    assert!(lines[0].starts_with("SESSION") && lines.len() == 3, "{found}");
    assert!(found.contains("  We launched the rocket") && found.contains("  The rocket launches again"), "{found}");
    assert!(lines[1..].iter().all(|line| line.contains("  1m ") && line.contains("  Ada ")), "{found}");
    let some = search(&["rocket", "--filter", "session_id = monday", "--output", "json"]).await.json();
    assert_eq!(
        (some["results"].as_array().map(Vec::len), &some["results"][0]["sessionId"]),
        (Some(1), &json!("monday"))
    );
    assert_eq!(search(&["rocket -again"]).await.ok().lines().count(), 2);
    assert_eq!(search(&["rocket", "--speaker", "Bob"]).await.ok().lines().count(), 1);
    assert_eq!(search(&["rocket", "--until", "2020-01-01T00:00:00Z"]).await.ok().lines().count(), 1);
    assert_eq!(search(&["\"rocket launched\""]).await.ok().lines().count(), 2, "stemmed");
    let more = search(&["rocket", "--limit", "1"]).await;
    assert_eq!((more.code, &*more.stderr), (Some(0), "there are more: --limit is 1\n"));
    assert!(search(&["!"]).await.failed(3).contains("INVALID_FIELD: query"));
}
