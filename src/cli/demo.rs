//! `interlock demo`: starts the demo of the Python client, which lives in the checkout.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

/// Directory of the Python client and its demo in a checkout.
const CLIENT: &str = "clients/python";
/// File by which that directory is recognised.
const LANDMARK: &str = "demo/__main__.py";
/// Interpreter that `make demo` sets up.
const VENV_PYTHON: &str = ".venv/bin/python";

/// Make a narrated film with three Python workers, or hold a meeting with live captions, on a running server.
#[derive(Debug, Args)]
pub struct Demo {
    /// Demo: a film of seven scenes, or a meeting of three speakers in two languages.
    #[arg(value_name = "DEMO", value_parser = ["film", "meeting"], default_value = "film")]
    demo: String,
    /// Server address, as HOST:PORT or a URL that begins with https://.
    #[arg(
        long = "server",
        alias = "address",
        env = "INTERLOCK_SERVER",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:50051"
    )]
    address: String,
    /// Output directory [default: demo-output].
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Python interpreter with the packages of clients/python/requirements.txt [default: .venv/bin/python of the checkout,
    /// which `make demo` sets up].
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

impl Demo {
    /// Replaces this process by the demo. Returns only if that fails.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let near = [std::env::current_dir(), std::env::current_exe()];
        let Some(checkout) = near.iter().flatten().find_map(|start| checkout_above(start)) else {
            bail!("the demo is part of the source: run this in a checkout of Interlock");
        };
        let python = self.python.clone().unwrap_or_else(|| checkout.join(VENV_PYTHON));
        let error = self.command(&python, &checkout).exec();
        Err(error).with_context(|| format!("cannot run {}; `make demo` sets it up", python.display()))
    }

    fn command(&self, python: &Path, checkout: &Path) -> Command {
        let mut command = Command::new(python);
        command.args(["-m", "demo", &self.demo, "--address"]).arg(&self.address);
        if let Some(output) = &self.output {
            command.arg("--output").arg(output);
        }
        command.env("PYTHONPATH", checkout.join(CLIENT));
        command
    }
}

/// Root of the checkout that contains a path.
fn checkout_above(path: &Path) -> Option<PathBuf> {
    let is_checkout = |directory: &&Path| directory.join(CLIENT).join(LANDMARK).is_file();
    path.ancestors().find(is_checkout).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_found_from_anywhere_in_the_checkout() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(checkout_above(&root.join("src/cli")).as_deref(), Some(root));
        assert_eq!(checkout_above(Path::new("/")), None);
    }

    #[test]
    fn arguments_are_passed_on() {
        let demo = Demo {
            demo: "meeting".to_owned(),
            address: "localhost:4000".to_owned(),
            output: Some("out".into()),
            python: None,
        };
        let command = demo.command(Path::new("python3"), Path::new("/checkout"));
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["-m", "demo", "meeting", "--address", "localhost:4000", "--output", "out"]);
    }
}
