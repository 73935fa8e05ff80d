//! Parse, run, exit code.

use std::process::ExitCode;

/// Fewer stalls and less fragmentation than the system's allocator under many short-lived messages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    interlock::failpoint::read_environment();
    interlock::cli::main()
}
