//! Programs that commands run: how they are started and stopped, what their output and their exit codes mean.

mod child;
mod exit;
mod guard;
mod lines;

pub use child::Program;
pub use exit::{ClassName, EXIT_TABLE, exit_code, exit_text, failure_class};
pub use guard::{Guard, GuardCommand};
pub use lines::{BoundedLines, Tail};

/// The name of this process for people: the host and the process id.
pub fn own_name() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    format!("{host}:{}", std::process::id())
}
