//! A verb of the program, as a shell runs it.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

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
        .env_remove("INTERLOCK_DATABASE_URL");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a verb to its end.
pub async fn run(server: SocketAddr, arguments: &[&str]) -> Ended {
    Running::start(server, arguments).ended().await
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
}

impl Running {
    pub fn start(server: SocketAddr, arguments: &[&str]) -> Running {
        let mut child = command(server, arguments).spawn().expect("the program");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Running { child, lines }
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

    /// Reads to the end.
    pub async fn ended(mut self) -> Ended {
        let mut stdout = String::new();
        while let Some(line) = self.line().await {
            stdout += &line;
            stdout.push('\n');
        }
        let output = tokio::time::timeout(PATIENCE, self.child.wait_with_output()).await;
        let output = output.expect("it ends in time").expect("its status");
        Ended { code: output.status.code(), stdout, stderr: String::from_utf8(output.stderr).expect("text") }
    }
}
