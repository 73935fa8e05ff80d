//! `interlock completion`: completion scripts for shells.

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use super::text::say_bytes;

/// Print a script that completes commands and flags in a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
For this session: source <(interlock completion bash)
For all:          interlock completion bash > /etc/bash_completion.d/interlock
                  interlock completion zsh > /usr/local/share/zsh/site-functions/_interlock
                  interlock completion fish > ~/.config/fish/completions/interlock.fish")]
pub struct Completion {
    /// Shell to complete in.
    #[arg(value_enum)]
    shell: ShellName,
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    /// Prints the script for `command`.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub(super) fn run(&self, mut command: Command) -> anyhow::Result<()> {
        let shell = match self.shell {
            ShellName::Bash => Shell::Bash,
            ShellName::Zsh => Shell::Zsh,
            ShellName::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "interlock", &mut script);
        Ok(say_bytes(&script)?)
    }
}
