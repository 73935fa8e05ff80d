//! Web pages of other origins: who may call, and what a page can send without asking.

use interlock::config::Config;
use serde_json::json;

use super::client::*;
use crate::harness::*;

const BOARD: &str = "https://board.example";

async fn server() -> Server {
    Server::with(|config: &mut Config| config.allow_origin = vec![BOARD.parse().expect("an origin")]).await
}

fn preflight(origin: &str) -> Sent {
    let mut request = with(
        get(GET_JOB),
        &[
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,connect-protocol-version,authorization"),
            ("access-control-request-private-network", "true"),
        ],
    );
    *request.method_mut() = http::Method::OPTIONS;
    request
}

#[tokio::test]
async fn browsers_learn_which_pages_may_call() {
    let server = server().await;
    let allowed = send(server.address, preflight(BOARD)).await;
    assert_eq!((allowed.status.as_u16(), allowed.header("access-control-allow-origin")), (204, BOARD));
    assert_eq!(allowed.header("access-control-allow-methods"), "GET, POST");
    assert_eq!(allowed.header("access-control-allow-private-network"), "true");
    assert_eq!((allowed.header("access-control-max-age"), allowed.header("vary")), ("7200", "origin"));
    for name in ["authorization", "connect-protocol-version", "connect-timeout-ms", "content-type", "x-grpc-web"] {
        assert!(allowed.header("access-control-allow-headers").split(", ").any(|allowed| allowed == name), "{name}");
    }
    assert!(!allowed.headers.contains_key("access-control-allow-credentials"));

    for stranger in ["https://evil.example", "null", "https://board.example.evil.example", "http://board.example"] {
        let refused = send(server.address, preflight(stranger)).await;
        assert_eq!(refused.status, 403, "{stranger}");
        assert!(!refused.headers.contains_key("access-control-allow-origin"), "{stranger}");
        assert!(refused.text().contains("--allow-origin"), "{}", refused.text());
    }
    server.stop().await;
}

#[tokio::test]
async fn responses_and_errors_can_be_read_by_allowed_pages() {
    let server = server().await;
    server.api.submit(new_job("film-1", vec![new_stage("voice")])).await;
    let asked = |job: &str| with(post_json(GET_JOB, &json!({"jobId": job})), &[("origin", BOARD)]);
    for (job, status) in [("film-1", 200), ("none", 404)] {
        let reply = send(server.address, asked(job)).await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (status, BOARD));
        let exposed = reply.header("access-control-expose-headers");
        assert!(exposed.contains("grpc-status-details-bin") && exposed.contains("retry-after"), "{exposed}");
    }
    let other = send(server.address, post_json(GET_JOB, &json!({"jobId": "film-1"}))).await;
    assert!(other.header("vary") == "origin" && !other.headers.contains_key("access-control-allow-origin"));
    server.stop().await;
}

#[tokio::test]
async fn what_a_page_can_send_without_asking_does_nothing() {
    let server = server().await;
    let form = |headers: &[(&'static str, &str)]| {
        let body = r#"{"job_id":"stolen","kind":"film"}"#;
        with(post(SUBMIT, "application/x-www-form-urlencoded", body), headers)
    };
    let own = server.address.to_string();
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("origin", "http://evil.example"), ("host", "evil.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")],
    ] {
        let reply = send(server.address, form(headers)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (403, &json!("permission_denied")), "{headers:?}");
    }
    // A page whose name was made to resolve to this server reads nothing either.
    let rebound =
        send(server.address, with(get(&format!("{GET_JOB}?job_id=film-1")), &[("host", "evil.example")])).await;
    assert_eq!(rebound.status, 403);
    for web in ["application/grpc-web", "application/grpc-web-text"] {
        let reply = send(server.address, with(post(GET_JOB, web, ""), &[("origin", "https://evil.example")])).await;
        assert_eq!(reply.status, 403, "{web}");
    }
    assert_eq!(server.column("SELECT count(*)::text FROM jobs").await, ["0"]);

    send(server.address, form(&[])).await.ok();
    for headers in [
        &[("origin", BOARD)][..],
        &[("origin", &format!("http://{own}")), ("host", &own), ("sec-fetch-site", "same-origin")],
    ] {
        send(server.address, form(headers)).await.refused(409, "already_exists", "JOB_ALREADY_EXISTS");
    }
    server.stop().await;
}
