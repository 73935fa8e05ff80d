//! Servers in a process of their own, for tests that kill them.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::{Api, Database};

/// `interlock serve` over a database; killed when it is dropped.
pub struct Program {
    pub api: Api,
    pub address: SocketAddr,
    child: Child,
    /// Closing the pipe would end the program at its next print.
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it and waits until it listens.
    pub async fn start(database: &Database) -> Program {
        Program::run(database, "warn", "").await
    }

    /// The same with another level of the log, which goes to where the test's own output goes.
    pub async fn logging(database: &Database, level: &str) -> Program {
        Program::run(database, level, "").await
    }

    /// The same, with places where something shall happen; see `interlock::failpoint`.
    pub async fn with_failpoints(database: &Database, failpoints: &str) -> Program {
        Program::run(database, "warn", failpoints).await
    }

    async fn run(database: &Database, level: &str, failpoints: &str) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_interlock"))
            .args(["serve", "--listen", "127.0.0.1:0", "--reap-grace", "0s", "--log", level])
            .args(["--pool-min", "1", "--pool-max", "5"])
            .env("INTERLOCK_DATABASE_URL", database.url())
            .env("FAILPOINTS", failpoints)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).await.expect("a line");
        let address = line.trim().strip_prefix("listening on ").expect("the line for programs");
        let address: SocketAddr = address.parse().expect("an address");
        Program { api: Api::connect(address).await, address, child, _stdout: stdout }
    }

    /// What an operator's service manager sends.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it at once and waits until it is gone.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().await.expect("its status");
    }

    /// Waits until it has ended by itself; its exit code.
    pub async fn ended(mut self) -> Option<i32> {
        let status = tokio::time::timeout(super::PATIENCE, self.child.wait()).await;
        status.expect("it ends in time").expect("its status").code()
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), signal).expect("it runs");
    }
}
