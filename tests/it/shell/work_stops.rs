//! How `interlock work` stops: by a cancel, a lost lease, a lost server, signals, and its own death.

use interlock::proto::{self, JobState, StageState};
use rustix::process::{Pid, Signal};

use super::relay::Relay;
use super::verb::{Running, run};
use crate::harness::*;

/// A program that says its process id in the file `pid` and then runs until the file `go` exists.
fn until_told(directory: &Directory, before: &str) -> String {
    let [draft, pid, go] = ["draft", "pid", "go"].map(|name| directory.file(name));
    format!("{before}; echo $$ > {draft}; mv {draft} {pid}; until [ -e {go} ]; do sleep 0.05; done")
}

fn start(address: std::net::SocketAddr, flags: &[&str], script: &str) -> Running {
    Running::start(address, &[&["work"][..], flags, &["--", "sh", "-c", script]].concat())
}

async fn pid(directory: &Directory) -> Pid {
    let text = directory.wait_for("pid").await;
    Pid::from_raw(text.trim().parse().expect("a number")).expect("a process")
}

/// Waits until a program has ended. One that waits to be reaped has no command line any more.
async fn gone(pid: Pid) {
    let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    let is_gone = || std::fs::read(&path).map_or(true, |command| command.is_empty());
    eventually("the end of the program", async || is_gone().then_some(())).await;
}

#[tokio::test]
async fn a_cancelled_job_stops_its_program() {
    let server = Server::start().await;
    for (job_id, before) in [("polite", "trap 'exit 1' TERM"), ("deaf", "trap '' TERM")] {
        let directory = Directory::new();
        let mut spec = new_stage("s");
        spec.lease_duration = seconds(3);
        server.api.submit(new_job(job_id, vec![spec])).await;
        let mut worker = start(server.address, &["--grace", "300ms"], &until_told(&directory, before));
        let program = pid(&directory).await;
        run(server.address, &["job", "cancel", job_id, "--grace", "1h"]).await.ok();
        gone(program).await;
        let line = worker.line().await.expect("a line");
        assert!(line.starts_with(&format!("{job_id}/s  attempt 1  CANCELLED after ")), "{line}");
        server.api.job_in(job_id, JobState::Cancelled).await;
    }
}

#[tokio::test]
async fn a_lost_lease_stops_its_program_and_reports_nothing() {
    let server = Server::start().await;
    let directory = Directory::new();
    let mut spec = new_stage("s");
    spec.lease_duration = seconds(3);
    server.api.submit(new_job("j", vec![spec])).await;
    let mut worker = start(server.address, &[], &until_told(&directory, ":"));
    let program = pid(&directory).await;
    // Without a grace period the lease ends at once.
    run(server.address, &["job", "cancel", "j", "--grace", "0s"]).await.ok();
    gone(program).await;
    assert!(worker.line().await.expect("a line").contains("LOST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_stops_the_program_when_the_lease_ends_and_the_worker_goes_on() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    let directory = Directory::new();
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    let script = until_told(&directory, ":");
    let mut worker = start(relay.address, &["--lease-duration", "2s"], &script);
    let program = pid(&directory).await;
    relay.lead_to(None);
    gone(program).await;
    assert!(worker.line().await.expect("a line").contains("LOST"));
    std::fs::remove_file(directory.file("pid")).expect("it is there");
    directory.create("go");
    relay.lead_to(Some(server.address));
    let job = server.api.job_in("j", JobState::Succeeded).await;
    assert_eq!(stage(&job, "s").attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_sent_when_the_server_is_back() {
    let server = Server::start().await;
    let relay = Relay::to(server.address).await;
    let directory = Directory::new();
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    let worker = start(relay.address, &[], &until_told(&directory, ":"));
    let program = pid(&directory).await;
    relay.lead_to(None);
    directory.create("go");
    gone(program).await;
    assert_eq!(server.api.job("j").await.state(), JobState::Running);
    relay.lead_to(Some(server.address));
    let job = server.api.job_in("j", JobState::Succeeded).await;
    assert_eq!(stage(&job, "s").attempt, 1);
    drop(worker);
}

#[tokio::test]
async fn the_death_of_the_worker_stops_its_program_and_the_stage_goes_to_another() {
    let server = Server::start().await;
    let directory = Directory::new();
    let mut spec = new_stage("s");
    spec.lease_duration = seconds(2);
    server.api.submit(new_job("j", vec![spec])).await;
    let worker = start(server.address, &[], &until_told(&directory, ":"));
    let program = pid(&directory).await;
    worker.signal(Signal::KILL);
    gone(program).await;
    let lease = server.api.lease("default").await;
    assert_eq!((lease.attempt, lease.isolated), (2, true));
    drop(worker);
}

#[tokio::test]
async fn the_first_signal_drains_and_the_second_stops_at_once() {
    let server = Server::start().await;
    let directory = Directory::new();
    server.api.submit(new_job("j", vec![new_stage("a"), new_stage("b")])).await;
    let worker = start(server.address, &[], &until_told(&directory, "trap '' TERM INT"));
    pid(&directory).await;
    worker.signal(Signal::INT);
    directory.create("go");
    let ended = worker.ended().await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 1), "{ended:?}");
    assert!(ended.stderr.contains("draining: "), "{ended:?}");
    let job = server.api.job("j").await;
    let states: Vec<_> = job.stages.iter().map(proto::Stage::state).collect();
    assert!(states.contains(&StageState::Succeeded) && states.contains(&StageState::Ready), "{states:?}");

    let directory = Directory::new();
    let mut worker = start(server.address, &[], &until_told(&directory, "trap '' TERM INT"));
    let program = pid(&directory).await;
    worker.signal(Signal::TERM);
    worker.error_line_with("draining: ").await;
    worker.signal(Signal::TERM);
    gone(program).await;
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stdout.contains("RELEASED after "), "{ended:?}");
    let job = server.api.job("j").await;
    assert!(job.stages.iter().any(|stage| stage.state() == StageState::Ready && stage.attempt == 0), "{job:?}");
}

#[tokio::test]
async fn a_drain_leaves_no_lease_behind() {
    let server = Server::start().await;
    let worker = start(server.address, &[], "true");
    server.api.polls_wait(1).await;
    worker.signal(Signal::TERM);
    let ended = worker.ended().await;
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""), "{ended:?}");
    assert!(ended.stderr.contains("draining: no more stages are leased"), "{ended:?}");
    server.api.submit(new_job("j", vec![new_stage("s")])).await;
    assert_eq!(server.api.lease("default").await.attempt, 1);
}
