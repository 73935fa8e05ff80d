//! A second process that stops the programs of a worker if the worker is killed.
//!
//! A worker that dies by SIGKILL cannot stop its programs, and its leases end. The guard reads the process groups of running programs from a
//! pipe; the kernel closes it when the worker ends, however it ends, and the guard stops the groups that are left.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// Name of the hidden command.
const NAME: &str = "guard-programs";
/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Interval of checks whether a group has ended.
const CHECK: Duration = Duration::from_millis(50);

/// Stop programs when the standard input ends; started by `work`.
#[derive(Debug, Args)]
pub struct GuardCommand {}

/// The pipe to the guard.
#[derive(Debug)]
pub struct Guard(Mutex<ChildStdin>);

impl Guard {
    /// Starts the guard.
    ///
    /// # Errors
    /// If this program cannot be started again.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        // In a group of its own Ctrl-C does not reach it.
        command.arg(NAME).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipe = child.stdin.take().ok_or_else(|| io::Error::other("the guard has no pipe"))?;
        Ok(Self(Mutex::new(pipe)))
    }

    /// Notes a group that is to be stopped if this process ends.
    pub fn add(&self, group: Option<Pid>) {
        self.write('+', group);
    }

    /// Forgets a group.
    pub fn remove(&self, group: Option<Pid>) {
        self.write('-', group);
    }

    fn write(&self, sign: char, group: Option<Pid>) {
        if let Some(group) = group {
            // Without a guard the worker works on; only its own death is not covered.
            let _lost = writeln!(self.0.lock(), "{sign}{}", group.as_raw_nonzero());
        }
    }
}

impl GuardCommand {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<()> {
        let groups = tokio::task::spawn_blocking(|| left(std::io::stdin().lock())).await?;
        stop(&groups).await;
        Ok(())
    }
}

/// Reads to the end; returns the groups that were added and not removed.
fn left(input: impl BufRead) -> Vec<Pid> {
    let mut groups = BTreeSet::new();
    for line in input.lines().map_while(Result::ok) {
        let group = line.get(1..).and_then(|number| number.parse::<i32>().ok());
        match (line.as_bytes().first(), group) {
            (Some(b'+'), Some(group)) => drop(groups.insert(group)),
            (Some(b'-'), Some(group)) => drop(groups.remove(&group)),
            _ => {}
        }
    }
    groups.into_iter().filter_map(Pid::from_raw).collect()
}

/// Sends SIGTERM to all groups, and SIGKILL to those that are left after the grace.
async fn stop(groups: &[Pid]) {
    let signal = |signal| {
        for group in groups {
            // It fails where a group has ended.
            let _ended = kill_process_group(*group, signal);
        }
    };
    let is_left = || groups.iter().any(|group| test_kill_process_group(*group).is_ok());
    signal(Signal::TERM);
    let until = tokio::time::Instant::now() + GRACE;
    while is_left() && tokio::time::Instant::now() < until {
        tokio::time::sleep(CHECK).await;
    }
    signal(Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_were_removed_are_not_stopped() {
        let groups = left("+7\n+8\nnonsense\n-7\n+9\n-5\n".as_bytes());
        assert_eq!(groups.iter().map(|group| group.as_raw_nonzero().get()).collect::<Vec<_>>(), [8, 9]);
    }
}
