//! One child process that cannot outlive this one.
//!
//! The kernel's parent-death signal is the only thing that also works when this process is killed with SIGKILL. It has
//! two traps, and the shape of this module follows from them:
//! - it fires when the *thread* that forked ends, so the child is forked by a thread of its own, which then does nothing
//!   but wait for it; a worker thread of an async runtime may end long before the process does;
//! - changing the uid clears it, so it is set after that, just before exec.
//!
//! The child gets a process group of its own: Ctrl-C at the terminal must reach us alone, because Postgres has to go
//! last, after the drain.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// A running or ended child. Dropping it does not stop the child.
#[derive(Debug)]
pub(super) struct Process {
    /// `None` once the child has been reaped: its number may belong to somebody else by then.
    pid: Arc<Mutex<Option<Pid>>>,
    exit: Arc<OnceLock<ExitStatus>>,
}

impl Process {
    /// Starts the command under a watching thread.
    pub(super) fn spawn(command: Command) -> io::Result<Process> {
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let exit = Arc::new(OnceLock::new());
        let exited = Arc::clone(&exit);
        std::thread::Builder::new().name("postgres".to_owned()).spawn(move || match fork(command) {
            Ok(child) => {
                let pid = Pid::from_child(&child);
                let shared = Arc::new(Mutex::new(Some(pid)));
                // The receiver waits for exactly this message, so it is there.
                let _gone = started.send(Ok(Arc::clone(&shared)));
                exited.get_or_init(|| reap(child, pid, &shared));
            }
            Err(error) => {
                let _gone = started.send(Err(error));
            }
        })?;
        let pid = start.recv().map_err(|_| io::Error::other("the thread that starts Postgres died"))??;
        Ok(Process { pid, exit })
    }

    /// The process id while it runs.
    pub(super) fn pid(&self) -> Option<Pid> {
        *self.pid.lock()
    }

    /// Sends a signal; nothing happens when the child has ended.
    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.pid.lock();
        if let Some(pid) = *pid {
            // The child is ours and not reaped while the lock is held, so the only failure is that it is a zombie.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills the child and its children at once, as a crash of the machine would: none gets to tidy up.
    ///
    /// Killing the parent alone would leave its children running for a moment, attached to the shared memory.
    pub(super) fn kill_tree(&self) {
        let pid = self.pid.lock();
        if let Some(pid) = *pid {
            // Stopped first, so that it neither forks another child nor reacts to the death of one.
            let _ = rustix::process::kill_process(pid, Signal::STOP);
            let children = children_of(pid);
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            for child in children {
                let _ = rustix::process::kill_process(child, Signal::KILL);
            }
        }
    }

    /// How the child ended, if it has.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.exit.get().copied()
    }

    /// Waits for the end, for destructors, which cannot await; `None` when it takes longer than `limit`.
    pub(super) fn wait_blocking(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.status().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.status()
    }
}

/// Forks on the calling thread, which must live as long as the child.
#[allow(unsafe_code, reason = "the standard library has no safe way to run code between fork and exec")]
fn fork(mut command: Command) -> io::Result<Child> {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are two bare system calls and a
    // comparison, and nothing allocates.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            rustix::process::set_parent_process_death_signal(Some(Signal::INT))?;
            // The parent may have died before the line above, and then no signal ever comes.
            if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
    command.spawn()
}

/// Waits without reaping first, so that no signal goes to a process id that was reused.
fn reap(mut child: Child, pid: Pid, shared: &Mutex<Option<Pid>>) -> ExitStatus {
    while let Err(error) = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != rustix::io::Errno::INTR {
            break;
        }
    }
    let mut shared = shared.lock();
    *shared = None;
    // It has ended, so this does not wait; were the status lost, that it ended is what matters.
    child.wait().unwrap_or_default()
}

/// The direct children of a process; none where the system does not list them.
fn children_of(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
}
