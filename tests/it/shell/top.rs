//! `interlock top`.

use serde_json::json;

use super::verb::run;
use crate::harness::*;

#[tokio::test]
async fn top_shows_what_runs_by_queue_worker_and_job() {
    let server = Server::start().await;
    let stages = || ["s", "t"].map(|name| new_stage_in("gpu", name)).to_vec();
    for job_id in ["a", "b", "waiting"] {
        server.api.submit(new_job(job_id, stages())).await;
    }
    let lease = server.api.lease("gpu").await;
    server.api.progress(&lease, 0.5).await;
    for _ in 0..2 {
        server.api.lease("gpu").await;
    }
    let once = run(server.address, &["top", "--once"]).await.ok();
    let words: Vec<Vec<_>> = once.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |row: &[&str]| words.iter().any(|line| line.starts_with(row));
    assert!(once.starts_with("2 jobs running at http://"), "{once}");
    assert!(has(&["gpu", "3", "1", "2"]), "{once}");
    assert!(has(&["worker", "gpu", "a", "s", "1/3", "50%"]) && has(&["worker", "gpu", "b", "s"]), "{once}");
    assert!(has(&["a", "film", "25%", "0/2"]) && !once.contains("waiting\n"), "{once}");
    assert!(has(&["READY", "IN", "QUEUE"]) && has(&["gpu", "3", "2"]), "ready stages: {once}");
    assert!(once.contains("calls ") && once.contains("connections "), "{once}");

    // Without a terminal there is no other way than once.
    let printed = run(server.address, &["top", "--output", "json", "--jobs", "1"]).await.json();
    assert_eq!((&printed["runningJobs"], printed["jobs"].as_array().map(Vec::len)), (&json!(2), Some(1)));
    assert_eq!(printed["jobs"][0]["stages"][0]["lease"]["workerId"], "worker");
    let ready = &printed["readyStages"]["queues"][0];
    assert_eq!((&ready["queue"], &ready["stages"], &ready["jobs"]), (&json!("gpu"), &json!(3), &json!(2)));
    assert!(printed["statistics"]["pool"]["maxConnections"].is_string());
    let nothing = run(server.address, &["top", "--namespace", "nope"]).await.failed(3);
    assert!(nothing.contains("NAMESPACE_NOT_FOUND"), "{nothing}");
}

fn new_stage_in(queue: &str, name: &str) -> interlock::proto::StageSpec {
    interlock::proto::StageSpec { queue: queue.to_owned(), ..new_stage(name) }
}
