//! `interlock key` and `interlock audit`: through a server, and with the database alone.

use serde_json::{Value, json};

use super::verb::{Ended, run};
use crate::harness::*;

const NEW: [&str; 8] =
    ["key", "create", "--label", "worker 7", "--role", "work,submit", "--namespaces", "team-*,default"];

/// A verb on a database, which asks no server: no server has this address.
async fn alone(database: &Database, arguments: &[&str]) -> Ended {
    let no_server = "127.0.0.1:1".parse().expect("an address");
    run(no_server, &[arguments, &["--database-url", database.url()]].concat()).await
}

fn is_token(text: &str) -> bool {
    text.starts_with("il_") && text.len() == 55
}

#[tokio::test]
async fn a_key_is_created_listed_rotated_and_revoked_through_a_server() {
    let server = Server::start().await;
    let created = run(server.address, &[&NEW[..], &["--ttl", "90d", "--rate-limit-write", "50/s"]].concat()).await.ok();
    let token = created.lines().last().expect("a line");
    assert!(is_token(token) && created.contains("will not be shown again"), "{created}");
    let id = &token[3..11];
    for fact in [id, "worker 7", "submit work", "team-* default"] {
        assert!(created.contains(fact), "{created}");
    }
    let list = run(server.address, &["key", "list"]).await.ok();
    let row = list.lines().nth(1).expect("a row");
    assert!(row.starts_with(&format!("{id}  ACTIVE")) && row.ends_with("worker 7"), "{list}");
    assert!(!list.contains(&token[12..]));
    let listed = run(server.address, &["key", "list", "--output", "json"]).await.json();
    assert_eq!(listed["keys"][0]["rateLimits"], json!({ "write": 50 }));

    let rotated = run(server.address, &["key", "rotate", id, "--grace", "5m"]).await.ok();
    let second = rotated.lines().last().expect("a line");
    assert!(is_token(second) && second != token && rotated.contains("valid until"), "{rotated}");
    let rotated = run(server.address, &["key", "rotate", id, "--grace", "0s", "--output", "json"]).await.json();
    assert!(rotated["bearerToken"].as_str().is_some_and(is_token) && rotated["key"]["graceEndTime"].is_null());

    assert_eq!(
        run(server.address, &["key", "revoke", id]).await.ok(),
        format!("{id}  revoked; all servers refuse it within 5 s\n")
    );
    assert!(run(server.address, &["key", "revoke", id]).await.ok().contains("was revoked before"));
    let refused = run(server.address, &["key", "rotate", id]).await.failed(3);
    assert!(refused.contains("INVALID_TRANSITION") && refused.contains("REVOKED"), "{refused}");
    let log = run(server.address, &["audit", "list", "--method", "AdminService/RotateKey"]).await.ok();
    assert_eq!((log.lines().count(), log.contains("anonymous@127.0.0.1")), (3, true), "{log}");
}

#[tokio::test]
async fn the_first_key_is_made_on_the_database_alone_before_any_server() {
    let (database, _cluster) = Database::empty().await;
    let admin = ["key", "create", "--label", "root", "--role", "admin", "--namespaces", "*", "--output", "json"];
    let created: Value = alone(&database, &admin).await.json();
    assert!(created["bearerToken"].as_str().is_some_and(is_token), "{created}");
    let id = created["key"]["keyId"].as_str().expect("an id");
    assert_eq!(created["key"]["roles"], json!(["ROLE_ADMIN"]));
    // It is there for the server that starts next, and so is who made it.
    let server = Server::over(database.clone(), |_| {}).await;
    let listed = run(server.address, &["key", "list", "--output", "json"]).await.json();
    assert_eq!(listed["keys"][0], created["key"]);
    // Beside a server it works too, and the server sees it at once.
    alone(&database, &["key", "revoke", id]).await.ok();
    let listed = run(server.address, &["key", "list", "--output", "json"]).await.json();
    assert_eq!(listed["keys"][0]["state"], "API_KEY_STATE_REVOKED");
    let log = alone(&database, &["audit", "list", "--output", "json"]).await.json();
    let events = log["events"].as_array().expect("entries");
    let printed = events.iter().map(|event| (event["principal"].as_str(), event["target"].as_str()));
    assert_eq!(printed.collect::<Vec<_>>(), [(Some("operator@database"), Some(id)); 2]);
}

#[tokio::test]
async fn invalid_keys_are_refused_in_a_line() {
    let server = Server::start().await;
    let with = |flag: &'static str, value: &'static str| [&NEW[..], &[flag, value]].concat();
    let refused = run(server.address, &with("--namespaces", "a*b")).await.failed(3);
    assert!(refused.contains("INVALID_FIELD: namespaces[2]: "), "{refused}");
    let refused = run(server.address, &with("--rate-limit-read", "0")).await.failed(3);
    assert!(refused.contains("rate_limits.read"), "{refused}");
    let refused = run(server.address, &["key", "revoke", "zzzzzzz9"]).await.failed(3);
    assert!(refused.contains("KEY_NOT_FOUND"), "{refused}");
    for usage in [with("--role", "root"), with("--rate-limit-read", "5/m"), with("--ttl", "soon"), NEW[..6].to_vec()] {
        assert_eq!(run(server.address, &usage).await.code, Some(2), "{usage:?}");
    }
    assert_eq!(run(server.address, &["key", "list"]).await.ok().lines().count(), 1, "none was made");
    let nowhere = ["key", "list", "--database-url", "host=127.0.0.1 port=1 user=nobody"];
    assert!(run(server.address, &nowhere).await.failed(4).contains("the database cannot be reached"));
}
