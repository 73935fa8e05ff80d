//! `interlock work`: any program as a worker: its input, its output, its exit codes, and the bounds on them.

use interlock::proto::{FailureClass, JobState, StageState};
use serde_json::{Value, json};

use super::verb::{Running, run};
use crate::harness::*;

/// Flags that end a worker when nothing is left to do.
const UNTIL_IDLE: [&str; 3] = ["work", "--exit-when-idle", "300ms"];

/// Runs a worker until nothing is left to do. Returns its JSON lines.
async fn work(server: &Server, flags: &[&str], script: &str) -> Vec<Value> {
    let arguments = [&UNTIL_IDLE[..], flags, &["--output", "json", "--", "sh", "-c", script]].concat();
    let ended = run(server.address, &arguments).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_program_gets_the_lease_and_its_last_object_becomes_the_artifacts() {
    let server = Server::start().await;
    let mut spec = new_stage("s");
    spec.input = struct_of(json!({ "page": 1 }));
    let mut job = new_job("j", vec![spec, new_stage_after("t", &["s"])]);
    job.payload = struct_of(json!({ "title": "Signals" }));
    server.api.submit(job).await;
    let script = r#"lease=$(cat); echo "a line for people"; echo '{"early":1}'
        echo "{\"lease\":$lease,\"stage\":\"$INTERLOCK_STAGE\",\"attempt\":\"$INTERLOCK_ATTEMPT\",\"token\":\"${#INTERLOCK_LEASE_TOKEN}\"}""#;
    let lines = work(&server, &["--worker-id", "me"], script).await;
    let ended: Vec<_> = lines.iter().map(|line| (&line["stageName"], &line["state"])).collect();
    assert_eq!(ended, [(&json!("s"), &json!("SUCCEEDED")), (&json!("t"), &json!("SUCCEEDED"))]);
    let job = server.api.job_in("j", JobState::Succeeded).await;
    let artifacts = |name: &str| {
        json_of(&prost_types::Value {
            kind: Some(prost_types::value::Kind::StructValue(stage(&job, name).artifacts.clone().expect("artifacts"))),
        })
    };
    let (first, second) = (artifacts("s"), artifacts("t"));
    assert_eq!((&first["stage"], &first["attempt"]), (&json!("s"), &json!("1")));
    assert_eq!(first["lease"]["input"], json!({ "page": 1 }));
    assert_eq!(first["lease"]["payload"], json!({ "title": "Signals" }));
    assert_eq!(first["lease"].get("leaseToken"), None, "the token is in the environment");
    assert!(first["token"].as_str().is_some_and(|length| length.parse::<usize>().expect("a number") > 10));
    assert_eq!(second["lease"]["dependencies"][0]["artifacts"]["attempt"], "1");
    assert_eq!(server.api.events("j").await[1].actor, "worker:me");
}

#[tokio::test]
async fn progress_is_reported_while_the_program_runs() {
    let server = Server::start().await;
    let directory = Directory::new();
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    let script = format!("echo '::progress 0.5 half way'; until [ -e {} ]; do sleep 0.05; done", directory.file("go"));
    let arguments = [&UNTIL_IDLE[..], &["--", "sh", "-c", &script]].concat();
    let worker = Running::start(server.address, &arguments);
    server.api.job_where("j", "progress", |job| job.progress == 0.5 && job.stages[0].message == "half way").await;
    directory.create("go");
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("j/s  attempt 1  SUCCEEDED after "), "{ended:?}");
}

