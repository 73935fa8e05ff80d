//! A verb of the program, as a shell runs it.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::harness::PATIENCE;

/// How a verb ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

fn command(server: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interlock"));
    command
        .args(arguments)
        .env("INTERLOCK_SERVER", format!("http://{server}"))
        .env_remove("INTERLOCK_NAMESPACE")
        .env_remove("INTERLOCK_LEASE_TOKEN")
        .env_remove("INTERLOCK_PERMIT_TOKEN")
        .env_remove("INTERLOCK_DATABASE_URL");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a verb to its end.
pub async fn run(server: SocketAddr, arguments: &[&str]) -> Ended {
    Running::start(server, arguments).ended().await
}

/// Runs a verb that reads a text from its standard input.
pub async fn run_with_input(server: SocketAddr, arguments: &[&str], input: &str) -> Ended {
    let mut running = Running::spawn(command(server, arguments).stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    running.ended().await
}

/// Runs a verb to its end that writes to a file.
pub async fn run_into(server: SocketAddr, arguments: &[&str], file: &str) -> Ended {
    let file = std::fs::OpenOptions::new().write(true).open(file).expect("a file");
    let child = command(server, arguments).stdout(file).spawn().expect("the program");
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends in time");
    let output = output.expect("its status");
    let stderr = String::from_utf8(output.stderr).expect("text");
    Ended { code: output.status.code(), stdout: String::new(), stderr }
}

/// Runs a verb to its end on a terminal. Returns what the terminal was sent.
pub async fn run_on_terminal(server: SocketAddr, arguments: &[&str]) -> String {
    let mut script = Command::new("script");
    let shell = format!("{} {}", env!("CARGO_BIN_EXE_interlock"), arguments.join(" "));
    script.args(["-qec", &shell, "/dev/null"]).env("INTERLOCK_SERVER", format!("http://{server}"));
    let output = script.env_remove("INTERLOCK_NAMESPACE").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends in time").expect("`script` of bsdutils");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

impl Ended {
    /// The output of a verb that has to have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""), "{self:?}");
        self.stdout
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let stdout = self.ok();
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// The one line of a verb that has to have failed.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!((self.code, &*self.stdout), (Some(code), ""), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        self.stderr.trim_end().to_owned()
    }
}

/// A verb that takes its time; killed when it is dropped.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
}

impl Running {
    pub fn start(server: SocketAddr, arguments: &[&str]) -> Running {
        Running::spawn(&mut command(server, arguments))
    }

    fn spawn(command: &mut Command) -> Running {
        let mut child = command.spawn().expect("the program");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        Running { child, lines, errors }
    }

    /// Its next line; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").expect("text")
    }

    /// Reads until a line that has this in it.
    pub async fn line_with(&mut self, part: &str) -> String {
        while let Some(line) = self.line().await {
            if line.contains(part) {
                return line;
            }
        }
        panic!("no line with {part:?}");
    }

    /// The next line of its standard error, which it writes while it runs.
    pub async fn error_line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.errors.next_line()).await.expect("a line in time");
        line.expect("text").expect("a line")
    }

    /// Reads its standard error until a line that has this in it.
    pub async fn error_line_with(&mut self, part: &str) -> String {
        loop {
            let line = self.error_line().await;
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Reads to the end.
    pub async fn ended(mut self) -> Ended {
        let (stdout, stderr) = tokio::join!(rest(&mut self.lines), rest(&mut self.errors));
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time");
        // A slow machine makes any command wait; the test of this line looks for it as it comes.
        let stderr = stderr.lines().filter(|line| !is_notice(line)).map(|line| format!("{line}\n")).collect();
        Ended { code: status.expect("its status").code(), stdout, stderr }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("it runs")
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }
}

/// The rest of a pipe.
async fn rest(lines: &mut Lines<impl AsyncBufRead + Unpin>) -> String {
    let mut text = String::new();
    while let Some(line) =
        tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").expect("text")
    {
        text += &line;
        text.push('\n');
    }
    text
}

/// Whether a line of the standard error only says that the server has not responded yet.
fn is_notice(line: &str) -> bool {
    line.starts_with("waiting for http") && line.ends_with(" to respond")
}
