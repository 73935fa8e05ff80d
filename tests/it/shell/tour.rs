//! The tour of docs/grpcurl.md, run as it is written there: without TLS, and over TLS with an API key.
//!
//! Only places and ports are other ones, and each `…` is the token that an earlier answer gave.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::PATIENCE;

const PROGRAM: &str = env!("CARGO_BIN_EXE_interlock");

/// A server makes a Postgres first, which takes long on a busy machine.
const STARTUP: Duration = Duration::from_secs(120);
/// What the tour calls the places of a test.
const TOUR_PROGRAM: &str = "target/debug/interlock";
const TOUR_DATA: &str = "/var/lib/interlock/data";
const TOUR_AUTHORITY: &str = "/var/lib/interlock/interlock-tls/ca.pem";
const TOUR_ADDRESS: &str = "127.0.0.1:50051";

/// Methods whose calls go on until the caller ends them.
const STREAMS: [&str; 4] =
    ["JobService/WatchJob", "JobService/WatchJobs", "RecordService/WatchRecords", "TimelineService/WatchSession"];

/// A document of the repository. Read when the test runs, so that changing it builds nothing.
fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a document")
}

/// The shell blocks of the tour: how to begin with TLS and a key, and the tour itself.
fn blocks() -> (String, String) {
    let tour = document("docs/grpcurl.md");
    let mut blocks = tour.split("```sh\n").skip(1).map(|rest| rest.split_once("```").expect("an end").0.to_owned());
    let both = (blocks.next().expect("the first block"), blocks.next().expect("the second block"));
    assert!(blocks.next().is_none(), "the tour has a block that this test does not run");
    both
}

/// The commands of a block. A command goes on in the next line after a backslash, within quotes and within `$(…)`.
fn commands(block: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut command = String::new();
    for line in block.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        command += line;
        let is_open = command.ends_with('\\') || command.matches('\'').count() % 2 == 1;
        if is_open {
            command.push('\n');
        } else {
            commands.push(std::mem::take(&mut command));
        }
    }
    assert_eq!(command, "", "a command without an end");
    commands
}

/// `text` with what the page names replaced, which has to be there.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the page does not name {from}: {text}");
    text.replace(from, to)
}

/// `interlock dev --ephemeral`, whose data goes with it.
struct Dev {
    child: Child,
    /// The data directory.
    data: String,
    address: String,
    /// The commands that it suggests.
    suggestions: Vec<String>,
    /// The PEM file of its authority, with `--tls`.
    authority: Option<String>,
    _stdout: BufReader<ChildStdout>,
}

impl Dev {
    /// Starts it with the tour's flags.
    async fn start(flags: &[&str]) -> Dev {
        let mut child = Command::new(PROGRAM)
            .arg("dev")
            .args(flags)
            .args(["--ephemeral", "--listen", "127.0.0.1:0", "--metrics-listen", "off"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.starts_with("Ctrl-C")) {
            let mut line = String::new();
            let read = tokio::time::timeout(STARTUP, stdout.read_line(&mut line)).await.expect("a banner in time");
            assert_ne!(read.expect("text"), 0, "the program ended: {lines:?}");
            lines.push(line.trim().to_owned());
        }
        let after = |prefix: &str| lines.iter().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
        Dev {
            address: after("listening on ").expect("the line for programs"),
            authority: after("trust  "),
            suggestions: lines.iter().filter(|line| line.starts_with("grpcurl ")).cloned().collect(),
            data: after("data   ")
                .and_then(|line| Some(line.split_once(" (")?.0.to_owned()))
                .expect("its data directory"),
            child,
            _stdout: stdout,
        }
    }

    /// Drains it.
    async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), Signal::TERM).expect("it runs");
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time");
        assert!(status.expect("its status").success());
    }
}

/// A person's shell: what was defined, and the tokens that were answered last.
struct Shell {
    /// Definitions, which each command is run after.
    definitions: String,
    /// The address of the server.
    address: String,
    lease_token: String,
    permit_token: String,
}

