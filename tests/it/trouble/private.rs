//! The private Postgres of `interlock dev` ends by itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::*;

/// `interlock dev --ephemeral`, with the directory of its data.
async fn dev() -> (Child, Api, PathBuf) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_interlock"))
        .args(["dev", "--ephemeral", "--listen", "127.0.0.1:0", "--log", "off"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (mut address, mut data) = (None, None);
    while address.is_none() || data.is_none() {
        let line = lines.next_line().await.expect("readable").expect("more lines");
        address = address.or(line.strip_prefix("listening on ").map(|address| address.parse().expect("an address")));
        data = data
            .or(line.trim().strip_prefix("data ").map(|rest| rest.trim().split(' ').next().expect("a path").into()));
    }
    // Reading on keeps the pipe open.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, Api::connect(address.expect("a line")).await, data.expect("a line"))
}

/// Kills the postmaster alone, as a crash would.
fn kill(data: &Path) -> i32 {
    let text = std::fs::read_to_string(data.join("cluster/postmaster.pid")).expect("it runs");
    let pid = text.lines().next().expect("a line").trim().parse().expect("a number");
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("it runs");
    pid
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_postgres_that_dies_is_started_again() {
    let (mut child, api, data) = dev().await;
    api.submit(new_job("before", vec![new_stage("s")])).await;
    for death in 0..2 {
        kill(&data);
        eventually("a write", async || {
            api.jobs().submit_job(new_job(&format!("after-{death}"), vec![new_stage("s")])).await.ok().map(drop)
        })
        .await;
        // What was acknowledged is there; a read may still meet a connection of before.
        let before = interlock::proto::GetJobRequest { job_id: "before".to_owned(), ..Default::default() };
        eventually("a read", async || api.jobs().get_job(before.clone()).await.ok().map(drop)).await;
    }
    child.kill().await.expect("it runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_postgres_that_cannot_start_again_ends_the_server_with_the_reason() {
    let (mut child, _api, data) = dev().await;
    std::fs::rename(data.join("cluster/global"), data.join("cluster/lost")).expect("broken");
    kill(&data);
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    let ended = tokio::time::timeout(PATIENCE, async { (stderr.read_to_string(&mut said).await, child.wait().await) });
    let (_, status) = ended.await.expect("it ends in time");
    assert_eq!(status.expect("its status").code(), Some(1), "{said}");
    assert!(said.contains("error: Postgres ended by itself and did not stay up in 5 further starts"), "{said}");
    assert!(said.contains("pg_control"), "the last lines of its log: {said}");
}