#[tokio::test]
async fn an_exit_code_is_a_class_of_failure() {
    let server = Server::start().await;
    let expected = [
        ("e1", FailureClass::Internal, "exit 1", StageState::Backoff),
        ("e64", FailureClass::ClientError, "exit 64", StageState::Failed),
        ("e65", FailureClass::ClientError, "exit 65", StageState::Failed),
        ("e68", FailureClass::Network, "exit 68", StageState::Backoff),
        ("e75", FailureClass::ServerError, "exit 75", StageState::Backoff),
        ("e79", FailureClass::RateLimited, "exit 79", StageState::Backoff),
        ("e124", FailureClass::Timeout, "exit 124", StageState::Backoff),
        ("kill", FailureClass::Internal, "signal 9", StageState::Backoff),
    ];
    for (job_id, ..) in expected {
        server.api.submit(new_job(job_id, vec![new_stage("s")])).await;
    }
    let script = "echo first >&2; echo '::retry-after 1h'; echo 'it went wrong' >&2
        [ $INTERLOCK_JOB_ID = kill ] && kill -9 $$; exit ${INTERLOCK_JOB_ID#e}";
    let lines = work(&server, &["--concurrency", "4"], script).await;
    assert_eq!(lines.len(), expected.len());
    for (job_id, class, code, state) in expected {
        let stage = server.api.stage(job_id, "s").await;
        let failure = stage.failure.clone().expect("a failure");
        assert_eq!((failure.failure_class(), &*failure.code, stage.state()), (class, code, state), "{job_id}");
        assert_eq!(failure.message, "it went wrong");
        let shown = run(server.address, &["job", "get", job_id]).await.ok();
        assert!(shown.ends_with("  first\n  it went wrong\n"), "the traceback: {shown}");
    }
    let wait = server.api.stage("e79", "s").await.failure.expect("a failure").retry_wait.expect("a wait");
    assert!(wait.seconds >= 3_600, "the wait that the program asked for: {wait:?}");
}

#[tokio::test]
async fn all_output_is_bounded() {
    let server = Server::start().await;
    for job_id in ["long", "large", "many"] {
        server.api.submit(new_job(job_id, vec![new_stage("s")])).await;
    }
    // A line of 10 MB; artifacts that the server does not take; 10 MB of standard error.
    let script = r#"zeros() { head -c $1 /dev/zero | tr '\0' $2; }
        case $INTERLOCK_JOB_ID in
        long) zeros 10000000 x; echo; printf '{"a":"'; zeros 10000000 y; echo '"}' ;;
        large) printf '{"a":"'; zeros 100000 y; echo '"}' ;;
        many) zeros 5000000 x >&2; echo >&2; yes line | head -c 500000 >&2; echo last >&2; exit 65 ;;
        esac"#;
    let arguments = [&UNTIL_IDLE[..], &["--output", "json", "--", "sh", "-c", script]].concat();
    let ended = run(server.address, &arguments).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 3), "{}", ended.stdout);
    assert!(ended.stderr.lines().all(|line| line.len() < 5_000), "lines are cut");
    for (job_id, part) in [("long", "256 KiB"), ("large", "artifacts"), ("many", "last")] {
        let stage = server.api.stage(job_id, "s").await;
        let failure = stage.failure.expect("a failure");
        assert_eq!((failure.failure_class(), stage.state), (FailureClass::ClientError, StageState::Failed.into()));
        assert!(failure.message.contains(part), "{job_id}: {}", failure.message);
    }
}

#[tokio::test]
async fn several_programs_run_at_once_and_queues_are_respected() {
    let server = Server::start().await;
    let directory = Directory::new();
    let names = ["a", "b", "c"];
    let stages = names.map(|name| interlock::proto::StageSpec { queue: "gpu".to_owned(), ..new_stage(name) });
    server.api.submit(new_job("j", stages.to_vec())).await;
    server.api.submit(new_job("other", vec![new_stage("s")])).await;
    // Each waits until all have started.
    let seen = names.map(|name| format!("[ -e {} ]", directory.file(name))).join(" && ");
    let script = format!("touch {}/$INTERLOCK_STAGE; until {seen}; do sleep 0.05; done", directory.path().display());
    let lines = work(&server, &["--queue", "gpu,other", "--concurrency", "3"], &script).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    server.api.job_in("j", JobState::Succeeded).await;
    assert_eq!(server.api.job("other").await.state(), JobState::Pending);
}

#[tokio::test]
async fn a_program_that_leaves_another_behind_ends_nevertheless() {
    let server = Server::start().await;
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    // The one in the background keeps the pipes open.
    let lines = work(&server, &["--stdin", "input"], "cat; sleep 600 & echo '{\"a\":1}'").await;
    assert_eq!(lines[0]["state"], "SUCCEEDED");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_ends_the_worker_and_costs_no_attempt() {
    let server = Server::start().await;
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    let failed = run(server.address, &["work", "--", "/no/such/program"]).await.failed(2);
    assert!(failed.starts_with("error: cannot run \"/no/such/program\": "), "{failed}");
    let stage = server.api.stage("j", "s").await;
    assert_eq!((stage.state(), stage.attempt), (StageState::Ready, 0));
    let hint = run(server.address, &[&UNTIL_IDLE[..], &["--queue", "defualt", "--", "true"]].concat()).await;
    assert_eq!(hint.code, Some(0));
    assert!(hint.stderr.starts_with("no stage is ready in queue \"defualt\"; stages are ready in \"default\" (1)\n"));
    assert_eq!(run(server.address, &["work"]).await.code, Some(2), "a command is needed");
}

#[tokio::test]
async fn a_worker_with_a_taken_name_warns_once() {
    let server = Server::start().await;
    let mut first = begin("default", 0);
    first.begin.as_mut().expect("begin").instance_id = Some(uuid::Uuid::new_v4().to_string());
    let mut other = Session::open(&server.api, first).await;
    assert!(other.read().await.expect("open"));
    let arguments = ["work", "--worker-id", "worker", "--exit-when-idle", "300ms", "--", "true"];
    let ended = run(server.address, &arguments).await;
    let warnings: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings, ["warning: another running worker is called worker too: give each its own --worker-id"]);
    assert_eq!(ended.code, Some(0));
}