impl Shell {
    fn new(definitions: String, dev: &Dev) -> Shell {
        let (address, lease_token, permit_token) = (dev.address.clone(), String::new(), String::new());
        Shell { definitions, address, lease_token, permit_token }
    }

    fn bash(&self, command: &str) -> Command {
        // Where the Makefile puts grpcurl, if it is nowhere else.
        let tools = Path::new(PROGRAM).ancestors().nth(2).expect("the target directory").join("tools");
        let path = std::env::var("PATH").expect("a search path");
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(format!("shopt -s expand_aliases\nset -euo pipefail\n{}\n{command}", self.definitions));
        bash.env("PATH", format!("{path}:{}", tools.display())).stdin(Stdio::null()).kill_on_drop(true);
        bash
    }

    /// Runs a command to its end, which has to be a good one; what it printed.
    async fn run(&self, command: &str) -> String {
        let output = tokio::time::timeout(PATIENCE, self.bash(command).output()).await;
        let Output { status, stdout, stderr } = output.unwrap_or_else(|_| panic!("no end: {command}")).expect("bash");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(
            status.success(),
            "{command}\n{stdout}{stderr}\n(`make deps` installs grpcurl below the target directory)"
        );
        stdout.into_owned()
    }

    /// Runs a watch up to its first message.
    async fn watch(&self, command: &str) -> Value {
        let mut child = self.bash(command).stdout(Stdio::piped()).process_group(0).spawn().expect("bash");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut message = String::new();
        while !message.ends_with("\n}\n") {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a message in time");
            message += &line.expect("text").unwrap_or_else(|| panic!("ended after {message:?}: {command}"));
            message.push('\n');
        }
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("it runs");
        kill_process_group(group, Signal::KILL).expect("it runs");
        serde_json::from_str(&message).expect("JSON")
    }

    /// Runs a command of the tour. Returns the response.
    async fn step(&mut self, written: &str, lease: &str) -> Value {
        if written.contains("\"lease_fence\":\"…\"") {
            // "Lease the next stage as above."
            Box::pin(self.step(lease, lease)).await;
        }
        let mut command = replaced(written, TOUR_ADDRESS, &self.address);
        for (field, token) in [
            ("lease_token", &self.lease_token),
            ("lease_fence", &self.lease_token),
            ("permit_token", &self.permit_token),
        ] {
            command = command.replace(&format!("\"{field}\":\"…\""), &format!("\"{field}\":\"{token}\""));
        }
        assert!(!command.contains('…'), "a placeholder of an unknown field: {command}");
        if STREAMS.iter().any(|method| command.ends_with(method)) {
            return self.watch(&command).await;
        }
        let printed = self.run(&command).await;
        if command.ends_with(" list") {
            return printed.lines().collect();
        }
        let answer: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {command}"));
        if command.ends_with("/LeaseStages") {
            self.lease_token = answer["leases"][0]["leaseToken"].as_str().expect("a lease").to_owned();
        }
        if command.ends_with("/AcquirePermit") {
            self.permit_token = answer["permit"]["permitToken"].as_str().expect("a permit").to_owned();
        }
        answer
    }
}

