//! `interlock session watch`: lines and JSON to the end of the session, past servers that go.

use interlock::proto::SegmentStatus;
use serde_json::{Value, json};

use super::relay::Relay;
use super::verb::{Running, run};
use crate::harness::*;

#[tokio::test]
async fn watch_prints_captions_to_the_end_of_the_session() {
    let server = Server::start().await;
    let api = &server.api;
    let mut watch = Running::start(server.address, &["session", "watch", SESSION]);
    assert_eq!(watch.line().await.as_deref(), Some("standup  does not exist"));
    api.append_segments(vec![interim("a", 1)]).await;
    assert_eq!(watch.line().await.as_deref(), Some("standup  OPEN"));
    assert_eq!(watch.line().await.as_deref(), Some("           a             interim  a 1"));
    let last = interlock::proto::Segment {
        status: SegmentStatus::Final.into(),
        speaker: "Ada".to_owned(),
        start: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
        ..interim("a", 2)
    };
    api.append_segments(vec![last]).await;
    assert_eq!(watch.line().await.as_deref(), Some("    1m30s  a             Ada: a 2"));
    run(server.address, &["session", "delete-segment", SESSION, "a"]).await.ok();
    assert_eq!(watch.line().await.as_deref(), Some("           a             deleted"));
    run(server.address, &["session", "update", SESSION, "--title", "Weekly"]).await.ok();
    assert_eq!(watch.line().await.as_deref(), Some("standup  OPEN  Weekly"));
    api.end_session().await;
    assert_eq!(watch.ended().await.ok(), "standup  ENDED  Weekly\n");
    // One that begins after the end shows what is there, and ends.
    let late = run(server.address, &["session", "watch", SESSION, "--output", "json"]).await.ok();
    let messages: Vec<Value> = late.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(messages.last().expect("a message")["session"]["state"], "SESSION_STATE_ENDED", "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_of_a_session_resumes_where_it_was() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    server.api.append_segments(vec![segment("a")]).await;
    let mut text = Running::start(relay.address, &["session", "watch", SESSION]);
    let mut json = Running::start(relay.address, &["session", "watch", SESSION, "--output", "json"]);
    text.line_with("text of a").await;
    json.line_with("text of a").await;

    // Drained, with a while without a server.
    relay.lead_to(None);
    server.api.append_segments(vec![segment("b")]).await;
    let database = server.stop().await;
    let program = Program::start(&database).await;
    relay.lead_to(Some(program.address));
    assert_eq!(text.line().await.as_deref(), Some("           b             text of b"));
    let resumed: Value = serde_json::from_str(&json.line_with("text of b").await).expect("JSON");
    assert_eq!((&resumed["changes"]["previousVersion"], &resumed["changes"]["version"]), (&json!("1"), &json!("2")));

    // Killed, and the session is made anew meanwhile.
    program.kill().await;
    let server = Server::over(database, |_| {}).await;
    run(server.address, &["session", "delete", SESSION]).await.ok();
    for key in ["c", "d", "e"] {
        server.api.append_segments(vec![segment(key)]).await;
    }
    relay.lead_to(Some(server.address));
    let reset = "standup  is another session than before, its segments follow";
    assert_eq!(text.line().await.as_deref(), Some(reset));
    for key in ["c", "d", "e"] {
        text.line_with(&format!("text of {key}")).await;
    }
    server.api.end_session().await;
    assert_eq!(text.ended().await.code, Some(0));
    assert_eq!(json.ended().await.code, Some(0));
}

#[tokio::test]
async fn watch_of_a_session_gives_up_after_its_retry_time() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    server.api.append_segments(vec![segment("a")]).await;
    let mut watch = Running::start(relay.address, &["session", "watch", SESSION, "--retry-for", "500ms"]);
    watch.line_with("text of a").await;
    relay.lead_to(None);
    let ended = watch.ended().await;
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert!(
        lines[0].contains("; again in ") && lines.last().is_some_and(|line| line.starts_with("error: ")),
        "{ended:?}"
    );
}
