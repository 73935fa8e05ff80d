//! Servers in a process of their own, for tests that kill them.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::{Api, Database};

/// `interlock serve` over a database; killed when it is dropped.
pub struct Program {
    pub api: Api,
    pub address: SocketAddr,
    /// Its port for operators.
    pub metrics: SocketAddr,
    child: Child,
    /// Closing the pipe would end the program at its next print.
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it and waits until it listens.
    pub async fn start(database: &Database) -> Program {
        Program::run(database.url(), "warn", &[], &[], Stdio::inherit()).await
    }

    /// The same with another level of the log, which goes to where the test's own output goes.
    pub async fn logging(database: &Database, level: &str) -> Program {
        Program::run(database.url(), level, &[], &[], Stdio::inherit()).await
    }

    /// The same with its usual log, and that log.
    pub async fn logged(database: &Database) -> (Program, Log) {
        Program::logged_with(database, "info", &[], &[]).await
    }

    /// The same with another level of the log, more flags and settings of the environment.
    pub async fn logged_with(
        database: &Database,
        level: &str,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> (Program, Log) {
        Program::logged_over(database.url(), level, flags, environment).await
    }

    /// The same over a database under another URL.
    pub async fn logged_over(url: &str, level: &str, flags: &[&str], environment: &[(&str, &str)]) -> (Program, Log) {
        let mut program = Program::run(url, level, flags, environment, Stdio::piped()).await;
        let log = Log::default();
        tokio::spawn(log.clone().read(program.child.stderr.take().expect("piped")));
        (program, log)
    }

    /// The same, with places where something shall happen; see `interlock::failpoint`.
    pub async fn with_failpoints(database: &Database, failpoints: &str) -> Program {
        Program::with_environment(database, &[("FAILPOINTS", failpoints)]).await
    }

    /// The same with more flags.
    pub async fn with_flags(database: &Database, flags: &[&str]) -> Program {
        Program::run(database.url(), "warn", flags, &[], Stdio::inherit()).await
    }

    /// The same with settings.
    pub async fn with_environment(database: &Database, environment: &[(&str, &str)]) -> Program {
        Program::run(database.url(), "warn", &[], environment, Stdio::inherit()).await
    }

    async fn run(url: &str, level: &str, flags: &[&str], environment: &[(&str, &str)], stderr: Stdio) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_interlock"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--reap-grace",
                "0s",
                "--log",
                level,
                "--metrics-listen",
                "127.0.0.1:0",
            ])
            .args(["--pool-min", "1", "--pool-max", "5"])
            .args(["--rate-limit-read", "off", "--rate-limit-write", "off"])
            .args(["--rate-limit-watch", "off", "--rate-limit-essential", "off"])
            .args(flags)
            .env("INTERLOCK_DATABASE_URL", url)
            .env("FAILPOINTS", "")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = async |before: &str, after: &str| -> SocketAddr {
            let mut line = String::new();
            stdout.read_line(&mut line).await.expect("a line");
            let address = line.trim().strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            address.expect("the line for programs").parse().expect("an address")
        };
        let address = said("listening on ", "").await;
        let metrics = said("metrics on http://", "/metrics").await;
        Program { api: Api::connect(address).await, address, metrics, child, _stdout: stdout }
    }

    /// The memory that it uses.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().expect("it runs")));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes << 10
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
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

/// What a program has logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    async fn read(self, mut stderr: ChildStderr) {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = stderr.read(&mut piece).await {
            self.0.lock().expect("no panic").extend_from_slice(&piece[..length]);
        }
    }

    /// All of it until now.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}