/// Walks the tour; each answer has to be what the page says of it.
async fn walk(shell: &mut Shell, tour: &[String]) {
    let lease = tour.iter().find(|command| command.ends_with("/LeaseStages")).expect("the tour leases a stage");
    let mut answers = Vec::new();
    for command in tour {
        let answer = shell.step(command, lease).await;
        answers.push((command.rsplit(' ').next().expect("a method"), answer));
    }
    let all = |method: &'static str| answers.iter().filter(move |(called, _)| called.ends_with(method));
    let one = |method: &'static str| &all(method).next().unwrap_or_else(|| panic!("the tour calls no {method}")).1;
    assert!(one("list").as_array().expect("services").contains(&"interlock.v1.JobService".into()), "{}", one("list"));
    assert_eq!(one("/GetJob")["job"]["stages"].as_array().map(Vec::len), Some(3), "{}", one("/GetJob"));
    assert!(one("/ExplainJob")["headline"].is_string(), "{}", one("/ExplainJob"));
    assert_eq!(one("/ListJobEvents")["events"].as_array().map(Vec::len), Some(3), "{}", one("/ListJobEvents"));
    assert_eq!(all("/WatchJob").count(), 2);
    let listed = one("/ListRecords")["records"].as_array().expect("records");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(one("/Commit")["results"].as_array().map(Vec::len), Some(3), "{}", one("/Commit"));
    assert_eq!(all("/SubmitJob").count(), 2);
    assert!(one("/GetStatistics")["rpcs"].is_array());
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_tour_works_without_tls() {
    let (_, tour) = blocks();
    let tour = commands(&tour);
    let (alias, tour) = tour.split_first().expect("commands");
    assert!(alias.starts_with("alias g="), "{alias}");
    let dev = Dev::start(&[]).await;
    let mut shell = Shell::new(alias.clone(), &dev);
    walk(&mut shell, tour).await;

    // What the server itself suggests.
    let [list, submit, get] = &dev.suggestions[..] else { panic!("{:?}", dev.suggestions) };
    assert!(shell.run(list).await.contains("interlock.v1.JobService"));
    let submitted: Value = serde_json::from_str(&shell.run(submit).await).expect("JSON");
    let job_id = submitted["job"]["jobId"].as_str().expect("an id");
    let read: Value = serde_json::from_str(&shell.run(&replaced(get, "THE JOB ID", job_id)).await).expect("JSON");
    assert_eq!(read["job"]["jobId"], job_id);
    dev.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_tour_works_over_tls_with_a_key() {
    let (begin, tour) = blocks();
    let begin = commands(&begin);
    let [start, key, alias] = &begin[..] else { panic!("{begin:?}") };
    let start = start.split(" #").next().expect("a command").trim_end();
    let flags = start.strip_prefix(&format!("{TOUR_PROGRAM} dev ")).expect("the tour starts a server").split(' ');
    let dev = Dev::start(&flags.collect::<Vec<_>>()).await;
    let authority = dev.authority.clone().expect("its output says where ca.pem is");
    let key = replaced(&replaced(key, TOUR_PROGRAM, PROGRAM), TOUR_DATA, &dev.data);
    let key = Shell::new(key, &dev).run("echo \"$KEY\"").await;
    let alias = replaced(alias, TOUR_AUTHORITY, &authority);
    let mut shell = Shell::new(format!("KEY='{}'\n{alias}", key.trim()), &dev);
    walk(&mut shell, &commands(&tour)[1..]).await;

    // The call without reflection that the operator's page has.
    let operations = document("docs/operations.md");
    let (_, call) = operations.split_once("\ngrpcurl -cacert ca.pem").expect("the page calls grpcurl");
    let (call, _) = call.split_once("   #").expect("a remark behind it");
    let call = replaced(call, "interlock.example.com:50051", &dev.address);
    let command = format!("INTERLOCK_API_KEY='{}'; grpcurl -cacert {authority}{call}", key.trim());
    assert!(shell.run(&command).await.contains("\"kind\": \"film\""));

    // Without the key and without the authority no call succeeds.
    let refused =
        shell.bash(&format!("grpcurl -cacert {authority} {} interlock.v1.AdminService/GetStatistics", dev.address));
    let refused = { refused }.output().await.expect("bash");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("CREDENTIAL_INVALID"), "{refused:?}");
    let untrusted = shell.bash(&format!("grpcurl {} list", dev.address)).output().await.expect("bash");
    assert!(String::from_utf8_lossy(&untrusted.stderr).contains("certificate"), "{untrusted:?}");
    dev.stop().await;
}
