//! One running program, and how it is stopped.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    /// The child, with the pipes that its command asked for.
    pub child: Child,
    /// Its process group. None: it is in the group of this process.
    group: Option<Pid>,
}

impl Program {
    /// Starts a command in the process group of this process, which may own the terminal.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.kill_on_drop(true).spawn()?, group: None })
    }

    /// Starts a command in a process group of its own, so that its children are stopped with it, and Ctrl-C does not reach it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_group(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = pid(&child);
        Ok(Self { child, group })
    }

    /// The process group of its own. None: it has none.
    pub fn group(&self) -> Option<Pid> {
        self.group
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If the system cannot say how it ended.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends SIGTERM, and SIGKILL after `grace`; returns how it ended.
    ///
    /// # Errors
    /// If the system cannot say how it ended.
    pub async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(status) = tokio::time::timeout(grace, self.child.wait()).await {
            return status;
        }
        self.signal(Signal::KILL);
        self.child.wait().await
    }

    /// Sends a signal to the program and the rest of its group. Nothing happens if they have ended.
    pub fn signal(&self, signal: Signal) {
        // The only failure is that there is no such process any more.
        let _gone = match (self.group, pid(&self.child)) {
            (Some(group), _) => kill_process_group(group, signal),
            (None, Some(pid)) => kill_process(pid, signal),
            (None, None) => Ok(()),
        };
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.group.is_some() {
            self.signal(Signal::KILL);
        }
    }
}

/// The process id. None: the child was waited for, and the number may belong to another process.
fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}
